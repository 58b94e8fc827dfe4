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
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase: poll and decode in one thread; partitions, lock, plan, recorders, movements and commit in the other."""
    stopped: dict[TopicPartition, PositionError] = field(default_factory=dict)

    def add(self, applied: Applied) -> None:
        """Count a committed batch."""
        self.batches += 1
        self.movements += applied.movements
        self.outcomes.update(applied.outcomes)
        self.reasons.update(applied.reasons)
        for phase, seconds in applied.seconds.items():
            self.spend(phase, seconds)

    def spend(self, phase: str, seconds: float) -> None:
        """Count time that went into a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def summary(self) -> dict[str, object]:
        """Return the counts as they are logged."""
        return {
            "batches": self.batches,
            "events": self.outcomes.total(),
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "movements": self.movements,
            "retries": self.retries,
            "fenced": self.fenced,
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
        }
