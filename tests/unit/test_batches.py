"""Batches: what is accepted from which partition, when a batch is due, and what the next one expects."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from ingest.domain.batches import (
    BATCHES_PER_DOUBLING,
    MOST_ATTEMPTS,
    SEVERAL_VERSIONS,
    Batch,
    BatchBuilder,
    BatchLimits,
    Decoded,
)
from ingest.domain.messages import Event, EventType, Message, Movements, Reason, Refusal
from ingest.domain.positions import Claim, TopicPartition
from tests.support.events import accepted, decoder, event, record

MOVEMENTS = list(accepted(decoder().decode(record(event()))).movements)


def claim(partition: int, next_offset: int = 0, epoch: int = 1) -> Claim:
    """A partition of the topic, claimed from an offset on."""
    return Claim(TopicPartition("t", partition), 100 + partition, next_offset, epoch)


def message(partition: int, offset: int, size: int = 10) -> Message:
    """A record whose time tells its offset."""
    return Message("t", partition, offset, 1000 + offset, None, b"x" * size)


def taken(partition: int, offset: int, movements: int = 1, size: int = 10) -> Event:
    """An event with so many movements, and a value of so many bytes."""
    rows = Movements.of(MOVEMENTS * movements)
    return Event(message(partition, offset, size), EventType.MOVEMENT, "inventory", "r", "i", None, rows, 1, 2)


def refused(partition: int, offset: int) -> Refusal:
    """A record that was refused."""
    return Refusal(message(partition, offset), Reason.NOT_JSON, "", "no")


def builder(*claims: Claim, limits: BatchLimits | None = None) -> BatchBuilder:
    """A builder that holds these claims."""
    built = BatchBuilder(limits or BatchLimits())
    built.claim(claims)
    return built


def offsets(items: Iterable[Decoded]) -> list[tuple[int, int]]:
    """Where the events came from."""
    return [(item.message.partition, item.message.offset) for item in items]


def spans(batch: Batch) -> list[tuple[int, int, int, int | None]]:
    """Partition, from, to, and the last record's time."""
    return [
        (s.claim.topic_partition.partition, s.claim.next_offset, s.next_offset, s.last_timestamp_ms)
        for s in batch.spans
    ]


def test_order_of_reading_is_kept() -> None:
    """Events stay in the order in which they were read; spans are in partition order, whatever came first."""
    built = builder(claim(0), claim(1, 5))
    built.add([taken(1, 5), taken(0, 0), refused(1, 6), taken(0, 1)], 1, 0.0)
    batch = built.take()
    assert offsets(batch.items) == [(1, 5), (0, 0), (1, 6), (0, 1)]
    assert spans(batch) == [(0, 0, 2, 1001), (1, 5, 7, 1006)]
    assert [m.offset for m in batch.messages] == [5, 0, 6, 1]
    assert batch.next_offsets == {TopicPartition("t", 0): 2, TopicPartition("t", 1): 7}


def test_next_batch_expects_what_this_one_leaves() -> None:
    """The expected position is the end of the batch before, never a message's offset: offsets have gaps."""
    built = builder(claim(0, 3, epoch=9))
    built.add([taken(0, 7)], 1, 0.0)
    assert spans(built.take()) == [(0, 3, 8, 1007)]
    assert len(built) == 0
    built.add([taken(0, 20)], 1, 0.0)
    batch = built.take()
    assert spans(batch) == [(0, 8, 21, 1020)]
    assert batch.spans[0].claim == Claim(TopicPartition("t", 0), 100, 8, 9)


def test_nothing_of_partitions_that_are_not_claimed() -> None:
    """A record of somebody else's partition never gets into a batch."""
    built = builder(claim(0))
    built.add([taken(1, 0), taken(0, 0), taken(2, 0)], 1, 0.0)
    assert offsets(built.take().items) == [(0, 0)]


def test_records_before_the_position_are_skipped() -> None:
    """What was applied, or waits already, is not taken a second time when it is read again."""
    built = builder(claim(0, 5))
    built.add([taken(0, 4), taken(0, 5), taken(0, 5), taken(0, 6), taken(0, 5)], 1, 0.0)
    assert offsets(built.take().items) == [(0, 5), (0, 6)]
    built.add([taken(0, 6), taken(0, 7)], 1, 0.0)
    assert offsets(built.take().items) == [(0, 7)]


def test_release_drops_what_waits_of_a_partition() -> None:
    """The next owner reads it again; other partitions keep what they have, and their sizes are counted anew."""
    built = builder(claim(0), claim(1), limits=BatchLimits(max_events=3, growth=1))
    built.add([taken(0, 0), taken(1, 0), taken(0, 1)], 1, 0.0)
    assert built.is_full()
    built.release([TopicPartition("t", 0), TopicPartition("t", 7)])
    assert not built.is_full()
    built.add([taken(0, 2), taken(1, 1)], 1, 0.0)
    batch = built.take()
    assert offsets(batch.items) == [(1, 0), (1, 1)]
    assert spans(batch) == [(1, 0, 2, 1001)]
    assert set(built.claims) == {TopicPartition("t", 1)}


def test_a_new_claim_replaces_what_waits_of_an_earlier_one() -> None:
    """What was read under another epoch is read again: one batch never mixes two claims of a partition."""
    built = builder(claim(0, 0, epoch=1), claim(1))
    built.add([taken(0, 0), taken(0, 1), taken(1, 0)], 1, 0.0)
    built.claim([claim(0, 1, epoch=2)])
    built.add([taken(0, 0), taken(0, 1)], 1, 0.0)
    batch = built.take()
    assert offsets(batch.items) == [(1, 0), (0, 1)]
    assert spans(batch) == [(0, 1, 2, 1001), (1, 0, 1, 1000)]
    assert [span.claim.epoch for span in batch.spans] == [2, 1]


