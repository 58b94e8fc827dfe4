"""A register rebuilt from its topic: what it comes to, what it takes over, and what it refuses."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from psycopg.types.json import Jsonb

from ingest.domain.batches import Batch
from ingest.domain.mapping_files import read_mapping
from ingest.domain.messages import Limits, Message
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.domain.registers import Dimension, Resource
from ingest.errors import PositionError, RegisterError
from ingest.postgres import care
from tests.support.events import INVENTORY
from tests.support.pipeline import PERIOD, TOPIC, Pipeline, line, movement, repost, unpost
from tests.support.postgres import SEARCH_PATH
from tests.support.rebuilds import digest, rebuild, store_of

LEFT = """
    SELECT (SELECT count(*)::int FROM _rebuilds), (SELECT count(*)::int FROM _rebuild_refusals),
        (SELECT count(*)::int FROM _registers), (SELECT count(*)::int FROM pg_class WHERE relname ~ '^shadow_'),
        (SELECT count(*)::int FROM pg_proc WHERE proname ~ '^shadow_'),
        (SELECT count(*)::int FROM _positions WHERE consumer_group ~ ':rebuild:')
"""
DONE = "SELECT count(*)::int FROM _maintenance WHERE task = 'exchange' AND register = 'inventory'"
LETTERS = "SELECT reason, state, event_offset FROM _dead_letters ORDER BY event_offset"
STATES = "SELECT recorder, state || ' ' || reason FROM _dead_letters WHERE recorder IN ('late', 'never', 'fine')"
DROP_ONE = """
    UPDATE _dead_letters SET state = 'dropped', settled_at = now(), settled_note = 'no' WHERE recorder = 'never'
    RETURNING 1
"""
SCHEMA_OF_THE_REGISTER = """
    SELECT c.relname::text, c.relkind::text, c.relacl::text, obj_description(c.oid, 'pg_class'),
        (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl,
            pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)), E'\n' ORDER BY a.attnum)
        FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0),
        (SELECT string_agg(pg_get_triggerdef(t.oid), E'\n' ORDER BY t.tgname) FROM pg_trigger AS t
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
        (SELECT string_agg(k.conname || pg_get_constraintdef(k.oid), E'\n' ORDER BY k.conname) FROM pg_constraint AS k
        WHERE k.conrelid = c.oid),
        CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid)
            WHEN c.relkind IN ('i', 'I') THEN pg_get_indexdef(c.oid) END
    FROM pg_class AS c WHERE c.relnamespace = 'accum'::regnamespace AND c.relname ~ '^inventory_'
    UNION ALL
    SELECT p.oid::regprocedure::text, 'function', p.proacl::text, obj_description(p.oid, 'pg_proc'),
        pg_get_functiondef(p.oid), NULL, NULL, NULL
    FROM pg_proc AS p WHERE p.pronamespace = 'accum'::regnamespace AND p.proname ~ '^inventory_'
    ORDER BY 1
"""
NOTHING = [(0, 0, 1, 0, 0, 0)]


def fill(pipeline: Pipeline) -> None:
    """Some of everything: additions, replacements, cancellations, repetitions, refusals, another register's event."""
    for number in range(12):
        pipeline.send(movement(f"r{number}", line(number % 3, str(number)), line(5, "0.125"), revision=1))
    pipeline.send(
        repost("r1", line(1, "7"), revision=2, period="2026-05-02T10:00:00Z"),
        unpost("r2"),
        movement("r3", line(1, "1"), line(2, "1"), revision=1),
        movement("r0", line(0, "0"), line(5, "0.125"), revision=1),
        repost("r4", revision=9),
        movement("r4", line(3), revision=3),
        movement("r5", line(1, "many")),
        movement("r6", line(1), register="nowhere"),
        b"no event",
    )


def damage(pipeline: Pipeline) -> None:
    """A hand that has deleted movements, and another that has changed a balance."""
    pipeline.rows("DELETE FROM inventory_movements WHERE recorder IN ('r7', 'r8') RETURNING 1")
    with pipeline.database.connect(options="-c search_path=accum") as connection:
        connection.execute("ALTER TABLE inventory_balance_cache DISABLE TRIGGER guard")
        connection.execute("UPDATE inventory_balance_cache SET quantity = quantity + 1 WHERE product = 5")
        connection.execute("ALTER TABLE inventory_balance_cache ENABLE TRIGGER guard")


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """Everything that `fill` sends has been applied."""
    fill(pipeline)
    pipeline.consumer().apply()
    return pipeline


