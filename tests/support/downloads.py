"""What the tests fetch once: the folder `.cache`, which git ignores, filled by Maven.

Several test runs may want the same thing at the same time; one fetches it, the others wait.
"""

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = (ROOT / ".cache").resolve()  # one path for a class archive, also where it is a link
MAVEN_TIMEOUT_S = 600


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one test run at a time gets past this, for each name."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(name: str, fetch: Callable[[Path], None]) -> Path:
    """The folder `.cache/<name>`; `fetch` fills an empty one, which appears only when it is complete."""
    folder = CACHE / name
    with locked(name):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}.") as scratch:
                partial = Path(scratch) / "partial"
                partial.mkdir()
                fetch(partial)
                partial.rename(folder)
    return folder


def maven() -> str | None:
    return shutil.which("mvn")


def run_maven(*arguments: str) -> None:
    """Runs Maven quietly; its output is in the error when it fails."""
    done = subprocess.run(
        ["mvn", "-q", "-B", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MAVEN_TIMEOUT_S,
        cwd=CACHE,
    )
    if done.returncode:
        message = f"mvn {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)
