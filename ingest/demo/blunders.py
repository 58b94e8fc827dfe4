"""What goes wrong at the shop's tills: events that have to be refused, each for another reason.

Every blunder starts from a correct event of a new document. Some are what is sent in its place; the others are sent
after it, and contradict it. Either way the document must come out as if the blunder had never been sent.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ingest.domain.messages import Reason

EventObject: TypeAlias = dict[str, Any]
"""An event as it goes into JSON."""


@dataclass(frozen=True, slots=True)
class Blunder:
    """A way to spoil an event; `contradicts` says that the correct one is sent first."""

    reason: Reason
    spoil: Callable[[EventObject], bytes]
    contradicts: bool = False


def encode(event: EventObject) -> bytes:
    """Write an event as the shop's tills do."""
    return json.dumps(event, separators=(",", ":")).encode()


def _switched_off(event: EventObject) -> bytes:
    written = encode(event)
    return written[: len(written) // 2]


def _says_it_twice(event: EventObject) -> bytes:
    return encode(event).replace(b'"revision":1', b'"revision":1,"revision":2')


def _misspells_the_register(event: EventObject) -> bytes:
    return encode(event | {"register": "inventroy"})


def _abbreviates_a_resource(event: EventObject) -> bytes:
    return _with_line(event, {"qty": "1"})


def _forgets_the_lot(event: EventObject) -> bytes:
    line = {key: value for key, value in event["movements"][0].items() if key != "lot"}
    return encode(event | {"movements": [line, *event["movements"][1:]]})


def _writes_a_decimal_comma(event: EventObject) -> bytes:
    return _with_line(event, {"amount": "12,50"})


def _divides_a_cent(event: EventObject) -> bytes:
    return _with_line(event, {"amount": "12.505"})


def _forgets_the_offset(event: EventObject) -> bytes:
    return encode(event | {"period": "2026-03-14T10:30:00"})


def _is_a_century_ahead(event: EventObject) -> bytes:
    return encode(event | {"period": "2126-03-14T10:30:00Z"})


def _takes_another_key(event: EventObject) -> bytes:
    return encode(event | {"recorder": "receipt:unknown"})


def _uses_an_id_again(event: EventObject) -> bytes:
    return _with_line(event, {"quantity": "999.000"})


def _uses_a_revision_again(event: EventObject) -> bytes:
    return _with_line(event | {"id": f"{event['id']}-bis"}, {"quantity": "999.000"})


def _with_line(event: EventObject, changes: EventObject) -> bytes:
    *lines, last = event["movements"]
    return encode(event | {"movements": [*lines, last | changes]})


BLUNDERS = (
    Blunder(Reason.NOT_JSON, _switched_off),
    Blunder(Reason.UNKNOWN_REGISTER, _misspells_the_register),
    Blunder(Reason.ID_CONFLICT, _uses_an_id_again, contradicts=True),
    Blunder(Reason.UNKNOWN_COLUMN, _abbreviates_a_resource),
    Blunder(Reason.MISSING_DIMENSION, _forgets_the_lot),
    Blunder(Reason.NOT_A_NUMBER, _writes_a_decimal_comma),
    Blunder(Reason.INEXACT, _divides_a_cent),
    Blunder(Reason.REVISION_CONFLICT, _uses_a_revision_again, contradicts=True),
    Blunder(Reason.DUPLICATE_KEY, _says_it_twice),
    Blunder(Reason.INVALID_TIME, _forgets_the_offset),
    Blunder(Reason.PERIOD_OUT_OF_RANGE, _is_a_century_ahead),
    Blunder(Reason.KEY_MISMATCH, _takes_another_key),
)
