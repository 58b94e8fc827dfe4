"""What has to be added to a register so that it is as declared, or why that would lose something.

Columns may be added and a few options changed; the order of columns does not matter, new ones come last.
"""

from dataclasses import dataclass, fields
from typing import Final

from ingest.domain.registers import Dimension, Register, Resource

CHANGEABLE: Final = ("high_write", "high_write_auto", "tombstone_unposts", "period_min", "period_max", "subtotals")
"""Options that lose nothing: how writing goes on, what is accepted from now on, what is added up beside the totals."""


@dataclass(frozen=True, slots=True)
class Extension:
    """What register_alter is asked for; `options` are the names of changed ones."""

    dimensions: tuple[Dimension, ...]
    resources: tuple[Resource, ...]
    options: tuple[str, ...]

    def describe(self) -> str:
        """Say in a few words what is done; "unchanged" when it is nothing."""
        parts = [f"dimension {column.name} {column.type} added" for column in self.dimensions]
        parts += [f"resource {column.name} {column.type} added" for column in self.resources]
        parts += [f"{option} changed" for option in self.options]
        return ", ".join(parts) or "unchanged"

    def __bool__(self) -> bool:
        return bool(self.dimensions or self.resources or self.options)


def switches_off(present: Register, declared: Register) -> bool:
    """Tell whether the declaration ends high-write; a register that switched by itself stays as it is."""
    return present.high_write and not declared.high_write and not declared.high_write_auto


def plan_extension(present: Register, declared: Register) -> tuple[Extension, tuple[str, ...]]:
    """Return what to add, and what stands in the way of it; nothing may be done unless the latter is empty."""
    obstacles = [
        *_lost("dimension", present.dimensions, declared.dimensions),
        *_lost("resource", present.resources, declared.resources),
    ]
    options: list[str] = []
    for field in fields(present):
        here, there = getattr(present, field.name), getattr(declared, field.name)
        if field.name in {"dimensions", "resources"} or here == there:
            continue
        if field.name == "high_write" and not switches_off(present, declared):
            if there:
                options.append(field.name)
            continue
        if field.name in CHANGEABLE:
            options.append(field.name)
        else:
            obstacles.append(f"{field.name} is {here}, declared as {there}")
    dimensions, resources = {c.name for c in present.dimensions}, {c.name for c in present.resources}
    extension = Extension(
        tuple(column for column in declared.dimensions if column.name not in dimensions),
        tuple(column for column in declared.resources if column.name not in resources),
        tuple(options),
    )
    return extension, tuple(obstacles)


def _lost(
    what: str, present: tuple[Dimension | Resource, ...], declared: tuple[Dimension | Resource, ...]
) -> list[str]:
    types = {column.name: column.type for column in declared}
    found: list[str] = []
    for column in present:
        if column.name not in types:
            found.append(f"{what} {column.name} is not declared any more")
        elif types[column.name] != column.type:
            found.append(f"{what} {column.name} is {column.type}, declared as {types[column.name]}")
    return found
