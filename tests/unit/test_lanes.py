"""Lanes: batches of different partitions are committed side by side, those of one partition never are."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from ingest.domain.applying import Applied
from ingest.domain.batches import SEVERAL_VERSIONS, Batch, BatchLimits
from ingest.domain.lanes import InFlight, Lanes
from ingest.domain.messages import Event, Message, Refusal
from ingest.domain.positions import Claim, TopicPartition
from ingest.errors import TooLargeError, TransientError
from ingest.wiring.parts import Threads
from ingest.worker import Worker
from tests.support.bench import QUICK
from tests.support.fakes import FakeClock, FakeSource, FakeStore, decode, fails, loses_reply, partition, waits_for
from tests.support.waiting import wait_until

RECORDS = 12
UNKNOWN = {"t": 0}


class TwoLanes:
    """A worker with two sessions: partitions 0 and 2 are in the first lane, 1 and 3 in the second."""

    def __init__(self, at_once: int = 4 * RECORDS) -> None:
        self.first = FakeStore()
        self.second = self.first.session()
        log = {
            partition(n): [Message("t", n, offset, 1, None, b"sales") for offset in range(RECORDS)] for n in range(4)
        }
        self.source = FakeSource(log, until=lambda: len(self.first.applied) >= 4 * RECORDS)
        stores, limits = [self.first, self.second], replace(QUICK, poll_max_messages=at_once)
        self.worker = Worker(self.source, stores, decode, FakeClock(), limits, Threads())
        self.source.stop = self.worker.stop
        self.gates: list[threading.Event] = []

    def gate(self, store: FakeStore) -> threading.Event:
        """A closed gate for the session's next batch."""
        self.gates.append(threading.Event())
        store.trouble.append(waits_for(self.gates[-1]))
        return self.gates[-1]

    def run(self) -> None:
        """Runs until everything is applied, and checks that it was, once and in order."""
        self.worker.run()
        for number in range(4):
            assert [offset for where, offset in self.first.applied if where == number] == list(range(RECORDS))
        assert self.first.closed
        assert self.second.closed

    def one_is_through(self) -> bool:
        return sum(not one.result.done() for one in self.worker._lanes.in_flight) == 1

    def applied(self, *partitions: int) -> int:
        return sum(where in partitions for where, _ in self.first.applied)


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Iterator[TwoLanes]:
    """A worker that reads everything at once, unless the test says otherwise."""
    made = TwoLanes(*getattr(request, "param", ()))
    yield made
    for gate in made.gates:
        gate.set()


@pytest.mark.parametrize("two", [(4,)], indirect=True)
def test_a_partition_is_in_one_lane(two: TwoLanes) -> None:
    """No batch has partitions of two lanes, and both lanes have their share."""
    two.run()
    parts = [frozenset(where.partition for where in batch.next_offsets) for batch in two.first.batches]
    assert all(part <= {0, 2} or part <= {1, 3} for part in parts)
    assert two.first.attempts > 0
    assert two.second.attempts > 0


def test_a_batch_does_not_wait_for_that_of_another_lane(two: TwoLanes) -> None:
    """While one session stands still, the other commits what was read."""
    gate = two.gate(two.first)

    def when_the_other_has_committed() -> None:
        if two.applied(1, 3) >= 3:
            assert two.applied(0, 2) == 0
            gate.set()
        else:
            two.source.events.append(when_the_other_has_committed)

    two.source.events.append(when_the_other_has_committed)
    two.run()
    assert two.worker.progress.fenced == 0


@pytest.mark.parametrize("two", [(4,)], indirect=True)
def test_a_full_lane_holds_reading_back(two: TwoLanes) -> None:
    """What waits is bounded: nothing more is read before the lane that is full has room."""
    gate = two.gate(two.first)

    def when_reading_is_paused() -> None:
        if two.source.polls_while_paused < 5:
            two.source.events.append(when_reading_is_paused)
            return
        assert two.applied(0, 2) == 0
        assert all(next_offset < RECORDS for next_offset in two.source._next.values())
        gate.set()

    two.source.events.append(when_reading_is_paused)
    two.run()
    assert two.source.pauses > 0


