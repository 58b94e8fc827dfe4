"""register_post, register_unpost and register_repost: what they accept, refuse and leave behind."""

import random
import threading
import time
from decimal import Decimal

import psutil
import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import Shop, element

POST = "SELECT register_post(%s, %s)"
WRONG_ELEMENTS: list[tuple[dict[str, object], str, str]] = [
    ({"lot": ...}, "TS012", "p_data[1] lacks the key lot"),
    ({"period": ...}, "TS012", "p_data[1] lacks the key period"),
    ({"recorder": ...}, "TS012", "p_data[1] lacks the key recorder"),
    ({"qty": 1}, "TS013", "p_data[1] has the unknown key qty"),
    ({"id": 1}, "TS013", "p_data[1] has the unknown key id"),
    ({"dim_hash": 1}, "TS013", "p_data[1] has the unknown key dim_hash"),
    ({"quantity": "abc"}, "TS014", 'p_data[1].quantity: "abc" is not a value of type numeric(18,3)'),
    ({"quantity": True}, "TS014", "p_data[1].quantity: true is not a value of type numeric(18,3)"),
    ({"quantity": "NaN"}, "TS014", 'p_data[1].quantity: "NaN" is not a finite number'),
    ({"quantity": "-Infinity"}, "TS014", 'p_data[1].quantity: "-Infinity" is not a finite number'),
    ({"quantity": 10**15}, "TS014", f"p_data[1].quantity: {10**15} is not a value of type numeric(18,3)"),
    ({"quantity": "1.0005"}, "TS014", 'p_data[1].quantity: "1.0005" has more decimals than numeric(18,3)'),
    ({"quantity": None}, "TS014", "p_data[1].quantity: must not be null"),
    ({"quantity": [1]}, "TS014", "p_data[1].quantity: must be a single value of type numeric(18,3), not an array"),
    ({"lot": {"a": 1}}, "TS014", "p_data[1].lot: must be a single value of type text, not an object"),
    ({"warehouse": 1.5}, "TS014", "p_data[1].warehouse: 1.5 is not a value of type int"),
    ({"warehouse": 2**31}, "TS014", f"p_data[1].warehouse: {2**31} is not a value of type int"),
    ({"recorder": None}, "TS014", "p_data[1].recorder: must not be null"),
    ({"period": "tomorrow"}, "TS014", 'p_data[1].period: "tomorrow" is not a time'),
    ({"period": "2026-02-30"}, "TS014", 'p_data[1].period: "2026-02-30" is not a value of type timestamptz'),
    ({"period": "2026-04-18T24:00:00Z"}, "TS014", "p_data[1].period:"),
    ({"period": "18.04.2026"}, "TS014", "p_data[1].period:"),
    ({"period": "1999-12-31"}, "TS030", "p_data[1].period: 1999-12-31 is outside the declared periods"),
    ({"period": "9999-12-31"}, "TS030", "p_data[1].period: 9999-12-31 is outside the declared periods"),
]
BALANCE = "SELECT quantity, amount FROM stock_balances ORDER BY warehouse, lot"


def test_an_object_and_an_array_are_posted(shop: Shop) -> None:
    """Both forms return the number of movements; a resource that is missing counts as 0."""
    assert shop.post(element("a", "2026-04-18", 1, "x", quantity=2)) == 1
    assert shop.post([element("a", "2026-04-18", 1, "x", amount="3.10"), element("b", "2026-04-19", 2, None)]) == 2
    assert shop.post([]) == 0
    assert shop.rows(BALANCE) == [(Decimal("2.000"), Decimal("3.10"))]
    assert shop.problems() == []


def test_a_wrong_element_is_named(shop: Shop) -> None:
    """The error says which element and which key; nothing of the call is kept."""
    good = element("a", "2026-04-18", 1, "x", quantity=1)
    for change, sqlstate, message in WRONG_ELEMENTS:
        wrong = {key: value for key, value in {**good, **change}.items() if value is not ...}
        code, text = shop.refusal(POST, "stock", [good, wrong])
        assert (code, message in text) == (sqlstate, True), text
    assert shop.ask("SELECT count(*) FROM stock_movements") == 0


