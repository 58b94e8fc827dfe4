"""High-write registers: writers append deltas and lock no cell; every read adds what is pending."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.registers import Shop, element
from tests.support.sessions import holding

Rows = list[tuple[Any, ...]]

READS = (
    "SELECT * FROM stock_balances ORDER BY dim_hash",
    "SELECT * FROM stock_turnovers_day ORDER BY dim_hash, period",
    "SELECT * FROM stock_turnovers_month ORDER BY dim_hash, period",
    "SELECT * FROM stock_turnovers_year ORDER BY dim_hash, period",
    "SELECT stock_balance()",
    "SELECT stock_balance('{\"warehouse\": 1}')",
    'SELECT stock_balance(\'{"warehouse": 1, "lot": "x"}\')',
    "SELECT stock_balance('{\"lot\": null}', '2026-01-20')",
    "SELECT stock_balance_by('[\"lot\"]')",
    "SELECT stock_balance_by('[\"warehouse\"]', '{\"lot\": \"x\"}', '2026-02-10')",
    "SELECT * FROM stock_balance_at('2026-02-10') ORDER BY warehouse, lot",
    "SELECT stock_balance_at_instant('2026-02-10 12:00+00')",
    "SELECT stock_turnover('2025-12-31', '2026-02-01', group_by => '[\"warehouse\", \"lot\"]')",
    "SELECT stock_turnover('2025-01-01', '2026-12-31')",
    "SELECT * FROM stock_turnover_between('2026-01-02', '2026-03-01') ORDER BY warehouse, lot",
    "SELECT stock_turnover_between_instants('2026-01-05 09:00+00', '2026-02-06')",
    "SELECT count(*) FROM stock_movements(NULL, '2026-01-01')",
)
MERGE = "SELECT _force_delta_merge()"
PENDING = "SELECT count(*) FROM stock_balance_cache_delta"
HIGH_WRITE = "SELECT register_alter('stock', high_write => %s)"


def fill(shop: Shop) -> None:
    """Documents over three months and two years, one replaced, one removed."""
    for number, (day, warehouse, lot) in enumerate(
        [("2025-12-31", 1, "x"), ("2026-01-05", 1, "x"), ("2026-01-05", 2, None), ("2026-02-10", 1, "x")]
    ):
        shop.post([element(f"r{number}", f"{day}T10:00:00Z", warehouse, lot, quantity=number + 1, amount="0.25")])
    shop.repost("r1", [element(None, "2026-01-05", 1, "y", quantity=10), element(None, "2026-03-01", 1, "x", amount=1)])
    shop.unpost("r0")


def everything(shop: Shop, reads: Sequence[str] = READS) -> list[Rows]:
    """What every read function and view says."""
    return [shop.rows(read) for read in reads]


def no_clock(reads: Sequence[Rows]) -> list[Rows]:
    """Without the time and the count of a balance's last change, which two runs need not share."""
    return [[row[:-2] for row in reads[0]], *reads[1:]]


@pytest.fixture
def hot(shop: Shop) -> Shop:
    """The register `stock` in high-write mode."""
    shop.rows(HIGH_WRITE, True)  # noqa: FBT003 - a parameter of the statement
    return shop


def test_deltas_are_appended_and_nothing_is_folded(hot: Shop) -> None:
    """One delta per cell, day and batch; totals and balances are left alone until somebody merges."""
    hot.post([element("r", f"2026-01-0{n % 2 + 1}", n % 3, "x", quantity=1) for n in range(12)])
    appended = "SELECT count(*), sum(quantity), min(recorded_at) = max(recorded_at) FROM stock_balance_cache_delta"
    assert hot.rows(appended) == [(6, 12, True)]
    for table in ("totals_day", "totals_month", "totals_year", "balance_cache"):
        assert hot.ask(f"SELECT count(*) FROM stock_{table}") == 0  # noqa: S608 - a table of ours
    assert hot.ask("SELECT relpersistence::text FROM pg_class WHERE relname = 'stock_balance_cache_delta'") == "p"
    assert hot.ask(MERGE) == 6
    assert hot.ask("SELECT sum(quantity) FROM stock_totals_day") == 12
    assert hot.problems() == []


