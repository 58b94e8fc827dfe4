"""`tallystream register apply`: registers become what the files say, as far as nothing is lost."""

import json
from pathlib import Path

from tests.support.postgres import Database
from tests.support.program import run_tallystream
from tests.support.registers import Shop, element

DECLARED = """
[register.stock]
kind = "balance"
time_zone = "Europe/London"
{options}
[register.stock.dimensions]
warehouse = "int"
{dimensions}
lot = "text"
[register.stock.resources]
quantity = "numeric(18,3)"
amount = "numeric(18,2)"
{resources}
"""


def apply(
    database: Database, folder: Path, dimensions: str = "", resources: str = "", options: str = ""
) -> tuple[int, str]:
    """The exit code and what the command printed."""
    file = folder / "registers.toml"
    file.write_text(DECLARED.format(dimensions=dimensions, resources=resources, options=options), encoding="utf-8")
    done = run_tallystream("register", "apply", str(file), env={"TALLYSTREAM_POSTGRES_DSN": database.dsn})
    return done.code, done.out + done.err


def test_a_register_grows_with_its_file(shop: Shop, tmp_path: Path) -> None:
    """New columns are added wherever the file has them, and a second run finds nothing to do."""
    shop.post(element("r", "2026-01-05", 1, "x", quantity=3))
    assert apply(shop.database, tmp_path) == (0, "stock: unchanged\n")
    more = {"dimensions": 'colour = "text"', "resources": 'pieces = "int"', "options": "tombstone_unposts = true"}
    added = "stock: dimension colour text added, resource pieces int added, tombstone_unposts changed\n"
    assert apply(shop.database, tmp_path, **more) == (0, added)
    assert apply(shop.database, tmp_path, **more) == (0, "stock: unchanged\n")
    assert shop.ask("SELECT stock_balance('{\"colour\": null}')") == {"quantity": 3, "amount": 0, "pieces": 0}
    code, text = apply(shop.database, tmp_path)
    assert code == 2
    assert "dimension colour is not declared any more; resource pieces is not declared any more" in text


def test_high_write_is_a_switch(shop: Shop, tmp_path: Path) -> None:
    """It may be declared from the start or later, and taken back: what is pending is folded then."""
    for _ in range(2):
        assert apply(shop.database, tmp_path, options="high_write = true")[1] == "stock: high_write changed\n"
        shop.post(element("r", "2026-01-05", 1, "x", quantity=3))
        assert shop.ask("SELECT deltas FROM _pending_deltas()") == 1
        assert apply(shop.database, tmp_path) == (0, "stock: high_write changed\n")
        assert shop.ask("SELECT deltas FROM _pending_deltas()") == 0
    shop.rows("SELECT register_drop('stock', true)")
    assert apply(shop.database, tmp_path, options="high_write = true") == (0, "stock: created\n")
    shop.post(element("r", "2026-01-05", 1, "x", quantity=3))
    assert shop.rows("SELECT register, high_write, deltas FROM _pending_deltas()") == [("stock", True, 1)]


def test_subtotals_come_and_go_with_the_file(shop: Shop, tmp_path: Path) -> None:
    """Of a register that is full, or new; their order decides which are read for all cells, and so it counts."""
    for _ in range(2):
        shop.post(element("r", "2026-01-05", 1, "x", quantity=3))
        for kept in ('["lot"]', '["warehouse", "lot"]', '["lot", "warehouse"]', "[]"):
            assert apply(shop.database, tmp_path, options=f"subtotals = {kept}") == (0, "stock: subtotals changed\n")
            assert shop.ask("SELECT register_info('stock') -> 'subtotals'") == json.loads(kept)
            assert shop.problems() == []
        shop.rows("SELECT register_drop('stock', true)")
        assert apply(shop.database, tmp_path) == (0, "stock: created\n")
    code, text = apply(shop.database, tmp_path, options='subtotals = ["colour"]')
    assert (code, "'colour' is not one of the dimensions" in text) == (2, True)


def test_what_would_lose_something_is_refused(shop: Shop, tmp_path: Path) -> None:
    """The message says what is and what was declared; nothing is changed."""
    options = 'partition_by = "year"\ntotals_period = "month"\nrecorder_type = "uuid"'
    code, text = apply(shop.database, tmp_path, options=options, resources='pieces = "int"')
    assert code == 2
    for reason in ("totals_period is day, declared as month", "partition_by is month", "recorder_type is text"):
        assert reason in " ".join(text.split())
    assert "Nothing was changed" in text
    assert len(shop.ask("SELECT resources FROM _registers")) == 2
