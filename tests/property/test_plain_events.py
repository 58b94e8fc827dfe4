"""The quick way to read an event against the careful one: whatever it takes, the careful way takes, and equally."""

import json
from dataclasses import replace
from typing import TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Event, Limits, Message
from ingest.domain.plain_events import PlainReader
from ingest.domain.registers import Dimension, Register, Resource
from tests.property.test_decoding_properties import COLUMNS, movements
from tests.support.events import EVENT, EVERYTHING, INVENTORY, record

Members: TypeAlias = list[tuple[str, str]]
"""Keys and values of a JSON object, both as they are written."""

UUID = "0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a"
SHAPES = replace(
    INVENTORY,
    name="shapes",
    recorder_type="bigint",
    dimensions=(Dimension("warehouse", "varchar(3)"), Dimension("product", "numeric(4,2)"), Dimension("lot", "date")),
    resources=(
        Resource("quantity", "numeric(3,0)"),
        Resource("amount", "numeric(2,2)"),
        Resource("period_no", "numeric(38,18)"),
    ),
)
BY_UUID = replace(INVENTORY, name="by_uuid", recorder_type="uuid", resources=(Resource("quantity", "bigint"),))
REGISTERS = {register.name: register for register in (EVERYTHING, INVENTORY, SHAPES, BY_UUID)}
LIMITS = Limits(max_movements=3, max_text_length=20, max_id_length=8, max_recorder_length=36, max_digits=30)
CAREFUL = {limits: Decoder(REGISTERS, limits) for limits in (Limits(), LIMITS)}
PLAIN = {limits: PlainReader(REGISTERS, limits) for limits in CAREFUL}


def columns_of(register: Register) -> list[Dimension | Resource]:
    """All columns in their order."""
    return [*register.dimensions, *register.resources]


def agree(message: Message) -> int:
    """Fails where the quick way takes what the careful one does not, or reads it otherwise; counts what it takes."""
    taken = 0
    for limits, careful in CAREFUL.items():
        plain = PLAIN[limits].read(message)
        if plain is not None:
            assert plain == careful.decode_carefully(message)
            taken += 1
    return taken


# What is easily read in two ways, or as something else.
ODD_VALUES = [
    *("null", "true", "false", "[]", "{}", "[1]", '{"a": 1}', '""', '" "', "NaN", "-Infinity", '"NaN"'),
    *(
        "0",
        "-0",
        "1",
        "-1",
        "10",
        "100",
        "007",
        "+1",
        "1.0",
        "1.50",
        "-0.0",
        "0.10",
        "1e2",
        "1E-2",
        "-1e0",
        "1e999",
    ),
    *('"0"', '"-0"', '"1"', '"10"', '"100"', '"007"', '"+1"', '"1.0"', '"1.50"', '"-0.00"', '"0.10"', '"1e2"'),
    *(
        '"1_0"',
        '" 1"',
        '"1 "',
        '"1."',
        '".5"',
        '"-.5"',
        '"-"',
        '"\u0661"',
        '"12.345"',
        '"0.12"',
        '"-0.5"',
        '"-0.50"',
    ),
    *("32768", "2147483647", "2147483648", "-2147483648", "9223372036854775807", "9223372036854775808", "-1.500"),
    *('"2147483647"', '"9223372036854775808"', "1" * 39, f'"{"1" * 39}"', "1" * 5000, "0.0000000000000000001"),
    *('"None"', '"null"', r'"\\N"', r'"\u005cN"', r'"a\tb"', r'"a\nb"', r'"a\\b"', '"a:b"', r'"a\u003ab"', '"::"'),
    *(r'"\u0000"', r'"\ud800"', r'"\ud83d\ude00"', '"\U0001f600"', r'"\u00e9"', '"é"', r'"\/"', r'"\""', '"\t"'),
    *('"1.00"', '"2026-02-29"', '"2024-02-29"', '"2026-04-31"', '"0000-01-01"', '"0001-01-01"', '"2026-04-18"'),
    *(
        f'"{UUID}"',
        f'"{UUID.upper()}"',
        f'"{UUID[:-1]}"',
        '"2026-04-18T10:00:00Z"',
        '"2026-04-18T10:00:00.500+02:00"',
    ),
    *('"1999-12-31T23:00:00Z"', '"2026-04-18T24:00:00Z"', '"abcd"', '"' + "x" * 21 + '"', '"e-1"', '"receipt:1"'),
]
ODDITIES = st.sampled_from(ODD_VALUES)


