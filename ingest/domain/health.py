"""Whether a process is alive, and whether it is ready: decided from what its loop wrote down, and from nothing else.

Alive means that the loop turns, whatever PostgreSQL and Kafka do: a restart mends neither. Ready means that an event
that arrived now would be applied now.
"""

from dataclasses import dataclass
from typing import Final

from ingest.domain.progress import Loop, Progress, Tally

UNDECODED_S: Final = 60.0
"""Longer than from one attempt to the next: until then it is not known that events can be decoded again."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: its name, whether it holds, and what it means when it does not."""

    name: str
    ok: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Health:
    """What /live and /ready answer."""

    live: tuple[Check, ...]
    ready: tuple[Check, ...]

    @property
    def is_live(self) -> bool:
        """Whether the process works at all."""
        return all(check.ok for check in self.live)

    @property
    def is_ready(self) -> bool:
        """Whether an event would be applied now."""
        return all(check.ok for check in self.ready)


def worker_health(progress: Progress, *, postgres_up: bool, now: float, live_timeout_s: float) -> Health:
    """Judge a worker."""
    claimed = bool(progress.reaches)
    undecoded_at = progress.undecoded_at
    decodes = undecoded_at is None or now - undecoded_at > UNDECODED_S
    return Health(
        live=(_loop(progress.loop, now, live_timeout_s),),
        ready=(
            *_common(progress.loop, postgres_up=postgres_up),
            Check("decoding", decodes, "the schema registry does not answer, and events wait for it"),
            Check("kafka", progress.kafka.connected, "no broker answers"),
            Check("group", claimed or progress.kafka.joined, "the consumer group is not joined yet"),
            Check("partitions", claimed or not progress.stopped, "none of the partitions given to it can be read"),
        ),
    )


def compactor_health(tally: Tally, *, postgres_up: bool, now: float, live_timeout_s: float) -> Health:
    """Judge a compactor."""
    return Health(live=(_loop(tally.loop, now, live_timeout_s),), ready=_common(tally.loop, postgres_up=postgres_up))


def _loop(loop: Loop, now: float, timeout_s: float) -> Check:
    turns = loop.turned_at is None or now - loop.turned_at <= timeout_s
    return Check("loop", turns, f"the loop has not come by for more than {timeout_s:g} s")


def _common(loop: Loop, *, postgres_up: bool) -> tuple[Check, ...]:
    return (
        Check("running", loop.turned_at is not None and not loop.stopping, "it is starting or stopping"),
        Check("postgres", postgres_up, "PostgreSQL does not answer"),
        Check("applying", not loop.failing, "what it does in PostgreSQL fails and is tried again; the log says why"),
    )
