"""Whatever meets whatever, in every order of their steps: everything adds up, and nobody fails who would not alone."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.interleavings import Ending, Script, Stage
from tests.support.postgres import SEARCH_PATH
from tests.support.registers import Shop, element

MOVEMENTS = "SELECT recorder, period, warehouse, lot, quantity FROM stock_journal ORDER BY 1, 2, 3, 5"
BALANCES = "SELECT warehouse, lot, quantity, amount FROM stock_balances ORDER BY warehouse"
FORGOTTEN = """
    SELECT m.recorder FROM stock_movements AS m
    LEFT JOIN stock_recorders AS r ON r.recorder = m.recorder AND m.period BETWEEN r.first_period AND r.last_period
    WHERE r.recorder IS NULL
"""
GRAINS = ("day", "month", "year")
PAUSES = ("stock_recorders", "stock_movements", "stock_totals_day", "stock_balance_cache", "_registers")

TABLES = ("stock_movements", "stock_recorders", "stock_balance_cache", *(f"stock_totals_{g}" for g in GRAINS))

FOLD = ("stock_movements", "stock_balance_cache")
CHANGE = ("stock_recorders", "stock_movements", "stock_balance_cache")
CELLS = ("stock_totals_day", "stock_balance_cache")


def lines(recorder: str | None, *warehouses: int, period: str = "2026-04-18") -> list[dict[str, object]]:
    """An element for each warehouse, in this order; the quantities tell where they come from."""
    return [element(recorder, period, warehouse, "x", quantity=10 * warehouse) for warehouse in warehouses]


def post(recorder: str, *warehouses: int, pauses: tuple[str, ...] = FOLD, period: str = "2026-04-18") -> Script:
    """Adds to a recorder."""
    data = lines(recorder, *warehouses, period=period)
    return Script(f"post of {recorder}", "SELECT register_post('stock', %s)", (data,), pauses)


def repost(recorder: str, *warehouses: int, pauses: tuple[str, ...] = CHANGE, period: str = "2026-04-18") -> Script:
    """Replaces a recorder's movements."""
    data = lines(None, *warehouses, period=period)
    return Script(f"repost of {recorder}", "SELECT register_repost('stock', %s, %s)", (recorder, data), pauses)


def unpost(recorder: str, pauses: tuple[str, ...] = CHANGE) -> Script:
    """Removes a recorder's movements."""
    return Script(f"unpost of {recorder}", "SELECT register_unpost('stock', %s)", (recorder,), pauses)


# The pause comes before the work, but after the statement's snapshot was taken.
VERIFY = Script(
    "verification",
    "WITH paused AS MATERIALIZED (SELECT meet.pause('verify'))"
    " SELECT v.* FROM paused, register_verify('stock') AS v WHERE v.status <> 'OK'",
    pauses=("verify",),
)
REBUILD_TOTALS = Script("rebuild", "SELECT register_rebuild_totals('stock')", pauses=("stock_totals_day",))
REBUILD_CACHE = Script("rebuild", "SELECT register_rebuild_cache('stock')", pauses=("stock_balance_cache",))
AHEAD = Script("partitions", "SELECT register_create_partitions('stock', '1 day')")
TODAY = str(datetime.now(UTC).date())
DETACH = Script("detaching", "SELECT * FROM register_detach_partitions('stock', now() - '2026-01-01'::timestamptz)")
ALTER = "SELECT register_alter('stock', {} => %s)::text"
ADD_RESOURCE = Script("alteration", ALTER.format("add_resources"), ({"pieces": "int"},), ("_registers",))
ADD_DIMENSION = Script("alteration", ALTER.format("add_dimensions"), ({"colour": "text"},), ("_registers",))


@pytest.fixture
def stage(shop: Shop) -> Iterator[Stage]:
    """Two documents over three cells, with which every interleaving begins."""
    with shop.database.connect_as_admin(options=SEARCH_PATH) as admin:

        def reset() -> None:
            empty(admin)
            seed(shop)

        made = Stage(shop.database, reset)
        made.watch(*PAUSES)
        seed(shop)
        yield made
        made.close()
    shop.rows("DROP SCHEMA meet CASCADE")


def seed(shop: Shop) -> None:
    """What is there before the sessions meet."""
    shop.post(lines("a", 1, 2) + lines("b", 2, 3) + lines("old", 1, period="2020-04-18"))


def empty(admin: psycopg.Connection) -> None:
    """Forgets every row of the register, so that recorders and cells are new again; quicker than a new register."""
    admin.execute("SET session_replication_role = 'replica'")
    for table in TABLES:
        admin.execute(f"DELETE FROM {table}".encode())  # noqa: S608 - one of ours


def seen(shop: Shop, ending: Ending) -> tuple[object, ...]:
    """What the sessions were told, and what everybody sees afterwards."""
    assert shop.problems() == [], ending
    assert shop.rows(FORGOTTEN) == [], ending
    assert shop.ask("SELECT count(*) FROM stock_pending_folds") == 0, ending
    return ending.answers, shop.rows(MOVEMENTS), shop.rows(BALANCES)


def check(shop: Shop, stage: Stage, *scripts: Script) -> int:
    """Every interleaving looks as if the scripts had run one after the other; how many there were."""
    allowed = [seen(shop, ending) for ending in stage.serial(*scripts)]
    count = 0
    for ending in stage.interleave(*scripts):
        found = seen(shop, ending)
        assert found in allowed, ending
        count += 1
    return count


