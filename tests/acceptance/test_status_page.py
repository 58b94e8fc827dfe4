"""The status page in a real browser: what a person sees of a worker at work, and of one that is gone."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.browser import Browser, Page
from tests.support.events import EVENT
from tests.support.http import fetch
from tests.support.kafka import Broker, create_topic
from tests.support.postgres import Database, Databases
from tests.support.processes import free_ports
from tests.support.program import Program
from tests.support.stream import HIGH_WRITE_INVENTORY, PARTITIONS, Stream

GOOD = 40
SECRET = "a-value-that-only-the-event-knows"  # noqa: S105 - not one


@dataclass(frozen=True, slots=True)
class Shown:
    """A worker that has applied forty events and refused two, and where its page is."""

    worker: Program
    url: str
    port: int
    stream: Stream


@pytest.fixture(scope="module")
def shown(kafka: Broker, databases: Databases, migrated_template: Database, folder: Path) -> Iterator[Shown]:
    """Two of the events are refused: one of an unknown register, and one that is no event at all."""
    database = databases.create(migrated_template)
    topic = create_topic(AdminClient({"bootstrap.servers": kafka.bootstrap_servers}), PARTITIONS)
    stream = Stream(kafka, topic, database, folder, partial(Program, folder=folder))
    (port,) = free_ports(1)
    stream.declare(HIGH_WRITE_INVENTORY)
    stream.extra["TALLYSTREAM_HTTP_PORT"] = str(port)
    worker = stream.worker()
    good = [EVENT | {"id": f"e-{n}", "recorder": f"r-{n}"} for n in range(GOOD)]
    bad = EVENT | {"id": "bad", "recorder": "bad", "register": "nowhere"}
    values = [*good, bad, {"note": SECRET}]
    stream.produce_keyed([(str(value.get("recorder", "x")).encode(), json.dumps(value).encode()) for value in values])
    stream.wait_until_read()
    yield Shown(worker, f"http://127.0.0.1:{port}/", port, stream)
    worker.close()
    databases.drop(database)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the worker runs."""
    return tmp_path_factory.mktemp("page")


def text(page: Page, element: str) -> str:
    """What a person reads in an element."""
    return str(page.evaluate(f"document.getElementById({element!r}).innerText"))


def wait_for(page: Page, element: str, words: str) -> None:
    """Waits until an element has these words."""
    page.wait_until(f"document.getElementById({element!r}).innerText.includes({words!r})")


def is_wider_than_the_window(page: Page) -> bool:
    """Whether a person would have to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def ground(page: Page) -> int:
    """How bright the page's ground is, from 0 to 255."""
    return int(page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"))


def test_what_a_person_sees(shown: Shown, browser: Browser, tmp_path: Path) -> None:
    """Health, lag, counts, phases, partitions, registers and dead letters, kept current, without a word of an event."""
    page = browser.open(shown.url)
    # First of all: after ten seconds without events nothing was spent.
    wait_for(page, "lanes", "movements: COPY and folding")
    wait_for(page, "lag", "level")
    wait_for(page, "checks", "Kafka up")
    assert text(page, "checks").startswith("ready")
    assert f"{GOOD + 2} since start" in text(page, "events-note")
    assert f"{GOOD} since start" in text(page, "movements-note")
    assert text(page, "partitions").count(shown.stream.topic) == 4
    wait_for(page, "registers", "high-write")
    wait_for(page, "reasons", "unknown_register")
    wait_for(page, "letters", "nowhere")
    before = text(page, "events-note")
    more = [EVENT | {"id": f"f-{n}", "recorder": f"f-{n}"} for n in range(20)]
    shown.stream.produce_keyed([(b"x", json.dumps(value | {"recorder": "x"}).encode()) for value in more])
    wait_for(page, "events-note", f"{GOOD + 22} since start")
    assert before != text(page, "events-note")
    everything = page.evaluate("document.documentElement.outerHTML") + fetch(shown.port, "/status.json").text
    assert SECRET not in everything
    assert page.problems == []
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (320, "light"), (1600, "dark")])
def test_it_fits_every_window(shown: Shown, browser: Browser, width: int, scheme: str) -> None:
    """On a telephone too, nobody scrolls sideways; the colours follow the system's."""
    page = browser.open(shown.url, width=width, height=800, scheme="dark" if scheme == "dark" else "light")
    wait_for(page, "letters", "nowhere")
    assert not is_wider_than_the_window(page)
    assert (ground(page) < 60) == (scheme == "dark")
    assert page.problems == []