def spelt(document: object) -> str:
    """As JSON."""
    return json.dumps(document)


def value_of(register: Register, name: str) -> st.SearchStrategy[str]:
    """Mostly what the column takes."""
    column = next(c for c in columns_of(register) if c.name == name)
    usual = {
        "numeric(18,2)": st.sampled_from(["5000", '"5000.00"', '"-0.10"', "12.25", "1e2", '"0"']),
        "numeric(4,2)": st.sampled_from(["1", "99.99", '"-12.3"', '"0"', "null"]),
        "numeric(3,0)": st.integers(-999, 999).map(str) | st.sampled_from(['"12"', '"-7"']),
        "numeric(2,2)": st.sampled_from(['"0.12"', "0.5", "-0.99", '"0"', "0"]),
        "numeric(38,18)": st.decimals(-(10**6), 10**6, places=9).map(lambda number: f'"{number:f}"'),
        "varchar(3)": st.sampled_from(['"abc"', '""', "null", '"é1"']),
    }
    of_that_type = next((c.name for c in columns_of(EVERYTHING) if c.type == column.type), "")
    known = COLUMNS.get(of_that_type)
    return usual[column.type] if known is None else known.map(lambda drawn: drawn[0])


@st.composite
def members(draw: st.DrawFn, usual: Members, strange: bool) -> str:  # noqa: FBT001
    """A JSON object of these members; if it is strange, with some of them changed, lost, repeated or renamed."""
    found = list(usual)
    for _ in range(draw(st.integers(0, 2)) if strange else 0):
        index = draw(st.integers(0, len(found) - 1)) if found else 0
        change = draw(st.sampled_from(["value", "value", "drop", "repeat", "key", "swap"]))
        if change == "value" and found:
            found[index] = (found[index][0], draw(ODDITIES))
        elif change == "drop" and found:
            del found[index]
        elif change == "repeat" and found:
            key, value = found[index]
            found.insert(draw(st.integers(0, len(found))), (key, draw(ODDITIES | st.just(value))))
        elif change == "key":
            key = draw(st.sampled_from(['"x"', '"i\\u0064"', '"l\\u006ft"', '"period"', '"id"', '"", "'[:2]]))
            found.append((key, draw(ODDITIES)))
        elif found:
            found.append(found.pop(index))
    colon = draw(st.sampled_from([":", ": ", " :\n"]))
    return "{" + draw(st.sampled_from([",", ", "])).join(f"{key}{colon}{value}" for key, value in found) + "}"


@st.composite
def events(draw: st.DrawFn) -> str:
    """An event of one of the registers, good or nearly so."""
    register = REGISTERS[draw(st.sampled_from(sorted(REGISTERS)))]
    strange = draw(st.booleans())
    names = [c.name for c in columns_of(register)]
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        line = [(f'"{name}"', draw(value_of(register, name))) for name in names]
        if draw(st.integers(0, 3)) == 0:
            line.append(
                ('"period"', draw(st.sampled_from(['"2026-04-19T01:02:03.5+01:00"', '"2026-04-18T10:00:00Z"', "null"])))
            )
        lines.append(draw(members(line, strange)))
    recorder = {"text": '"receipt:1"', "bigint": "17", "uuid": f'"{UUID}"'}[register.recorder_type]
    has_list = draw(st.booleans())
    usual = [
        ('"id"', '"e:1"'),
        ('"type"', spelt(draw(st.sampled_from(["movement", "movement", "repost", "unpost"])))),
        ('"register"', spelt(register.name)),
        ('"recorder"', recorder),
        ('"revision"', draw(st.sampled_from(["1", "null", "9223372036854775807"]))),
        ('"period"', '"2026-04-18T10:00:00Z"'),
        ('"movements"', f"[{','.join(lines)}]" if lines or has_list else "null"),
    ]
    usual_order = draw(st.booleans())
    kept = [member for member in usual if member[0] in {'"id"', '"type"', '"register"'} or draw(st.integers(0, 9))]
    return draw(members(kept if usual_order else draw(st.permutations(kept)), strange))


@settings(max_examples=150)
@given(
    text=events(), key=st.sampled_from([None, None, b"receipt:1", b"17", UUID.encode(), UUID.upper().encode(), b"\xff"])
)
def test_what_is_taken_is_read_as_the_careful_way_reads_it(text: str, key: bytes | None) -> None:
    """Good events, and ones with values, keys and whole members changed, lost and repeated."""
    agree(record(text, key))


