"""The list of faults that the project is held to, and which tests automate which of its rows.

A test says so itself: `@pytest.mark.scenario("B11")`. `make generate` writes the table in docs/reliability.md, and a
row without a test has its reason here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.downloads import ROOT

AREAS: Final = {
    "B": "Broker",
    "N": "Network",
    "W": "Worker",
    "P": "PostgreSQL",
    "C": "Compactor",
    "X": "Input",
    "S": "Security",
    "O": "Operations",
}

ROWS: Final = {
    "B1": "the broker is killed during a fetch and comes back",
    "B2": "no broker at the start",
    "B3": "the leader of a partition changes",
    "B4": "a second worker joins while a batch is open",
    "B5": "a frozen worker wakes up after its partitions went to another",
    "B6": "PostgreSQL is so slow that the group expels the worker",
    "B7": "two workers with one static name",
    "B8": "Kafka refuses the mirrored offsets",
    "B9": "Kafka's offsets are behind the positions",
    "B10": "Kafka's offsets are ahead of the positions",
    "B11": "retention has removed what the position points to",
    "B12": "the log ends before the position",
    "B13": "the topic is deleted and created anew",
    "B14": "partitions are added",
    "B15": "one recorder's events in two partitions",
    "B16": "an aborted transaction in the topic",
    "B17": "a transaction that never ends",
    "B18": "a compacted topic: missing offsets and tombstones",
    "B19": "the producer sends every event twice",
    "B20": "the producer mixes up keys and values",
    "B21": "the topic of dead letters is away",
    "B22": "a record of 50 MB",
    "N1": "the connection is cut before the COMMIT arrives",
    "N2": "the connection is cut before the reply to a COMMIT arrives",
    "N3": "the connection is cut after any number of bytes",
    "N4": "a black hole: no packet, no end",
    "N5": "a half-open connection",
    "N6": "latency that varies",
    "N7": "segments of one byte",
    "N8": "the server's name leads to another address",
    "N9": "TLS: another name, an expired certificate, an unknown authority",
    "N10": "links stop one by one and come back in any order",
    "W1": "kill -9 at every step",
    "W2": "an exception at every step",
    "W3": "SIGTERM in the middle of a batch",
    "W4": "a second signal while stopping",
    "W5": "too little memory for a large batch",
    "W6": "two workers with the same partitions and no group",
    "W7": "the wall clock jumps",
    "W8": "worker, server and session in different time zones",
    "W9": "days of 23 and 25 hours, midnights, leap seconds",
    "W10": "sums of forty digits",
    "W11": "deadlock, serialization failure, lock timeout",
    "W12": "a pooled connection remembers a tenant",
    "W13": "a cached plan after a change of tables",
    "W14": "one bad event among a thousand good ones",
    "P1": "kill -9 of the server at random moments",
    "P2": "kill -9 of one backend",
    "P3": "the worker's session is terminated",
    "P4": "fast and immediate shutdowns, one after the other",
    "P5": "the log of the server cannot be synced",
    "P6": "the disk of the data is full",
    "P7": "the disk of the server's log is full",
    "P8": "a fail-over that lost the last commits",
    "P9": "a standby that only reads",
    "P10": "another server, or an old primary, behind the same name",
    "P11": "commits that are not durable, and a crash",
    "P12": "periods without a partition, and outside the window",
    "P13": "two workers need one new partition",
    "P14": "an administrator's locks",
    "P15": "a transaction that holds back VACUUM for an hour",
    "P16": "no more connections",
    "P17": "a sum that overflows although every event fits",
    "P18": "identifiers near the end of their range",
    "P19": "another collation, another version, corrupt indexes",
    "P20": "the database is restored to an earlier state",
    "C1": "the compactor is killed at any moment",
    "C2": "two compactors",
    "C3": "reads while deltas are folded",
    "C4": "a delta of a cell that has no row yet",
    "C5": "no compactor for a day",
    "C6": "folding while a recorder is posted again",
    "C7": "the server crashes with deltas pending",
    "C8": "a slice that takes too long",
    "C9": "an older delta that is committed later",
    "C10": "a rebuild while events come in",
    "X1": "no UTF-8, no value, no JSON",
    "X2": "NUL in any text",
    "X3": "half of a surrogate pair",
    "X4": "numbers with thousands of digits or huge exponents",
    "X5": "NaN, infinity, minus zero",
    "X6": "binary fractions",
    "X7": "deep nesting, many keys, duplicate keys, long texts, compressed bombs",
    "X8": "unknown register, unknown or misspelt column",
    "X9": "values that look alike",
    "X10": "no movement, too many, ten thousand of one cell",
    "X11": "older revisions, repeated unposts, reposts to nothing or to another day",
    "X12": "entries of a ledger that do not balance",
    "X13": "fields that come, go, or change their type",
    "S1": "names that would be SQL",
    "S2": "SQL in every value",
    "S3": "readers look for what is behind the views",
    "S4": "a reader without, or with another's, tenant",
    "S5": "the worker's role tries everything else",
    "S6": "the worker writes for another tenant",
    "S7": "objects that shadow the product's",
    "S8": "the worker runs as superuser or owner",
    "S9": "a secret turns up in some output",
    "S10": "an error that quotes a row",
    "S11": "options of librdkafka that load code or weaken TLS",
    "S12": "the HTTP endpoint is attacked",
    "S13": "line ends and escapes in events, in logs",
    "S14": "one tenant floods the others",
    "O1": "an upgrade beside an old worker",
    "O2": "a migration is interrupted at any statement",
    "O3": "a downgrade",
    "O4": "rolling restarts",
    "O5": "a declaration changes under a live register",
    "O6": "everything is rebuilt, or read again from the topic",
    "O7": "three days of load and daily faults",
    "O8": "verification while events come in, and planted damage",
    "O9": "secrets change",
    "O10": "nobody reads the log's pipe",
}

# Why a row has no test; one that gets a test goes from here.
WITHOUT_TEST: Final = {
    "W12": "there are no tenants",
    "X12": "there are no ledger registers",
    "S4": "there are no tenants",
    "S6": "there are no tenants",
    "S14": "there are no tenants",
    "O7": "takes three days; `make torture SECONDS=259200` is it, and tells slopes, a short one in the same words",
}


def automated() -> dict[str, list[str]]:
    """The tests of each row, as `file::function`; a name that is no row's is there as well, for a test to find."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for row, test in _marks(path):
            tests = found.setdefault(row, [])
            if test not in tests:
                tests.append(test)
    return found


