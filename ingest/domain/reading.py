"""What the worker asks of whoever reads the topics for it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from ingest.domain.messages import Message
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.progress import KafkaState


class Source(Protocol):
    """Where messages come from: the consumer group."""

    def start(
        self,
        on_assigned: Callable[[Sequence[LogBounds]], Sequence[Claim]],
        on_revoked: Callable[[Sequence[TopicPartition], bool], None],
    ) -> None:
        """Join the group; the callbacks run inside `poll`."""

    def poll(self, max_messages: int, timeout_s: float) -> Sequence[Message]:
        """Return what has arrived."""

    def confirm(self, partitions: Collection[TopicPartition]) -> Callable[[], None]:
        """Ask whether what was read of these is of the topics that were claimed; the answer is waited for by a call."""

    def pause(self) -> None:
        """Let `poll` return nothing, while the group membership is kept alive."""

    def resume(self) -> None:
        """End `pause`."""

    def mirror(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka, for lag tools; nothing depends on it."""

    def state(self) -> KafkaState:
        """Tell what was known of the group and the logs a moment ago, without asking anybody."""

    def rejoin(self) -> None:
        """Give up all partitions and ask for an assignment again."""

    def close(self) -> None:
        """Leave the group."""