@given(item=movements(), removed=st.integers(0, 3), inserted=st.sampled_from(list('":,\\0}1e-.x')), at=st.floats(0, 1))
def test_damaged_events_are_read_as_the_careful_way_reads_them(
    item: tuple[str, object, object], removed: int, inserted: str, at: float
) -> None:
    """Every type of column in every spelling, and a few characters lost or changed anywhere."""
    head = json.dumps({"id": "e", "type": "movement", "register": "everything", "recorder": "r"})[:-1]
    text = f'{head}, "movements": [{item[0]}]}}'
    index = int(at * len(text))
    agree(record(text))
    agree(record(text[:index] + inserted + text[index + removed :]))


@given(value=st.binary(max_size=20), at=st.floats(0, 1))
def test_any_bytes_inside_of_an_event(value: bytes, at: float) -> None:
    """What is not UTF-8, or no JSON."""
    text = json.dumps(EVENT).encode()
    index = int(at * len(text))
    agree(record(text[:index] + value + text[index:]))


@pytest.mark.parametrize("register", [EVERYTHING, INVENTORY, SHAPES, BY_UUID], ids=lambda register: register.name)
@given(data=st.data())
def test_usual_events_are_plain(register: Register, data: st.DataObject) -> None:
    """What producers mostly write is taken: numbers as strings and as numbers, zeros at the end, nulls, any text."""
    usual = {
        "smallint": st.integers(-5, 300).map(str),
        "int": st.integers(-5, 300).map(str),
        "bigint": st.integers(-5, 10**17).map(str),
        "text": st.sampled_from(
            ['"A"', '"a:b"', '"None"', '"1.00"', '"5.500"', '"\u043b\u043e\u0442 1"', r'"\u043b\u043e\u0442"']
        ),
        "varchar(5)": st.sampled_from(['"A"', '"é:1"']),
        "varchar(3)": st.sampled_from(['"A"', '"é:1"']),
        "uuid": st.uuids().map(lambda each: f'"{each}"'),
        "date": st.dates().filter(lambda day: (day.month, day.day) != (2, 29)).map(lambda day: f'"{day}"'),
        "boolean": st.sampled_from(["true", "false"]),
        "timestamptz": st.just('"2026-04-18T10:00:00.25Z"'),
        "numeric(10,4)": st.sampled_from(["1", '"1.5"', "2.25", '"-0.0001"']),
        "numeric(4,2)": st.sampled_from(["1", '"1.5"', "2.25", '"-0.01"']),
        "numeric(18,3)": st.sampled_from(["100", '"100"', '"100.00"', "-1.500", '"0.000"', '"-12345678901234.125"']),
        "numeric(18,2)": st.sampled_from(["5000", '"5000.00"', "-1.50", '"0.00"', '"-1234567890123456.25"']),
        "numeric": st.sampled_from(["100", '"100"', '"100.00"', "-1.500", '"0.000"', '"-0.25"']),
        "numeric(3,0)": st.sampled_from(["100", '"100"', "0", '"-7"']),
        "numeric(2,2)": st.sampled_from(["0", '"0.10"', "-0.25", '"0.00"']),
        "numeric(38,18)": st.sampled_from(["100", '"100"', '"100.00"', '"-0.125"']),
        "double precision": st.sampled_from(["1.5", "100", "1e-7", '"0.1"']),
        "real": st.sampled_from(["1.5", "100", "1e-7", '"0.1"']),
    }
    lines = []
    for _ in range(data.draw(st.integers(1, 3))):
        line = [f'"{c.name}": {data.draw(usual[c.type] | st.just("null"))}' for c in register.dimensions]
        line += [f'"{c.name}": {data.draw(usual[c.type])}' for c in register.resources]
        line += data.draw(st.sampled_from([[], [], ['"period": "2026-04-18T12:00:00.5+02:00"']]))
        lines.append("{" + ", ".join(line) + "}")
    recorder = {"text": '"receipt:1"', "bigint": "17", "uuid": f'"{UUID}"'}[register.recorder_type]
    head = f'{{"id": "e:1", "type": "movement", "register": "{register.name}", "recorder": {recorder}, "period": '
    text = f'{head}"2026-04-18T10:00:00Z", "movements": [{", ".join(lines)}]}}'
    assert agree(record(text)) == len(PLAIN)