MEETINGS: dict[str, tuple[Script, ...]] = {
    "post x post, cells in opposite orders": (post("n", 1, 2, 4), post("m", 4, 2, 1)),
    "post x post, one new recorder": (post("n", 1, 2, pauses=CHANGE[::2]), post("n", 2, 4, pauses=CHANGE[::2])),
    "post x repost, one recorder": (post("a", 1, 3), repost("a", 3, 2)),
    "post x repost, one new recorder": (post("n", 1, 3), repost("n", 3, 2)),
    "post x repost, overlapping cells": (post("n", 3, 2, 1, pauses=CELLS), repost("a", 2, 3, pauses=CELLS)),
    "post x unpost, one recorder": (post("a", 1, 3), unpost("a")),
    "repost x repost, one recorder": (repost("a", 2, 3), repost("a", 1, period="2026-06-01")),
    "repost x repost, one new recorder": (repost("n", 2, 3), repost("n", 4, 3)),
    "repost x repost, overlapping cells": (repost("a", 3, 2, 1, pauses=CELLS), repost("b", 1, 2, 3, pauses=CELLS)),
    "unpost x repost, one recorder": (unpost("a"), repost("a", 2, 3, period="2026-06-01")),
    "unpost x repost, overlapping cells": (unpost("b", pauses=CELLS), repost("a", 3, 2, pauses=CELLS)),
    "unpost x unpost, one recorder": (unpost("a"), unpost("a")),
    "unpost x post x repost": (
        unpost("a", ()),
        post("a", 4, pauses=(), period="2026-06-01"),
        repost("a", 2, pauses=()),
    ),
    "verify x post": (VERIFY, post("n", 1, 4)),
    "verify x repost": (VERIFY, repost("a", 1, 4)),
    "post x repost x unpost": (post("b", 1, pauses=()), repost("a", 2, pauses=()), unpost("b", pauses=())),
    "repost x repost x verify": (repost("a", 3, pauses=()), repost("a", 2, pauses=()), VERIFY),
}

CHANGES: dict[str, tuple[Script, ...]] = {
    "post x post, one new partition": (post("n", 1, period="2026-08-01"), post("m", 2, period="2026-08-31")),
    "partition creation x post": (AHEAD, post("n", 1, period=TODAY)),
    "detaching x post": (DETACH, post("old", 1, period="2020-04-20")),
    "detaching x unpost": (DETACH, unpost("old")),
    "a new resource x post": (ADD_RESOURCE, post("n", 1, 4)),
    "a new resource x repost": (ADD_RESOURCE, repost("a", 2, 3)),
    "a new dimension x post": (ADD_DIMENSION, post("n", 1, 4)),
    "a new dimension x unpost": (ADD_DIMENSION, unpost("a")),
}


@pytest.mark.parametrize("meeting", MEETINGS)
def test_every_order_is_like_one_after_the_other(shop: Shop, stage: Stage, meeting: str) -> None:
    """Nobody is refused, deadlocks or sees something that no serial order of the sessions would have shown."""
    assert check(shop, stage, *MEETINGS[meeting]) > 2


@pytest.mark.parametrize("meeting", CHANGES)
def test_changes_of_a_register_are_one_step_to_everybody(shop: Shop, stage: Stage, meeting: str) -> None:
    """Its tables, partitions and columns change before or after a session's work, never in the middle of it."""

    def anew() -> None:
        shop.rows("SELECT register_drop('stock', true)")
        shop.create("stock")
        seed(shop)
        stage.watch(*PAUSES)

    stage.reset = anew
    assert check(shop, stage, *CHANGES[meeting]) > 2


@pytest.mark.parametrize("other", [post("n", 1, 4), repost("a", 1, 4), unpost("b")], ids=lambda s: s.name)
@pytest.mark.parametrize("rebuild", [REBUILD_TOTALS, REBUILD_CACHE], ids=["totals", "cache"])
def test_damage_is_mended_exactly_in_every_order(shop: Shop, stage: Stage, rebuild: Script, other: Script) -> None:
    """A rebuild counts what it mends, also when the rows change between its look at them and its correction."""
    whole = stage.reset

    def damaged() -> None:
        whole()
        damage(shop, rebuild.pauses[0])

    stage.reset = damaged
    assert check(shop, stage, rebuild, other) > 2


def damage(shop: Shop, table: str) -> None:
    """Makes one cell wrong and loses another; as the owner, who alone can switch triggers off."""
    shop.rows(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    shop.rows(f"UPDATE {table} SET quantity = quantity + 1 WHERE warehouse = 1")  # noqa: S608 - one of ours
    shop.rows(f"DELETE FROM {table} WHERE warehouse = 3")  # noqa: S608 - the same
    shop.rows(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.mark.usefixtures("shop")
def test_the_harness_sees_a_deadlock(stage: Stage) -> None:
    """Transactions that lock in opposite orders by themselves do fail here, so silence elsewhere says something."""
    lock = "PERFORM 1 FROM stock_recorders WHERE recorder = '{}' FOR UPDATE;"
    block = "DO $$ BEGIN {} PERFORM meet.pause('between'); {} END $$"
    forth, back = (
        Script(name, block.format(lock.format(one), lock.format(two)), pauses=("between",))
        for name, one, two in (("forth", "a", "b"), ("back", "b", "a"))
    )
    failed = ("40P01" in ending.answers for ending in stage.interleave(forth, back))
    assert not next(failed)
    assert any(failed)
