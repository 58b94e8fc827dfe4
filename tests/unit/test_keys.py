"""Digests are stored for years, so they are the same in every release."""

from datetime import UTC, datetime

import pytest

from ingest.domain.keys import content_digest, digest, id_digest
from ingest.domain.messages import EventType, Movement, Movements

TEN = datetime(2026, 4, 18, 10, tzinfo=UTC)


def rows(*values: tuple[str | None, ...]) -> Movements:
    """Movements of one period with these values."""
    return Movements.of(Movement(TEN, each) for each in values)


def test_golden_digests() -> None:
    """Computed once; a change of the library or of the encoding would make duplicates look new."""
    assert digest(b"") == 3244421341483603138
    assert id_digest("e-1") == 4405009199250856325
    assert content_digest(EventType.MOVEMENT, 1, rows(("1", None, "A", "100", "5000"))) == 4026280044804023498
    assert content_digest(EventType.REPOST, None, rows()) == 3731898471796637540
    assert content_digest(EventType.UNPOST, None, rows()) == 8726146136852026530


def test_digests_are_signed_64_bit_numbers() -> None:
    """PostgreSQL's bigint takes all of them."""
    digests = [id_digest(str(number)) for number in range(1000)]
    assert min(digests) < 0 < max(digests)
    assert all(-(2**63) <= each < 2**63 for each in digests)
    assert len(set(digests)) == 1000


@pytest.mark.parametrize(
    "contents",
    [
        [rows(("a", "b")), rows(("ab", "")), rows(("", "ab")), rows(("a;b", ""))],
        [rows((None, "")), rows(("", None)), rows((None, None)), rows(("", "")), rows(("-", "")), rows(("", "-"))],
        [rows(("a",), ("b",)), rows(("b",), ("a",)), rows(("a",)), rows(("a",), ("a",)), rows()],
        [
            rows(("x",)),
            Movements.of([Movement(TEN.replace(microsecond=1), ("x",))]),
            Movements.of([Movement(TEN.replace(year=2025), ("x",))]),
        ],
        [
            rows(("a", "\t", "b")),
            rows(("a\tb",)),
            rows(("a", "\\t", "b")),
            rows(("a\nb",)),
            rows(("a",), ("b",)),
            rows(("\\N",)),
        ],
    ],
)
def test_nothing_imitates_something_else(contents: list[Movements]) -> None:
    """Values that meet in another way, nulls and separators make other digests."""
    digests = {content_digest(EventType.MOVEMENT, None, each) for each in contents}
    assert len(digests) == len(contents)