def test_readiness_is_lost_while_one_lane_fails(two: TwoLanes) -> None:
    """The commits of the other lane do not hide that a batch fails."""
    two.first.trouble.extend([fails(TransientError("down")), waits_for(gate := threading.Event())])
    two.gates.append(gate)

    def when_the_other_has_committed() -> None:
        if two.applied(1, 3) >= 3 and two.first.attempts == 2:
            wait_until(two.one_is_through, 30, "the other lane's commit is through")
            assert two.worker.progress.loop.failing
            gate.set()
        else:
            two.source.events.append(when_the_other_has_committed)

    two.source.events.append(when_the_other_has_committed)
    two.run()
    assert not two.worker.progress.loop.failing
    assert two.worker.progress.retries == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_fenced_lane_drops_what_waits_in_all(two: TwoLanes, lost: bool) -> None:  # noqa: FBT001
    """Everything is claimed and read anew; the other lane's commit counts, whether its reply came or not."""
    two.first.trouble.append(lambda _: two.first.steal(0))
    if lost:
        two.second.trouble.append(loses_reply(two.second))
    two.run()
    assert two.source.rejoined >= 1
    assert two.worker.progress.fenced >= 1


def test_the_server_may_lack_memory_for_all_lanes(two: TwoLanes) -> None:
    """Whichever is noticed first: the other's failure ends nothing, and everything is read again."""
    gate = threading.Event()

    def fail_together(_: Batch) -> None:
        gate.wait(30)
        raise TooLargeError("out of memory")

    def both_are_at_work() -> None:
        if two.first.attempts == 2 and two.second.attempts == 1:
            gate.set()
        else:
            two.source.events.append(both_are_at_work)

    # The first poll takes one record, as nobody knows yet how much fits.
    two.first.trouble.extend([lambda _: None, fail_together])
    two.second.trouble.append(fail_together)
    two.source.events.append(both_are_at_work)
    two.run()
    assert two.source.rejoined >= 1


def test_stopping_waits_for_all_lanes(two: TwoLanes) -> None:
    """Both commits that are under way when the worker is told to stop come through, and what waits is committed."""
    gates = [two.gate(two.first), two.gate(two.second)]

    def stop() -> None:
        if two.first.attempts + two.second.attempts < 2:
            two.source.events.append(stop)
            return
        two.worker.stop()
        for gate in gates:
            threading.Timer(0.05, gate.set).start()

    two.source.events.append(stop)
    two.worker.run()
    read = {where.partition: next_offset for where, next_offset in two.source._next.items()}
    assert {number: two.applied(number) for number in range(4)} == read


def test_a_worker_with_half_of_the_partitions_commits_over_half_of_its_sessions(two: TwoLanes) -> None:
    """The other half is the other worker's: what is full waits for the one that is committed."""
    two.source.partitions = 8
    gate = two.gate(two.first)

    def when_reading_is_paused() -> None:
        if two.source.polls_while_paused < 5:
            two.source.events.append(when_reading_is_paused)
            return
        assert two.first.applied == []
        gate.set()

    two.source.events.append(when_reading_is_paused)
    two.run()
    assert two.second.attempts == 0


def lanes(count: int, limits: BatchLimits = QUICK.batch) -> Lanes:
    """Lanes of one server."""
    store = FakeStore()
    return Lanes([store, *(store.session() for _ in range(count - 1))], limits)


def claim(number: int) -> Claim:
    """The first claim of a partition."""
    return Claim(partition(number), number, 0, 1)


def shares(made: Lanes) -> list[set[int]]:
    """Which partitions each lane has."""
    return [{where.partition for where in lane.builder.claims} for lane in made._lanes]


def test_partitions_are_spread_over_lanes() -> None:
    """Each goes where the fewest are; what is taken anew is in one lane only."""
    made = lanes(2)
    made.claim([claim(number) for number in (3, 1, 0, 2)], UNKNOWN)
    assert shares(made) == [{0, 2}, {1, 3}]
    made.release([TopicPartition("t", 1), TopicPartition("t", 3)])
    made.claim([claim(4), replace(claim(0), epoch=2)], UNKNOWN)
    assert sorted(map(len, shares(made))) == [1, 2]
    assert set(made.claims) == {partition(0), partition(2), partition(4)}
    assert made.claims[partition(0)].epoch == 2


