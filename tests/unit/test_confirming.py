"""Messages are handed out in order, once, and only when their topic is known to be the one that was claimed."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import confluent_kafka as ck
import pytest

from ingest.domain.messages import Message
from ingest.kafka.confirming import Confirmer, Key

CLAIMED: Mapping[Key, str | None] = {("a", 0): "id-a", ("a", 1): "id-a", ("b", 0): "id-b", ("simulated", 0): None}


class Cluster:
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.futures: Mapping[str, Future[str]] = {}

    def ask(self, topics: Sequence[str]) -> Mapping[str, Future[str]]:
        self.asked.append(topics)
        self.futures = {topic: Future() for topic in topics}
        return self.futures

    def answer(self, **ids: str | None) -> None:
        for topic, found in ids.items():
            if found is None:
                self.futures[topic].set_exception(ck.KafkaException(ck.KafkaError(ck.KafkaError._TIMED_OUT)))
            else:
                self.futures[topic].set_result(found)


def message(topic: str, offset: int, partition: int = 0) -> Message:
    """A record; what is in it does not matter here."""
    return Message(topic, partition, offset, None, None, b"")


def taken(confirmer: Confirmer, most: int = 100) -> list[tuple[str, int, int]]:
    """What is handed out: topic, partition and offset."""
    return [(m.topic, m.partition, m.offset) for m in confirmer.take(most)]


def test_nothing_is_handed_out_before_the_answer() -> None:
    """One question at a time; what arrives after it was asked waits for the next one."""
    cluster = Cluster()
    confirmer = Confirmer(cluster.ask)
    confirmer.add([message("a", 0), message("b", 0)])
    assert confirmer.confirm(CLAIMED) == {}
    confirmer.add([message("a", 1)])
    cluster.answer(a="id-a")
    assert confirmer.confirm(CLAIMED) == {}
    assert (taken(confirmer), confirmer.unconfirmed) == ([], 3)
    cluster.answer(b="id-b")
    confirmer.confirm(CLAIMED)
    assert taken(confirmer, 1) == [("a", 0, 0)]
    assert taken(confirmer) == [("b", 0, 0)]
    assert cluster.asked == [["a", "b"], ["a"]]
    cluster.answer(a="id-a")
    confirmer.confirm(CLAIMED)
    assert taken(confirmer) == [("a", 0, 1)]
    assert confirmer.is_empty


@pytest.mark.scenario("B13")
def test_messages_of_another_topic_are_dropped() -> None:
    """From the first one that is in doubt on, by partition; the others go on."""
    cluster = Cluster()
    confirmer = Confirmer(cluster.ask)
    confirmer.add([message("a", 7), message("b", 3), message("a", 9, 1), message("a", 8)])
    confirmer.confirm(CLAIMED)
    confirmer.add([message("a", 9)])
    cluster.answer(a="another", b="id-b")
    assert confirmer.confirm(CLAIMED) == {("a", 0): 7, ("a", 1): 9}
    assert taken(confirmer) == [("b", 0, 3)]
    assert confirmer.is_empty


def test_an_answer_that_does_not_come_is_asked_for_again() -> None:
    """Nothing is lost, nothing is handed out meanwhile, and the order stays."""
    cluster = Cluster()
    confirmer = Confirmer(cluster.ask)
    confirmer.add([message("a", 0)])
    confirmer.confirm(CLAIMED)
    confirmer.add([message("a", 1)])
    cluster.answer(a=None)
    assert confirmer.confirm(CLAIMED) == {}
    assert taken(confirmer) == []
    cluster.answer(a="id-a")
    confirmer.confirm(CLAIMED)
    assert taken(confirmer) == [("a", 0, 0), ("a", 0, 1)]


def test_a_cluster_that_knows_no_ids_is_not_asked() -> None:
    """A simulated one: its messages go straight through."""
    cluster = Cluster()
    confirmer = Confirmer(cluster.ask)
    confirmer.add([message("simulated", 0)])
    confirmer.confirm(CLAIMED)
    assert taken(confirmer) == [("simulated", 0, 0)]
    assert not cluster.asked


def test_partitions_that_were_given_up_are_forgotten() -> None:
    """Wherever their messages were on the way; the others stay."""
    cluster = Cluster()
    confirmer = Confirmer(cluster.ask)
    confirmer.add([message("a", 0), message("b", 0)])
    confirmer.confirm(CLAIMED)
    cluster.answer(a="id-a", b="id-b")
    confirmer.confirm(CLAIMED)
    confirmer.add([message("a", 1), message("b", 1)])
    confirmer.confirm(CLAIMED)
    confirmer.add([message("a", 2), message("b", 2)])
    confirmer.drop([("a", 0)])
    cluster.answer(a="id-a", b="id-b")
    confirmer.confirm(CLAIMED)
    cluster.answer(b="id-b")
    confirmer.confirm(CLAIMED)
    assert taken(confirmer) == [("b", 0, 0), ("b", 0, 1), ("b", 0, 2)]