@example(number="1" * 5000)
@example(number="1." + "0" * 1100)
@example(number="-1.5" + "0" * 1100)
@example(number="0.1" + "0" * 29)
@example(number="0.1" + "0" * 32)
@given(number=st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_numbers_in_every_spelling(number: str) -> None:
    """As a JSON number and as a string, for every resource of every register."""
    for register in REGISTERS.values():
        for column in columns_of(register):
            for text in (number, f'"{number}"'):
                others = {c.name: "0" for c in register.resources} | {c.name: "null" for c in register.dimensions}
                line = ",".join(f'"{name}":{value}' for name, value in (others | {column.name: text}).items())
                recorder = '"r"' if register.recorder_type == "text" else "1"
                head = f'{{"id":"e","type":"repost","register":"{register.name}","recorder":{recorder},'
                agree(record(f'{head}"period":"2026-04-18T10:00:00Z","movements":[{{{line}}}]}}'))


def test_a_colon_that_is_hidden_hides_no_key() -> None:
    """One colon less in a text and one more for a key that is there twice: it is not taken."""
    good = '{"id":"a:b","type":"repost","register":"inventory","recorder":"r","movements":[]}'
    assert agree(record(good)) == len(PLAIN)
    assert agree(record(good.replace('"a:b"', r'"a\u003ab"').replace('"recorder"', '"recorder":"q","recorder"'))) == 0
    assert agree(record(good.replace('"recorder"', '"recorder":"q","recorder"'))) == 0
    assert agree(record(good.replace('"register":"inventory"', '"id":"a:b"'))) == 0


GOOD = {
    "smallint": "1",
    "int": "2",
    "bigint": "3",
    "text": '"A"',
    "uuid": f'"{UUID}"',
    "date": '"2026-04-18"',
    "boolean": "true",
    "timestamptz": '"2026-04-18T10:00:00Z"',
}


def line_of(register: Register, **changes: str) -> str:
    """A good movement with its own period; `changes` are made to it, and one to nothing removes a key."""
    values = {column.name: GOOD.get(column.type, '"A"') for column in register.dimensions}
    values |= {column.name: "0.5" if column.type == "numeric(2,2)" else '"7"' for column in register.resources}
    values |= {"period": '"2026-04-18T10:00:00Z"', **{c.name: "1" for c in register.dimensions if "numeric" in c.type}}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in {**values, **changes}.items() if value) + "}"


def event_of(declared: Register, kind: str, lines: list[str], /, **changes: str) -> Message:
    """A good event; `changes` are made to it, and one to nothing removes a key."""
    values = {"id": '"e"', "type": f'"{kind}"', "register": f'"{declared.name}"', "revision": "1"}
    values["recorder"] = {"text": '"receipt:1"', "bigint": "17", "uuid": f'"{UUID}"'}[declared.recorder_type]
    values |= {"period": '"2026-04-18T11:00:00Z"', "movements": f"[{', '.join(lines)}]", **changes}
    return record("{" + ", ".join(f'"{name}": {value}' for name, value in values.items() if value) + "}")


@pytest.mark.parametrize("register", REGISTERS.values(), ids=REGISTERS)
def test_every_odd_value_in_every_place(register: Register) -> None:
    """One after the other, and none at all: in each key of an event, needed or not, and in each column."""
    assert agree(event_of(register, "movement", [line_of(register)])) == len(PLAIN)
    for odd in [*ODD_VALUES, ""]:
        for kind in ("movement", "repost", "unpost"):
            for lines in ([], [line_of(register)], [line_of(register), line_of(register, period="")]):
                for key in ("id", "type", "register", "recorder", "revision", "period", "movements"):
                    agree(event_of(register, kind, lines, **{key: odd}))
        for name in [*(column.name for column in columns_of(register)), "period"]:
            odd_line = line_of(register, **{name: odd})
            agree(event_of(register, "movement", [odd_line]))
            agree(event_of(register, "repost", [line_of(register), odd_line], period=""))


def test_events_are_compared_as_a_whole() -> None:
    """The comparison above would notice a difference in anything."""
    event = PLAIN[LIMITS].read(record(EVENT))
    assert isinstance(event, Event)
    values = [getattr(event, name) for name in Event.__struct_fields__]
    others = [Event(*[*values[:number], None, *values[number + 1 :]]) for number in range(len(values))]
    assert event == Event(*values)
    assert all(other != event for other in others)