def test_both_rebuilds_come_to_the_same(filled: Pipeline) -> None:
    """From the movements, from the topic: one digest. A damaged register becomes what it was."""
    right = digest(filled)
    assert (rebuild(filled).exchanged, digest(filled)) == (True, right)
    damage(filled)
    assert digest(filled) != right
    done = rebuild(filled)
    assert done.comparison is not None
    assert done.comparison.found == {"balance": 3, "day": 3}
    assert digest(filled) == right
    assert care.rebuild(filled.access, "inventory") == care.Rebuilt("inventory", 0, 0)
    assert digest(filled) == right
    assert care.verify(filled.access, "inventory").found == {}
    assert filled.rows(LEFT) == NOTHING


def test_counts_say_what_was_read(filled: Pipeline) -> None:
    """As the worker counts them, less what is of others; what is refused stays refused, once."""
    letters = filled.rows(LETTERS)
    done = rebuild(filled)
    assert (done.replayed.events, done.replayed.of_others, done.replayed.given_up) == (21, 2, 0)
    assert done.replayed.outcomes == {
        Outcome.APPLIED: 15,
        Outcome.DUPLICATE: 1,
        Outcome.STALE: 1,
        Outcome.DEAD_LETTER: 2,
    }
    assert done.refusals == {"not_a_number": 1, "revision_conflict": 1}
    assert filled.rows(LETTERS) == letters
    assert filled.value(DONE) == 1


def test_the_stream_goes_on_behind_it(filled: Pipeline) -> None:
    """What was applied before is known as a duplicate, a document is replaced, and explain finds its way."""
    consumer = filled.consumer()
    rebuild(filled)
    filled.reload()
    filled.send(movement("r9", line(0, "9"), line(5, "0.125"), revision=1), unpost("r9"), movement("new", line(1, "2")))
    applied = consumer.apply()
    assert applied.outcomes == {Outcome.DUPLICATE: 1, Outcome.APPLIED: 2}
    assert care.verify(filled.access, "inventory").found == {}
    explained = filled.value("SELECT register_explain('inventory', 'r3')")
    assert [(event["topic"], event["offset"]) for event in explained["events"]] == [(TOPIC, 3)]
    assert filled.value("SELECT count(*)::int FROM inventory_movements WHERE recorder = 'r9'") == 0


def test_a_dry_run_shows_differences_and_leaves_no_trace(filled: Pipeline) -> None:
    """Every cell and day that would change, the live sum beside the rebuilt one."""
    damage(filled)
    before = digest(filled)
    done = rebuild(filled, dry_run=True, most=2)
    assert done.comparison is not None
    assert (done.exchanged, done.comparison.found, len(done.comparison.differences)) == (
        False,
        {"balance": 3, "day": 3},
        2,
    )
    first = done.comparison.differences[0]
    assert (first.grain, first.period, first.cell["warehouse"]) == ("balance", None, 1)
    assert first.live is not None
    assert first.rebuilt is not None
    assert set(first.live) == {"quantity", "amount"}
    assert digest(filled) == before
    assert filled.rows(LEFT) == NOTHING
    assert rebuild(filled, dry_run=True, keep=True).shadow.resumed is False
    assert rebuild(filled).shadow.resumed is True
    assert filled.rows(LEFT) == NOTHING


