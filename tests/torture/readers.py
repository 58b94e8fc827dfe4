"""Readers that check while everything happens: in one snapshot, movements, totals and balances say the same."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random

import psycopg

from ingest.domain.registers import Kind, Register
from tests.torture.load import PRODUCTS, REGISTERS
from tests.torture.stage import Stage

# Rows of (what, period, product, as derived, as the movements say): only differences. The filter samples a cell or not.
TURNOVERS = """
    SELECT '{grain}', v.period::text, v.product, v.quantity, m.quantity
    FROM (
        SELECT period, product, sum(quantity) AS quantity
        FROM {register}_turnovers_{grain} AS t WHERE {filter} GROUP BY 1, 2
    ) AS v
    FULL JOIN (
        SELECT date_trunc('{grain}', timezone('{zone}', period))::date AS period, product, sum(quantity) AS quantity
        FROM {register}_movements AS t WHERE {filter} GROUP BY 1, 2
    ) AS m USING (period, product)
    WHERE coalesce(v.quantity, 0) <> coalesce(m.quantity, 0)
"""
BALANCES = """
    SELECT 'balance', NULL, v.product, v.quantity, m.quantity
    FROM (SELECT product, sum(quantity) AS quantity FROM {register}_balances AS t WHERE {filter} GROUP BY 1) AS v
    FULL JOIN (SELECT product, sum(quantity) AS quantity FROM {register}_movements AS t WHERE {filter} GROUP BY 1) AS m
        USING (product)
    WHERE coalesce(v.quantity, 0) <> coalesce(m.quantity, 0)
"""
FUNCTION = """
    SELECT '{register}_balance()', NULL, NULL, b.quantity, m.quantity
    FROM (SELECT ({register}_balance(%(dimensions)s::jsonb) ->> 'quantity')::numeric AS quantity) AS b
    CROSS JOIN (SELECT coalesce(sum(quantity), 0) AS quantity FROM {register}_movements AS t WHERE {filter}) AS m
    WHERE b.quantity <> m.quantity
"""
# What the batches of a partition add up to is where its position stands.
BOOKS = """
    SELECT 'position', NULL, p.partition, p.next_offset, b.next_offset
    FROM _positions AS p INNER JOIN (SELECT position_id, max(next_offset) AS next_offset FROM _batches GROUP BY 1) AS b
        ON b.position_id = p.id
    WHERE b.next_offset <> p.next_offset
"""
VERIFY = "SELECT check_type, period::text, dim_hash, expected, actual FROM register_verify(%s) WHERE status <> 'OK'"


class Reader(threading.Thread):
    """Reads until it is told to stop; a difference is a failure, a server that is away is not."""

    def __init__(self, stage: Stage, rng: Random) -> None:
        super().__init__(name="reader", daemon=True)
        self.reads = self.verifications = self.interrupted = 0
        self.differences: list[str] = []
        self._stage = stage
        self._rng = rng
        self._stopping = threading.Event()

    def run(self) -> None:
        """Read, snapshot after snapshot, over a new connection after each trouble."""
        while not self._stopping.is_set():
            try:
                with self._stage.connect(options="-c search_path=accum -c statement_timeout=20s") as connection:
                    while not self._stopping.is_set():
                        self._read(connection)
                        self._stopping.wait(0.05)
            except psycopg.Error:
                self.interrupted += 1
                self._stopping.wait(0.3)

    def stop(self) -> None:
        """Finish the snapshot under way."""
        self._stopping.set()
        self.join()

    def _read(self, connection: psycopg.Connection) -> None:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            for name, register in REGISTERS.items():
                product = self._rng.choice((None, *range(PRODUCTS)))
                for statement in _checks(register, product):
                    dimensions = None if product is None else f'{{"product": {product}}}'
                    self._look(connection, name, statement, {"dimensions": dimensions})
            self._look(connection, "books", BOOKS, {})
        self.reads += 1
        if self._rng.random() < 0.2:
            register_name = self._rng.choice(sorted(REGISTERS))
            self._look(connection, f"register_verify({register_name})", VERIFY, (register_name,))
            self.verifications += 1

    def _look(
        self,
        connection: psycopg.Connection,
        what: str,
        statement: str,
        parameters: Mapping[str, object] | Sequence[object],
    ) -> None:
        rows = connection.execute(statement.encode(), parameters).fetchall()
        if rows:
            self.differences.append(f"{time.strftime('%H:%M:%S')} {what}: {rows[:5]}")


def _checks(register: Register, product: int | None) -> Iterator[str]:
    chosen = "true" if product is None else f"t.product = {product}"
    names = {"register": register.name, "zone": register.time_zone, "filter": chosen}
    for grain in ("day", "month", "year"):
        yield TURNOVERS.format(grain=grain, **names)
    if register.kind is Kind.BALANCE:
        yield BALANCES.format(**names)
        yield FUNCTION.format(**names)
