"""What a worker has done since it started: counts that logs, metrics and the demo show."""

from collections import Counter
from dataclasses import dataclass, field

from ingest.domain.applying import Applied
from ingest.domain.messages import Reason
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.errors import PositionError


@dataclass(slots=True)
class Progress:
    """What this worker has done since it started; read by others, written by the worker alone."""

    batches: int = 0
    movements: int = 0
    fenced: int = 0
    retries: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    stopped: dict[TopicPartition, PositionError] = field(default_factory=dict)

    def add(self, applied: Applied) -> None:
        """Count a committed batch."""
        self.batches += 1
        self.movements += applied.movements
        self.outcomes.update(applied.outcomes)
        self.reasons.update(applied.reasons)
        self.seconds.update(applied.seconds)

    def summary(self) -> dict[str, object]:
        """Return the counts as they are logged."""
        return {
            "batches": self.batches,
            "events": self.outcomes.total(),
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "movements": self.movements,
            "retries": self.retries,
            "fenced": self.fenced,
        }
