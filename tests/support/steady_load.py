"""Events all the time, each of another document of register `stock`, while a test does something to the servers."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ingest.kafka.producer import EventProducer

STOCK: Final = """
[register.stock]
kind = "balance"
[register.stock.dimensions]
product = "int"
[register.stock.resources]
quantity = "int"
"""


@contextmanager
def steady_load(producer: EventProducer, pause_s: float) -> Iterator[Callable[[], int]]:
    """Sends while the context lasts; what it yields tells how many, and the last word when it is over."""
    stop = threading.Event()
    sent = 0

    def work() -> None:
        nonlocal sent
        for number in itertools.count():
            if stop.wait(pause_s):
                break
            recorder, lines = f"d{number}", [{"product": number % 9, "quantity": 1}]
            event = {"id": "1", "type": "movement", "register": "stock", "recorder": recorder, "movements": lines}
            value = json.dumps(event | {"period": "2026-04-18T10:00:00Z"}).encode()
            producer.send(recorder.encode(), value, number)
            sent = number + 1
        producer.flush()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: sent
    finally:
        stop.set()
        thread.join()
    assert not producer.failed
