"""Where a partition is read from, and when the position and the log contradict each other."""

import re

import pytest

from ingest.domain.positions import LogBounds, TopicPartition, check_position
from ingest.errors import PositionError

TP = TopicPartition("sales", 2)

READ_ON = """
    stored   id stored   low   high   id now   start
    -        -             0      0   a            0
    -        -             7     90   a            7
    0        a             0      0   a            0
    7        a             7     90   a            7
    90       a             7     90   a           90
    42       a             7     90   a           42
    42       -             7     90   a           42
    42       a             7     90   -           42
    42       -             7     90   -           42
"""

CONTRADICTIONS = """
    stored   id stored   low   high   id now   message
    5        a           100    200   a        offsets 5..99 of topic sales partition 2 are gone: .* begins at 100
    99       a           100    200   a        offsets 99..99 of .*: tallystream positions set sales 2 --to start
    0        a             7      7   a        offsets 0..6 of
    201      a           100    200   a        ends at offset 200, but the stored position is 201: the offsets 200..200
    5        a             0      0   a        ends at offset 0, but .* 0..4 were .* positions set sales 2 --to end
    150      a           100    200   b        its topic id was a and is b now, .* the offsets 100..199 of the new one
    0        a             0      0   b        its topic id was a and is b now, .* the offsets \\(none\\) of the new one
    5        a           100    200   b        again; .* set sales 2 --to start --reason '...' --accept-new-topic
"""


def _rows(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip(), maxsplit=5) for line in table.strip().splitlines()[1:]]


def _offset(cell: str) -> int | None:
    return None if cell == "-" else int(cell)


def _topic_id(cell: str) -> str | None:
    return None if cell == "-" else cell


@pytest.mark.parametrize(("stored", "id_stored", "low", "high", "id_now", "start"), _rows(READ_ON))
def test_reading_goes_on_where_the_position_says(
    stored: str, id_stored: str, low: str, high: str, id_now: str, start: str
) -> None:
    """A new partition begins at the log's start; any position inside the log, its end included, is as good."""
    bounds = LogBounds(TP, _topic_id(id_now), int(low), int(high))
    assert check_position(_offset(stored), _topic_id(id_stored), bounds) == int(start)


@pytest.mark.parametrize(("stored", "id_stored", "low", "high", "id_now", "message"), _rows(CONTRADICTIONS))
def test_a_contradiction_stops_the_partition_and_says_what_is_missing(
    stored: str, id_stored: str, low: str, high: str, id_now: str, message: str
) -> None:
    """Nothing is guessed: the message names topic, partition, the offsets concerned, and what can be done."""
    bounds = LogBounds(TP, _topic_id(id_now), int(low), int(high))
    with pytest.raises(PositionError, match=message):
        check_position(_offset(stored), _topic_id(id_stored), bounds)


def test_topic_partitions_sort_by_topic_then_number() -> None:
    """Locks are taken in this order by every worker."""
    assert sorted([TopicPartition("b", 0), TopicPartition("a", 10), TopicPartition("a", 9)]) == [
        TopicPartition("a", 9),
        TopicPartition("a", 10),
        TopicPartition("b", 0),
    ]
