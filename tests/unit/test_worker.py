"""The worker's loop: whatever stands in its way, each record is applied once, in order, and the loop goes on.

Source, store and clock are fakes that keep the rules of the real ones; nothing here stands in for the database's work.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.domain.batches import Batch, BatchLimits
from ingest.domain.plans import Outcome
from ingest.errors import (
    FencedError,
    OperatorError,
    PositionError,
    RegistryChangedError,
    TooLargeError,
    TransientError,
)
from ingest.worker import WorkerLimits
from tests.support.bench import DOWN, QUICK, Bench, nothing
from tests.support.fakes import FakeClock, FakeStore, fails, loses_reply, partition


def test_everything_read_is_applied_once_in_order(bench: Callable[..., Bench]) -> None:
    """The plain case: batches follow one another, and Kafka is told after each commit."""
    one = bench(partitions=2, records=20)
    one.run()
    one.check()
    progress = one.worker.progress
    assert (progress.movements, progress.retries, progress.fenced) == (40, 0, 0)
    assert progress.batches == len(one.store.batches)
    assert one.source.rejoined == 0
    told = {tp: offset for offsets in one.source.mirrored for tp, offset in offsets.items()}
    assert told == {partition(0): 20, partition(1): 20}


def test_time_is_counted_by_phase(bench: Callable[..., Bench]) -> None:
    """Reading and decoding are told apart; a poll that brought nothing was waiting and is not work."""
    one = bench(records=1)
    one.run(lambda: one.clock.sleep(3, threading.Event()), lambda: one.clock.sleep(50, threading.Event()))
    assert one.worker.progress.summary()["seconds"] == {"poll": 3.0, "decode": 0.0}


def test_kafka_is_told_only_after_the_commit(bench: Callable[..., Bench]) -> None:
    """Offsets never run ahead of what is durable."""
    one = bench(records=3)
    gate = one.gate()
    seen: list[int] = []

    def look() -> None:
        one.wait_for_attempt()
        seen.append(len(one.source.mirrored))
        gate.set()

    one.run(nothing, look)
    assert seen == [0]
    one.check()


def test_passing_failures_are_retried_with_growing_delays(bench: Callable[..., Bench]) -> None:
    """Each delay is about twice the one before, up to the bound, never exactly it; the batch stays whole."""
    one = bench(limits=WorkerLimits(batch=QUICK.batch, retry_initial_ms=100, retry_max_ms=1_000))
    one.store.trouble.extend([fails(DOWN)] * 7)
    one.run()
    one.check()
    assert one.worker.progress.retries == 7
    for delay, most in zip(one.clock.slept, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=True):
        assert most / 2 <= delay <= most


def test_delays_begin_anew_for_the_next_batch(bench: Callable[..., Bench]) -> None:
    """A batch that goes through after many tries does not slow down the next one's first."""
    one = bench(records=9)
    one.store.trouble.extend([*[fails(DOWN)] * 5, nothing_happens, fails(DOWN)])
    one.run()
    one.check()
    assert one.clock.slept[5] <= 0.1


def nothing_happens(_batch: object) -> None:
    """The transaction goes through."""


def test_a_lost_reply_is_not_a_second_try(bench: Callable[..., Bench]) -> None:
    """When the connection is lost after COMMIT, the positions tell, and the batch is not applied again."""
    one = bench()
    one.store.trouble.append(loses_reply(one.store))
    one.run()
    one.check()
    assert one.store.asked_for_standing == 1
    assert one.source.rejoined == 0


def test_a_batch_that_was_not_committed_is_applied_again(bench: Callable[..., Bench]) -> None:
    """When the connection is lost before COMMIT, the positions tell, and the same batch is applied."""
    one = bench()
    one.store.trouble.append(fails(DOWN))
    one.run()
    one.check()
    assert one.store.asked_for_standing == 1


def test_the_positions_are_asked_until_they_answer(bench: Callable[..., Bench]) -> None:
    """While the outcome is unknown nothing is applied, and no record is read again."""
    one = bench()
    one.store.trouble.append(loses_reply(one.store))
    one.store.standing_trouble.extend([DOWN, DOWN])
    one.run()
    one.check()
    assert one.store.asked_for_standing == 3
    assert one.worker.progress.fenced == 0


def test_a_batch_moved_by_others_meanwhile_is_dropped(bench: Callable[..., Bench]) -> None:
    """When the positions are neither before nor after the batch, everything is claimed and read again."""
    one = bench()

    def trouble(_batch: object) -> None:
        one.store.steal()
        raise DOWN

    one.store.trouble.append(trouble)
    one.run()
    one.check()
    assert (one.worker.progress.fenced, one.source.rejoined) == (1, 1)