def test_movements_by_sql_are_carried_over(filled: Pipeline) -> None:
    """As they are in the end: what was posted, deleted or replaced by the stream while the rebuild was under way."""
    post = "SELECT register_post('inventory', %s)"
    by_hand = [{"recorder": f"h{number}", "period": PERIOD, **line(1, "3")} for number in range(3)]
    filled.rows(post, [Jsonb([*by_hand, by_hand[0], {"recorder": "r10", "period": PERIOD, **line(8)}])])
    rebuild(filled, dry_run=True, keep=True)
    filled.rows("SELECT register_unpost('inventory', 'h1')")
    filled.rows(post, [Jsonb({"recorder": "h9", "period": "2031-01-01T00:30:00Z", **line(1, "0.5")})])
    filled.send(repost("r10", line(2, "2"), revision=5))
    filled.consumer().apply(reloaded(filled))
    right = digest(filled)
    done = rebuild(filled)
    assert done.carried is not None
    assert done.carried.by_sql == 4
    assert (digest(filled), done.comparison and done.comparison.found) == (right, {})
    assert rebuild(filled, drop_sql_movements=True).dropped_sql
    assert filled.value("SELECT count(*)::int FROM inventory_movements WHERE position_id IS NULL") == 0


def test_dead_letters_become_those_of_the_replay(filled: Pipeline) -> None:
    """Given up: left out. Waiting, and acceptable by now: applied and settled. Applied, and refused now: waiting."""
    filled.send(movement("late", line(1, "4"), line(1, "1", colour="red")), movement("fine", line(1, "0.125")))
    filled.send(movement("never", line(2, "1", colour="blue")))
    filled.consumer().apply()
    filled.rows(DROP_ONE)
    coarse = replace(
        INVENTORY,
        dimensions=(*INVENTORY.dimensions,),
        resources=(Resource("quantity", "int"), Resource("amount", "numeric(18,2)")),
    )
    done = rebuild(filled, store_of(filled, coarse), accept_refusals=True)
    assert done.replayed.given_up == 1
    assert done.refusals["inexact"] >= 12
    states: dict[str, str] = dict(filled.rows(STATES))
    assert states == {"late": "waiting unknown_column", "never": "dropped unknown_column", "fine": "waiting inexact"}
    filled.reload()
    coloured = replace(INVENTORY, dimensions=(*INVENTORY.dimensions, Dimension("colour", "text")))
    filled.send(movement("red", line(1, "1", colour="red")))
    filled.consumer().apply()
    rebuild(filled, store_of(filled, coloured), accept_refusals=True)
    settled = filled.rows("SELECT state, settled_note FROM _dead_letters WHERE recorder = 'red'")
    assert settled == [("retried", "applied when the register was rebuilt from its topic")]
    assert filled.value("SELECT count(*)::int FROM inventory_movements WHERE colour = 'red'") == 1


def test_another_declaration_is_a_what_if_or_a_change(filled: Pipeline) -> None:
    """Days of another time zone: sums by what both have; then the register is declared so, with views upon it."""
    execute(filled, "CREATE VIEW accum.mine AS SELECT * FROM accum.inventory_balances")
    other = replace(INVENTORY, time_zone="Pacific/Kiritimati")
    done = rebuild(filled, store_of(filled, other), dry_run=True)
    assert done.comparison is not None
    assert set(done.comparison.found) == {"day"}
    assert {str(d.period) for d in done.comparison.differences if d.rebuilt is None} == {"2026-04-18", "2026-05-02"}
    assert filled.rows(LEFT) == NOTHING
    mine = "SELECT sum(quantity) FROM accum.mine"
    before = filled.value(mine)
    assert rebuild(filled, store_of(filled, other)).exchanged
    assert filled.value("SELECT register_info('inventory') ->> 'time_zone'") == "Pacific/Kiritimati"
    assert filled.value("SELECT count(*)::int FROM inventory_turnovers_day WHERE period = '2026-04-19'") > 0
    assert filled.value("SELECT count(*)::int FROM inventory_turnovers_day WHERE period = '2026-04-18'") == 0
    assert filled.value(mine) == before
    assert care.verify(filled.access, "inventory").found == {}


def test_subtotals_are_exchanged_with_the_totals(filled: Pipeline) -> None:
    """A declaration that has them gets them, a damaged register has them again, and one without has none."""
    assert rebuild(filled, store_of(filled, replace(INVENTORY, subtotals=("warehouse", "lot")))).exchanged
    rows = "SELECT * FROM inventory_subtotals ORDER BY 1, 2, 3, 4"
    right = filled.rows(rows)
    damage(filled)
    assert filled.rows(rows) != right
    assert rebuild(filled).exchanged
    assert filled.rows(rows) == right
    filled.reload()
    filled.send(movement("later", line(1, "2")))
    filled.consumer().apply()
    assert len(filled.rows(rows)) == len(right)
    assert care.verify(filled.access, "inventory").found == {}
    assert rebuild(filled, store_of(filled, INVENTORY)).exchanged
    assert filled.value("SELECT to_regclass('inventory_subtotals')") is None
    assert care.verify(filled.access, "inventory").found == {}


