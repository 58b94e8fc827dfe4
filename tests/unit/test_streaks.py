"""Dead letters in a row: counted per partition, in the order of the log, and cut where they are enough."""

import pytest

from ingest.domain.batches import Batch, Decoded, Span
from ingest.domain.messages import Event, EventType, Message, Movements, Reason, Refusal
from ingest.domain.positions import Claim, TopicPartition
from ingest.domain.streaks import cut_batch, describe_streak, follow_streaks

# One letter per event of partition 0, in order: x is refused, o is not.
COUNTED = """
    before   events      most   length   cut
    0        ooo         3      0        -
    0        xx          3      2        -
    2        x           3      3        -
    2        o           3      0        -
    2        oxx         3      2        -
    0        xxx         3      3        -
    0        xxxo        3      3        3
    1        xxxxx       3      3        2
    0        xoxxoxxx    3      3        -
    0        xoxxoxxxo   3      3        8
    3        xo          3      3        0
    3        oo          3      3        0
    0        xxxxx       0      5        -
    7        xxxxx       0      12       -
"""


def items(events: str, partition: int = 0) -> list[Decoded]:
    """Events and refusals."""
    found: list[Decoded] = []
    for offset, letter in enumerate(events):
        message = Message("t", partition, offset, 10 * offset, None, None)
        if letter == "x":
            found.append(Refusal(message, Reason.NOT_JSON, "", "no"))
        else:
            found.append(Event(message, EventType.UNPOST, "r", "r", str(offset), None, Movements(), 0, 0))
    return found


def refusals(decoded: list[Decoded]) -> list[Refusal]:
    """Those that decoding has refused."""
    return [item for item in decoded if isinstance(item, Refusal)]


@pytest.mark.parametrize(
    ("before", "events", "most", "length", "cut"), [line.split() for line in COUNTED.strip().splitlines()[1:]]
)
def test_counting(before: str, events: str, most: str, length: str, cut: str) -> None:
    """Refused ones add up, across batches too; one that is not refused begins anew; behind the limit nothing counts."""
    where = TopicPartition("t", 0)
    decoded = items(events)
    streaks = follow_streaks(decoded, refusals(decoded), {where: int(before)}, int(most))
    assert streaks.lengths == {where: int(length)}
    assert streaks.cuts == ({} if cut == "-" else {where: int(cut)})
    assert streaks.stopped(int(most)) == ([where] if int(most) and int(length) >= int(most) else [])


def test_an_event_that_the_plan_refuses_counts() -> None:
    """A conflict of ids is found later than bad JSON, and is a dead letter all the same."""
    decoded = items("oo")
    late = [Refusal(decoded[1].message, Reason.ID_CONFLICT, "id", "no")]
    assert follow_streaks(decoded, late, {TopicPartition("t", 0): 0}, 9).lengths == {TopicPartition("t", 0): 1}


def test_partitions_are_cut_on_their_own() -> None:
    """One partition's producer is broken: the events of the other are all there, and its span is whole."""
    broken, fine = TopicPartition("t", 0), TopicPartition("t", 1)
    decoded = [item for pair in zip(items("xxx"), items("oxo", 1), strict=True) for item in pair]
    streaks = follow_streaks(decoded, refusals(decoded), {broken: 0, fine: 0}, 2)
    assert (streaks.lengths, streaks.cuts) == ({broken: 2, fine: 0}, {broken: 2})
    spans = tuple(Span(Claim(where, n, 0, 1), 3, 20) for n, where in enumerate((broken, fine)))
    cut = cut_batch(Batch(tuple(decoded), spans, 1), streaks.cuts)
    assert [item.message.offset for item in cut.items if item.message.partition == 0] == [0, 1]
    assert [item.message.offset for item in cut.items if item.message.partition == 1] == [0, 1, 2]
    assert [(span.next_offset, span.last_timestamp_ms) for span in cut.spans] == [(2, 10), (3, 20)]


def test_a_partition_that_had_reached_the_limit_before_is_left_out() -> None:
    """Not even an empty span of it is written."""
    where = TopicPartition("t", 0)
    decoded = tuple(items("x"))
    cut = cut_batch(Batch(decoded, (Span(Claim(where, 1, 0, 1), 1, 0),), 1), {where: 0})
    assert (cut.items, cut.spans) == ((), ())


def test_the_message_can_be_copied() -> None:
    """Which partition, where, how many, why most of them, and the two commands."""
    where = TopicPartition("sales", 3)
    text = str(describe_streak(where, 120, 100, 100, ("unknown_column", 98)))
    assert text.startswith(
        "topic sales partition 3 is stopped before offset 120: the 100 events before it were refused,"
        " 98 of them for unknown_column (max_dead_letters_in_a_row is 100)."
    )
    assert "tallystream dead-letters list --reason unknown_column" in text
    assert text.endswith("tallystream positions resume sales 3 --reason '...'")
    assert "None" not in str(describe_streak(where, 120, 100, 100, None))
