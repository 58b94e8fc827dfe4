"""A transaction that never ends is said, once it has held a log back for a minute; what ends in time is not."""

import structlog
from structlog.testing import capture_logs

from ingest.domain.positions import TopicPartition
from ingest.kafka.stalling import Stalls
from ingest.kafka.statistics import Fetched

WHERE = TopicPartition("events", 3)


class Watch:
    """A stall-watch whose time a test tells."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stalls = Stalls(lambda: self.now)

    def at(self, now: float, **ends: int) -> list[str]:
        """What is said at this time about these ends."""
        self.now = now
        structlog.reset_defaults()
        with capture_logs() as logs:
            self.stalls.note({WHERE: Fetched(**ends)})
        return [str(one["event"]).split(":")[0] for one in logs]


def test_a_hanging_transaction_is_said_after_a_minute_and_every_five() -> None:
    """The log grows, its stable part does not, and everything before that was fetched."""
    watch = Watch()
    assert watch.at(0, next_offset=5, stable=5, high=9) == []
    assert watch.at(59, next_offset=5, stable=5, high=20) == []
    assert watch.at(61, next_offset=5, stable=5, high=30) == ["lso_stalled"]
    assert watch.at(120, next_offset=5, stable=5, high=40) == []
    assert watch.at(362, next_offset=5, stable=5, high=50) == ["lso_stalled"]


def test_transactions_that_end_are_not_said() -> None:
    """Whenever the stable part moves on, the time begins anew; what is fetched slowly is no stall either."""
    watch = Watch()
    for minute in range(5):
        assert watch.at(59 * minute, next_offset=minute, stable=minute, high=99) == []
    assert watch.at(400, next_offset=99, stable=99, high=99) == []
    assert watch.at(500, next_offset=1, stable=5, high=9) == []
    assert watch.at(600, next_offset=1, stable=5, high=9) == []
    assert watch.at(601, next_offset=-1001, stable=-1001, high=-1001) == []