def test_a_lane_that_is_busy_comes_second() -> None:
    """A batch of an earlier claim that is still being committed is in nobody's way."""
    made = lanes(2)
    made.claim([claim(0)], UNKNOWN)
    made.add([decode(FakeStore().registry(), Message("t", 0, 0, 1, None, b"sales"))], 1, 0.0)
    assert len(made.take_all()) == 1
    made.release([partition(0)])
    made.claim([claim(0)], UNKNOWN)
    assert shares(made) == [set(), {0}]


def sale(number: int, offset: int = 0) -> Refusal | Event:
    """A decoded event of a partition."""
    return decode(FakeStore().registry(), Message("t", number, offset, 1, None, b"sales"))


def large(number: int) -> list[Refusal | Event]:
    """As many events of a partition as are committed beside others."""
    return [sale(number, offset) for offset in range(3)]


def land(made: Lanes, *batches: InFlight) -> None:
    """These batches come through, and each frees its lanes."""
    for one in batches:
        one.result.set_result(Applied())
    assert list(made.landed()) == list(batches)


def partitions_of(batches: Sequence[InFlight]) -> list[set[int]]:
    """Which partitions each batch has."""
    return [{where.partition for where in one.batch.next_offsets} for one in batches]


@pytest.mark.parametrize(
    ("count", "ours", "there", "share"),
    [(2, 4, 4, 2), (2, 2, 4, 1), (2, 1, 4, 1), (4, 2, 4, 2), (3, 2, 4, 1), (2, 2, 0, 2)],
)
def test_workers_share_lanes(count: int, ours: int, there: int, share: int) -> None:
    """By the partitions that they have; one at least, and all where nobody knows how many partitions there are."""
    made = lanes(count)
    made.claim([claim(number) for number in range(ours)], {"t": there})
    assert sum(map(bool, shares(made))) == min(share, ours)
    made.add([event for number in range(ours) for event in large(number)], 1, 0.0)
    assert len(made.take(0.0)) == min(share, ours)


def test_partitions_are_gathered_when_others_are_given_away() -> None:
    """With what waits of them; until then no more are committed side by side than are the share, the oldest first."""
    made = lanes(2)
    made.claim([claim(number) for number in range(4)], {"t": 4})
    assert shares(made) == [{0, 2}, {1, 3}]
    made.release([partition(2), partition(3)])
    made.add(large(1), 1, 1.0)
    made.add(large(0), 1, 2.0)
    (oldest,) = made.take(3.0)
    assert [where.partition for where in oldest.batch.next_offsets] == [1]
    assert (made.take(3.0), made.due_in_s(3.0)) == ([], 0.0)
    made.gather(3.0)
    assert shares(made) == [{0}, {1}]
    land(made, oldest)
    made.add([sale(1, 3)], 2, 3.0)
    made.gather(4.0)
    assert shares(made) == [{0, 1}, set()]
    (taken,) = made.take(5.0)
    batch = taken.batch
    assert batch.next_offsets == {partition(0): 3, partition(1): 4}
    assert batch.registry_version == SEVERAL_VERSIONS
    made.claim([claim(2), claim(3)], {"t": 4})
    assert shares(made) == [{0, 1}, {2, 3}]


def test_what_is_left_of_an_earlier_claim_holds_nothing_back() -> None:
    """A worker with one lane's share goes on over the other one."""
    made = lanes(2)
    made.claim([claim(0)], {"t": 4})
    made.add([sale(0)], 1, 0.0)
    assert len(made.take(1.0)) == 1
    made.release([partition(0)])
    made.claim([claim(0), claim(1)], {"t": 4})
    assert shares(made) == [set(), {0, 1}]
    made.add([sale(0)], 1, 1.0)
    assert len(made.take(2.0)) == 1


PATIENT = BatchLimits(max_events=3, max_age_ms=100)


@pytest.fixture
def patient() -> Lanes:
    """Two lanes with partitions 0 and 2, and 1 and 3: batches are due after 0.1 s, or when three events wait."""
    made = lanes(2, PATIENT)
    made.claim([claim(number) for number in range(4)], UNKNOWN)
    return made


