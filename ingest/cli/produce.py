"""`tallystream produce`: sends events from a file of JSON lines, for backfills and for trying things.

Each line is sent as it is, with its recorder as the key, so that a recorder's events are in one
partition and in order. Sending a file twice is harmless: the worker knows the events by their ids.
"""

import codecs
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ingest.cli.common import settings_for
from ingest.errors import OperatorError, SettingsError
from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from ingest.settings import Settings

MOST_PROBLEMS_SHOWN = 20
PROGRESS_EVERY = 500


@dataclass(slots=True)
class _Report:
    """What became of the lines."""

    events: int = 0
    bad: int = 0
    problems: dict[int, str] = field(default_factory=dict)

    def refuse(self, number: int, problem: str) -> None:
        self.bad += 1
        if len(self.problems) < MOST_PROBLEMS_SHOWN:
            self.problems[number] = problem


def produce(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Events as JSON lines; - reads standard input.")],
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help="Topic to send to; default: the one in the settings.")
    ] = None,
) -> None:
    """Send events to Kafka, one JSON object per line, with the recorder as the key."""
    settings = settings_for("kafka_bootstrap_servers")
    topic = topic or _only_topic(settings)
    report = _Report()
    producer = EventProducer(producer_config(settings.kafka_bootstrap_servers, settings.kafka_options), topic)
    with _open(file) as stream:
        producer.check_topic()
        started = time.monotonic()
        try:
            with _progress(file) as progress:
                _send_all(stream, producer, report, settings.max_event_bytes, _ProgressBar(progress, file))
                producer.flush()
        finally:
            _summarise(producer, report, topic, time.monotonic() - started)
    if report.bad or producer.failed or producer.waiting:
        raise typer.Exit(1)


def _only_topic(settings: Settings) -> str:
    if len(settings.topics) == 1:
        return settings.topics[0]
    given = ", ".join(settings.topics) or "none"
    raise SettingsError(f"say with --topic which topic to send to; the setting topics names {given}")


def _open(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from None


def _send_all(
    stream: BinaryIO, producer: EventProducer, report: _Report, max_bytes: int, progress: "_ProgressBar"
) -> None:
    for number, line in _lines(stream, max_bytes):
        try:
            key = _recorder(line, max_bytes)
        except ValueError as problem:
            report.refuse(number, str(problem))
            continue
        report.events += 1
        producer.send(key, line, number)
        if number % PROGRESS_EVERY == 0:
            progress.show(stream, report.events)
    progress.show(stream, report.events)


def _lines(stream: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank with their numbers; of one that is too long, just more than is allowed."""
    number = 0
    while line := stream.readline(max_bytes + 2):
        number += 1
        rest = line
        while not rest.endswith(b"\n") and (rest := stream.readline(max_bytes + 2)):
            line = line[:max_bytes] + rest[:2]
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if stripped := line.strip():
            yield number, stripped


def _recorder(line: bytes, max_bytes: int) -> bytes:
    """Return the key of an event; raise `ValueError` with what is wrong with the line."""
    if len(line) > max_bytes:
        raise ValueError(f"longer than {max_bytes} bytes, which is the setting max_event_bytes")
    try:
        event = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - it is the line's value that is wrong
    recorder = event.get("recorder")
    if isinstance(recorder, bool) or not isinstance(recorder, str | int) or recorder == "":
        raise ValueError("has no recorder (a text or an integer)")
    try:
        return str(recorder).encode()
    except UnicodeEncodeError:
        raise ValueError("has a recorder that is not valid Unicode") from None


class _ProgressBar:
    """A bar on a terminal: of the file's bytes, or only a count where the end is not known."""

    def __init__(self, progress: Progress, file: str) -> None:
        path = Path(file)
        self._progress = progress
        self._size = path.stat().st_size if path.is_file() else None
        self._task = progress.add_task("sending", total=self._size, events=0)

    def show(self, stream: BinaryIO, events: int) -> None:
        read = stream.tell() if self._size else None
        self._progress.update(self._task, completed=read, events=events)


def _progress(file: str) -> Progress:
    known_end = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) if Path(file).is_file() else ()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[events]:,} events"),
        *known_end,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _summarise(producer: EventProducer, report: _Report, topic: str, seconds: float) -> None:
    failures = report.problems | {failure.tag: f"not delivered: {failure.reason}" for failure in producer.failures}
    for number, problem in sorted(failures.items())[:MOST_PROBLEMS_SHOWN]:
        typer.echo(f"line {number}: {problem}", err=True)
    missing = report.bad + report.events - producer.delivered
    if missing > min(len(failures), MOST_PROBLEMS_SHOWN):
        typer.echo(f"and {missing - min(len(failures), MOST_PROBLEMS_SHOWN):,} more", err=True)
    rate = producer.delivered / seconds if seconds > 0 else 0
    failed = f", {missing:,} not sent" if missing else ""
    typer.echo(f"{producer.delivered:,} events sent to {topic} in {seconds:.1f} s ({rate:,.0f}/s){failed}")
