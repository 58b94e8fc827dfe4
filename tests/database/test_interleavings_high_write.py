"""High-write registers in every order of steps: folding meets writers, readers, itself, and switches of the mode."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.interleavings import Ending, Script, Stage
from tests.support.registers import Shop, element

MOVEMENTS = "SELECT recorder, period, warehouse, lot, quantity FROM stock_journal ORDER BY 1, 2, 3, 5"
BALANCES = "SELECT warehouse, lot, quantity, amount FROM stock_balances ORDER BY warehouse"
PENDING = "stock_balance_cache_delta"
FOLDED = ("stock_totals_day", "stock_balance_cache")
TABLES = (
    *("stock_movements", "stock_recorders", PENDING, *FOLDED),
    *("stock_totals_month", "stock_totals_year"),
)
PAUSES = ("stock_recorders", "stock_movements", PENDING, *FOLDED, "_registers")

# The pause comes before the work, but after the statement's snapshot was taken.
READ = Script(
    "read",
    """
    WITH paused AS MATERIALIZED (SELECT meet.pause('read'))
    SELECT
        (SELECT sum(quantity) FROM stock_movements), (SELECT sum(quantity) FROM stock_balances),
        (SELECT sum(quantity) FROM stock_turnovers_day), (SELECT sum(quantity) FROM stock_turnovers_month),
        (SELECT sum(quantity) FROM stock_turnovers_year), (stock_balance() ->> 'quantity')::numeric,
        (stock_balance('{"warehouse": 1, "lot": "x"}') ->> 'quantity')::numeric,
        (SELECT sum(quantity) FROM stock_balance_at('2026-12-31'))
    FROM paused
    """,
    pauses=("read",),
)
VERIFY = Script(
    "verification",
    "WITH paused AS MATERIALIZED (SELECT meet.pause('verify'))"
    " SELECT v.* FROM paused, register_verify('stock') AS v WHERE v.status <> 'OK'",
    pauses=("verify",),
)
REBUILD = Script(
    "rebuild",
    "SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')",
    pauses=("stock_totals_day", "stock_balance_cache"),
)
BY_HAND = Script(
    "insertion by hand",
    "INSERT INTO stock_movements (recorder, period, warehouse, lot, quantity)"
    " VALUES ('hand', '2026-04-18', 2, 'x', 20), ('hand', '2026-04-18', 1, 'x', 10) RETURNING warehouse",
    pauses=("stock_recorders",),
)
SWITCH = "SELECT register_alter('stock', high_write => %s)::text"
ON = Script("switch on", SWITCH, (True,), ("_registers",))
OFF = Script("switch off", SWITCH, (False,), ("stock_totals_day", "_registers"))


def merge(most: int | None = None, pauses: tuple[str, ...] = (PENDING, *FOLDED)) -> Script:
    """Folds pending deltas; that the number is not told keeps any division of the work a right one."""
    return Script("merge", "SELECT _force_delta_merge(p_batch_size => %s) >= 0", (most,), pauses)


def lines(recorder: str | None, *warehouses: int) -> list[dict[str, object]]:
    """An element for each warehouse, in this order; the quantities tell where they come from."""
    return [element(recorder, "2026-04-18", warehouse, "x", quantity=10 * warehouse) for warehouse in warehouses]


def post(recorder: str, *warehouses: int, pauses: tuple[str, ...] = ("stock_movements", PENDING)) -> Script:
    """Adds to a recorder."""
    return Script("post", "SELECT register_post('stock', %s)", (lines(recorder, *warehouses),), pauses)


def repost(recorder: str, *warehouses: int, pauses: tuple[str, ...] = ("stock_movements", PENDING)) -> Script:
    """Replaces a recorder's movements."""
    data = lines(None, *warehouses)
    return Script("repost", "SELECT register_repost('stock', %s, %s)", (recorder, data), pauses)


UNPOST = Script("unpost", "SELECT register_unpost('stock', 'a')", pauses=("stock_movements", PENDING))