def test_fenced_drops_everything_and_joins_anew(bench: Callable[..., Bench]) -> None:
    """Somebody else's epoch: nothing of the batch or of what waits is applied; reading begins at the positions."""
    one = bench(partitions=2)
    one.store.trouble.append(lambda _: one.store.steal(1))
    one.run()
    one.check()
    assert (one.worker.progress.fenced, one.source.rejoined) == (1, 1)


@pytest.mark.scenario("P8")
def test_a_batch_of_a_topic_that_was_created_anew_is_dropped(bench: Callable[..., Bench]) -> None:
    """Nothing of it is applied; the partitions are claimed anew, which tells whether they may be read."""
    one = bench(records=9)
    one.source.unconfirmed.append(FencedError("topic t was created anew"))
    one.run()
    one.check()
    assert one.source.rejoined == 1
    assert one.worker.progress.fenced == 1


def test_a_batch_is_tried_again_until_kafka_tells(bench: Callable[..., Bench]) -> None:
    """What was read stays, and nothing of it is applied before."""
    one = bench(records=3)
    one.source.unconfirmed.extend([TransientError("no answer")] * 3)
    one.run()
    one.check()
    assert (one.worker.progress.retries, one.source.rejoined) == (3, 0)


def test_positions_that_went_back_are_noticed_without_new_events(bench: Callable[..., Bench]) -> None:
    """A fail-over lost the last commits and nothing new comes: a regular look at the positions finds out."""
    one = bench(limits=replace(QUICK, check_every_ms=1))

    def fail_over() -> None:
        assert one.worker._finish_in_flight(30_000)
        assert len(one.store.applied) == one.records
        del one.store.applied[-4:]
        one.store.positions[partition()] = one.records - 4, 1
        one.store.check_trouble.append(DOWN)

    def when_all_is_applied() -> None:
        one.clock.time += 1
        one.source.events.append(fail_over if one.everything_is_applied() else when_all_is_applied)

    def healed() -> bool:
        one.clock.time += 1
        return one.source.rejoined > 0 and one.everything_is_applied()

    one.source.events.extend([when_all_is_applied])
    one.source.until = healed
    one.worker.run()
    one.check()
    assert (one.worker.progress.fenced, one.source.rejoined) == (1, 1)


def test_batches_grow_while_the_worker_is_behind(bench: Callable[..., Bench]) -> None:
    """While a batch is being committed the next one grows, up to its bound; the first one had nothing to wait for."""
    one = bench(records=30, limits=replace(QUICK, batch=BatchLimits(max_events=3, max_age_ms=0, growth=3)))
    gate = one.gate()
    one.run(nothing, one.wait_for_attempt, *[nothing] * 3, gate.set)
    one.check()
    first, second, *_ = [len(batch.items) for batch in one.store.batches]
    assert first == 1
    assert 3 < second <= 9 + QUICK.poll_max_messages - 1


def test_partitions_of_a_batch_under_way_are_not_checked(bench: Callable[..., Bench]) -> None:
    """Their positions move at any moment, and the batch finds out by itself whether they are its own."""
    one = bench(partitions=2, limits=replace(QUICK, check_every_ms=1))
    gate = one.gate()
    one.store.positions[partition(1)] = one.records, 0

    def look() -> None:
        one.wait_for_attempt()
        one.clock.time += 1
        one.source.events.extend([nothing, gate.set])

    one.source.until = lambda: len(one.store.applied) == one.records
    one.run(nothing, look)
    assert [claim.topic_partition for claim in one.store.checked[0]] == [partition(1)]
    assert one.worker.progress.fenced == 0


def test_declarations_that_changed_are_read_and_the_batch_decoded_again(bench: Callable[..., Bench]) -> None:
    """An event decoded under old declarations is never applied, and never refused for them."""
    one = bench(value=b"returns")
    one.store.trouble.append(lambda _: one.store.declare("returns"))
    one.run()
    one.check()
    assert one.store.refused == []
    assert {batch.registry_version for batch in one.store.batches} == {2}
    assert one.clock.slept == []


def test_an_unknown_register_is_refused_only_under_the_present_declarations(bench: Callable[..., Bench]) -> None:
    """A refusal counts when the declarations are still those that were read; then it is a dead letter."""
    one = bench(value=b"nobody", records=3)
    one.store.trouble.append(lambda _: one.store.declare("others"))
    one.run()
    assert one.store.applied == []
    assert sorted(one.store.refused) == [(0, 0), (0, 1), (0, 2)]
    assert one.worker.progress.outcomes[Outcome.DEAD_LETTER] == 3
    assert {batch.registry_version for batch in one.store.batches} == {2}