def test_a_replacement_appends_what_it_changes(hot: Shop) -> None:
    """A repost is one delta per cell, and none for cells that it leaves as they were."""
    hot.post([element("r", "2026-01-01", n, "x", quantity=5) for n in range(3)])
    hot.repost("r", [element(None, "2026-01-01", n, "x", quantity=q) for n, q in enumerate([5, 7, 5])])
    changes = hot.rows("SELECT warehouse, quantity FROM stock_balance_cache_delta OFFSET 3")
    assert changes == [(1, 2)]


@pytest.mark.parametrize("merged_after", [None, "fill", "each"])
def test_every_read_says_what_a_folding_register_says(shop: Shop, merged_after: str | None) -> None:
    """With all deltas pending, with some, and with none, each function and view is as in a standard register."""
    fill(shop)
    expected = no_clock(everything(shop))
    shop.rows("SELECT register_drop('stock', true)")
    shop.create("stock", high_write=True)
    fill(shop)
    if merged_after == "each":
        assert shop.ask("SELECT _force_delta_merge('0 s', 2)") == 2
    elif merged_after == "fill":
        assert shop.ask(MERGE) > 0
    assert no_clock(everything(shop)) == expected
    assert shop.problems() == []


@pytest.mark.scenario("C4")
def test_folding_changes_nothing_that_is_read(hot: Shop) -> None:
    """Not even a balance's version and the time of its last movement, delta by delta."""
    fill(hot)
    pending, before = hot.ask(PENDING), everything(hot)
    for left in range(pending - 1, -1, -1):
        assert hot.ask("SELECT _force_delta_merge(p_batch_size => 1)") == 1
        assert (hot.ask(PENDING), everything(hot), hot.problems()) == (left, before, [])
    assert hot.ask(MERGE) == 0


def test_age_and_number_bound_a_merge(hot: Shop) -> None:
    """p_max_age leaves younger deltas where they are, p_batch_size bounds all registers together."""
    hot.create("other", high_write=True)
    fill(hot)
    hot.post(element("r", "2026-01-01", 1, "x", quantity=1), "other")
    assert hot.ask("SELECT _force_delta_merge('1 hour')") == 0
    pending = hot.ask(PENDING)
    assert hot.ask("SELECT _force_delta_merge(p_batch_size => %s)", pending) == pending
    assert hot.rows("SELECT register, deltas FROM _pending_deltas()") == [("other", 0), ("stock", 1)]
    stats = hot.ask("SELECT register_stats('stock')")
    assert (stats["pending_deltas"], stats["oldest_delta_at"] is not None) == (1, True)


def test_writers_wait_for_no_cell(hot: Shop) -> None:
    """A session that holds every row of totals and balances keeps nobody from posting to the same cells, or reading."""
    fill(hot)
    hot.ask(MERGE)
    tables = ("totals_day", "totals_month", "totals_year", "balance_cache")
    locks = "; ".join(f"SELECT 1 FROM stock_{table} FOR UPDATE" for table in tables)  # noqa: S608 - tables of ours
    with holding(hot.database, locks):
        hot.rows("SET lock_timeout = '1s'")
        hot.post(element("new", "2026-02-10", 1, "x", quantity=1))
        hot.unpost("r3")
        assert hot.ask("SELECT stock_balance('{\"warehouse\": 1}')") == {"quantity": 11, "amount": 1}
        assert hot.refusal(MERGE)[0] == "55P03"
        hot.rows("RESET lock_timeout")
    assert hot.ask(MERGE) == 2
    assert hot.problems() == []


