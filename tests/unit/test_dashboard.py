"""The dashboard and the alerts speak of metrics that exist, with labels that they have, and leave none out unsaid."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.observability.metrics import COMPACTOR, WORKER, Kind, Metric

FILES = Path(__file__).resolve().parents[2] / "helm" / "tallystream" / "files"
DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
ALERTS = (FILES / "alerts.yaml").read_text(encoding="utf-8")
ROWS: tuple[Metric[Any], ...] = (*WORKER, *COMPACTOR)
TABLE = {metric.name: metric for metric in ROWS}

# What a target of a scrape has besides the metric's own labels.
OF_TARGETS = {"job", "instance", "namespace", "le"}


def panels() -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Every query of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def conditions() -> list[str]:
    """Every condition of an alert."""
    return re.findall(r"^ +expr: (.+)$", ALERTS, re.MULTILINE)


def names(expression: str) -> set[str]:
    """The program's metrics in an expression, as Prometheus stores them."""
    return set(re.findall(r"\btallystream_\w+", expression))


def labels(expression: str) -> set[str]:
    """The labels that an expression groups by, matches on or selects."""
    grouped = re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression)
    selected = re.findall(r"[{,](\w+)=", expression)
    return {label.strip() for group in grouped for label in group.split(",")} | set(selected)


def _series(metric: Metric[Any]) -> Iterator[str]:
    if metric.kind is Kind.HISTOGRAM:
        yield from (f"{metric.name}_{part}" for part in ("bucket", "sum", "count"))
    else:
        yield metric.name


@pytest.mark.parametrize("expression", [*queries(), *conditions()])
def test_every_expression_is_about_what_exists(expression: str) -> None:
    """A metric that was renamed, or a label that it does not have, would be an empty panel or a silent alert."""
    known = {series: metric for metric in ROWS for series in _series(metric)}
    used = names(expression)
    assert used
    assert used <= known.keys()
    assert labels(expression) <= {label for name in used for label in known[name].labels} | OF_TARGETS


def test_every_metric_is_shown() -> None:
    """One that no panel shows and no alert watches is one that nobody needs."""
    used = {name for expression in (*queries(), *conditions()) for name in names(expression)}
    assert {name for name, metric in TABLE.items() if not used.intersection(_series(metric))} == set()


def test_panels_are_complete_and_side_by_side() -> None:
    """Each has a title and says what it means; none lies over another; their numbers are their own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels())
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_says_what_to_do() -> None:
    """A severity, a summary, a description and a chapter of the runbook that is called like the alert."""
    alerts = re.split(r"^      - alert: ", ALERTS, flags=re.MULTILINE)[1:]
    for alert in alerts:
        name = alert.split("\n", 1)[0]
        assert f"runbook: docs/operating.md#{name.lower()}\n" in alert
        assert re.search(r"labels: \{severity: (critical|warning)\}", alert)
        assert {"summary:", "description:", "runbook:"} <= set(alert.split())
    assert len(alerts) == len(conditions())