@pytest.mark.parametrize(
    ("limits", "items", "large", "full"),
    [
        (BatchLimits(max_movements=5), [taken(0, 0, movements=4)], False, False),
        (BatchLimits(max_movements=5), [taken(0, 0, movements=4), taken(0, 1)], True, False),
        (BatchLimits(max_movements=5, growth=1), [taken(0, 0, movements=4), taken(0, 1)], True, True),
        (BatchLimits(max_movements=5, growth=3), [taken(0, 0, movements=14)], True, False),
        (BatchLimits(max_movements=5, growth=3), [taken(0, 0, movements=50)], True, True),
        (BatchLimits(max_events=2), [taken(0, 0)], False, False),
        (BatchLimits(max_events=2, growth=2), [taken(0, 0), refused(0, 1), taken(0, 2)], True, False),
        (BatchLimits(max_events=2, growth=2), [taken(0, 0), refused(0, 1), taken(0, 2), taken(0, 3)], True, True),
        (BatchLimits(max_bytes=30), [taken(0, 0, size=29)], False, False),
        (BatchLimits(max_bytes=30, growth=100), [taken(0, 0, size=29), refused(0, 1)], True, True),
        (BatchLimits(max_events=1, growth=1), [], False, False),
    ],
)
def test_sizes_that_make_a_batch_due(limits: BatchLimits, items: list[Decoded], *, large: bool, full: bool) -> None:
    """Movements, events and bytes are bounded, whichever comes first; refused events count as well.

    While another batch is under way it may grow, in movements and events; bytes are what memory is bounded by.
    """
    built = builder(claim(0), limits=limits)
    built.add(items, 1, 0.0)
    assert built.is_large() is large
    assert built.is_full() is full


def test_age_makes_a_batch_due() -> None:
    """The age is that of the oldest event that waits; an empty batch is never due."""
    built = builder(claim(0), claim(1), limits=BatchLimits(max_age_ms=200))
    assert built.due_in_s(50.0) is None
    assert not built.is_due(50.0)
    built.add([taken(0, 0)], 1, 50.0)
    built.add([taken(1, 0)], 1, 50.15)
    assert built.due_in_s(50.15) == pytest.approx(0.05)
    assert not built.is_due(50.15)
    assert built.is_due(50.2)
    assert built.due_in_s(60.0) == 0.0
    built.take()
    assert not built.is_due(60.0)
    built.add([taken(0, 1)], 1, 60.0)
    assert built.due_in_s(60.0) == pytest.approx(0.2)


def test_several_declarations_are_none() -> None:
    """A batch of events decoded under several versions names none that there is: all of it is decoded again."""
    built = builder(claim(0))
    built.add([taken(0, 0)], 4, 0.0)
    built.add([taken(0, 1)], 5, 0.0)
    built.add([taken(0, 2)], 3, 0.0)
    assert built.take().registry_version == SEVERAL_VERSIONS
    built.add([taken(0, 3)], 6, 0.0)
    assert built.take().registry_version == 6


def test_batches_of_a_partition_that_was_claimed_in_vain_begin_smaller() -> None:
    """Halved with every attempt but the first, in all they are measured by, down to one event, and not to none."""
    limits = BatchLimits(max_movements=8, max_events=4, max_bytes=800, growth=2)
    again = builder(replace(claim(0), attempts=2), limits=limits)
    again.add([taken(0, 0, movements=3)], 1, 0.0)
    assert (again.is_large(), again.is_full()) == (False, False)
    again.add([taken(0, 1)], 1, 0.0)
    assert (again.is_large(), again.is_full()) == (True, False)
    again.add([taken(0, 2, size=380)], 1, 0.0)
    assert again.is_full()
    often = builder(replace(claim(0), attempts=MOST_ATTEMPTS), limits=limits)
    often.add([taken(0, 0)], 1, 0.0)
    assert often.is_full()
    assert [builder(replace(claim(0), attempts=n)).is_halved for n in range(3)] == [False, False, True]
    polls = [builder(replace(claim(0), attempts=n)).most_messages(300) for n in range(4)]
    assert polls == [300, 300, 150, 75]


def test_batches_grow_again_with_progress() -> None:
    """Doubled after every fifty batches, up to what is set; each batch tells what it proves, for the next process."""
    built = builder(replace(claim(0), attempts=3), claim(1), limits=BatchLimits(growth=1))
    sizes, proven = [], []
    for offset in range(3 * BATCHES_PER_DOUBLING):
        sizes.append(built.most_messages(100))
        built.add([taken(0, offset)], 1, 0.0)
        proven.append(built.take().spans[0].claim.attempts)
    fifty = BATCHES_PER_DOUBLING
    assert sizes == [25] * fifty + [50] * fifty + [100] * fifty
    assert proven == [3] * (fifty - 1) + [2] * fifty + [1] * fifty + [0]


def test_one_batch_of_the_full_size_proves_enough() -> None:
    """Then the next claim, in the calm of a rolling restart, is a first attempt again; a halved one proves less."""
    limits = BatchLimits(max_events=1, growth=1)
    first, second = (builder(replace(claim(0), attempts=n), limits=limits) for n in (1, 2))
    for built in (first, second):
        built.add([taken(0, 0)], 1, 0.0)
    assert first.take().spans[0].claim.attempts == 0
    assert second.take().spans[0].claim.attempts == 2
