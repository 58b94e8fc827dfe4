"""What librdkafka tells about itself every few seconds: which brokers answer, how the group is, how far it has fetched.

Nothing is asked for: the text comes with a poll, is read here, and three facts of it are kept. A consumer that is cut
off goes on telling, so silence is never taken for health.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.domain.positions import TopicPartition

EVERY_MS: Final = 2_000
"""A text has about a kilobyte for each partition, and costs microseconds to read."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition in librdkafka: up to where it has fetched, and where its log and its stable part ended then."""

    next_offset: int
    high: int
    stable: int


@dataclass(slots=True)
class Statistics:
    """The latest text; before the first one nothing is known, and nothing answers."""

    connected: bool = False
    joined: bool = False
    fetched: Mapping[TopicPartition, Fetched] = field(default_factory=dict)

    def read(self, text: str) -> None:
        """Take a text, as librdkafka's callback gets it."""
        told: Mapping[str, Any] = json.loads(text)
        group = told.get("cgrp", {})
        self.connected = any(broker.get("state") == "UP" for broker in told.get("brokers", {}).values())
        self.joined = group.get("state") == "up" and group.get("join_state") == "steady"
        self.fetched = {
            TopicPartition(topic, int(number)): Fetched(one["next_offset"], one["hi_offset"], one["ls_offset"])
            for topic, about in told.get("topics", {}).items()
            for number, one in about.get("partitions", {}).items()
            if one.get("fetch_state") == "active" and one.get("fetchq_cnt") == 0
        }
