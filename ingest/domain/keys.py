"""Digests that are stored: the same event has the same ones in every release.

xxh3 64 from the reference library, as signed numbers because PostgreSQL's bigint is signed. Not for security: whoever
may produce to a topic could make two of them collide, and would only have his own event taken for a duplicate.
"""

from typing import Final

from xxhash import xxh3_64_intdigest

from ingest.domain.messages import EventType, Movements

_SIGN_BIT: Final = 1 << 63
_MODULUS: Final = 1 << 64


def digest(data: bytes) -> int:
    """The xxh3 64 digest as a signed 64-bit number."""
    unsigned = xxh3_64_intdigest(data)
    return unsigned - _MODULUS if unsigned & _SIGN_BIT else unsigned


def id_digest(event_id: str) -> int:
    """Tells one event id of a recorder from another."""
    return digest(event_id.encode())


def content_digest(event_type: EventType, revision: int | None, movements: Movements) -> int:
    """Tells whether an event that comes again says the same; its id is not part of it."""
    head = event_type + ("\t\n" if revision is None else f"\t{revision}\n")
    return digest((head + movements.text).encode())
