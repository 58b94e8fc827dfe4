"""Mappings: what rules make of an event's movements, and how mistakes in their file are reported."""

from collections import Counter
from typing import Any

import pytest

from ingest.domain.mapping_files import read_mapping
from ingest.domain.messages import Limits, Movement
from ingest.domain.registers import Register
from ingest.errors import DeclarationError
from tests.support.events import EVENT, EVERYTHING, INVENTORY, MOVEMENT, accepted, decoder, event, record, refused

MERGE = "[[mapping.inventory]]\nwhere = { warehouse = [3, 4] }\nset = { warehouse = 1 }\n"


def mapped(text: str, *lines: dict[str, Any]) -> list[tuple[str | None, ...]]:
    """Warehouse, lot and quantity of what the rules leave of these movements."""
    rules = read_mapping("map.toml", text, INVENTORY, Limits())
    read = accepted(decoder().decode(record(event(movements=[MOVEMENT | line for line in lines]))))
    movements = accepted(rules.apply(read, Counter())).movements
    assert movements.count == len(list(movements))
    return [(values[0], values[2], values[3]) for values in (movement.values for movement in movements)]


def complaint(text: str, register: Register = INVENTORY) -> str:
    """The message about a file."""
    with pytest.raises(DeclarationError) as error:
        read_mapping("map.toml", text, register, Limits())
    return str(error.value)


def test_values_of_a_dimension_are_replaced() -> None:
    """One warehouse merged into another; others stay."""
    found = mapped(MERGE, {"warehouse": 3}, {"warehouse": 4, "lot": "B"}, {"warehouse": 5})
    assert found == [("1", "A", "100"), ("1", "B", "100"), ("5", "A", "100")]


def test_rules_look_at_the_event_and_not_at_one_another() -> None:
    """So two values can change places; the last rule that sets a dimension counts, and factors multiply."""
    swap = """
        [[mapping.inventory]]
        where = { warehouse = 1 }
        set = { warehouse = 2 }
        multiply = { quantity = 2 }
        [[mapping.inventory]]
        where = { warehouse = 2 }
        set = { warehouse = 1, lot = "two" }
        [[mapping.inventory]]
        set = { lot = "all" }
        multiply = { quantity = "-0.5" }
    """
    assert mapped(swap, {"warehouse": 1}, {"warehouse": 2}) == [("2", "all", "-100"), ("1", "all", "-50")]


def test_movements_are_left_out_whatever_else_is_said_of_them() -> None:
    """All conditions of a rule have to hold; an event may have none left."""
    rules = '[[mapping.inventory]]\nwhere = { warehouse = 1, lot = "A" }\nleave_out = true\n' + MERGE
    assert mapped(rules, {"warehouse": 1}, {"warehouse": 1, "lot": "B"}) == [("1", "B", "100")]
    assert mapped(rules, {"warehouse": 1}) == []


def test_null_is_chosen_and_set_by_name() -> None:
    """TOML has no null."""
    rules = """
        [[mapping.inventory]]
        where = { lot = "A" }
        where_null = ["lot"]
        set = { lot = "none" }
        [[mapping.inventory]]
        where = { lot = "B" }
        set_null = ["lot"]
    """
    found = mapped(rules, {"lot": None}, {"lot": "A"}, {"lot": "B"}, {"lot": "C"})
    assert [lot for _, lot, _ in found] == ["none", "none", None, "C"]


def test_products_are_exact_or_refused() -> None:
    """Nothing is rounded: a product that its column does not hold makes the event one that would be refused."""
    assert mapped('[[mapping.inventory]]\nmultiply = { quantity = "0.01" }\n', {"quantity": "0.3"}) == [
        ("1", "A", "0.003")
    ]
    rules = read_mapping("map.toml", "[[mapping.inventory]]\nmultiply = { quantity = 1e-4 }\n", INVENTORY, Limits())
    read = accepted(decoder().decode(record(event(movements=[MOVEMENT, MOVEMENT | {"quantity": "1"}]))))
    result = rules.apply(read, Counter())
    assert refused(result) == "inexact movements[1].quantity"
    assert "as the mapping has it" in getattr(result, "detail", "")
    large = read_mapping("map.toml", "[[mapping.inventory]]\nmultiply = { quantity = 1e14 }\n", INVENTORY, Limits())
    assert refused(large.apply(read, Counter())) == "out_of_range movements[0].quantity"


def test_what_rules_leave_alone_stays_as_it_is() -> None:
    """Id, digests and periods are the event's own, and a rule that chooses nothing changes nothing."""
    rules = read_mapping("map.toml", MERGE, INVENTORY, Limits())
    read = accepted(decoder().decode(record(EVENT)))
    counts: Counter[int] = Counter()
    assert rules.apply(read, counts) == read
    assert counts[1] == 0
    other = accepted(decoder().decode(record(event(movements=[MOVEMENT | {"warehouse": 4}]))))
    changed = accepted(rules.apply(other, counts))
    assert (changed.id_digest, changed.content_digest) == (other.id_digest, other.content_digest)
    assert [movement.period for movement in changed.movements] == [movement.period for movement in other.movements]
    assert counts == {1: 1}


