"""Planted bugs: each is put into a copy of the sources, and the tests have to notice.

`make mutants` plants all of `mutants.toml`, two side by side, and prints which were caught, by what. A mutant that
survives shows a test that is missing.

    python -m tests.support.mutants --only "no epoch"
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.downloads import ROOT

LIST: Final = ROOT / "tests" / "support" / "mutants.toml"
LEAST_CAUGHT: Final = 0.95
TIMEOUT_S: Final = 600

# What pytest's exit codes mean: tests failed; anything else is about the run, and proves nothing.
FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: what stands in a file, and what it becomes."""

    name: str
    why: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: the test that failed, or none."""

    name: str
    caught_by: str | None
    seconds: float


def mutants() -> list[Mutant]:
    """All of them."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in listed]


def copied(target: Path) -> None:
    """A copy of the sources as they are, without what was downloaded or built."""
    ignored = shutil.ignore_patterns(".*", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, target, ignore=ignored, dirs_exist_ok=True)
    if (ROOT / ".cache").exists():
        (target / ".cache").symlink_to((ROOT / ".cache").resolve())


def planted(mutant: Mutant, target: Path) -> None:
    """Change the copy."""
    file = target / mutant.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1, f"{mutant.name}: its text is not once in {mutant.file}"
    file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")


def judge(mutant: Mutant, keep_going: float = TIMEOUT_S) -> Verdict:
    """Run the mutant's tests until one of them fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ts-mutant-") as folder:
        copied(Path(folder))
        planted(mutant, Path(folder))
        for tests in mutant.tests:
            caught = _failing(Path(folder), tests, keep_going)
            if caught is not None:
                return Verdict(mutant.name, caught, time.monotonic() - began)
    return Verdict(mutant.name, None, time.monotonic() - began)


def _failing(folder: Path, tests: str, timeout_s: float) -> str | None:
    """The first test that fails in the copy, if one does."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--timeout=120"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *shlex.split(tests)],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            # The copy comes before the sources that the environment was made with, in the programs it starts as well.
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return f"{tests} does not end"
    if done.returncode == 0:
        return None
    if done.returncode != FAILED:
        message = f"pytest {tests} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        raise RuntimeError(message)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" - ")[0] if lines else tests


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="TEXT", help="mutants whose names contain this")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here")
    chosen = parser.parse_args(arguments)
    wanted = [m for m in mutants() if not chosen.only or any(text in m.name for text in chosen.only)]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for verdict in pool.map(partial(judge), wanted):
            verdicts.append(verdict)
            sys.stdout.write(f"{verdict.seconds:5.0f} s  {verdict.name}: {verdict.caught_by or 'SURVIVED'}\n")
            sys.stdout.flush()
    caught = sum(verdict.caught_by is not None for verdict in verdicts)
    sys.stdout.write(f"{caught} of {len(verdicts)} mutants caught\n")
    if chosen.json:
        table = {"caught": caught, "planted": len(verdicts), "mutants": [asdict(verdict) for verdict in verdicts]}
        chosen.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 0 if caught >= LEAST_CAUGHT * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
