"""For all events: what is valid decodes to equal values, whatever its spelling; what is not never raises."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.domain.messages import Event, Message, Refusal
from tests.support.events import EVENT, EVERYTHING, INVENTORY, accepted, decoder, record, refused

# A spelling in JSON, and the canonical text that has to come of it.
Spelt: TypeAlias = tuple[str, str | None]

DECODER = decoder(EVERYTHING, INVENTORY)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def plain(number: Decimal) -> str:
    """The canonical spelling, by other means than the decoder's."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


@st.composite
def decimals(draw: st.DrawFn, whole: int, scale: int) -> Spelt:
    """A number of so many digits, in one of its many spellings."""
    unscaled = draw(st.integers(-(10 ** (whole + scale)) + 1, 10 ** (whole + scale) - 1))
    number = Decimal(unscaled).scaleb(-scale)
    shift = draw(st.integers(-30, 30))
    zeros = "0" * draw(st.integers(0, 5))
    mantissa = format(Decimal(unscaled).scaleb(-scale - shift), "f")
    if zeros:
        mantissa += zeros if "." in mantissa else f".{zeros}"
    spelling = draw(
        st.sampled_from([plain(number), f"{mantissa}e{shift}", f"{mantissa}E{shift:+d}", f"{number:.{scale}f}"])
    )
    quoted = draw(st.booleans())
    return (f'"{spelling}"' if quoted else spelling), plain(number)


def integers(low: int, high: int) -> st.SearchStrategy[Spelt]:
    """JSON integers, and nothing else."""
    return st.integers(low, high).map(lambda number: (str(number), str(number)))


def texts(max_length: int) -> st.SearchStrategy[Spelt]:
    """Strings, with and without escapes."""
    return st.tuples(TEXT.map(lambda text: text[:max_length]), st.booleans()).map(
        lambda drawn: (json.dumps(drawn[0], ensure_ascii=drawn[1]), drawn[0])
    )


@st.composite
def times(draw: st.DrawFn, low: datetime, high: datetime) -> tuple[str, datetime]:
    """An instant, written with some offset and some number of decimals."""
    instant = draw(st.datetimes(low, high)).replace(tzinfo=UTC)
    offset = timezone(timedelta(minutes=draw(st.integers(-1439, 1439))))
    written = instant.astimezone(offset).isoformat()
    if instant.microsecond and draw(st.booleans()):
        head, _, tail = written.partition(f".{instant.microsecond:06d}")
        written = f"{head}.{f'{instant.microsecond:06d}'.rstrip('0')}{tail}"
    if written.endswith("+00:00") and draw(st.booleans()):
        written = written.removesuffix("+00:00") + draw(st.sampled_from(["Z", "z"]))
    return json.dumps(written), instant


def timestamp(instant: datetime) -> str:
    """As PostgreSQL writes it in UTC."""
    seconds = f"{instant:%Y-%m-%d %H:%M:%S}"
    return seconds + (f".{instant.microsecond:06d}".rstrip("0") if instant.microsecond else "") + "+00"


COLUMNS: Mapping[str, st.SearchStrategy[Spelt]] = {
    "d_smallint": integers(-(2**15), 2**15 - 1),
    "d_int": integers(-(2**31), 2**31 - 1),
    "d_bigint": integers(-(2**63), 2**63 - 1),
    "d_text": texts(30),
    "d_varchar": texts(5),
    "d_uuid": st.tuples(st.uuids(), st.booleans()).map(
        lambda drawn: (f'"{str(drawn[0]).upper() if drawn[1] else drawn[0]}"', str(drawn[0]))
    ),
    "d_date": st.dates().map(lambda day: (f'"{day.isoformat()}"', day.isoformat())),
    "d_boolean": st.booleans().map(lambda flag: ("true" if flag else "false", "t" if flag else "f")),
    "d_numeric": decimals(whole=6, scale=4),
    "d_timestamptz": times(datetime(1000, 1, 3), datetime(9999, 12, 29)).map(  # noqa: DTZ001  the strategy wants them so
        lambda drawn: (drawn[0], timestamp(drawn[1]))
    ),
    "r_decimal": decimals(whole=15, scale=3),
    "r_numeric": decimals(whole=20, scale=18),
    "r_int": integers(-(2**31), 2**31 - 1),
    "r_bigint": integers(-(2**63), 2**63 - 1),
    "r_double": st.floats(allow_nan=False, allow_infinity=False).map(
        lambda number: (repr(number), repr(number).removesuffix(".0") if number else "0")
    ),
    "r_real": st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda number: (repr(number), None)),
}
NULL: Spelt = ("null", None)


@st.composite
def movements(draw: st.DrawFn) -> tuple[str, datetime, tuple[str | None, ...]]:
    """A movement of every type of column in JSON, its period and its canonical values."""
    spelt = {
        name: draw(strategy | st.just(NULL) if name.startswith("d_") else strategy)
        for name, strategy in COLUMNS.items()
    }
    window = times(datetime(1990, 1, 2), datetime(2050, 12, 30))  # noqa: DTZ001  the strategy wants them so
    period_text, period = draw(window)
    members = [f'"{name}":{text}' for name, (text, _) in spelt.items()] + [f'"period": {period_text}']
    random.Random(draw(st.integers(0, 2**32))).shuffle(members)
    return (
        "{" + draw(st.sampled_from([",", " , ", ",\n\t"])).join(members) + "}",
        period,
        tuple(canonical for _, canonical in spelt.values()),
    )