def test_what_is_not_large_is_committed_together(patient: Lanes) -> None:
    """Over the first session, which is warm; in partition order, and each lane's events in theirs."""
    patient.add([sale(1), sale(0), sale(0, 1)], 1, 0.0)
    assert patient.take(0.09) == []
    assert patient.due_in_s(0.09) == pytest.approx(0.01)
    patient.add([sale(3)], 2, 0.09)
    (taken,) = patient.take(0.1)
    assert taken.store is patient._lanes[0].store
    assert [span.claim.topic_partition.partition for span in taken.batch.spans] == [0, 1, 3]
    read = [(item.message.partition, item.message.offset) for item in taken.batch.items]
    assert read == [(0, 0), (0, 1), (1, 0), (3, 0)]
    assert taken.batch.registry_version == SEVERAL_VERSIONS
    assert patient.moving == {partition(0), partition(1), partition(3)}
    assert patient.in_flight == [taken]
    land(patient, taken)
    assert patient.in_flight == []


def test_no_partition_is_in_two_batches_at_a_time(patient: Lanes) -> None:
    """What was taken along comes back in order: nothing more of it is committed before, however large or old it is."""
    patient.add([sale(0), sale(1)], 1, 0.0)
    (taken,) = patient.take(1.0)
    patient.add([sale(1, offset) for offset in range(1, 5)], 1, 1.0)
    assert (patient.take(9.0), patient.due_in_s(9.0)) == ([], 0.0)
    land(patient, taken)
    assert partitions_of(patient.take(9.0)) == [{1}]


def test_large_batches_are_committed_side_by_side(patient: Lanes) -> None:
    """The oldest first; a worker is behind that has them."""
    patient.add(large(1), 1, 0.0)
    patient.add(large(0), 1, 0.01)
    assert partitions_of(patient.take(0.01)) == [{1}, {0}]


def test_a_small_batch_waits_for_that_of_another_lane_but_not_for_ever(patient: Lanes) -> None:
    """It is committed once the other one is through, or when it is large, or much too old."""
    patient.add([sale(0)], 1, 0.0)
    (first,) = patient.take(0.1)
    patient.add([sale(1)], 1, 1.0)
    assert (patient.take(1.9), patient.due_in_s(1.9)) == ([], 0.0)
    (second,) = patient.take(2.0)
    land(patient, first, second)
    patient.add([sale(0, 1)], 1, 2.0)
    (third,) = patient.take(2.1)
    patient.add([sale(1, 1), sale(1, 2)], 1, 2.1)
    assert patient.take(2.2) == []
    patient.add([sale(3)], 1, 2.2)
    (fourth,) = patient.take(2.2)
    land(patient, third, fourth)
    patient.add([sale(0, 2)], 1, 3.0)
    (fifth,) = patient.take(3.1)
    patient.add([sale(1, 3)], 1, 3.1)
    assert patient.take(3.3) == []
    land(patient, fifth)
    assert partitions_of(patient.take(3.3)) == [{1}]


def test_batches_are_not_joined_while_memory_is_short() -> None:
    """Halved ones would be doubled."""
    made = lanes(2, BatchLimits(max_events=8, max_age_ms=100))
    made.claim([claim(0), replace(claim(1), attempts=2)], UNKNOWN)
    made.add([sale(1)], 1, 0.0)
    made.add([sale(0)], 1, 0.1)
    assert partitions_of(made.take(0.2)) == [{1}]


def test_a_session_that_commits_nothing_is_free_once_its_partitions_are_given_up(patient: Lanes) -> None:
    """The batch goes on over the other session, and ends there."""
    patient.add([sale(0), sale(1)], 1, 0.0)
    (taken,) = patient.take(0.1)
    patient.release([partition(number) for number in range(4)])
    patient.claim([claim(0)], UNKNOWN)
    assert shares(patient) == [set(), {0}]
    patient.add([sale(0)], 1, 0.2)
    assert partitions_of(patient.take(0.4)) == [{0}]
    taken.result.set_result(Applied())
    assert list(patient.landed()) == [taken]


def test_one_event_is_read_where_none_waits(patient: Lanes) -> None:
    """A source that has it gives it away at once, and its age is known; then as many as there are."""
    assert patient.most_messages(300) == 1
    patient.add([sale(0)], 1, 0.0)
    assert patient.most_messages(300) == 300
