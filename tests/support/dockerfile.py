"""What can be known of an image without Docker: the Dockerfile's instructions, and its build stage run in folders.

The commands of a stage are run as they stand, only with its absolute paths below a folder of the test's own, by a
Python that plays the base image's. COPY takes from what .dockerignore lets through, and from nothing else.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.support.downloads import ROOT

STEP_TIMEOUT_S = 600
_PIP = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of a Dockerfile, with its continuation lines joined."""

    word: str
    rest: str


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    image: str
    name: str = ""
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [instruction.rest for instruction in self.instructions if instruction.word == word]


def stages(text: str) -> list[Stage]:
    found: list[Stage] = []
    joined = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            found.append(Stage(image, name))
        elif found:
            found[-1].instructions.append(Instruction(word, rest.strip()))
    return found


def context() -> list[Path]:
    """The files that .dockerignore lets through, relative to the top of the tree; the last rule that fits decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], check=False, capture_output=True, cwd=ROOT
    )
    # A copy of the tree, as .ci/run makes one, has no history.
    names = listed.stdout.decode().splitlines() if listed.returncode == 0 else _walk()
    return [Path(name) for name in names if (ROOT / name).is_file() and not _ignored(name, rules)]


class Build:
    """Runs a stage below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._workdir = "/"
        self._arguments: dict[str, str] = {}
        image = folder / "image"
        venv.create(image, with_pip=True, symlinks=True)
        self._path = f"{image / 'bin'}:/usr/bin:/bin"

    def at(self, path: str) -> Path:
        """Where an absolute path of the image is."""
        return self.folder / path.lstrip("/")

    def run(self, stage: Stage) -> None:
        for instruction in stage.instructions:
            if instruction.word == "WORKDIR":
                self._workdir = instruction.rest
                self.at(self._workdir).mkdir(parents=True, exist_ok=True)
            elif instruction.word == "ARG":
                name, _, default = instruction.rest.partition("=")
                self._arguments[name] = default
            elif instruction.word == "COPY":
                self._copy(*instruction.rest.split())
            else:
                assert instruction.word == "RUN", f"this stage does more than the test can: {instruction}"
                self._command(instruction.rest)

    def _copy(self, *names: str) -> None:
        *sources, target = names
        files = context()
        for source in sources:
            taken = [file for file in files if file == Path(source) or Path(source) in file.parents]
            assert taken, f"COPY {source}: .dockerignore leaves nothing of it"
            for file in taken:
                # A file goes into the folder, what is in a folder keeps its place below it.
                place = file.relative_to(source) if file != Path(source) else Path(file.name)
                goal = self.at(self._workdir) / target / place
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, goal)

    def _command(self, command: str) -> None:
        below = re.sub(r"(?<![\w.])/(?=(opt|src|wheel)\b)", f"{self.folder}/", command)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TALLYSTREAM"))}
        done = subprocess.run(
            ["/bin/sh", "-ec", below],
            check=False,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            cwd=self.at(self._workdir),
            env={
                **clean,
                **self._arguments,
                "PATH": self._path,
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_ROOT_USER_ACTION": "ignore",
            },
        )
        assert done.returncode == 0, f"RUN {command}\n{done.stdout}{done.stderr}"


def _ignored(name: str, rules: list[str]) -> bool:
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        parts = [name, *map(str, Path(name).parents)]
        if any(fnmatch(part, pattern) or fnmatch(f"/{part}", pattern.replace("**", "*")) for part in parts):
            ignored = not rule.startswith("!")
    return ignored


def _walk() -> list[str]:
    skipped = {".git", ".venv", ".cache"}
    return [
        str(path.relative_to(ROOT))
        for top in sorted(ROOT.iterdir())
        if top.name not in skipped
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
    ]


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
