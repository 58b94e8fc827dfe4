"""Asks whether topics are still the ones that were claimed, before anything that was read of them is committed.

A topic that is deleted and created again has other messages at the same offsets, and the client reads on as if nothing
had happened. An id is never used again: an answer that was asked for after a message had arrived, and that is the
claim's id, proves where the message is from. There is one question for a batch, asked when the batch is closed; the
answer comes while its transaction is under way.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

import confluent_kafka as ck

from ingest.errors import FencedError, TransientError

Key: TypeAlias = tuple[str, int]
"""Topic and partition number."""

AsksIds: TypeAlias = Callable[[Sequence[str]], Mapping[str, Future[str]]]

# Longer than a request may take.
_ANSWER_TIMEOUT_S = 6.0


@dataclass(slots=True)
class Confirmation:
    """What a batch waits for before its commit; asked at once, and again with each call after one without an answer.

    `claimed` has the topic's id of each partition, `is_held` tells whether they are still ours.
    """

    ask: AsksIds
    claimed: Mapping[Key, str]
    is_held: Callable[[], bool]
    _answers: Mapping[str, Future[str]] | None = field(init=False)

    def __post_init__(self) -> None:
        self._answers = self._asked()

    def __call__(self) -> None:
        """Return when all topics are those that were claimed; for any thread, one at a time.

        Raises FencedError when one is not, or when nobody tells and the partitions were given up; TransientError when
        nobody tells.
        """
        answers = self._asked() if self._answers is None else self._answers
        self._answers = None
        try:
            found = {topic: answer.result(_ANSWER_TIMEOUT_S) for topic, answer in answers.items()}
        except (ck.KafkaException, TimeoutError) as error:
            if not self.is_held():
                message = "its partitions were given up before Kafka told whose they are"
                raise FencedError(message) from error
            reason = error.args[0].str() if isinstance(error, ck.KafkaException) else "no answer in time"
            message = f"Kafka does not tell whether {', '.join(answers)} is what was claimed: {reason}"
            raise TransientError(message) from error
        for (topic, _), expected in self.claimed.items():
            if found[topic] != expected:
                message = f"topic {topic} was created anew: its id was {expected} and is {found[topic]} now"
                raise FencedError(message)
        self._answers = answers

    def _asked(self) -> Mapping[str, Future[str]]:
        topics = sorted({topic for topic, _ in self.claimed})
        return self.ask(topics) if topics else {}
