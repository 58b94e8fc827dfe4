"""The retail data, by one worker and by two. They are not of the project: TALLYSTREAM_TEST_DATA says where they are."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from tests.benchmarks.figures import Figure, ratio, say
from tests.benchmarks.loads import blocks_of
from tests.benchmarks.stage import Stage
from tests.benchmarks.streaming import Run, explain, stream
from tests.benchmarks.yardstick import copy_yardstick
from tests.support.postgres import Database
from tests.support.retail import REGISTER, VARIABLE, Shop, first_stream, read_shop, same

COLUMNS = ("stock_code", "country", "customer", "quantity", "amount")
FIRST_MONTH = "2010-12-01"
LINES = 541_909
BALANCES = """
    SELECT '', stock_code, country, customer, quantity::bigint, (amount * 1000)::bigint
    FROM accum.sales_balance_cache WHERE quantity <> 0 OR amount <> 0
"""


def rows_of(shop: Shop) -> Iterator[str]:
    """The same lines in COPY's format."""
    for offset, (number, lines) in enumerate(shop.invoices.items()):
        for line in lines:
            movement = line.movement()
            values = "\t".join("\\N" if movement[name] is None else str(movement[name]) for name in COLUMNS)
            yield f"invoice:{number}\t{movement['period']}\t1\t{offset}\t{offset // 2000}\t{values}\n"


def measure(stage: Stage, name: str) -> list[Figure]:
    """The yardstick, one worker, two workers, in turns."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        say(f"{name}: {VARIABLE} does not name the folder of the Online Retail data; left out")
        return []
    shop = read_shop(Path(folder))
    wanted = max(10, round(len(shop.invoices) * stage.factor))
    shop.invoices = dict(islice(shop.invoices.items(), wanted))
    events = [(json.loads(event)["recorder"].encode(), event) for event in first_stream(shop)]
    blocks = list(blocks_of(rows_of(shop)))
    movements = sum(rows for rows, _ in blocks)
    yardsticks: list[float] = []
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(stage.rounds):
        with stage.database(REGISTER) as database:
            stage.settle()
            yardsticks.append(copy_yardstick(database, "sales", COLUMNS, blocks, FIRST_MONTH))
        for workers, done in runs.items():
            with stage.database(REGISTER) as database:
                done.append(stream(stage, database, partial(list, events), movements, workers))
                compare(database, shop)
    figures = [
        ratio(name, f"retail data, {workers} worker{'s' if workers > 1 else ''}", [r.rate for r in done], yardsticks)
        for workers, done in runs.items()
    ]
    for figure, done in zip(figures, runs.values(), strict=True):
        explain(figure, done)
    one, two = ([run.rate for run in done] for done in runs.values())
    figures.append(ratio(name, "retail data, two workers against one", two, one, floor=1.0, goal=1.0))
    say(figures[-1].line())
    return figures


def compare(database: Database, shop: Shop) -> None:
    """Every balance is what the file says."""
    with database.connect() as connection:
        found = connection.execute(BALANCES.encode()).fetchall()
    assert not (difference := same(found, shop.sums(0))), difference


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"retail": measure}