def test_values_of_every_type_are_those_of_events() -> None:
    """TOML's own numbers, dates and times, in the one spelling that movements have."""
    text = """
        [[mapping.everything]]
        set = { d_int = 7, d_varchar = "x", d_uuid = "6F9619FF-8B86-D011-B42D-00C04FC964FF", d_date = 2026-04-18,
            d_boolean = true, d_numeric = 1.50, d_timestamptz = 2026-04-18T12:00:00+02:00 }
    """.replace("\n            d_boolean", " d_boolean")
    [rule] = read_mapping("map.toml", text, EVERYTHING, Limits()).rules
    assert rule.put == {
        "d_int": "7",
        "d_varchar": "x",
        "d_uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "d_date": "2026-04-18",
        "d_boolean": "t",
        "d_numeric": "1.5",
        "d_timestamptz": "2026-04-18 10:00:00+00",
    }


def test_the_same_rules_are_the_same_mapping() -> None:
    """However they are spelt: what a rebuild was begun with is compared with this."""
    other = "[[mapping.inventory]]\nset = { warehouse = 1 }\nwhere = { warehouse = [4, 3, 3] }\nleave_out = false\n"
    one = read_mapping("map.toml", MERGE, INVENTORY, Limits()).as_json()
    assert one == read_mapping("map.toml", other, INVENTORY, Limits()).as_json()
    assert one != read_mapping("map.toml", MERGE.replace("4", "5"), INVENTORY, Limits()).as_json()
    null = '[[mapping.inventory]]\nwhere = { lot = "" }\nwhere_null = ["lot"]\nleave_out = true\n'
    [rule] = read_mapping("map.toml", null, INVENTORY, Limits()).as_json()
    assert rule["where"] == {"lot": [None, ""]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "map.toml: the file has no rule; one begins with a line like [[mapping.inventory]]"),
        (
            "[[mapping.sales]]\nleave_out = true",
            "no rule for register inventory, no [[mapping.inventory]]; it has: sales",
        ),
        ("mapping = 3", "map.toml: mapping: 3 is wrong"),
        ("[[mapping.inventory]]\nwhere = 3\nleave_out = true", "mapping.inventory.1.where: 3 is wrong"),
        ("[[mapping.inventory]]\nput = { lot = 1 }", "put: is not known here; known are where, where_null, set,"),
        ("[[mapping.inventory]]\nleave_out = 1", "leave_out: 1 is wrong"),
        ("[[mapping.inventory]", "not valid TOML"),
        ("[[mapping.inventory]]\nwhere = { lot = 'A' }", "[[mapping.inventory]] 1: changes nothing; it needs set,"),
        (
            "[[mapping.inventory]]\nleave_out = true\nset = { lot = 'A' }",
            "[[mapping.inventory]] 1: a movement that is left out is not changed as well",
        ),
        (
            "[[mapping.inventory]]\nset_null = ['lot']\nset = { lot = 'A' }",
            "[[mapping.inventory]] 1: lot is in set and in set_null",
        ),
        (
            "[[mapping.inventory]]\nset = { wharehouse = 1 }",
            "1 set.wharehouse: the register has no such dimension; it has warehouse, product, lot",
        ),
        (
            "[[mapping.inventory]]\nmultiply = { lot = 1 }",
            "1 multiply.lot: the register has no such resource; it has quantity, amount",
        ),
        ("[[mapping.inventory]]\nset = { warehouse = 'x' }", "1 set.warehouse: a string where an integer is expected"),
        ("[[mapping.inventory]]\nmultiply = { amount = nan }", "1 multiply.amount: nan is not a number"),
        ("[[mapping.inventory]]\nwhere = { lot = [[1]] }\nleave_out = true", "1 where.lot: an array where a string"),
        ("[[mapping.inventory]]\nset = { lot = 10:00:00 }", "1 set.lot: a number where a string is expected"),
    ],
)
def test_mistakes_are_named(text: str, expected: str) -> None:
    """The file, the rule and the key, and what would be right."""
    assert expected in complaint(text)


def test_all_mistakes_of_a_file_are_named_at_once() -> None:
    """One line for each."""
    lines = complaint("[[mapping.inventory]]\nset = { a = 1 }\n[[mapping.inventory]]\nset = { b = 1 }").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["[[mapping.inventory]] 1 set.a", "[[mapping.inventory]] 2 set.b"]


def test_movements_keep_their_own_times() -> None:
    """The periods of an event are those of the movements that are left."""
    rules = read_mapping(
        "map.toml", '[[mapping.inventory]]\nwhere = { lot = "B" }\nleave_out = true', INVENTORY, Limits()
    )
    later = MOVEMENT | {"lot": "B", "period": "2026-05-01T00:00:00Z"}
    movements = accepted(
        rules.apply(accepted(decoder().decode(record(event(movements=[MOVEMENT, later])))), Counter())
    ).movements
    [left] = movements
    assert isinstance(left, Movement)
    assert movements.periods == (left.period,)