def test_it_can_be_used_without_seeing_it(shown: Shown, browser: Browser) -> None:
    """Landmarks, headings in order, named tables and pictures, news that is announced, regions that keys can scroll."""
    page = browser.open(shown.url)
    wait_for(page, "letters", "nowhere")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("['header', 'main', 'footer'].every((tag) => document.querySelector(tag))")
    unnamed = "[...document.querySelectorAll('svg, .scroll')].filter((e) => !e.getAttribute('aria-label')).length"
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("[...document.querySelectorAll('th')].every((cell) => cell.scope)")
    assert page.evaluate("document.getElementById('notice').getAttribute('aria-live')") == "polite"
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)")


def test_nothing_else_may_run_in_it(shown: Shown, browser: Browser) -> None:
    """The content policy lets in the page's own script and nothing else: no other script, no request elsewhere."""
    page = browser.open(shown.url)
    wait_for(page, "lag", "level")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 1'}))")
    assert page.evaluate("window.hit") is None
    refused = "fetch('http://127.0.0.1:1/').then(() => 'went', (error) => error.name)"
    assert page.evaluate(refused) == "TypeError"
    assert any("Content Security Policy" in problem for problem in page.problems)
    policy = fetch(shown.port, "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_compactor_has_one_too(shown: Shown, browser: Browser, program: Callable[..., Program]) -> None:
    """What it folded, and what waits."""
    (port,) = free_ports(1)
    compactor = program("compact", env={**shown.stream.env, "TALLYSTREAM_HTTP_PORT": str(port)})
    compactor.wait_for_log(event="started")
    page = browser.open(f"http://127.0.0.1:{port}/")
    page.wait_until("document.title.includes('compactor')")
    wait_for(page, "pending-note", "all is folded")
    wait_for(page, "registers", "inventory")
    assert page.evaluate("document.getElementById('lag').offsetParent === null")
    assert page.problems == []


def test_a_stopped_partition_cannot_be_overlooked(
    shown: Shown, browser: Browser, program: Callable[..., Program]
) -> None:
    """At the top, in full and first of the table, on a telephone too."""
    (port,) = free_ports(1)
    extra = {"TALLYSTREAM_MAX_DEAD_LETTERS_IN_A_ROW": "1", "TALLYSTREAM_GROUP": f"stops-{shown.stream.topic}"}
    worker = program("run", env={**shown.stream.env, **extra, "TALLYSTREAM_HTTP_PORT": str(port)})
    worker.wait_for_log(event="partition stopped")
    page = browser.open(f"http://127.0.0.1:{port}/", width=390, height=800)
    wait_for(page, "checks", "stopped")
    wait_for(page, "stops", "tallystream positions resume")
    assert "stopped" in str(page.evaluate("document.querySelector('#partitions tr').innerText"))
    wait_for(page, "lag-note", "stopped ones aside")
    assert not is_wider_than_the_window(page)
    assert page.problems == []


def test_a_process_that_is_gone_is_told(shown: Shown, browser: Browser) -> None:
    """What is shown is said to be old."""
    page = browser.open(shown.url)
    wait_for(page, "lag", "level")
    page.wait_until("document.getElementById('notice').hidden")
    shown.worker.kill()
    wait_for(page, "notice", "does not answer")
    assert not page.evaluate("document.getElementById('notice').hidden")
