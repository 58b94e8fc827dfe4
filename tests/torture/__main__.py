"""`python -m tests.torture --seconds 600 --seed 1`: the whole product under fire, and a verdict on every number.

Real servers, several workers and compactors, a load of everything that producers do; everybody is killed, frozen and
restarted at random, while readers check snapshots. The exit code is 1 when a number is wrong, a promise was broken, or
a rare state was not reached that a run of this length has to reach. The seed decides what is sent and what befalls
whom, not how the machine's processes take turns: a failure is repeated by the seed often, not always.
"""

import argparse
import logging
import random
import sys
import time
from collections import Counter
from contextlib import closing

import structlog

from tests.support.program import run_tallystream
from tests.torture.crew import LEAST_WORKERS, Crew
from tests.torture.load import Load
from tests.torture.mishaps import Mishaps
from tests.torture.rare import ALWAYS, IN_LONG_RUNS, LONG_S, reached
from tests.torture.readers import Reader
from tests.torture.slopes import Slopes, told
from tests.torture.stage import Stage, stage
from tests.torture.verdict import Verdict, judge, wait_until_read

DRAIN_TIMEOUT_S = 120
LINES = 200


def main() -> int:
    """Torture for so long; the exit code says whether everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long mishaps go on")
    parser.add_argument("--seed", type=int, default=None, help="what is sent, and what befalls whom")
    parser.add_argument("--per-second", type=int, default=150, help="events sent in a second")
    arguments = parser.parse_args()
    # Clients in this process lose their servers again and again, as they shall.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    _say(f"torture: seed {seed}, {arguments.seconds:.0f} s; to do it again: make torture SEED={seed}")
    with stage() as place, closing(Crew(place, random.Random(f"{seed} crew"))) as crew:
        try:
            return _torture(place, crew, seed, arguments.seconds, arguments.per_second)
        except TimeoutError:
            # Whoever stands still has said why, or what it did last.
            for member in crew.everybody:
                if member.program.code is None:
                    _say(f"\n{member.program!r}, the end of its log:\n{member.program.tail(LINES)}")
            raise


def _torture(place: Stage, crew: Crew, seed: int, seconds: float, per_second: int) -> int:
    load = Load(place.kafka.bootstrap_servers, place.topic, random.Random(f"{seed} load"), per_second)
    load.begin()
    crew.fill_up(LEAST_WORKERS)
    wait_until_read(place, lambda: None)
    readers = [Reader(place, random.Random(f"{seed} reader {number}")) for number in range(2)]
    mishaps = Mishaps(place, crew, random.Random(f"{seed} mishaps"))
    slopes = Slopes(place, crew, seconds)
    for thread in (load, slopes, *readers):
        thread.start()
    mishaps.go_on(time.monotonic() + seconds)
    mishaps.insist()
    mishaps.heal()
    load.stop()
    slopes.stop()
    began = time.monotonic()
    wait_until_read(place, lambda: crew.fill_up(LEAST_WORKERS))
    _say(f"{load.sent} events sent; all applied {time.monotonic() - began:.1f} s after the last mishap")
    _say(told(slopes.looks))
    for reader in readers:
        reader.stop()
    crew.dismiss()
    run_tallystream("compact", "--once", env=place.env, timeout_s=DRAIN_TIMEOUT_S).check()
    verdict = judge(place)
    return _report(verdict, readers, crew, mishaps, reached(place, crew, mishaps, verdict), seconds)


def _report(
    verdict: Verdict, readers: list[Reader], crew: Crew, mishaps: Mishaps, found: Counter[str], seconds: float
) -> int:
    differences = [difference for reader in readers for difference in reader.differences]
    problems = [*verdict.problems, *differences, *crew.bad_ends]
    wanted = (*ALWAYS, *(IN_LONG_RUNS if seconds >= LONG_S else ()))
    if missing := [state for state in wanted if not found[state]]:
        problems.append(f"rare states that were never reached: {', '.join(missing)}")
    _say("\nmishaps: " + ", ".join(f"{what} {count}" for what, count in sorted(mishaps.done.items())))
    _say("rare states: " + ", ".join(f"{what} {count}" for what, count in sorted(found.items())))
    reads, verifications = (sum(r.reads for r in readers), sum(r.verifications for r in readers))
    _say(
        f"{verdict.events} events, {verdict.cells} cells, periods and movements compared with the oracle;"
        f" {reads} snapshots read, {verifications} verifications, {len(differences)} differences;"
        f" {len(crew.everybody)} processes, {crew.repeated_starts} starts repeated"
    )
    for problem in problems:
        _say(f"PROBLEM: {problem}")
    _say("torture: failed" if problems else "torture: every number is right")
    return 1 if problems else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
