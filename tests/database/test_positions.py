"""Positions that people move: harmless backwards, recorded forwards, and nothing is ever unaccounted for."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.domain.messages import Reason
from ingest.domain.moves import Wish, plan_move
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.errors import DataError, FencedError, PositionError
from ingest.postgres.housekeeping import Housekeeper
from ingest.postgres.moving import list_moves, move_position, resume_position
from ingest.postgres.status import read_positions
from tests.support.events import INVENTORY
from tests.support.pipeline import GROUP, TOPIC, Pipeline, line, movement, repost

Pipelines = Callable[..., Pipeline]

WHERE = TopicPartition(TOPIC, 0)
SKIPPED = "SELECT first_offset, next_offset FROM _skipped_offsets ORDER BY 1"
PLACES = "SELECT next_offset, dead_letters_in_a_row FROM _positions WHERE retired_at IS NULL ORDER BY partition"
BAD = b"not an event"


def send(pipeline: Pipeline, count: int) -> None:
    """Good events of recorders of their own."""
    pipeline.send(*(movement(f"r{len(pipeline.log[WHERE])}.{n}", line(n)) for n in range(count)))


@pytest.mark.scenario("P20", "B10")
def test_moving_back_changes_nothing(pipeline: Pipeline) -> None:
    """What was applied is recognised; the running worker is fenced by the move and reads on from there."""
    send(pipeline, 10)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=6))
    before = pipeline.balances()
    moved = pipeline.move("start")
    assert (moved.from_offset, moved.to_offset, moved.skipped) == (6, 0, 0)
    with pytest.raises(FencedError):
        consumer.apply()
    assert pipeline.balances() == before
    consumer.claim()
    assert consumer.apply().outcomes == {Outcome.DUPLICATE: 6, Outcome.APPLIED: 4}
    pipeline.check()


def test_moving_forward_records_what_is_skipped(pipeline: Pipeline) -> None:
    """Every offset below the position is in a batch or skipped; moving back again takes the skipped ones along."""
    send(pipeline, 100)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=10))
    assert pipeline.move("50").skipped == 40
    assert pipeline.rows(SKIPPED) == [(10, 50)]
    pipeline.check()
    consumer.claim()
    consumer.apply(consumer.batch(most=10))
    pipeline.check()
    # Back into what was skipped, over it again, and past what was read behind it.
    assert pipeline.move("30").skipped == 0
    assert pipeline.rows(SKIPPED) == [(10, 30)]
    assert pipeline.move("80").skipped == 20 + 20
    assert pipeline.rows(SKIPPED) == [(10, 30), (30, 50), (60, 80)]
    pipeline.check()
    assert pipeline.move("start").skipped == 0
    consumer.claim()
    assert consumer.apply().outcomes == {Outcome.DUPLICATE: 20, Outcome.APPLIED: 80}
    assert pipeline.rows(SKIPPED) == []
    assert pipeline.count("inventory_movements") == 100
    pipeline.check()


def test_rolled_up_batches_do_not_cover_what_was_skipped(pipeline: Pipeline) -> None:
    """Retention adds up what follows on, and begins a new row behind a gap."""
    send(pipeline, 60)
    consumer = pipeline.consumer()
    for _ in range(3):
        consumer.apply(consumer.batch(most=5))
    pipeline.move("40")
    consumer.claim()
    for _ in range(3):
        consumer.apply(consumer.batch(most=5))
    with pipeline.database.connect() as owner:
        owner.execute("UPDATE accum._batches SET committed_at = committed_at - interval '9 days'")
    Housekeeper(pipeline.access).roll_up_batches(1)
    rows = pipeline.rows("SELECT first_offset, next_offset, events, applied FROM _batches ORDER BY 1")
    assert rows == [(0, 15, 15, 15), (40, 55, 15, 15)]
    consumer.apply()
    assert pipeline.rows("SELECT first_offset, next_offset FROM _batches ORDER BY 1") == [(0, 15), (40, 55), (55, 60)]
    assert pipeline.rows(SKIPPED) == [(15, 40)]


@pytest.mark.scenario("B11")
def test_a_retention_gap_is_gone_over_with_a_reason(pipeline: Pipeline) -> None:
    """The partition stops and names what is missing; the command of its message goes over it, which is recorded."""
    send(pipeline, 20)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=5))
    (bound,) = (replace(bound, low=12) for bound in pipeline.bounds())
    ((where, error),) = consumer.store.claim([bound]).stopped
    assert where == WHERE
    assert "offsets 5..11 of topic events partition 0 are gone" in str(error)
    assert "tallystream positions set events 0 --to start --reason '...'" in str(error)
    moved = pipeline.move("start", bound)
    assert (moved.from_offset, moved.to_offset, moved.skipped, moved.retired) == (5, 12, 7, False)
    (claim,) = consumer.store.claim([bound]).taken
    assert claim.next_offset == 12
    consumer.claims = {WHERE: claim}
    consumer.apply()
    assert pipeline.rows(SKIPPED) == [(5, 12)]
    pipeline.check()


@pytest.mark.scenario("B12")
def test_a_truncated_log_is_a_log_of_its_own(pipeline: Pipeline) -> None:
    """New events at old offsets: none is taken for the old one, and no dead letter of either is lost."""
    send(pipeline, 8)
    pipeline.send(BAD)
    consumer = pipeline.consumer()
    consumer.apply()
    del pipeline.log[WHERE][5:]
    ((_, error),) = consumer.store.claim(pipeline.bounds()).stopped
    assert "ends at offset 5, but the stored position is 9: the offsets 5..8 were applied" in str(error)
    assert "tallystream positions set events 0 --to end --reason '...'" in str(error)
    moved = pipeline.move("end")
    assert (moved.from_offset, moved.to_offset, moved.skipped, moved.retired) == (9, 5, 0, True)
    pipeline.send(movement("new", line(1)), BAD, BAD, b"another one")
    consumer.claims.clear()
    consumer.claim()
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 3}
    letters = pipeline.rows("SELECT event_offset, event_value FROM _dead_letters ORDER BY id")
    assert letters == [(8, BAD), (6, BAD), (7, BAD), (8, b"another one")]
    pipeline.check()


def test_a_position_that_went_on_since_it_was_looked_at_is_not_taken_for_truncated(pipeline: Pipeline) -> None:
    """A worker goes on while a person still reads what the move would do: the log has not lost anything."""
    send(pipeline, 10)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=6))
    (bound,) = pipeline.bounds()
    stored = next(iter(read_positions(pipeline.access, GROUP)))
    planned = plan_move(Wish(WHERE, "15", force=True), stored, bound)
    consumer.apply()
    send(pipeline, 2)
    consumer.apply()
    moved = move_position(pipeline.access, GROUP, planned, "a test", "tests")
    assert (moved.from_offset, moved.to_offset, moved.skipped, moved.retired) == (12, 15, 3, False)
    assert pipeline.rows(SKIPPED) == [(12, 15)]
    assert pipeline.count("_positions") == 1
    pipeline.check()


@pytest.mark.scenario("B13")
def test_a_created_anew_topic_is_nobody_elses(pipeline: Pipeline) -> None:
    """Without the person's word it is neither read nor moved; the old one's worker is fenced, its counts stay."""
    send(pipeline, 4)
    consumer = pipeline.consumer()
    consumer.apply()
    (bound,) = (replace(bound, topic_id="another") for bound in pipeline.bounds())
    with pytest.raises(PositionError, match="--accept-new-topic"):
        pipeline.move("start", bound)
    # The topic may be created anew while the person is being asked: the database is asked again.
    planned = plan_move(Wish(WHERE, "start"), None, bound)
    with pytest.raises(PositionError, match=r"topic events has the id another now, .* the topic with the id id"):
        move_position(pipeline.access, GROUP, planned, "a test", "tests")
    moved = pipeline.move("2", bound, accept_new_topic=True)
    assert (moved.from_offset, moved.to_offset, moved.skipped, moved.retired) == (4, 2, 2, True)
    send(pipeline, 1)
    with pytest.raises(FencedError):
        consumer.apply()
    old, new = pipeline.rows("SELECT topic_id, next_offset FROM _positions ORDER BY id")
    assert (old, new) == (("id", 4), ("another", 2))
    (move,) = list_moves(pipeline.access, GROUP, 10)
    assert (move.from_topic_id, move.to_topic_id, move.skipped) == ("id", "another", 2)


def test_a_position_that_nobody_has_read_from(pipeline: Pipeline) -> None:
    """A new topic can be read from its end; what lay there before is recorded as skipped."""
    send(pipeline, 7)
    moved = pipeline.move("end")
    assert (moved.from_offset, moved.to_offset, moved.skipped) == (None, 7, 7)
    send(pipeline, 2)
    assert pipeline.consumer().apply().outcomes == {Outcome.APPLIED: 2}
    pipeline.check()


def test_moves_are_recorded(pipeline: Pipeline) -> None:
    """From where to where, when, by whom, and why; a reason of blanks is none."""
    send(pipeline, 3)
    pipeline.consumer().apply()
    pipeline.move("1")
    pipeline.move("end")
    (last, first) = list_moves(pipeline.access, GROUP, 10)
    assert (first.from_offset, first.to_offset, last.from_offset, last.to_offset) == (3, 1, 1, 3)
    assert (last.topic, last.partition, last.action, last.reason, last.client) == (TOPIC, 0, "set", "a test", "tests")
    assert last.done_by == pipeline.database.owner
    with pytest.raises(PositionError):
        resume_position(pipeline.access, GROUP, WHERE, "  ", "tests")
    with pytest.raises(PositionError, match="has no position in topic other partition 4") as unknown:
        resume_position(pipeline.access, GROUP, TopicPartition("other", 4), "why", "tests")
    assert isinstance(unknown.value.__cause__, DataError)
    assert unknown.value.__cause__.sqlstate == "TS050"


@pytest.mark.scenario("B15")
@pytest.mark.parametrize("first", [0, 1])
def test_one_recorders_events_in_two_partitions(pipelines: Pipelines, first: int) -> None:
    """Whichever is read last, the greatest revision stays: the older one is stale in either order."""
    pipeline = pipelines(partitions=2)
    pipeline.send(repost("doc", line(1, "5"), revision=1), partition=0)
    pipeline.send(repost("doc", line(1, "9"), revision=2), partition=1)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(partitions=[first]))
    consumer.apply(consumer.batch(partitions=[1 - first]))
    assert pipeline.balances() == {(1, 1, "A"): 9}
    pipeline.check()


@pytest.mark.scenario("B18")
def test_a_compacted_topic_has_gaps(pipelines: Pipelines) -> None:
    """Missing offsets are no alarm, and a tombstone unposts where its register says so."""
    pipeline = pipelines([replace(INVENTORY, tombstone_unposts=True)])
    for offset in (3, 4, 17, 40):
        pipeline.send(movement(f"r{offset}", line(offset)), offset=offset)
    pipeline.send(None, offset=90, key=b"r17")
    assert pipeline.consumer().apply().outcomes == {Outcome.APPLIED: 5}
    assert pipeline.rows(PLACES) == [(91, 0)]
    assert sorted(cell[1] for cell, quantity in pipeline.balances().items() if quantity) == [3, 4, 40]
    pipeline.check()


@pytest.mark.scenario("P18")
def test_numbers_near_their_end(pipeline: Pipeline) -> None:
    """Whatever grows with events is a bigint; only positions, one per partition, are counted by an integer."""
    small = (
        "SELECT s.relname FROM pg_sequence AS q JOIN pg_class AS s ON s.oid = q.seqrelid"
        " WHERE s.relnamespace = 'accum'::regnamespace AND q.seqmax < 9223372036854775807"
    )
    assert pipeline.rows(small) == [("_positions_id_seq",)]
    with pipeline.database.connect() as owner:
        for sequence in ("_batch_id", "inventory_movements_id_seq", "_dead_letters_id_seq"):
            owner.execute("SELECT setval(%s::regclass, 9223372036854770000)", [f"accum.{sequence}"])
    send(pipeline, 20)
    pipeline.send(BAD)
    pipeline.consumer().apply()
    assert pipeline.value("SELECT min(id) FROM inventory_movements") > 2**62
    pipeline.check()


def test_a_broken_producer_is_stopped(pipeline: Pipeline) -> None:
    """After the limit nothing more is dealt with: the position stands behind the last dead letter, and says why."""
    pipeline.send(movement("good", line(1)), *[BAD] * 2, *[movement("r", {"bogus": 1})] * 7, movement("after", line(2)))
    consumer = pipeline.consumer(most_in_a_row=5)
    applied = consumer.apply()
    assert applied.outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 5}
    (stop,) = applied.stopped
    assert (stop.topic_partition, stop.next_offset) == (WHERE, 6)
    assert "topic events partition 0 is stopped before offset 6: the 5 events before it were refused" in str(stop.error)
    assert "3 of them for unknown_column (max_dead_letters_in_a_row is 5)" in str(stop.error)
    assert pipeline.rows(PLACES) == [(6, 5)]
    pipeline.check()
    # No worker takes it, however often it is started; one whose limit is higher does.
    ((_, error),) = pipeline.consumer("other", partitions=[], most_in_a_row=5).store.claim(pipeline.bounds()).stopped
    assert str(error) == str(stop.error)
    assert pipeline.consumer("patient", most_in_a_row=6).claims


def test_a_stopped_partition_is_resumed(pipeline: Pipeline) -> None:
    """As many again may be refused; then it stops again, or goes on where the producer was mended."""
    pipeline.send(*[BAD] * 8, movement("good", line(1)), BAD)
    consumer = pipeline.consumer(most_in_a_row=5)
    consumer.apply()
    assert resume_position(pipeline.access, GROUP, WHERE, "looked into it", "tests") == 5
    consumer.claim()
    applied = consumer.apply()
    assert (applied.outcomes, applied.stopped) == ({Outcome.DEAD_LETTER: 4, Outcome.APPLIED: 1}, ())
    assert pipeline.rows(PLACES) == [(10, 1)]
    (move,) = list_moves(pipeline.access, GROUP, 10)
    assert (move.action, move.from_offset, move.to_offset, move.reason) == ("resume", 5, 5, "looked into it")
    pipeline.check()


def test_the_count_survives_batches_and_restarts(pipeline: Pipeline) -> None:
    """One event at a time, each by another worker: the fifth in a row stops the partition; good ones begin anew."""
    pipeline.send(*[BAD] * 4, movement("good", line(1)), *[BAD] * 9)
    for number in range(10):
        consumer = pipeline.consumer(f"worker {number}", most_in_a_row=5)
        applied = consumer.apply(consumer.batch(most=1))
        assert bool(applied.stopped) == (number == 9)
    assert pipeline.consumer(most_in_a_row=5).claims == {}
    assert pipeline.rows(PLACES) == [(10, 5)]
    pipeline.check()


def test_other_partitions_of_the_batch_are_whole(pipelines: Pipelines) -> None:
    """One partition's producer is broken, and nothing of the others waits for it."""
    pipeline = pipelines(partitions=3)
    for number in range(3):
        values = [BAD] * 20 if number == 1 else [movement(f"r{number}.{n}", line(number)) for n in range(20)]
        pipeline.send(*values, partition=number)
    applied = pipeline.consumer(most_in_a_row=7).apply()
    assert applied.outcomes == {Outcome.APPLIED: 40, Outcome.DEAD_LETTER: 7}
    assert [stop.topic_partition.partition for stop in applied.stopped] == [1]
    assert pipeline.rows(PLACES) == [(20, 0), (7, 7), (20, 0)]
    pipeline.check()


def test_what_the_database_refuses_counts(pipelines: Pipelines) -> None:
    """Events that are found by probing are dead letters like others: the batch ends at the last that is allowed."""
    pipeline = pipelines()
    huge = "9" * 15
    with pipeline.database.connect() as owner:
        owner.execute("ALTER TABLE accum.inventory_movements ADD CHECK (quantity < 1000)")
    pipeline.send(*(movement(f"r{n}", line(1, huge if 3 <= n < 20 else "1")) for n in range(24)))
    applied = pipeline.consumer(most_in_a_row=4).apply()
    assert applied.outcomes == {Outcome.APPLIED: 3, Outcome.DEAD_LETTER: 4}
    assert applied.reasons == {Reason.REFUSED_BY_DATABASE: 4}
    assert pipeline.rows(PLACES) == [(7, 4)]
    assert "4 of them for refused_by_database" in str(applied.stopped[0].error)
    pipeline.check()
