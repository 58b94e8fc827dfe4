"""A mapping: rules that change an event's movements before they are counted, so that a rebuild shows what would be.

Every rule looks at a movement as the event has it, never at what another rule has made of it. Of several that choose
the same movement all count: whichever leaves it out, the last that sets a dimension, and the product of all factors.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from typing import Final

from msgspec import structs

from ingest.domain.decimals import Reader, number_reader
from ingest.domain.messages import Event, Limits, Movement, Movements, Refusal
from ingest.domain.registers import Register
from ingest.domain.strict_json import UnreadableError

# More digits than a value and a factor have together: a product is exact, or an error.
_EXACTLY: Final = Context(prec=400, traps=[Inexact])


@dataclass(frozen=True, slots=True)
class Rule:
    """Which movements, and what becomes of them; values are canonical text, as in a `Movement`."""

    where: Mapping[str, frozenset[str | None]] = field(default_factory=dict)
    put: Mapping[str, str | None] = field(default_factory=dict)
    factors: Mapping[str, Decimal] = field(default_factory=dict)
    leaves_out: bool = False

    def as_json(self) -> dict[str, object]:
        """What makes it the same rule as another one."""
        chosen = {name: sorted(values, key=_nulls_first) for name, values in self.where.items()}
        factors = {name: str(factor) for name, factor in self.factors.items()}
        return {"where": chosen, "set": dict(self.put), "multiply": factors, "leave_out": self.leaves_out}


class RegisterMapping:
    """The rules of one register, for the columns that it has."""

    def __init__(self, register: Register, rules: Iterable[Rule], limits: Limits) -> None:
        self.rules = tuple(rules)
        names = [column.name for column in register.dimensions] + [column.name for column in register.resources]
        self._places = {name: place for place, name in enumerate(names)}
        self._numbers = {column.name: number_reader(column.type, limits) for column in register.resources}

    def as_json(self) -> list[dict[str, object]]:
        """What makes it the same mapping as another one."""
        return [rule.as_json() for rule in self.rules]

    def apply(self, event: Event, counts: Counter[int]) -> Event | Refusal:
        """Return the event with other movements; refused where a number no longer fits. Counts movements by rule."""
        movements: list[Movement] = []
        try:
            for number, movement in enumerate(event.movements):
                mapped = self._map(movement, number, counts)
                if mapped is not None:
                    movements.append(mapped)
        except UnreadableError as error:
            detail = f"as the mapping has it: {error.detail}"
            return Refusal(event.message, error.reason, error.path, detail, event.register, event.recorder, event.id)
        return structs.replace(event, movements=Movements.of(movements))

    def _map(self, movement: Movement, number: int, counts: Counter[int]) -> Movement | None:
        values = list(movement.values)
        leaves_out = False
        for rule_number, rule in enumerate(self.rules, start=1):
            if not all(movement.values[self._places[name]] in chosen for name, chosen in rule.where.items()):
                continue
            counts[rule_number] += 1
            leaves_out = leaves_out or rule.leaves_out
            for name, value in rule.put.items():
                values[self._places[name]] = value
            for name, factor in rule.factors.items():
                place = self._places[name]
                values[place] = _multiplied(values[place], factor)
        if leaves_out:
            return None
        for name, read in self._numbers.items():
            values[self._places[name]] = _fitting(read, values[self._places[name]], f"movements[{number}].{name}")
        return Movement(movement.period, tuple(values))


def _multiplied(value: str | None, factor: Decimal) -> str:
    return str(_EXACTLY.multiply(Decimal(value or "0"), factor))


def _fitting(read: Reader, value: str | None, path: str) -> str:
    try:
        return read(value)
    except UnreadableError as error:
        raise error.inside(path) from None


def _nulls_first(value: str | None) -> tuple[bool, str]:
    return value is not None, value or ""