def test_declarations_that_keep_changing_are_not_a_busy_loop(bench: Callable[..., Bench]) -> None:
    """From the second change in a row on there is a delay between tries."""
    one = bench(records=2)
    one.store.trouble.extend([fails(RegistryChangedError("again"))] * 4)
    one.run()
    one.check()
    assert len(one.clock.slept) == 3


def test_declarations_that_cannot_be_read_are_waited_for(bench: Callable[..., Bench]) -> None:
    """PostgreSQL going down just when a declaration has changed is one more passing failure."""
    one = bench(value=b"returns")

    def trouble(_batch: object) -> None:
        one.store.declare("returns")
        one.store.registry_trouble.extend([DOWN, DOWN])

    one.store.trouble.append(trouble)
    one.run()
    one.check()
    assert one.worker.progress.retries == 2


def test_waits_for_postgresql_at_the_start(bench: Callable[..., Bench]) -> None:
    """The group is joined only when PostgreSQL has answered; the delays grow."""
    one = bench()
    one.store.registry_trouble.extend([DOWN] * 4)
    one.run()
    one.check()
    assert one.clock.slept == sorted(one.clock.slept)
    assert len(one.clock.slept) == 4


def test_stop_while_waiting_for_postgresql_at_the_start(bench: Callable[..., Bench]) -> None:
    """SIGTERM ends the waiting, without an error and without having joined."""
    one = bench()
    one.store.registry_trouble.extend([DOWN] * 50)
    one.clock.alarms.append(one.worker.stop)
    one.worker.run()
    assert not one.source.started
    assert (one.source.closed, one.store.closed) == (True, True)


def test_claims_that_fail_are_repeated_with_growing_delays(bench: Callable[..., Bench]) -> None:
    """Without an answer about the positions nothing is read; the group is joined anew until there is one."""
    one = bench()
    one.store.claim_trouble.extend([DOWN] * 4)
    one.run()
    one.check()
    assert one.source.rejoined == 4
    for delay, most in zip(one.clock.slept, [0.1, 0.2, 0.4, 0.8], strict=True):
        assert most / 2 <= delay <= most


def test_delays_of_claims_begin_anew_after_a_success(bench: Callable[..., Bench]) -> None:
    """An outage last week does not make this one longer."""
    one = bench(partitions=2)
    one.store.claim_trouble.extend([DOWN] * 5)

    def fail_again() -> None:
        one.source.revoke(1)
        one.store.claim_trouble.append(DOWN)
        one.source.give_back(1)

    one.run(*[nothing] * 6, fail_again)
    one.check()
    assert one.clock.slept[5] <= 0.1


def test_a_claim_that_fails_while_a_commit_is_waited_for(bench: Callable[..., Bench]) -> None:
    """A rebalance in the middle of backpressure: the failure is survived, the batch in flight as well."""
    one = bench(partitions=2, records=20)
    gate = one.gate()
    one.source.revoked.add(partition(1))

    def fail() -> None:
        one.wait_for_attempt()
        assert one.source.paused
        one.store.claim_trouble.append(DOWN)
        threading.Timer(0.05, gate.set).start()
        one.source.give_back(1)

    def when_paused() -> None:
        one.source.events.appendleft(fail if one.source.paused else when_paused)

    one.run(when_paused)
    one.check()
    assert one.source.rejoined == 1


def test_revoked_partitions_are_given_up_after_the_batch_in_flight(bench: Callable[..., Bench]) -> None:
    """What is being committed is waited for; what waits of the partition is dropped, for the next owner to read."""
    one = bench(partitions=2)
    gate = one.gate()

    def revoke() -> None:
        one.wait_for_attempt()
        threading.Timer(0.05, gate.set).start()
        one.source.revoke(0)
        assert len(one.store.batches) == 1

    one.run(nothing, nothing, revoke, nothing, lambda: one.source.give_back(0))
    one.check()
    assert one.worker.progress.fenced == 0


def test_a_revocation_does_not_wait_longer_than_its_budget(bench: Callable[..., Bench]) -> None:
    """A batch that hangs does not hold up the group: if it is too late, it is fenced, and read again."""
    one = bench(limits=WorkerLimits(batch=QUICK.batch, poll_max_messages=2, revoke_budget_ms=20, stall_after_ms=1))
    gate = one.gate()

    def revoke() -> None:
        one.wait_for_attempt()
        one.source.revoke(0)
        one.store.steal()
        gate.set()

    one.run(nothing, revoke, *[nothing] * 50, lambda: one.source.give_back(0))
    one.check()
    assert one.worker.progress.fenced == 1