WHAT_IF = """
    [[mapping.inventory]]
    where = { product = [0, 1] }
    set = { product = 2 }
    [[mapping.inventory]]
    where = { product = 5 }
    leave_out = true
    [[mapping.inventory]]
    where = { product = 77 }
    multiply = { quantity = 2 }
"""


def test_a_mapping_is_a_what_if(filled: Pipeline) -> None:
    """Products 0 and 1 as 2, and none of 5: every cell that differs, by how much; the register stays as it is."""
    before = digest(filled)
    mapping = read_mapping("what-if.toml", WHAT_IF, INVENTORY, Limits())
    done = rebuild(filled, store_of(filled, mapping=mapping), dry_run=True)
    assert done.comparison is not None
    assert done.comparison.unsound == 0
    balances = {
        difference.cell["product"]: [sums and sums["quantity"] for sums in (difference.live, difference.rebuilt)]
        for difference in done.comparison.differences
        if difference.grain == "balance"
    }
    live: dict[int, Any] = dict(filled.rows("SELECT product, quantity FROM inventory_balances"))
    assert balances == {
        0: [live[0], None],
        1: [live[1], None],
        2: [live[2], live[0] + live[1] + live[2]],
        5: [live[5], None],
    }
    assert done.replayed.mapped == {1: 11, 2: 13}
    assert digest(filled) == before
    assert filled.rows(LEFT) == NOTHING


def test_a_what_if_never_takes_the_place_of_its_register(filled: Pipeline) -> None:
    """Not by a later run without the mapping, which is another rebuild, and not by a step that is asked for: TS067."""
    before = digest(filled)
    mapping = read_mapping("what-if.toml", WHAT_IF, INVENTORY, Limits())
    rebuild(filled, store_of(filled, mapping=mapping), dry_run=True, keep=True)
    assert rebuild(filled, store_of(filled, mapping=mapping), dry_run=True, keep=True).shadow.resumed
    with pytest.raises(RegisterError, match="under its own declaration with a mapping began"):  # TS060
        rebuild(filled)
    with pytest.raises(RegisterError, match="was made with a mapping, and is a what-if"):
        rebuild(filled, store_of(filled, mapping=mapping))
    assert digest(filled) == before
    assert store_of(filled).discard()
    assert filled.rows(LEFT) == NOTHING


def test_a_number_that_no_longer_fits_would_be_refused(filled: Pipeline) -> None:
    """The what-if says so, with the number of events."""
    text = "[[mapping.inventory]]\nwhere = { product = 5 }\nmultiply = { quantity = 0.1 }\n"
    mapping = read_mapping("what-if.toml", text, INVENTORY, Limits())
    done = rebuild(filled, store_of(filled, mapping=mapping), dry_run=True)
    assert done.refusals["inexact"] == done.new_refusals > 0


def test_columns_may_change_where_nobody_builds_on_them(filled: Pipeline) -> None:
    """Other types: views and functions are made anew, and whoever could read still can; a view upon them forbids it."""
    execute(filled, "CREATE VIEW accum.mine AS SELECT * FROM accum.inventory_balances")
    execute(filled, "GRANT SELECT ON accum.inventory_balances TO PUBLIC")
    execute(filled, "GRANT EXECUTE ON FUNCTION accum.inventory_turnover_between TO PUBLIC")
    wider = replace(
        INVENTORY,
        dimensions=(Dimension("warehouse", "bigint"), Dimension("product", "text"), Dimension("lot", "text")),
        resources=(Resource("quantity", "numeric(20,4)"), Resource("amount", "numeric(18,2)")),
    )
    filled.log[TopicPartition(TOPIC, 0)] = [as_text(message) for message in filled.log[TopicPartition(TOPIC, 0)]]
    total = filled.value("SELECT sum(quantity) FROM inventory_balances")
    with pytest.raises(RegisterError, match="something of somebody's own depends on them"):
        rebuild(filled, store_of(filled, wider))
    execute(filled, "DROP VIEW accum.mine")
    done = rebuild(filled, store_of(filled, wider))
    assert (done.shadow.resumed, done.exchanged) == (True, True)
    assert filled.value("SELECT sum(quantity) FROM inventory_balances WHERE product IN ('0', '1', '2', '5')") == total
    assert filled.value("SELECT has_table_privilege('public', 'inventory_balances', 'SELECT')")
    assert filled.value("SELECT has_function_privilege('public', 'inventory_turnover_between(date, date)', 'EXECUTE')")
    assert not filled.value("SELECT has_table_privilege('public', 'inventory_journal', 'SELECT')")
    assert care.verify(filled.access, "inventory").found == {}


