"""A batch is confirmed only by an answer that its topics are the ones that were claimed."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import confluent_kafka as ck
import pytest

from ingest.errors import FencedError, TransientError
from ingest.kafka.confirming import Confirmation, Key

CLAIMED: Mapping[Key, str] = {("a", 0): "id-a", ("a", 1): "id-a", ("b", 0): "id-b"}


class Cluster:
    """Answers what a test says: ids by topic; a topic without one is not told about."""

    def __init__(self, **ids: str) -> None:
        self.ids = ids
        self.asked: list[Sequence[str]] = []

    def ask(self, topics: Sequence[str]) -> Mapping[str, Future[str]]:
        self.asked.append(topics)
        futures: dict[str, Future[str]] = {topic: Future() for topic in topics}
        for topic, future in futures.items():
            if topic in self.ids:
                future.set_result(self.ids[topic])
            else:
                future.set_exception(ck.KafkaException(ck.KafkaError(ck.KafkaError._TIMED_OUT)))
        return futures


def confirmation(cluster: Cluster, claimed: Mapping[Key, str] = CLAIMED, *, held: bool = True) -> Confirmation:
    """Of a batch of these partitions."""
    return Confirmation(cluster.ask, claimed, lambda: held)


def test_it_is_asked_at_once_and_about_each_topic_once() -> None:
    """The answer is there by the time it is needed, and holds for every further attempt at the same batch."""
    cluster = Cluster(a="id-a", b="id-b")
    confirm = confirmation(cluster)
    assert cluster.asked == [["a", "b"]]
    confirm()
    cluster.ids["a"] = "another"
    confirm()
    assert cluster.asked == [["a", "b"]]


def test_a_topic_that_was_created_anew_is_not_confirmed() -> None:
    """Neither for one partition nor, where two were claimed under different ids, for both."""
    with pytest.raises(FencedError, match="topic b was created anew: its id was id-b and is id-c now"):
        confirmation(Cluster(a="id-a", b="id-c"))()
    for now in ("id-a", "id-c"):
        with pytest.raises(FencedError, match="created anew"):
            confirmation(Cluster(a=now), {("a", 0): "id-a", ("a", 1): "id-c"})()


def test_without_an_answer_it_is_asked_again() -> None:
    """The batch fails for a passing reason, which names the topics and what the client said."""
    cluster = Cluster(a="id-a")
    confirm = confirmation(cluster)
    with pytest.raises(TransientError, match="whether a, b is what was claimed: Local: Timed out"):
        confirm()
    cluster.ids["b"] = "id-b"
    confirm()
    assert cluster.asked == [["a", "b"], ["a", "b"]]


def test_without_an_answer_nobody_waits_for_what_was_given_up() -> None:
    """A topic that was deleted may never come back: its partitions leave, and the batch with them."""
    with pytest.raises(FencedError, match="given up"):
        confirmation(Cluster(a="id-a"), held=False)()
    confirmation(Cluster(a="id-a", b="id-b"), held=False)()


def test_a_cluster_that_tells_no_ids_is_not_asked() -> None:
    """A simulated one: there is no id to compare with."""
    cluster = Cluster()
    confirmation(cluster, {})()
    assert not cluster.asked