def test_verify_and_rebuild_know_pending_deltas(hot: Shop) -> None:
    """Damage is found and mended to what it must be beside the deltas, which stay pending and are folded once."""
    fill(hot)
    hot.ask("SELECT _force_delta_merge(p_batch_size => 3)")
    before = no_clock(everything(hot))
    for table in ("stock_totals_month", "stock_balance_cache", "stock_balance_cache_delta"):
        hot.rows(f"ALTER TABLE {table} DISABLE TRIGGER guard")
    hot.rows("UPDATE stock_totals_month SET quantity = quantity + 1")
    hot.rows("DELETE FROM stock_balance_cache")
    hot.rows(
        "INSERT INTO stock_balance_cache_delta SELECT dim_hash, day, recorded_at, warehouse, lot, 100"
        " FROM stock_balance_cache_delta WHERE (dim_hash, day) NOT IN (SELECT dim_hash, period FROM stock_totals_day)"
        " LIMIT 1"
    )
    found = {(check, status) for check, _, _, _, _, status in hot.problems()}
    assert {("month", "MISMATCH"), ("balance", "MISSING_IN_CACHE"), ("day", "MISSING_IN_TOTALS")} <= found
    pending = hot.ask(PENDING)
    hot.rows("SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')")
    assert (hot.problems(), hot.ask(PENDING)) == ([], pending)
    assert no_clock(everything(hot)) == before
    assert hot.ask(MERGE) == pending
    assert (hot.problems(), no_clock(everything(hot))) == ([], before)


@pytest.mark.parametrize(
    "added",
    [
        ({"colour": "text"}, None),
        (None, {"pieces": "int", "weight": "real"}),
        ([{"name": "colour", "type": "varchar(5)"}], {"pieces": "bigint"}),
    ],
)
def test_columns_are_added_with_deltas_pending(hot: Shop, added: tuple[object, object]) -> None:
    """What was appended before belongs to the same cells afterwards, pending or folded."""
    fill(hot)
    hot.ask("SELECT _force_delta_merge(p_batch_size => 2)")
    sums = "SELECT warehouse, lot, quantity, amount FROM stock_balances ORDER BY 1, 2"
    before = hot.rows(sums)
    hot.rows("SELECT register_alter('stock', %s, %s)", *added)
    new = {name: "red" for name in ("colour",) if added[0]} | {name: 1 for name in ("pieces",) if added[1]}
    assert (hot.rows(sums), hot.problems()) == (before, [])
    hot.post({**element("later", "2026-01-05", 7, "x", quantity=1), **new})
    assert hot.problems() == []
    hot.ask(MERGE)
    assert hot.rows(sums) == [*before, (7, "x", 1, 0)]
    assert hot.problems() == []


def test_detached_partitions_with_deltas_pending(hot: Shop) -> None:
    """Their sums are opening balances; deltas that were pending when they left are folded all the same."""
    fill(hot)
    by_days = [read for read in READS if "instant" not in read and "stock_movements" not in read]
    before = no_clock(everything(hot, by_days))
    assert len(hot.rows("SELECT * FROM register_detach_partitions('stock', now() - '2026-02-15'::timestamptz)")) == 2
    assert (no_clock(everything(hot, by_days)), hot.problems()) == (before, [])
    hot.rows("SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')")
    assert hot.ask(MERGE) > 0
    assert (no_clock(everything(hot, by_days)), hot.problems()) == (before, [])


def test_turning_it_off_folds_everything_first(hot: Shop) -> None:
    """Afterwards nothing is pending, writers fold themselves, and it can be turned on again."""
    fill(hot)
    before = everything(hot)
    hot.rows(HIGH_WRITE, False)  # noqa: FBT003 - a parameter of the statement
    assert (hot.ask(PENDING), everything(hot), hot.problems()) == (0, before, [])
    hot.post(element("later", "2026-01-05", 7, "x", quantity=1))
    assert (hot.ask(PENDING), hot.ask("SELECT quantity FROM stock_balance_cache WHERE warehouse = 7")) == (0, 1)
    hot.rows(HIGH_WRITE, True)  # noqa: FBT003 - a parameter of the statement
    hot.post(element("latest", "2026-01-05", 7, "x", quantity=1))
    assert (hot.ask(PENDING), hot.problems()) == (1, [])
    assert hot.ask("SELECT stock_balance('{\"warehouse\": 7}')") == {"quantity": 2, "amount": 0}