def test_lost_partitions_are_dropped_at_once(bench: Callable[..., Bench]) -> None:
    """Others may have them already: nothing is waited for, nothing that waits is applied."""
    one = bench()
    gate = one.gate()

    def lose() -> None:
        one.wait_for_attempt()
        one.source.revoke(0, lost=True)
        assert not gate.is_set()
        one.store.steal()
        gate.set()

    one.run(nothing, lose, *[nothing] * 50, lambda: one.source.give_back(0))
    one.check()
    assert one.worker.progress.fenced == 1


def test_other_partitions_go_on_after_a_revocation(bench: Callable[..., Bench]) -> None:
    """Giving up one partition drops nothing of the others."""
    one = bench(partitions=3)
    one.run(nothing, lambda: one.source.revoke(1), nothing, lambda: one.source.give_back(1))
    one.check()
    assert one.source.rejoined == 0


def test_a_partition_taken_and_given_back_in_one_poll(bench: Callable[..., Bench]) -> None:
    """What waited under the old epoch is not mixed with what is read under the new one."""
    one = bench(limits=WorkerLimits(batch=BatchLimits(max_events=100, max_age_ms=0), poll_max_messages=2))

    def take_and_give() -> None:
        one.source.revoke(0)
        one.source.give_back(0)

    one.run(nothing, take_and_give, nothing, take_and_give)
    one.check()


def test_reading_stops_while_postgresql_is_slow(bench: Callable[..., Bench]) -> None:
    """When the next batch is full and this one hangs, reading is paused, polling goes on, memory stays bounded."""
    one = bench(records=50)
    gate = one.gate()

    def open_later() -> None:
        one.source.events.append(gate.set if one.source.polls_while_paused > 5 else open_later)

    one.run(open_later)
    one.check()
    assert one.source.pauses == 1
    assert not one.source.paused
    assert max(len(batch.items) for batch in one.store.batches) <= 3 + 1


def test_stop_while_a_commit_is_waited_for(bench: Callable[..., Bench]) -> None:
    """The full batch that waits is not sent beside the one that hangs: the store has one connection."""
    one = bench(records=50)
    gate = one.gate()

    def stop_when_paused() -> None:
        if one.source.paused:
            one.worker.stop()
            threading.Timer(0.05, gate.set).start()
        else:
            one.source.events.append(stop_when_paused)

    one.run(stop_when_paused)
    assert one.store.applied == [(0, offset) for offset in range(len(one.store.applied))]
    assert len(one.store.batches) == 2


@pytest.mark.scenario("W3")
def test_stop_commits_what_was_read(bench: Callable[..., Bench]) -> None:
    """SIGTERM: the batch in flight and the one that waits are committed, then the group is left."""
    one = bench(limits=WorkerLimits(batch=BatchLimits(max_events=100, max_age_ms=60_000), poll_max_messages=4))
    one.run(nothing, nothing, nothing, one.worker.stop)
    # The fourth poll still returns what there was.
    assert one.store.applied == [(0, offset) for offset in range(10)]
    assert len(one.store.batches) == 1


@pytest.mark.scenario("W3")
def test_stop_does_not_wait_longer_than_its_budget(bench: Callable[..., Bench]) -> None:
    """A commit that hangs is left behind; its positions will tell."""
    one = bench(limits=WorkerLimits(batch=QUICK.batch, stop_budget_ms=30, stall_after_ms=1))
    one.gate()
    started = time.monotonic()
    one.run(nothing, nothing, one.worker.stop)
    assert time.monotonic() - started < 5
    assert one.store.applied == []


@pytest.mark.parametrize("trouble", [DOWN, FencedError("others own it")])
def test_stop_while_batches_fail(bench: Callable[..., Bench], trouble: Exception) -> None:
    """A failing batch is given up, without an error: the next owner reads it again."""
    one = bench()
    one.store.trouble.extend([fails(trouble)] * 1_000)
    one.run(nothing, one.wait_for_attempt, one.worker.stop)
    assert one.store.applied == []


def test_stop_while_claims_fail(bench: Callable[..., Bench]) -> None:
    """SIGTERM is obeyed while PostgreSQL does not answer."""
    one = bench()
    one.store.claim_trouble.extend([DOWN] * 1_000)
    one.run(nothing, nothing, one.worker.stop)
    assert one.store.applied == []


