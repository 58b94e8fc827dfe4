"""The quickstart and the producer's example, run as they are printed, against a real broker and a real PostgreSQL."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from tests.support.kafka import Broker
from tests.support.pages import blocks, commands, titled
from tests.support.postgres import Database
from tests.support.program import Done, Program, run_tallystream
from tests.support.waiting import wait_until

QUICKSTART = "quickstart.md"
TIMEOUT_S = 60


class Reader:
    """Follows a page: what it says to type is typed, in a folder of its own, with a topic of its own."""

    def __init__(self, folder: Path, env: dict[str, str], topic: str, dsn: str) -> None:
        self.folder = folder
        self.env = env
        self.topic = topic
        self._dsn = dsn

    def types(self, command: str, code: int = 0) -> Done:
        arguments = shlex.split(command.replace("shop-events", self.topic))[1:]
        return run_tallystream(*arguments, env=self.env, folder=self.folder).check(code)

    def asks(self, query: str) -> object:
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def quantity(self) -> Decimal:
        return Decimal(str(self.asks("SELECT accum.stock_balance('{\"product\": \"mug\"}')->>'quantity'")))


@pytest.fixture
def reader(tmp_path: Path, kafka: Broker, kafka_topic: Callable[..., str], empty_database: Database) -> Reader:
    """With an address for everything that the page says is there already."""
    topic = kafka_topic(partitions=4)
    env = {
        "TALLYSTREAM_POSTGRES_DSN": empty_database.dsn,
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TALLYSTREAM_TOPICS": topic,
        "TALLYSTREAM_GROUP": topic,
        "TALLYSTREAM_HTTP_PORT": "0",
    }
    return Reader(tmp_path, env, topic, empty_database.dsn)


def test_the_quickstart_does_what_it_says(reader: Reader, program: Callable[..., Program]) -> None:
    """From an empty database to an exact balance, with the page's own files, commands, questions and answers."""
    for name in ("stock.toml", "events.jsonl"):
        (reader.folder / name).write_text(titled(QUICKSTART, name), encoding="utf-8")
    typed = [
        found[1] for line in commands(QUICKSTART) if (found := re.match(r"(?:[A-Z_]+=\S+ )?(tallystream .*)", line))
    ]
    assert [line.split()[1] for line in typed] == ["migrate", "register", "run", "produce", "explain", "verify"]
    migrate, declare, _, produce, explain, verify = typed
    assert "applied" in reader.types(migrate).out
    assert "stock: created" in reader.types(declare).out
    worker = program("run", env=reader.env)
    assert "2 events sent" in reader.types(produce).out
    questions = [line.split(";") for block in blocks(QUICKSTART, "sql") for line in block.text.splitlines()]
    assert len(questions) == 2
    answers = [(query, json.loads(answer.strip().removeprefix("-- "))) for query, answer in questions]
    worker.wait_until(lambda: all(reader.asks(query) == answer for query, answer in answers), TIMEOUT_S, str(answers))

    # The page says that sending the file again changes nothing.
    reader.types(produce)
    worker.wait_until(lambda: reader.asks("SELECT sum(duplicates) FROM accum._batches") == 2, TIMEOUT_S, "duplicates")
    assert [reader.asks(query) for query, _ in answers] == [answer for _, answer in answers]
    assert "sale:1" in reader.types(explain).out
    assert "stock" in reader.types(verify).out
    assert worker.terminate() == 0


def test_the_python_example_sends_events_that_are_applied(reader: Reader, program: Callable[..., Program]) -> None:
    """Every one; and in the partition to which the program's own producer, and Java's, would send its recorder."""
    (reader.folder / "stock.toml").write_text(titled(QUICKSTART, "stock.toml"), encoding="utf-8")
    reader.types("tallystream migrate")
    reader.types("tallystream register apply stock.toml")
    example = reader.folder / "send.py"
    example.write_text(titled("producing.md", "send.py"), encoding="utf-8")
    env = {"KAFKA": reader.env["TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS"], "TOPIC": reader.topic}
    subprocess.run([sys.executable, example], check=True, env={**os.environ, **env}, timeout=TIMEOUT_S)
    lines = [
        {"id": "2", "type": "movement", "register": "stock", "recorder": f"receipt:{number}", "revision": 2}
        | {"period": "2026-04-19T10:00:00Z", "movements": [{"warehouse": "leeds", "product": "mug", "quantity": 1}]}
        for number in range(1, 11)
    ]
    (reader.folder / "more.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    reader.types("tallystream produce more.jsonl --topic shop-events")
    worker = program("run", env=reader.env)
    worker.wait_until(lambda: reader.quantity() == 10 * (Decimal("10.5") + 1), TIMEOUT_S, "all are applied")
    partitions = "SELECT count(DISTINCT partition) FROM accum.stock_journal GROUP BY recorder ORDER BY 1 DESC LIMIT 1"
    assert reader.asks(partitions) == 1
    assert reader.asks("SELECT count(DISTINCT partition) > 1 FROM accum.stock_journal")
    assert worker.terminate() == 0


def test_the_event_of_the_page_is_one(reader: Reader, program: Callable[..., Program]) -> None:
    """The first example of how an event looks is taken, by the register of the README."""
    (event,) = [block.text for block in blocks("producing.md", "json")]
    readme = Path(__file__).resolve().parents[2] / "README.md"
    (declaration,) = re.findall(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    (reader.folder / "inventory.toml").write_text(declaration, encoding="utf-8")
    (reader.folder / "event.jsonl").write_text(json.dumps(json.loads(event)), encoding="utf-8")
    reader.types("tallystream migrate")
    reader.types("tallystream register apply inventory.toml")
    reader.types("tallystream produce event.jsonl --topic shop-events")
    worker = program("run", env=reader.env)
    balance = "SELECT (accum.inventory_balance('{\"lot\": \"A\"}')->>'amount')::numeric"
    wait_until(lambda: reader.asks(balance) == 5000, TIMEOUT_S, "the event is applied")
    assert worker.terminate() == 0
