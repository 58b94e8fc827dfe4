"""The load: documents that are posted, corrected, cancelled and sent again, with everything that producers do wrong.

Whatever is sent, the log says in the end what had to come of it: the oracle reads it from there. So nothing is noted
here but what only the database can refuse.
"""

import json
import threading
import time
from collections import deque
from random import Random
from typing import Any

from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from tests.support.oracle import FLOWS, STOCK

HEAPS = Register(
    "heaps",
    Kind.BALANCE,
    (Dimension("product", "int"),),
    (Resource("quantity", "numeric(18,3)"),),
    time_zone="Asia/Kolkata",
    high_write=True,
)
REGISTERS = {register.name: register for register in (STOCK, FLOWS, HEAPS)}

PRODUCTS = 12
RECORDERS = 60
# This document gets so many events that their digests need the second table.
LONG = "long"
# A cell that holds almost all that a bigint can: whoever adds to it is refused by the database.
HUGE = {"product": 1000, "lot": "huge", "quantity": "0", "amount": 2**63 - 10}
FIRST_HUGE, OVERFLOWING = "huge", "overflow"
YEARS = (2023, 2024, 2025, 2026)

Object = dict[str, Any]


class Load(threading.Thread):
    """Sends until it is told to stop, at a rate that leaves the workers something to do and lets them keep up."""

    def __init__(self, bootstrap_servers: str, topic: str, rng: Random, per_second: int) -> None:
        super().__init__(name="load", daemon=True)
        self.sent = 0
        self.failure: Exception | None = None
        self._rng = rng
        self._per_second = per_second
        self._stopping = threading.Event()
        # A broker that is killed is away for a while; what it has not confirmed is sent again.
        config = producer_config(bootstrap_servers, {}) | {"delivery.timeout.ms": 300_000}
        self._producer = EventProducer(config, topic)
        self._recent: deque[Object] = deque(maxlen=400)
        self._revisions: dict[str, int] = {}
        self._numbers = 0

    def begin(self) -> None:
        """Send what has to be applied before everything else."""
        first = {"id": FIRST_HUGE, "type": "movement", "register": STOCK.name, "recorder": FIRST_HUGE}
        self._send(first | {"period": "2026-01-01T00:00:00Z", "movements": [HUGE]})
        self._producer.flush()

    def run(self) -> None:
        """Send in small bursts."""
        try:
            began = time.monotonic()
            while not self._stopping.is_set():
                due = (time.monotonic() - began) * self._per_second
                while self.sent < due and not self._stopping.is_set():
                    self._step()
                self._stopping.wait(0.02)
            self._producer.flush()
            assert not self._producer.failed, self._producer.failures[:3]
        except Exception as failure:  # noqa: BLE001 - the main thread raises it
            self.failure = failure

    def stop(self) -> None:
        """Stop, and wait until the broker has everything."""
        self._stopping.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _step(self) -> None:
        dice = self._rng.random()
        if dice < 0.82 or not self._recent:
            event = self._event()
            self._recent.append(event)
            self._send(event)
        elif dice < 0.96:
            self._send(self._again(dict(self._rng.choice(self._recent))))
        else:
            self._blunder()

    def _event(self) -> Object:
        rng = self._rng
        self._numbers += 1
        if rng.random() < 0.15:
            register, recorder, kind = STOCK, LONG, "movement"
        else:
            register = rng.choice((STOCK, FLOWS, HEAPS, HEAPS))
            recorder = f"{register.name}:{rng.randrange(RECORDERS)}"
            kind = rng.choice(("movement", "movement", "movement", "repost", "repost", "unpost"))
        event: Object = {"id": f"e{self._numbers}", "type": kind, "register": register.name, "recorder": recorder}
        if rng.random() < 0.5:
            self._revisions[recorder] = event["revision"] = self._revisions.get(recorder, 0) + rng.randint(1, 3)
        if kind != "unpost":
            lines = [self._line(register) for _ in range(rng.choice((0, 1, 2, 4)) if kind == "repost" else 2)]
            event |= {"period": self._period(), "movements": lines}
        return event

    def _line(self, register: Register) -> Object:
        rng = self._rng
        line: Object = {"product": rng.randrange(PRODUCTS), "quantity": rng.randint(-50, 50)}
        if register is not FLOWS:
            line["quantity"] = f"{line['quantity']}.{rng.randrange(1000):03}"
        if register is STOCK:
            line |= {"lot": rng.choice((None, "", "A", "B")), "amount": rng.randint(-1000, 1000)}
        if rng.random() < 0.3:
            line["period"] = self._period()
        return line

    def _period(self) -> str:
        """Mostly of these days, else back-dated, up to years; near the ends of days as often as not."""
        rng = self._rng
        year, month, day = (2026, 11, 25) if rng.random() < 0.6 else (rng.choice(YEARS), rng.randint(1, 12), 28)
        clock = rng.choice(("23:59:59.999999", "00:00:00", "18:29:59", "18:30:00", "05:00:00", "12:00:00"))
        return f"{year}-{month:02}-{day:02}T{clock}Z"

    def _again(self, event: Object) -> Object:
        """Sent again: as it was, under an old revision, under its id or revision with other content."""
        kind = self._rng.choice(("duplicate", "duplicate", "stale", "id_conflict", "revision_conflict"))
        if kind == "id_conflict":
            return {key: value for key, value in event.items() if key not in {"movements", "period"}} | {
                "type": "unpost"
            }
        if kind != "duplicate":
            event["id"] += "'"
        if kind == "stale" and "revision" in event:
            event["revision"] = max(1, event["revision"] - 1)
        return event

    def _blunder(self) -> None:
        rng = self._rng
        event = self._event() | {"type": "repost", "period": self._period(), "movements": []}
        event.pop("revision", None)
        wrong: list[Object | bytes] = [
            b"nonsense",
            event | {"register": "nowhere"},
            event | {"movements": [{"colour": "red"}]},
            event | {"type": "movement"},
            event | {"type": "unpost"},
            event | {"id": 1.5},
            self._overflow(event),
        ]
        self._send(rng.choice(wrong))

    def _overflow(self, event: Object) -> Object:
        """Only the database sees that it is too much. Of its own document: what replaces it would be in its batch."""
        name = f"{OVERFLOWING}{self.sent}"
        return event | {"id": name, "recorder": name, "type": "movement", "register": STOCK.name, "movements": [HUGE]}

    def _send(self, event: Object | bytes) -> None:
        key = event["recorder"] if isinstance(event, dict) else "nobody"
        value = json.dumps(event).encode() if isinstance(event, dict) else event
        self._producer.send(key.encode(), value, self.sent)
        self.sent += 1