def test_events_that_were_applied_are_not_refused_unasked(filled: Pipeline) -> None:
    """Said with numbers and reasons; nothing is exchanged. Asked for, they become dead letters, byte for byte."""
    before, coarse = digest(filled), replace(INVENTORY, resources=(Resource("quantity", "int"), INVENTORY.resources[1]))
    with pytest.raises(RegisterError, match=r"13 events that are applied now would be refused \(13 inexact"):
        rebuild(filled, store_of(filled, coarse))
    assert digest(filled) == before
    assert rebuild(filled, store_of(filled, coarse), accept_refusals=True).new_refusals == 13
    waiting = "SELECT count(event_value)::int FROM _dead_letters WHERE reason = 'inexact' AND state = 'waiting'"
    assert filled.value(waiting) == 13


def test_a_rebuild_goes_on_only_as_it_began(filled: Pipeline) -> None:
    """Another declaration, another group, an alteration in between: refused, and given up with one command."""
    rebuild(filled, dry_run=True, keep=True)
    other = store_of(filled, replace(INVENTORY, time_zone="Pacific/Kiritimati"))
    with pytest.raises(RegisterError, match="a rebuild for group tests under its own declaration began"):  # TS060
        rebuild(filled, other)
    filled.rows("SELECT register_alter('inventory', add_resources => '{\"weight\": \"int\"}')")
    with pytest.raises(RegisterError, match="was altered since its rebuild began"):  # TS061
        rebuild(filled)
    assert store_of(filled).discard()
    assert not store_of(filled).discard()
    assert filled.rows(LEFT) == NOTHING


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("SELECT register_detach_partitions('inventory', '0 days')", "TS062"),
        ("CREATE TRIGGER mine AFTER INSERT ON inventory_movements EXECUTE FUNCTION _guard_movements()", "TS063"),
        ("CREATE INDEX mine ON inventory_movements (warehouse)", "TS063"),
        ("CREATE INDEX mine ON inventory_recorders (revision)", "TS063"),
        (
            "ALTER TABLE inventory_recorders ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON inventory_recorders",
            "TS063",
        ),
    ],
)
def test_what_an_exchange_would_lose_is_named(pipeline: Pipeline, statement: str, refusal: str) -> None:
    """Nothing is begun."""
    pipeline.send(movement("r1", line(1), period="2020-01-01T00:00:00Z"))
    pipeline.consumer().apply()
    execute(pipeline, statement)
    with pytest.raises(RegisterError, match="detached partitions" if refusal == "TS062" else "mine"):
        rebuild(pipeline)
    assert pipeline.rows(LEFT) == NOTHING


def test_movements_of_another_group_are_not_lost(filled: Pipeline) -> None:
    """TS064: a rebuild reads the topics of one group."""
    filled.rows("UPDATE _positions SET consumer_group = 'other' RETURNING 1")
    filled.send(movement("r77", line(1)))
    filled.consumer().apply(filled.consumer().batch())
    with pytest.raises(
        RegisterError, match=rf"has movements of topic {TOPIC}, group other, which group tests does not"
    ):
        rebuild(filled)


def test_steps_of_no_rebuild_are_refused(filled: Pipeline) -> None:
    """TS065 without one, TS066 before the shadow has what the live register has."""
    with pytest.raises(RegisterError, match="is not being rebuilt from its topic"):
        store_of(filled).carry(drop=False)
    rebuild(filled, dry_run=True, keep=True)
    filled.send(movement("r99", line(1)))
    filled.consumer().apply(reloaded(filled))
    store = store_of(filled)
    with (
        pytest.raises(RegisterError, match=rf"its shadow is not where the stream is: {TOPIC}\[0\]: 21, and not 22"),
        store.hold(),
    ):
        store.exchange()


