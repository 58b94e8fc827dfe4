"""File systems of their own for tests that fill them; only root can make one."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lacking import skip_for
from tests.support.processes import is_root


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Makes a folder in which so many megabytes are all there is room for."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        if not is_root():
            skip_for("only root can mount a file system to fill")
        # Not in pytest's own folder: another run of pytest closes that to others, and PostgreSQL runs as nobody.
        folder = Path(tempfile.mkdtemp(prefix="ts-disk-"))
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tallystream", folder], check=True
        )
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