@given(items=st.lists(movements(), min_size=1, max_size=2), recorder=TEXT.filter(bool), event_id=TEXT.filter(bool))
def test_valid_events_decode_to_equal_values(
    items: list[tuple[str, datetime, tuple[str | None, ...]]], recorder: str, event_id: str
) -> None:
    """Whatever way a value is spelt, it comes out as the same canonical text, and exactly."""
    head = {"id": event_id, "type": "movement", "register": "everything", "recorder": recorder}
    text = json.dumps(head)[:-1] + ', "movements": [' + ",".join(item[0] for item in items) + "]}"
    decoded = accepted(DECODER.decode(record(text, recorder.encode())))
    assert (decoded.recorder, decoded.id, len(decoded.movements)) == (recorder, event_id, len(items))
    for movement, (_, period, canonical) in zip(decoded.movements, items, strict=True):
        assert movement.period == period
        # The last column is a real, whose shortest spelling has a test of its own.
        assert movement.values[:-1] == canonical[:-1]


def never_raises(message: Message) -> None:
    """The one promise for all input; `refused` checks that everything in a refusal can be stored."""
    result = DECODER.decode(message)
    if isinstance(result, Refusal):
        refused(result)
    else:
        assert isinstance(result, Event)


@given(value=st.binary() | st.none(), key=st.binary() | st.none())
@example(value=b"", key=b"")
def test_random_bytes_never_raise(value: bytes | None, key: bytes | None) -> None:
    """Noise is refused."""
    never_raises(record(value, key))


# Surrogates and NUL are wanted here: json.dumps escapes them, and they come back when the event is read.
ANY_TEXT = st.text(st.characters(), max_size=10)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(document=ANY_JSON, key=st.binary() | st.none())
def test_random_json_never_raises(document: object, key: bytes | None) -> None:
    """Any JSON is an event or a refusal."""
    never_raises(record(json.dumps(document), key))


@given(changes=st.dictionaries(st.sampled_from([*EVENT, "x"]), ANY_JSON, max_size=3))
def test_random_envelopes_never_raise(changes: dict[str, object]) -> None:
    """Any value in place of a key's own."""
    never_raises(record({**EVENT, **changes}))


@given(changes=st.dictionaries(st.sampled_from(["period", "warehouse", "lot", "quantity", "x"]), ANY_JSON, min_size=1))
def test_random_movements_never_raise(changes: dict[str, object]) -> None:
    """Any value in place of a column's."""
    never_raises(record({**EVENT, "movements": [{**EVENT["movements"][0], **changes}]}))


@given(
    position=st.floats(0, 1, exclude_max=True),
    removed=st.integers(0, 20),
    inserted=st.binary(max_size=10),
    twice=st.booleans(),
)
def test_damaged_events_never_raise(position: float, removed: int, inserted: bytes, twice: bool) -> None:  # noqa: FBT001
    """Bytes lost, changed and repeated anywhere in an event."""
    value = json.dumps(EVENT).encode()
    index = int(position * len(value))
    lost = value[index : index + removed]
    never_raises(record(value[:index] + (lost * 2 if twice else inserted) + value[index + removed :]))


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/London", "Asia/Tokyo", "Pacific/Apia", "America/St_Johns"])
@given(
    day=st.dates(date(1990, 1, 1), date(2050, 1, 1)) | st.sampled_from([date(2026, 3, 29), date(2011, 12, 29)]),
    days=st.integers(0, 3),
    seconds=st.integers(-4 * 86_400, 8 * 86_400),
)
def test_window_is_the_local_day(time_zone: str, day: date, days: int, seconds: int) -> None:
    """In the window is what `zoneinfo` says is a day of it, at every hour around both of its ends."""
    last = day + timedelta(days=days)
    instant = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds)
    register = replace(INVENTORY, time_zone=time_zone, period_min=day, period_max=last)
    result = decoder(register).decode(record({**EVENT, "period": instant.isoformat()}))
    is_inside = day <= instant.astimezone(ZoneInfo(time_zone)).date() <= last
    assert isinstance(result, Event) == is_inside


@settings(max_examples=30)
@given(first=movements(), second=movements())
def test_digests_follow_the_values(
    first: tuple[str, datetime, tuple[str | None, ...]], second: tuple[str, datetime, tuple[str | None, ...]]
) -> None:
    """Equal canonical movements have equal digests, and others have others."""
    head = json.dumps({"id": "e", "type": "movement", "register": "everything", "recorder": "r"})[:-1]
    events = [accepted(DECODER.decode(record(f'{head}, "movements": [{item[0]}]}}'))) for item in (first, second)]
    is_equal = events[0].movements == events[1].movements
    assert (events[0].content_digest == events[1].content_digest) == is_equal
