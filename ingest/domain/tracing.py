"""What a topic says of one document: every event of it, and what becomes of each when they are read in their order.

That is known of no table: a duplicate changes nothing, so nothing is written about it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.domain.batches import Decoded
from ingest.domain.messages import Event, Message
from ingest.domain.plans import Outcome, plan_batch


@dataclass(frozen=True, slots=True)
class Traced:
    """One event of a document in its topic, and what becomes of it; `reason` is why it is refused."""

    register: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    event_id: str | None
    outcome: Outcome
    reason: str | None


def may_be_of(message: Message, recorder: str) -> bool:
    """Whether a record is worth decoding: an event's key, where it has one, is its recorder, as text at least."""
    if message.key is None or message.key == recorder.encode():
        return True
    # Numbers and UUIDs can be written in other ways; what has another character than those is written in one.
    return all(character in "0123456789abcdefABCDEF-" for character in recorder)


def trace(items: Sequence[Decoded], registers: Sequence[str], recorder: str) -> list[Traced]:
    """Return the events of the document in these registers, in the order in which they were read."""
    traced: list[Traced] = []
    for register in registers:
        own = [item for item in items if item.register == register and item.recorder == recorder]
        traced.extend(_traced(register, item, *verdict) for item, verdict in zip(own, _verdicts(own), strict=True))
    return traced


def _verdicts(items: Sequence[Decoded]) -> Iterator[tuple[Outcome, str | None]]:
    """What is said of each event is what is said of all up to it, and was not said of those before."""
    before: Counter[Outcome] = Counter()
    for end in range(1, len(items) + 1):
        plan = plan_batch(items[:end], {}, {})
        after: Counter[Outcome] = Counter()
        for counts in plan.outcomes.values():
            after.update(counts)
        [outcome] = (after - before).elements()
        yield outcome, plan.refusals[-1].reason.value if outcome is Outcome.DEAD_LETTER else None
        before = after


def _traced(register: str, item: Decoded, outcome: Outcome, reason: str | None) -> Traced:
    message = item.message
    event_id = item.id if isinstance(item, Event) else item.event_id
    return Traced(
        register, message.topic, message.partition, message.offset, message.timestamp_ms, event_id, outcome, reason
    )
