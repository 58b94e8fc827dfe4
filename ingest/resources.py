"""Finds the files that belong to the program: `sql/` (verbs) and `schema/` (nouns).

In a wheel they lie inside the package, as `ingest/_sql` and `ingest/_schema`; in a checkout they lie beside it. Whoever
reads them gets a `Traversable` and never learns which of the two it was, so that it also works from a zip file.
"""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable


def sql() -> "Traversable":
    """The folder `sql/`: api, internal, register, statements."""
    return _folder("sql")


def schema() -> "Traversable":
    """The folder `schema/`: migrations, registers, messages."""
    return _folder("schema")


def files_in(folder: "Traversable", suffix: str) -> "Iterator[Traversable]":
    """The files of a folder with this suffix, by name: the order in which they are to be applied."""
    found = (entry for entry in folder.iterdir() if entry.is_file() and entry.name.endswith(suffix))
    yield from sorted(found, key=lambda entry: entry.name)


def _folder(name: str) -> "Traversable":
    packaged = files("ingest") / f"_{name}"
    if packaged.is_dir():
        return packaged
    return Path(__file__).resolve().parent.parent / name