def test_data_of_another_shape_is_refused(shop: Shop) -> None:
    """Only an object, or an array of objects."""
    for data in ("3", "null", '"x"', "[[]]", "[1]", None):
        assert shop.refusal("SELECT register_post('stock', %s::jsonb)", data)[0] == "TS010", data
    assert shop.refusal("SELECT register_post('other', '[]')")[0] == "TS001"


@pytest.mark.parametrize("session", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_period_without_an_offset_is_local_to_the_register(shop: Shop, session: str) -> None:
    """The session's time zone and DateStyle decide nothing; unposting in another session finds everything."""
    with shop.connect() as connection:
        connection.execute(
            "SELECT set_config('timezone', %s, false), set_config('datestyle', 'German', false)", [session]
        )
        data = [
            element("a", "2026-06-30 23:59:59.999999", 1, "x", quantity=1),
            element("a", "2026-07-01", 1, "x", quantity=2),
            element("a", "2026-12-31T23:30:00-01:00", 1, "x", quantity=4),
            element("a", "2026-03-29T01:30:00Z", 1, "x", quantity=8),
        ]
        connection.execute(POST, ["stock", Jsonb(data)])
    days = "SELECT period::text, quantity::int FROM stock_turnovers_day ORDER BY period"
    assert shop.rows(days) == [("2026-03-29", 8), ("2026-06-30", 1), ("2026-07-01", 2), ("2027-01-01", 4)]
    assert shop.unpost("a") == 4
    assert shop.rows(days) == []
    assert shop.problems() == []


def test_repost_replaces_everything_of_a_recorder(shop: Shop) -> None:
    """Other recorders stay; [] leaves none; elements need not name the recorder, and may not name another."""
    shop.post([element("a", "2026-01-05", 1, "x", quantity=5), element("b", "2026-01-05", 1, "x", quantity=1)])
    assert shop.repost("a", [element(None, "2026-03-01", 1, "x", quantity=7), element("a", "2025-01-01", 2, "x")]) == 2
    assert shop.ask("SELECT (stock_balance('{\"warehouse\": 1}') -> 'quantity')::int") == 8
    code, text = shop.refusal("SELECT register_repost('stock', 'a', %s)", [element("b", "2026-03-01", 1, "x")])
    assert (code, text) == ("TS015", 'register stock: p_data[0].recorder is "b", but a is reposted')
    assert shop.repost("a", []) == 0
    assert shop.repost("new", element(None, "2026-03-01", 9, None, quantity=1)) == 1
    assert (shop.unpost("a"), shop.unpost("b"), shop.unpost("new"), shop.unpost("nobody")) == (0, 1, 1, 0)
    assert shop.problems() == []


@pytest.mark.parametrize(
    ("recorder_type", "recorder", "wrong"),
    [("int", 7, "x"), ("bigint", 2**40, "1.5"), ("uuid", "00000000-0000-0000-0000-00000000000a", "1")],
)
def test_recorders_of_every_type(shop: Shop, recorder_type: str, recorder: object, wrong: str) -> None:
    """A recorder that is none of its type is refused, in the data and as the parameter."""
    shop.create("typed", recorder_type=recorder_type)
    movement = {**element(None, "2026-01-05", 1, "x", quantity=1), "recorder": recorder}
    assert shop.post([movement, movement], "typed") == 2
    assert shop.refusal(POST, "typed", {**movement, "recorder": wrong})[0] == "TS014"
    assert shop.refusal("SELECT register_unpost('typed', %s)", wrong)[0] == "TS014"
    assert shop.refusal("SELECT register_repost('typed', %s, '[]')", wrong)[0] == "TS014"
    assert shop.repost(str(recorder), [], "typed") == 0
    assert shop.problems("typed") == []


def test_every_dimension_type_is_read_exactly(shop: Shop) -> None:
    """Values arrive as written, also those that a cast would have cut or rounded."""
    types = {
        "a": ("smallint", -7, 40000),
        "b": ("bigint", 2**60, "x"),
        "c": ("varchar(3)", "äöü", "long"),
        "d": ("uuid", "00000000-0000-0000-0000-00000000000a", "1"),
        "e": ("date", "2026-02-28", "2026-02-28 10:00"),
        "f": ("boolean", False, 2),
        "g": ("numeric(6,2)", 1.5, 1.005),
        "h": ("timestamptz", "2026-02-28T10:00:00+01:00", "28.02.2026"),
        "i": ("text", "NaN", [1]),
    }
    shop.create("typed", [{"name": name, "type": kind} for name, (kind, _, _) in types.items()])
    good = {"recorder": "r", "period": "2026-01-01", "quantity": 1} | {n: value for n, (_, value, _) in types.items()}
    shop.post(good, "typed")
    for name, (_, value, wrong) in types.items():
        code, text = shop.refusal(POST, "typed", good | {name: wrong})
        assert (code, f"p_data[0].{name}:" in text) == ("TS014", True), text
        assert shop.ask("SELECT (typed_balance(%s) -> 'quantity')::int", {name: value}) == 1, name
    shop.post(good | dict.fromkeys(types), "typed")
    filters: list[dict[str, object]] = [{name: value for name, (_, value, _) in types.items()}, dict.fromkeys(types)]
    for complete in filters:
        assert shop.ask("SELECT (typed_balance(%s) -> 'quantity')::int", complete) == 1
    assert shop.problems("typed") == []


def test_ten_times_the_elements_cost_ten_times_as_much(shop: Shop) -> None:
    """Nothing in a call grows faster than its elements; the last one is named as readily as the first."""

    def seconds(count: int) -> float:
        data = [element(f"{count}-{n}", "2026-01-05", n % 50, f"{n % 7}", quantity=1) for n in range(count)]
        with shop.connect() as connection:
            server = psutil.Process(connection.info.backend_pid)
            before = server.cpu_times()
            assert connection.execute(POST, ["stock", Jsonb(data)]).fetchone() == (count,)
            after = server.cpu_times()
            return after.user + after.system - before.user - before.system

    # The processor's time, because a busy machine decides about the clock's. A hundred times would be quadratic.
    small = max(seconds(1_000), 0.05)
    assert seconds(10_000) < 30 * small
    data = [element("z", "2026-01-05", 1, "x", quantity=1)] * 4_999
    code, text = shop.refusal(POST, "stock", [*data, element("z", "2026-01-05", 1, "x", quantity="?")])
    assert (code, "p_data[4999].quantity" in text) == ("TS014", True)


def test_sessions_that_cross_never_deadlock(shop: Shop) -> None:
    """Ten sessions post and repost overlapping cells and recorders in orders of their own; all succeed, all adds up."""
    errors: list[psycopg.Error] = []

    def work(number: int) -> None:
        choice = random.Random(number)
        with shop.connect() as connection:
            for _ in range(8):
                cells = choice.sample(range(20), 12)
                month = choice.randint(1, 12)
                data = [element(None, f"2026-{month:02}-05", cell, "x", quantity=cell) for cell in cells]
                try:
                    if choice.random() < 0.5:
                        connection.execute(
                            "SELECT register_repost('stock', %s, %s)", [f"r{choice.randint(1, 4)}", Jsonb(data)]
                        )
                    else:
                        named = [{**d, "recorder": f"r{choice.randint(1, 9)}"} for d in data]
                        connection.execute(POST, ["stock", Jsonb(named)])
                except psycopg.Error as error:
                    errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert shop.problems() == []


def test_reposts_of_one_recorder_take_turns(shop: Shop) -> None:
    """Whoever comes second waits and then replaces what the first one left; never both versions."""
    repost = "SELECT register_repost('stock', 'a', %s)"

    def replace() -> None:
        with shop.connect() as connection:
            connection.execute(repost, [Jsonb(element(None, "2026-02-05", 2, "x", quantity=2))])

    second = threading.Thread(target=replace, daemon=True)
    with shop.connect(autocommit=False) as first:
        first.execute(repost, [Jsonb(element(None, "2026-01-05", 1, "x", quantity=1))])
        second.start()
        _wait_for_lock(shop)
        first.commit()
    second.join(30)
    assert shop.rows("SELECT warehouse, quantity::int FROM stock_journal") == [(2, 2)]
    assert shop.problems() == []


def _wait_for_lock(shop: Shop) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 30
    while shop.ask(waiting) == 0:
        assert time.monotonic() < deadline, "nobody waits for a lock"
        time.sleep(0.02)
