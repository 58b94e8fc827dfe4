"""How many sessions wait for the cells of a register, on average: what decides about high-write by itself.

A mean that forgets: one long wait is no reason to switch, and neither is one that was an hour ago.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

WEIGHT: Final = 0.1
"""Of the newest sample: about ten of them decide."""


@dataclass(frozen=True, slots=True)
class Contention:
    """The mean number of waiting sessions by register."""

    means: Mapping[str, float] = field(default_factory=dict)

    def after(self, sample: Mapping[str, int]) -> "Contention":
        """Return the means with one more sample; registers that are not in it are forgotten."""
        return Contention(
            {name: (1 - WEIGHT) * self.means.get(name, 0.0) + WEIGHT * count for name, count in sample.items()}
        )

    def without(self, register: str) -> "Contention":
        """Return the means with one register to begin anew."""
        return Contention({name: mean for name, mean in self.means.items() if name != register})

    def over(self, threshold: float) -> tuple[str, ...]:
        """Return the registers whose mean has reached the threshold, in order."""
        return tuple(sorted(name for name, mean in self.means.items() if mean >= threshold))
