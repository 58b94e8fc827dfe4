"""Registers and records for tests of decoding, and what the decoder made of them in a few words."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, TypeAlias

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Event, Limits, Message, Refusal
from ingest.domain.registers import Dimension, Kind, Register, Resource

Document: TypeAlias = dict[str, Any]

INVENTORY = Register(
    name="inventory",
    kind=Kind.BALANCE,
    dimensions=(Dimension("warehouse", "int"), Dimension("product", "int"), Dimension("lot", "text")),
    resources=(Resource("quantity", "numeric(18,3)"), Resource("amount", "numeric(18,2)")),
)

# One column of every type.
EVERYTHING = Register(
    name="everything",
    kind=Kind.TURNOVER,
    dimensions=(
        Dimension("d_smallint", "smallint"),
        Dimension("d_int", "int"),
        Dimension("d_bigint", "bigint"),
        Dimension("d_text", "text"),
        Dimension("d_varchar", "varchar(5)"),
        Dimension("d_uuid", "uuid"),
        Dimension("d_date", "date"),
        Dimension("d_boolean", "boolean"),
        Dimension("d_numeric", "numeric(10,4)"),
        Dimension("d_timestamptz", "timestamptz"),
    ),
    resources=(
        Resource("r_decimal", "numeric(18,3)"),
        Resource("r_numeric", "numeric"),
        Resource("r_int", "int"),
        Resource("r_bigint", "bigint"),
        Resource("r_double", "double precision"),
        Resource("r_real", "real"),
    ),
    time_zone="America/New_York",
    period_min=date(1990, 1, 1),
    period_max=date(2050, 12, 31),
)

MOVEMENT: Document = {"warehouse": 1, "product": 42, "lot": "A", "quantity": "100", "amount": "5000.00"}

EVENT: Document = {
    "id": "e-1",
    "type": "movement",
    "register": "inventory",
    "recorder": "receipt:1",
    "revision": 1,
    "period": "2026-04-18T10:00:00Z",
    "movements": [MOVEMENT],
}


def decoder(*registers: Register, limits: Limits | None = None, **changes: object) -> Decoder:
    """A decoder of these registers, or of `inventory`; `changes` are made to each of them."""
    changed = [replace(register, **changes) for register in registers or (INVENTORY,)]  # type: ignore[arg-type]
    return Decoder({register.name: register for register in changed}, limits)


def record(
    value: bytes | str | Document | None, key: bytes | None = None, headers: tuple[tuple[str, bytes | None], ...] = ()
) -> Message:
    """A record with this value; objects become JSON."""
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, str):
        value = value.encode()
    return Message(topic="events", partition=2, offset=7, timestamp_ms=None, key=key, value=value, headers=headers)


def event(**changes: object) -> Document:
    """A good event with some keys changed; `...` removes a key."""
    return {key: value for key, value in {**EVENT, **changes}.items() if value is not ...}


def movement(**changes: object) -> Document:
    """A good event of one movement with some of its keys changed; `...` removes a key."""
    return event(movements=[{key: value for key, value in {**MOVEMENT, **changes}.items() if value is not ...}])


def accepted(result: Event | Refusal) -> Event:
    """The event; a refusal fails the test and says why."""
    assert isinstance(result, Event), result
    return result


def refused(result: Event | Refusal) -> str:
    """Reason and path in one line, as tables of tests have them; everything in it can be stored in PostgreSQL."""
    assert isinstance(result, Refusal), result
    texts = (result.path, result.detail, result.register, result.recorder, result.event_id)
    for text in texts:
        if text is not None:
            assert "\0" not in text
            text.encode()
    assert len(result.path) <= 200
    assert 0 < len(result.detail) <= 1000
    return f"{result.reason} {result.path}".rstrip()


def values(result: Event | Refusal) -> Mapping[str, str | None]:
    """The values of an inventory event's only movement, by column."""
    (only,) = accepted(result).movements
    columns = [each.name for each in INVENTORY.dimensions] + [each.name for each in INVENTORY.resources]
    return dict(zip(columns, only.values, strict=True))
