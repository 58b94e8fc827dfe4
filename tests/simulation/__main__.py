"""`python -m tests.simulation --seeds 1000 --first 1`: one simulated life after another, each with its checks.

A failing seed says how to see it again: `make simulate SEED=17` lives that one alone and tells what happens in it.
"""

import argparse
import logging
import sys
import time
from collections import Counter

import structlog
from structlog.typing import EventDict, WrappedLogger

from tests.simulation.world import World

# What a thousand seeds have to meet; otherwise the simulation has become harmless.
RARE = (
    "claim failed",
    "declarations changed",
    "event dead_letter",
    "event duplicate",
    "fenced commit",
    "idle transaction ended",
    "joined anew",
    "killed after COMMIT was sent",
    "late COMMIT",
    "lock timeout",
    "member expelled",
    "partition stopped",
    "partitions lost",
    "partitions revoked",
    "position set by hand",
    "positions taken back",
    "reading paused",
    "retention",
    "stopped in order",
    "topic created anew",
    "topic is another one",
    "topic not confirmed",
    "truncation",
    "unknown outcome: committed",
    "unknown outcome: fenced",
    "unknown outcome: not committed",
)
ENOUGH_SEEDS = 1000


def main() -> int:
    """Live through the seeds; the exit code says whether all promises were kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many lives")
    parser.add_argument("--first", type=int, default=1, help="the first seed; the others follow it")
    parser.add_argument("--seed", type=int, help="this one alone, told in full")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further life after this time")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _tell(arguments.seed)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    reached: Counter[str] = Counter()
    began = time.monotonic()
    lived = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if time.monotonic() - began > arguments.seconds:
            break
        world = World(seed)
        try:
            world.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed repeats it
            _say(f"seed {seed}: {type(error).__name__}: {error}\nto see it again: make simulate SEED={seed}")
            return 1
        lived += 1
        reached.update(world.reached)
    for what, count in sorted(reached.items()):
        _say(f"{count:10} {what}")
    took_s = time.monotonic() - began
    _say(f"{lived} seeds from {arguments.first} on, {60 * lived / took_s:.0f} a minute: every promise was kept")
    missing = [what for what in RARE if not reached[what]]
    if missing and lived >= ENOUGH_SEEDS:
        _say(f"never reached: {', '.join(missing)}")
        return 1
    return 0


def _tell(seed: int) -> int:
    world = World(seed, _say)

    def told(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        world.trace(f"    {event.pop('level')}: {event}")
        return ""

    structlog.configure(
        processors=[structlog.processors.add_log_level, told],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    world.run()
    _say("every promise was kept")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