def test_a_log_that_has_lost_its_beginning_is_named(filled: Pipeline) -> None:
    """Which offsets, and how many movements come from there; asked for, the rebuild begins where the log does."""
    with pytest.raises(RegisterError, match=rf"offsets 0..3 of topic {TOPIC} partition 0 .* 4 of its movements"):
        rebuild(filled, low=4)
    done = rebuild(filled, low=4, accept_gap=True)
    assert (done.replayed.events, done.exchanged) == (17, True)
    assert filled.value("SELECT count(*)::int FROM inventory_movements WHERE event_offset < 4") == 0
    assert filled.rows(LEFT) == NOTHING


def test_a_live_position_that_was_moved_back_is_noticed(filled: Pipeline) -> None:
    """The shadow has events that the live register is about to read again."""
    rebuild(filled, dry_run=True, keep=True)
    filled.rows("UPDATE _positions SET next_offset = 3 WHERE consumer_group = 'tests' RETURNING 1")
    with pytest.raises(PositionError, match="was read up to 21 by the rebuild, and the live position is 3 now"):
        rebuild(filled)


def test_a_dropped_register_takes_its_shadow_along(filled: Pipeline) -> None:
    """And lists never show a shadow."""
    rebuild(filled, dry_run=True, keep=True)
    assert filled.rows("SELECT name FROM register_list()") == [("inventory",)]
    filled.reload()
    assert list(filled.registry.registers) == ["inventory"]
    filled.rows("SELECT register_drop('inventory', true)")
    assert filled.rows(LEFT) == [(0, 0, 0, 0, 0, 0)]


def test_a_register_without_a_stream_is_not_rebuilt_from_it(pipeline: Pipeline) -> None:
    """There is nothing to read."""
    with pytest.raises(RegisterError, match="no worker has read anything"):
        rebuild(pipeline)


def test_the_schema_is_the_same_afterwards(filled: Pipeline) -> None:
    """Names, columns, constraints, indexes, triggers, comments, privileges: as if nobody had been here."""
    execute(filled, "GRANT INSERT ON accum.inventory_movements TO PUBLIC")
    before = filled.rows(SCHEMA_OF_THE_REGISTER)
    rebuild(filled)
    assert filled.rows(SCHEMA_OF_THE_REGISTER) == before


@pytest.mark.parametrize("turned", ["on before", "on meanwhile", "off meanwhile"])
def test_high_write_registers_are_rebuilt(pipelines: Callable[..., Pipeline], turned: str) -> None:
    """In the mode that the live register has in the end; what is pending is read and folded as ever."""
    pipeline = pipelines([replace(INVENTORY, high_write=turned != "on meanwhile")])
    fill(pipeline)
    pipeline.consumer().apply()
    rebuild(pipeline, dry_run=True, keep=True)
    if turned != "on before":
        pipeline.rows("SELECT register_alter('inventory', high_write => %s)", [turned.startswith("on")])
    right = digest(pipeline)
    rebuild(pipeline)
    assert digest(pipeline) == right
    assert pipeline.value("SELECT high_write FROM _registers") is turned.startswith("on")
    assert care.verify(pipeline.access, "inventory").found == {}
    pipeline.rows("SELECT * FROM _force_delta_merge()")
    assert digest(pipeline) == right
    assert care.verify(pipeline.access, "inventory").found == {}


def reloaded(pipeline: Pipeline) -> Batch:
    """What waits, decoded under the declarations of now."""
    pipeline.reload()
    return pipeline.consumer().batch()


def execute(pipeline: Pipeline, statements: str) -> None:
    """What has no rows to return."""
    with pipeline.database.connect(options=SEARCH_PATH) as connection:
        connection.execute(statements.encode())


def as_text(message: Message) -> Message:
    """The same event with products that are texts."""
    value = re.sub(rb'"product": (\d+)', rb'"product": "\1"', message.value or b"")
    return structs.replace(message, value=value)
