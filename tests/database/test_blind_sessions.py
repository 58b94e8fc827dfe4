"""A session that does not see a partition: PostgreSQL leaves it so when it looks while another one is attached."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.blindness import out_of_sight
from tests.support.pipeline import Pipeline, line, movement, unpost
from tests.support.registers import Shop, element

MAY = "stock_movements_2026_05"


@pytest.fixture
def blind(shop: Shop) -> Iterator[psycopg.Connection]:
    """A session that sees the movements of April, and not those of May."""
    shop.post([element("both", f"2026-0{month}-18", month, "x", quantity=1) for month in (4, 5)])
    with shop.connect() as session:
        with out_of_sight(shop.database, "stock_movements", MAY):
            assert count(session) == 1
        assert count(session) == 1, "it sees them: this run shows nothing"
        yield session


def count(session: psycopg.Connection) -> int:
    """How many movements it sees."""
    row = session.execute("SELECT count(*) FROM stock_movements").fetchone()
    assert row
    return int(row[0])


@pytest.mark.scenario("P13")
def test_what_is_unposted_is_gone(shop: Shop, blind: psycopg.Connection) -> None:
    """Nothing of the recorder stays, in no partition."""
    assert blind.execute("SELECT register_unpost('stock', 'both')").fetchone() == (2,)
    assert shop.ask("SELECT count(*) FROM stock_movements") == 0
    assert shop.ask("SELECT stock_balance() ->> 'quantity'") == "0"


def test_what_is_posted_finds_its_partition(shop: Shop, blind: psycopg.Connection) -> None:
    """Nothing is refused that belongs into a partition which others see."""
    more = Jsonb([element("more", "2026-05-20", 6, "x", quantity=3)])
    assert blind.execute("SELECT register_post('stock', %s)", [more]).fetchone() == (1,)
    assert shop.ask("SELECT stock_balance('{\"warehouse\": 6}') -> 'quantity'") == 3
    assert count(blind) == 3


def test_what_is_reposted_is_there_once(shop: Shop, blind: psycopg.Connection) -> None:
    """The recorder's earlier movements are replaced, wherever they are."""
    again = Jsonb([element(None, "2026-05-19", 5, "x", quantity=7)])
    blind.execute("SELECT register_repost('stock', 'both', %s)", [again])
    assert shop.rows("SELECT warehouse, quantity::int FROM stock_movements") == [(5, 7)]
    assert shop.problems() == []


def test_verification_and_rebuilds_read_all_movements(shop: Shop, blind: psycopg.Connection) -> None:
    """No false alarm, and no false correction."""
    checked = blind.execute("SELECT status FROM register_verify('stock')").fetchall()
    assert {status for (status,) in checked} == {"OK"}
    mended = "SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')"
    assert blind.execute(mended).fetchone() == (0, 0)
    assert count(blind) == 1
    assert shop.problems() == []


def test_whoever_reads_sees_all_once_partitions_are_announced(shop: Shop, blind: psycopg.Connection) -> None:
    """Workers do it after they have made some."""
    shop.rows("SELECT _announce_partitions('stock')")
    assert count(blind) == 2


def test_a_worker_unposts_all(pipeline: Pipeline) -> None:
    """Its session looks partitions up with a batch for April; the document is of May, and nothing replaces it."""
    pipeline.send(movement("taken back", line(1), period="2026-05-18T10:00:00Z"), movement("april", line(2)))
    pipeline.consumer().apply()
    consumer = pipeline.consumer()
    with out_of_sight(pipeline.database, "inventory_movements", "inventory_movements_2026_05"):
        pipeline.send(movement("another", line(3)))
        consumer.apply()
    pipeline.send(unpost("taken back"))
    consumer.apply()
    assert pipeline.rows("SELECT recorder FROM inventory_movements ORDER BY 1") == [("another",), ("april",)]
    pipeline.check()
