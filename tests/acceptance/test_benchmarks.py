"""The benchmarks run, at a tiny size, and what they leave in the database is what they produced. No time is judged."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import ROWS
from tests.benchmarks.figures import Figure, print_figures, write_figures
from tests.benchmarks.stage import Stage
from tests.support.kafka import Broker
from tests.support.postgres import Database, Databases

pytestmark = pytest.mark.slow

# Those that need no other data and start few workers; each row of the others is one of these with other documents.
QUICK = ("stream-grid", "reads", "care", "memory")


@pytest.fixture
def stage(
    databases: Databases, migrated_template: Database, kafka: Broker, tmp_path: Path, postgres_server: str
) -> Stage:
    """The session's servers, and next to nothing to do."""
    return Stage(postgres_server, databases, migrated_template, kafka, tmp_path, 0.0002, 1, {})


def test_benchmarks_run(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has figures, says so, and fails when sums differ; as JSON they are the same."""
    figures = [figure for name in QUICK for figure in ROWS[name](stage, name)]
    assert {figure.row for figure in figures} == set(QUICK)
    assert all(figure.value > 0 for figure in figures)
    print_figures(figures)
    said = capsys.readouterr().out
    assert all(figure.line() in said for figure in figures)
    file = stage.folder / "figures.json"
    write_figures(file, {"processor": "any"}, figures, list(ROWS))
    assert [one["value"] for one in json.loads(file.read_text())["figures"]] == [figure.value for figure in figures]


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("r", "w", 0.7, floor=0.5, goal=0.7), "goal"),
        (Figure("r", "w", 0.6, floor=0.5, goal=0.7), "floor"),
        (Figure("r", "w", 0.4, floor=0.5, goal=0.7), "missed"),
        (Figure("r", "w", 2.9, "ms", goal=3.0), "goal"),
        (Figure("r", "w", 3.1, "ms", goal=3.0), "missed"),
        (Figure("r", "w", 3.1, "ms"), "reported"),
    ],
)
def test_verdicts(figure: Figure, verdict: str) -> None:
    """A ratio reaches its goal from above, everything else from below."""
    assert figure.verdict == verdict
