"""Corrections: what it costs to replace and to cancel documents, against posting the same ones."""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

from tests.benchmarks.figures import Figure, say
from tests.benchmarks.loads import SEED, Load, Shape, documents, event_of, hundredths
from tests.benchmarks.stage import Stage
from tests.benchmarks.streaming import Run, check, stream

SHAPE = Shape(cells=10_000, lines=10, days=30, days_of_most=0, lot=False)
MOVEMENTS = 200_000


def make_steps(movements: int) -> dict[str, Load]:
    """Three loads of the same documents; the sums of each are those that are true after it."""
    steps = {kind: Load(SHAPE) for kind in ("post", "repost", "unpost")}
    for number, kind in enumerate(("movement", "repost", "unpost")):
        load = steps["post" if kind == "movement" else kind]
        for document in documents(SHAPE, movements, SEED + number):
            load.events.append((document.recorder.encode(), event_of(SHAPE, document, kind, number + 1)))
            for line in document.lines if kind != "unpost" else ():
                load.movements += 1
                load.sums[0] += hundredths(line[-2])
                load.sums[1] += hundredths(line[-1])
    return steps


def measure(stage: Stage, name: str) -> list[Figure]:
    """Post, repost and unpost the same documents, round after round."""
    steps = make_steps(stage.size(MOVEMENTS, SHAPE.lines))
    runs: dict[str, list[Run]] = {kind: [] for kind in steps}
    for _ in range(stage.rounds):
        with stage.database(SHAPE.declaration()) as database:
            for kind, load in steps.items():
                runs[kind].append(stream(stage, database, partial(list, load.events), len(load.events)))
                check(database, load)
    return [_compare(name, kind, runs["post"], runs[kind]) for kind in ("repost", "unpost")]


def _compare(name: str, kind: str, posts: list[Run], corrections: list[Run]) -> Figure:
    share = median(one.rate / post.rate for one, post in zip(corrections, posts, strict=True))
    details = {
        f"{kind}s/s": median(run.rate for run in corrections),
        "posts/s": median(run.rate for run in posts),
    }
    what = f"{kind}s of 10-line documents"
    figure = Figure(name, what, share, against="posts of the same", floor=0.4, goal=0.6, details=details)
    say(f"{figure.line()}\n    {figure.explained()}")
    return figure


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"corrections": measure}
