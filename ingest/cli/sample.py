"""`tallystream sample-events`: the events of the demo's shop as JSON lines, for `tallystream produce`."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from ingest.demo.shop import ShopEvent, write_history

SECOND_PARTS = 10
"""How many times a second events are written where a rate is wanted."""


def sample_events(
    events: Annotated[int, typer.Option(min=100, max=1_000_000, help="About how many events.")] = 1000,
    rate: Annotated[int, typer.Option(min=0, max=1_000_000, help="Events a second; 0 is as fast as can be.")] = 0,
    seed: Annotated[
        int, typer.Option(help="Another number makes up another shop, with other documents' contents.")
    ] = 1,
) -> None:
    """Print a small shop's events as JSON lines: duplicates, late corrections, cancellations and a few bad ones.

    They are for the registers of schema/registers/demo/shop.toml. Sent again, the events of a seed change nothing.

    tallystream sample-events --rate 500 | tallystream produce - --topic shop-events
    """
    started = time.monotonic()
    due = max(1, rate // SECOND_PARTS)
    for number, line in enumerate(_lines(write_history(seed, events).events)):
        if rate and number % due == 0:
            sys.stdout.buffer.flush()
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _lines(events: tuple[ShopEvent, ...]) -> Iterator[bytes]:
    """Leave out what is no line for `produce`: it sends JSON objects with a recorder, and nothing else."""
    for event in events:
        try:
            recorder = json.loads(event.value)["recorder"]
        except (ValueError, KeyError, TypeError):
            continue
        if recorder == event.key.decode():
            yield event.value