BEGIN, END = "<!-- generated: scenarios -->", "<!-- end -->"


def written_anew(text: str) -> str:
    """The page on reliability with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def table() -> str:
    """What docs/reliability.md shows of the list of faults."""
    tests = automated()
    with_test = [row for row in ROWS if row in tests]
    lines = [f"{len(with_test)} of {len(ROWS)} rows have a test, {sum(map(len, tests.values()))} marks in all."]
    for letter, area in AREAS.items():
        lines += ["", f"### {area}", "", "| | fault | automated by |", "| --- | --- | --- |"]
        lines += [
            f"| {row} | {title} | {_shown(tests.get(row, ())) or f'*no test: {WITHOUT_TEST[row]}*'} |"
            for row, title in ROWS.items()
            if row[0] == letter
        ]
    return "\n".join(lines) + "\n"


def _shown(tests: list[str] | tuple[str, ...]) -> str:
    """Each test by its file and name, without what all of them have in common."""
    return ", ".join(f"`{test.removeprefix('tests/').replace('.py::test_', ': ')}`" for test in tests)


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(ROOT)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                yield from ((row, f"{name}::{node.name}") for row in _rows(decorator))


def _rows(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "scenario":
            yield from (str(argument.value) for argument in call.args if isinstance(argument, ast.Constant))
