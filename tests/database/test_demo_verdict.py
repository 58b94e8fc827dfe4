"""The demo's verdict, against registers that are wrong: a demo that always says yes shows nothing."""

from collections import Counter

import pytest
from pydantic import SecretStr

from ingest import resources
from ingest.demo.books import Books
from ingest.demo.readings import Readings
from ingest.demo.shop import INVENTORY, SALES, write_history
from ingest.demo.verdict import Findings, judge
from ingest.domain.declarations import read_declarations
from ingest.settings import Settings
from ingest.wiring import commands, parts
from tests.support.postgres import Database


@pytest.fixture
def settings(database: Database) -> Settings:
    """A database with the shop's registers, empty."""
    settings = Settings(postgres_dsn=SecretStr(database.dsn))
    shop = resources.schema() / "registers" / "demo" / "shop.toml"
    commands.apply_registers(settings, read_declarations([(shop.name, shop.read_text(encoding="utf-8"))]))
    return settings


def problems(settings: Settings, books: Books) -> list[tuple[str, ...]]:
    """What is wrong about each claim."""
    readings = Readings(parts.database(settings))
    findings = Findings(
        positions=[],
        refused=Counter(),
        differences={register: commands.verify_register(settings, register) for register in (INVENTORY, SALES)},
        movements=dict(zip((INVENTORY, SALES), readings.movements(), strict=True)),
    )
    return [check.problems for check in judge(books, readings, findings)]


def test_registers_that_lack_everything_fail_every_check(settings: Settings) -> None:
    """Each claim is really compared, and says what it found and what it should have."""
    found = problems(settings, write_history(1, 500).books)
    assert len(found) == 7
    assert all(found)
    assert any("mug null: nothing, not " in problem for problem in found[2])


def test_one_movement_too_many_is_noticed_where_it_counts(database: Database, settings: Settings) -> None:
    """A plain INSERT keeps the register in step with itself, so that only the comparison with the books tells."""
    with database.connect() as connection:
        connection.execute("SELECT accum._ensure_partitions('inventory', ARRAY['2026-04-01'::date])")
        connection.execute(
            "INSERT INTO accum.inventory_movements (recorder, period, warehouse, product, lot, quantity, amount)"
            " VALUES ('theft:1', '2026-04-01T12:00Z', 'leeds', 'mug', NULL, -1, -3.40)"
        )
    assert problems(settings, Books()) == [
        ("movements: 1, not 0",),
        (),
        ("leeds mug null: -1.000 -3.40, not nothing",),
        (),
        (),
        (),
        (),
    ]
