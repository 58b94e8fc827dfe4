"""Digests that are stored: the same event has the same ones in every release.

xxh3 64 from the reference library, as signed numbers because PostgreSQL's bigint is signed. Not for security: whoever
may produce to a topic could make two of them collide, and would only have his own event taken for a duplicate.
"""

from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_intdigest

from ingest.domain.messages import EventType, Movement

_SIGN_BIT: Final = 1 << 63
_MODULUS: Final = 1 << 64

# No text that was read contains NUL, so nothing in an event can imitate these.
_NEXT_FIELD: Final = "\0;"
_NEXT_ROW: Final = "\0,"
_NULL: Final = "\0-"


def digest(data: bytes) -> int:
    """The xxh3 64 digest as a signed 64-bit number."""
    unsigned = xxh3_64_intdigest(data)
    return unsigned - _MODULUS if unsigned & _SIGN_BIT else unsigned


def id_digest(event_id: str) -> int:
    """Tells one event id of a recorder from another."""
    return digest(event_id.encode())


def content_digest(event_type: EventType, revision: int | None, movements: Iterable[Movement]) -> int:
    """Tells whether an event that comes again says the same; its id is not part of it."""
    rows = [_NEXT_FIELD.join((event_type, _NULL if revision is None else str(revision)))]
    period, period_text = None, ""
    for movement in movements:
        if movement.period is not period:  # the lines of a document mostly share theirs
            period, period_text = movement.period, movement.period.isoformat()
        rows.append(period_text)
        rows.append(_NEXT_FIELD.join([_NULL if value is None else value for value in movement.values]))
    return digest(_NEXT_ROW.join(rows).encode())
