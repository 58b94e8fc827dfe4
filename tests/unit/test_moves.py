"""Moving a position: what a wish comes to, in words, and what has to be said explicitly."""

import re
from datetime import UTC, datetime

import pytest

from ingest.domain.moves import Wish, describe_move, plan_move
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.status import StoredPosition
from ingest.errors import PositionError

WHERE = TopicPartition("sales", 2)
LOG = LogBounds(WHERE, "a", 100, 200)


def stored(next_offset: int, topic_id: str | None = "a") -> StoredPosition:
    """A position as the database has it."""
    now = datetime(2026, 4, 18, tzinfo=UTC)
    return StoredPosition(
        "sales", 2, topic_id, next_offset, 3, "worker", None, now, 0, 0, 0, 0, 0, 0, None, None, position_id=1,
        dead_letters_in_a_row=0,
    )  # fmt: skip


MOVES = """
    position   to      what is said
    150        start   150 -> 100|offsets 100..149 are read again
    150        end     150 -> 200|offsets 150..199 are skipped
    150        150     150 -> 150
    150        120     150 -> 120|offsets 120..149 are read again
    50         start   50 -> 100|offsets 50..99 are skipped
    250        end     250 -> 200|offsets 200..249 are read again
    -          end     never read -> 200|offsets 100..199 are skipped
    -          start   never read -> 100
"""

OBJECTIONS = """
    to                     with     message
    99                     log      offset 99 is outside the log of .*, which has 100 to 200: .* --force
    201                    log      offset 201 is outside the log
    120                    nothing  the broker tells nothing about .* offset 120 exists.* --force
    start                  nothing  the broker does not tell where the log .* begins and ends
    middle                 log      --to middle: give an offset, start or end
    -1                     log      --to -1: give an offset
    9223372036854775808    log      --to 9223372036854775808: give an offset
"""


def rows(table: str) -> list[list[str]]:
    """The lines of a table, below its head."""
    return [re.split(r"\s{2,}", line.strip(), maxsplit=2) for line in table.strip().splitlines()[1:]]


@pytest.mark.parametrize(("position", "to", "said"), rows(MOVES))
def test_a_move_is_said_before_it_is_made(position: str, to: str, said: str) -> None:
    """From where to where, what is read again, what is skipped."""
    move = plan_move(Wish(WHERE, to), None if position == "-" else stored(int(position)), LOG)
    lines = describe_move(move, "shop")
    assert len(lines) == len(said.split("|"))
    for line, expected in zip(lines, said.split("|"), strict=True):
        assert expected in line


@pytest.mark.parametrize(("to", "known", "message"), rows(OBJECTIONS))
def test_what_the_log_does_not_have_is_refused(to: str, known: str, message: str) -> None:
    """The message names the log, and what would move the position all the same."""
    with pytest.raises(PositionError, match=message):
        plan_move(Wish(WHERE, to), stored(150), LOG if known == "log" else None)


def test_digits_are_digits() -> None:
    """What Python takes for a number, and nobody else does, is no offset."""
    with pytest.raises(PositionError, match="give an offset, start or end"):
        plan_move(Wish(WHERE, "\N{ARABIC-INDIC DIGIT ONE}"), stored(150), LOG)


def test_force_moves_with_a_warning() -> None:
    """An offset outside the log is taken when that is said explicitly, and what follows from it is said too."""
    move = plan_move(Wish(WHERE, "300", force=True), stored(150), LOG)
    assert move.to_offset == 300
    assert "warning: offset 300 is outside the log" in describe_move(move, "shop")[-1]
    assert plan_move(Wish(WHERE, "7", force=True), stored(150), None).to_offset == 7


def test_another_topic_has_to_be_accepted() -> None:
    """A topic that was created anew is read only by somebody who says so; no force stands in for that."""
    with pytest.raises(PositionError, match=r"its topic id was old and is a now.* --accept-new-topic"):
        plan_move(Wish(WHERE, "start", force=True), stored(150, "old"), LOG)
    move = plan_move(Wish(WHERE, "end", accept_new_topic=True), stored(150, "old"), LOG)
    assert move.is_other_topic
    assert describe_move(move, "shop")[1:] == [
        "the topic was created anew: its offsets are counted in a row of their own from now on",
        "offsets 100..199 are skipped: what is in them is never applied, and that is recorded",
    ]