MEETINGS: dict[str, tuple[Script, ...]] = {
    "compactor x writer": (merge(), post("n", 2, 1, 4)),
    "compactor x repost": (merge(), repost("a", 3, 2)),
    "compactor x unpost": (merge(), UNPOST),
    "compactor x reader": (merge(), READ),
    "compactor x verification": (merge(), VERIFY),
    "compactor x compactor": (merge(2), merge()),
    "compactor x compactor x writer": (merge(2, FOLDED[1:]), merge(3, FOLDED[1:]), post("n", 2, pauses=())),
    "compactor x rebuild": (merge(), REBUILD),
    "compactor x writer x reader": (merge(2, FOLDED[1:]), post("n", 1, 4, pauses=()), READ),
    "writer x writer": (post("n", 1, 2), post("m", 2, 1)),
    "writer x repost, one recorder": (post("a", 1), repost("a", 3, 2)),
    "writer x rebuild": (post("n", 2, 4), REBUILD),
}
SWITCHES: dict[str, tuple[Script, ...]] = {
    "on x writer": (ON, post("n", 2, 1)),
    "on x writer by hand": (ON, BY_HAND),
    "on x reader": (ON, READ),
    "off x writer": (OFF, post("n", 2, 1)),
    "off x writer by hand": (OFF, BY_HAND),
    "off x repost": (OFF, repost("a", 3, 2)),
    "off x reader": (OFF, READ),
    "off x compactor": (OFF, merge(2, FOLDED[1:])),
    "off x rebuild": (OFF, REBUILD),
}


@pytest.fixture
def stage(shop: Shop) -> Iterator[Stage]:
    """Two documents over three cells, some of it folded and some pending, with which every interleaving begins."""
    shop.rows(SWITCH, True)  # noqa: FBT003 - a parameter of the statement
    with shop.database.connect_as_admin(options="-c search_path=accum") as admin:

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
    shop.post(lines("a", 1, 2))
    shop.ask("SELECT _force_delta_merge()")
    shop.post(lines("b", 2, 3))
    shop.repost("a", lines(None, 1, 1))


def empty(admin: psycopg.Connection) -> None:
    """Forgets every row of the register, so that recorders and cells are new again; quicker than a new register."""
    admin.execute("SET session_replication_role = 'replica'")
    for table in TABLES:
        admin.execute(f"DELETE FROM {table}".encode())  # noqa: S608 - one of ours


def seen(shop: Shop, ending: Ending) -> tuple[object, ...]:
    """What the sessions were told, and what everybody sees afterwards, before the last delta is folded and after."""
    state: list[object] = [ending.answers]
    assert shop.rows("SELECT register FROM _pending_deltas() WHERE deltas > 0 AND NOT high_write") == [], ending
    for _ in range(2):
        assert shop.problems() == [], ending
        state += [shop.rows(MOVEMENTS), shop.rows(BALANCES)]
        shop.ask("SELECT _force_delta_merge()")
    assert shop.ask(f"SELECT count(*) FROM {PENDING}") == 0, ending  # noqa: S608 - one of ours
    return tuple(state)


def check(shop: Shop, stage: Stage, *scripts: Script) -> int:
    """Every interleaving looks as if the scripts had run one after the other; how many there were."""
    allowed = [seen(shop, ending) for ending in stage.serial(*scripts)]
    count = 0
    for ending in stage.interleave(*scripts):
        found = seen(shop, ending)
        assert found in allowed, ending
        count += 1
    return count


@pytest.mark.scenario("C6")
@pytest.mark.parametrize("meeting", MEETINGS)
def test_every_order_is_like_one_after_the_other(shop: Shop, stage: Stage, meeting: str) -> None:
    """Nobody is refused, deadlocks, or reads a delta twice or not at all."""
    assert check(shop, stage, *MEETINGS[meeting]) > 2


@pytest.mark.parametrize("meeting", SWITCHES)
def test_the_mode_changes_for_everybody_at_once(shop: Shop, stage: Stage, meeting: str) -> None:
    """Whoever writes or reads meanwhile does so before the switch or after it; nothing is left behind."""
    high_write = meeting.startswith("off")

    def anew() -> None:
        shop.rows("SELECT register_drop('stock', true)")
        shop.create("stock", high_write=True)
        stage.watch(*PAUSES)
        seed(shop)
        if not high_write:
            shop.rows(SWITCH, False)  # noqa: FBT003 - a parameter of the statement

    stage.reset = anew
    assert check(shop, stage, *SWITCHES[meeting]) > 2
    assert shop.ask("SELECT high_write FROM _registers") is not high_write