def test_a_stopped_partition_does_not_stop_the_others(bench: Callable[..., Bench]) -> None:
    """A position that contradicts the log is reported for that partition alone, until it is claimed again."""
    one = bench(partitions=2)
    one.store.stopped[partition(1)] = PositionError("offsets 5..99 are gone")
    told = []

    def correct() -> None:
        if len(one.store.applied) < 10:
            one.source.events.appendleft(correct)
            return
        told.append(list(one.worker.progress.stopped))
        one.store.stopped.clear()
        one.source.assign([partition(1)])

    one.run(nothing, correct)
    one.check()
    assert told == [[partition(1)]]
    assert one.worker.progress.stopped == {}


def test_what_a_person_must_look_at_ends_the_run(bench: Callable[..., Bench]) -> None:
    """An error that repeats itself for ever, such as a missing right, is raised; the group is left all the same."""
    one = bench()
    one.store.trouble.append(fails(OperatorError("permission denied")))
    with pytest.raises(OperatorError, match="permission denied"):
        one.worker.run()
    assert (one.source.closed, one.store.closed) == (True, True)


def test_a_defect_ends_the_run(bench: Callable[..., Bench]) -> None:
    """An error that nobody foresaw is not swallowed by the thread that it happened in."""
    one = bench()
    one.store.trouble.append(fails(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        one.worker.run()


def test_a_batch_waits_for_company(bench: Callable[..., Bench]) -> None:
    """A batch that is neither full nor old is kept open; one that is old enough goes, however small."""
    one = bench(limits=WorkerLimits(batch=BatchLimits(max_events=100, max_age_ms=500), poll_max_messages=4))
    attempts: list[int] = []

    def look() -> None:
        attempts.append(one.store.attempts)

    def grow_old() -> None:
        one.clock.time += 1.0

    one.run(nothing, nothing, nothing, look, grow_old, one.wait_for_attempt)
    one.check()
    assert attempts == [0]
    assert len(one.store.batches) == 1


@pytest.mark.parametrize("at", [3, 4])
def test_a_partition_whose_events_are_all_refused_is_not_read_on(bench: Callable[..., Bench], at: int) -> None:
    """It stops in the middle of a batch or at its end; the others go on, and so does it when a person has decided."""
    one = bench(partitions=2)
    one.store.breaks[partition(1)] = at
    reached: list[tuple[int, int]] = []

    def resumed() -> bool:
        is_stopped = list(one.worker.progress.stopped) == [partition(1)]
        if not reached and is_stopped and len(one.store.applied) == one.records + at:
            reached.append(one.store.positions[partition(1)])
            one.store.stopped.clear()
            one.store.breaks.clear()
            one.source.rejoin()
        return one.everything_is_applied()

    one.source.until = resumed
    one.run()
    one.check()
    assert reached[0][0] == at
    assert one.worker.progress.stopped == {}
    assert one.worker.progress.fenced == 0
    stopped_at = [told[partition(1)] for told in one.source.mirrored if partition(1) in told]
    assert at in stopped_at
    assert max(offset for offset in stopped_at[: stopped_at.index(at) + 1]) == at


def needs_much_memory(largest: int, sizes: list[int], error: Exception) -> Callable[[Batch], None]:
    """Trouble: batches of more events than this do not fit into memory."""

    def trouble(batch: Batch) -> None:
        sizes.append(len(batch.items))
        if len(batch.items) > largest:
            raise error

    return trouble


LARGE = replace(QUICK, batch=BatchLimits(max_events=16, max_age_ms=100, growth=1), poll_max_messages=16)


@pytest.mark.scenario("W5")
def test_a_batch_for_which_the_server_lacks_memory_is_read_again_in_halves(bench: Callable[..., Bench]) -> None:
    """The process goes on, smaller batches follow until they fit, and nothing is applied twice."""
    one = bench(records=100, limits=LARGE, clock=FakeClock(tick_s=0.001))
    sizes: list[int] = []
    one.store.trouble.extend([needs_much_memory(3, sizes, TooLargeError("out of memory"))] * 200)
    one.run()
    one.check()
    assert [sum(size > 3 for size in sizes), one.source.rejoined] == [3, 3]
    assert max(sizes) > 8


@pytest.mark.scenario("W5")
def test_a_process_that_lacks_memory_is_followed_by_one_with_smaller_batches(bench: Callable[..., Bench]) -> None:
    """What the positions remember outlives the process, although each has committed a little: no loop of crashes."""
    store, sizes = FakeStore(), list[int]()
    store.trouble.extend([needs_much_memory(5, sizes, MemoryError())] * 200)
    lives = 0
    while True:
        lives += 1
        one = bench(records=100, limits=LARGE, store=store, clock=FakeClock(tick_s=0.001))
        with contextlib.suppress(MemoryError):
            one.run()
            break
    one.check()
    assert lives == 3
    assert max(sizes) > 8
