"""A real Prometheus scrapes a worker and a compactor at work, and runs the alerts and the dashboard's queries."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.events import EVENT
from tests.support.http import answers, fetch
from tests.support.processes import free_ports
from tests.support.program import Program
from tests.support.prometheus import Prometheus, Tools
from tests.support.stream import HIGH_WRITE_INVENTORY, Stream

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "helm" / "tallystream" / "files" / "alerts.yaml"
DASHBOARD = ROOT / "helm" / "tallystream" / "files" / "dashboard.json"
RULE_TESTS = Path(__file__).with_name("alerts_test.yaml")
GOOD, BAD = 40, 2


def test_alerts_speak_when_they_should(prometheus_tools: Tools) -> None:
    """promtool accepts the rules, and each of them fires, and is silent, as its test says."""
    assert "SUCCESS" in prometheus_tools.check("check", "rules", ALERTS)
    assert "SUCCESS" in prometheus_tools.check("test", "rules", RULE_TESTS)
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8")))
    tested = re.findall(r"alertname: (\w+)[^\n]*\n +exp_alerts:\n", RULE_TESTS.read_text(encoding="utf-8"))
    assert set(tested) == alerts


@dataclass(frozen=True, slots=True)
class Scraped:
    """A worker and a compactor that have done something, and the Prometheus that watches them."""

    worker_port: int
    compactor_port: int
    prometheus: Prometheus


@pytest.fixture
def scraped(stream: Stream, program: Callable[..., Program], scraping: Callable[..., Prometheus]) -> Iterator[Scraped]:
    """Forty good events, two bad ones, all of them dealt with."""
    worker_port, compactor_port = free_ports(2)
    stream.declare(HIGH_WRITE_INVENTORY)
    stream.extra["TALLYSTREAM_HTTP_PORT"] = str(worker_port)
    stream.worker()
    program("compact", env={**stream.env, "TALLYSTREAM_HTTP_PORT": str(compactor_port)})
    prometheus = scraping({"worker": worker_port, "compactor": compactor_port}, ALERTS)
    events = [EVENT | {"id": f"e-{n}", "recorder": f"r-{n}"} for n in range(GOOD)]
    good = [(f"r-{n}".encode(), json.dumps(each).encode()) for n, each in enumerate(events)]
    stream.produce_keyed([*good, *[(b"x", b"{}")] * BAD])
    stream.wait_until_read()
    prometheus.wait_for(f"sum(tallystream_events_total) == {GOOD + BAD}")
    prometheus.wait_for("tallystream_dead_letters_waiting")
    yield Scraped(worker_port, compactor_port, prometheus)
    stream.stop()


def test_a_scrape_tells_what_was_done(scraped: Scraped, prometheus_tools: Tools) -> None:
    """Counts are those of the events, nothing waits, the dashboard's queries are answered, no other alert fires."""
    prometheus = scraped.prometheus
    for port in (scraped.worker_port, scraped.compactor_port):
        assert (answers(port, "/live"), answers(port, "/ready")) == (200, 200)
        assert prometheus_tools.check("check", "metrics", stdin=fetch(port, "/metrics").text) == ""
    prometheus.wait_for("sum(tallystream_lag_records) == 0 and sum(tallystream_lag_seconds) == 0")
    prometheus.wait_for(f"sum(tallystream_dead_letters_waiting) == {BAD}")
    prometheus.wait_for("sum(tallystream_compactor_deltas_total) > 0 and sum(tallystream_pending_deltas) == 0")
    assert prometheus.query(f"sum(tallystream_movements_total{{register='inventory'}}) == {GOOD}")
    assert prometheus.query(f"tallystream_events_total{{outcome='dead_letter'}} == {BAD}")
    assert prometheus.query("count(tallystream_ready == 1) == 2")
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*")
            if "> 0" not in expression:  # such a query may well have nothing to show
                prometheus.wait_for(expression)
    firing = [alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]]
    assert set(firing) <= {"TallystreamDeadLettersGrowing"}