@pytest.mark.parametrize("direction", ["on", "off"])
def test_a_snapshot_from_before_a_switch_reads_what_was_then(shop: Shop, direction: str) -> None:
    """A transaction that began before the mode changed, and reads afterwards, is as right as any."""
    shop.rows(HIGH_WRITE, direction == "off")
    fill(shop)
    expected = shop.rows("SELECT warehouse, lot, quantity FROM stock_balances ORDER BY 1, 2")
    with shop.connect(autocommit=False) as early:
        early.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        early.execute("SELECT 1")
        shop.rows(HIGH_WRITE, direction == "on")
        shop.post(element("later", "2026-01-05", 1, "x", quantity=1))
        shop.ask(MERGE)
        found = early.execute("SELECT warehouse, lot, quantity FROM stock_balances ORDER BY 1, 2").fetchall()
        assert found == expected
        assert early.execute("SELECT * FROM register_verify('stock') WHERE status <> 'OK'").fetchall() == []
        early.rollback()


def test_nobody_touches_pending_deltas(hot: Shop) -> None:
    """They are derived rows like any other, and the one way to fold them is not for everybody."""
    fill(hot)
    for statement in (
        "DELETE FROM stock_balance_cache_delta",
        "TRUNCATE stock_balance_cache_delta",
        "UPDATE stock_balance_cache_delta SET quantity = 0",
        "INSERT INTO stock_balance_cache_delta SELECT * FROM stock_balance_cache_delta",
    ):
        assert hot.refusal(statement)[0] == "TS020"
    allowed = "SELECT has_function_privilege('public', '_merge_slice(text, interval, integer, bigint)', 'EXECUTE')"
    assert hot.ask(allowed) is False
    assert hot.problems() == []


def test_a_turnover_register_has_deltas_too(shop: Shop) -> None:
    """Without a balance there is still something to fold, at whatever grain the totals begin."""
    for grain in ("day", "month", "year"):
        name = f"by_{grain}"
        shop.create(name, kind="turnover", totals_period=grain, high_write=True, partition_by="year")
        shop.post([element("r", f"2026-0{n}-05", n % 2, "x", quantity=n) for n in range(1, 7)], name)
        shop.unpost("nobody", name)
        ask = f"SELECT {name}_turnover('2026-02-01', '2026-04-30', '{{\"warehouse\": 0}}')"
        assert shop.ask(ask) == {"quantity": 6, "amount": 0}
        assert shop.ask(MERGE) == 6
        assert (shop.ask(ask), shop.problems(name)) == ({"quantity": 6, "amount": 0}, [])


@pytest.mark.scenario("C2")
def test_two_merges_share_the_work(hot: Shop) -> None:
    """What one session is folding the other leaves out; a rollback gives it back."""
    hot.post([element("r", "2026-01-01", n, "x", quantity=1) for n in range(10)])
    with holding(hot.database, "SELECT _force_delta_merge(p_batch_size => 4)") as other:
        assert hot.ask("SELECT _force_delta_merge(p_batch_size => 4)") == 4
        assert hot.ask("SELECT _force_delta_merge()") == 2
        assert hot.ask("SELECT stock_balance()") == {"quantity": 10, "amount": 0}
        other.rollback()
    assert hot.problems() == []
    assert hot.ask(MERGE) == 4
    assert hot.problems() == []


def test_it_survives_a_migration(hot: Shop) -> None:
    """Renewing functions and views keeps the mode, and what is pending."""
    fill(hot)
    before = everything(hot)
    hot.rows("SELECT _renew_registers()")
    assert (everything(hot), hot.problems()) == (before, [])
    hot.post(element("later", "2026-01-05", 7, "x", quantity=1))
    assert hot.ask("SELECT count(*) FROM stock_balance_cache WHERE warehouse = 7") == 0
