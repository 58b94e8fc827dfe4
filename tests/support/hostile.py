"""Decodes the whole poison corpus again and again with little memory to spare, and prints what it has used.

A process of its own, because its greatest use never goes down again: `python -m tests.support.hostile ROUNDS MB`.
"""

import json
import resource
import sys
from pathlib import Path

from tests.support.events import decoder, record
from tests.support.poison import LARGE, POISON

FAR_TOO_LARGE = 50_000_000


def main(rounds: int, spare_mb: int) -> None:
    """One round to warm up; then the address space is limited to little more than that has taken."""
    shared = decoder()
    values = [value for _, value, _ in POISON] + [value for _, value, _ in LARGE] + [b"[" * FAR_TOO_LARGE]
    messages = [record(value, b"receipt:1") for value in values]
    used = []
    for number in range(rounds + 1):
        for message in messages:
            shared.decode(message)
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        if number == 0:
            limit = _address_space() + spare_mb * 1_000_000
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.stdout.write(json.dumps({"inputs": len(messages) * rounds, "first_kb": used[0], "last_kb": used[-1]}))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
