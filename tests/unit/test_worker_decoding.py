"""The worker while a schema registry does not answer: nothing is passed over, and it is told."""

from ingest.domain.applying import Registry
from ingest.domain.batches import BatchLimits, Decoded
from ingest.domain.messages import Message
from ingest.errors import TransientError
from ingest.wiring.parts import Threads
from ingest.worker import Worker, WorkerLimits
from tests.support.fakes import FakeClock, FakeSource, FakeStore, decode, partition

QUICK = WorkerLimits(batch=BatchLimits(max_events=3, max_age_ms=0, growth=1), poll_max_messages=4, poll_timeout_ms=1)


def test_events_that_cannot_be_decoded_now_are_read_again() -> None:
    """From the stored positions; until something was decoded the worker is known not to be ready."""
    failures = iter([TransientError("the registry is away"), TransientError("and still is")])
    told: list[bool] = []

    def sometimes(registry: Registry, message: Message) -> Decoded:
        told.append(worker.progress.undecoded_at is not None)
        for failure in failures:
            raise failure
        return decode(registry, message)

    store = FakeStore()
    log = {partition(0): [Message("t", 0, offset, 1, None, b"sales") for offset in range(10)]}
    source = FakeSource(log, until=lambda: len(store.applied) == 10)
    worker = Worker(source, [store], sometimes, FakeClock(), QUICK, Threads())
    source.stop = worker.stop
    worker.run()
    assert [offset for _, offset in store.applied] == list(range(10))
    assert (told[:3], told[-1]) == ([False, True, True], False)
    assert worker.progress.undecoded_at is None
    assert source.rejoined == 2
