"""Time and turns of a simulation: every process is a set of tasks, one task runs at a time, time is a number.

A task runs until it waits (`sleep`, `wait`), and only then does another one run: the earliest first, and among those
of one instant the one that was there first. So a seed decides everything. A process can be frozen (its tasks go on
when it thaws), or killed (they never do).
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from greenlet import GreenletExit, getcurrent, greenlet

MOST_TURNS = 200_000
"""A seed takes some thousand turns; one that takes more than this goes round in circles without time passing."""


@dataclass(slots=True, eq=False)
class Process:
    """Something that can be frozen and killed: a worker with all its threads."""

    name: str
    frozen_until: float = 0.0
    dead: bool = False
    tasks: "list[Task]" = field(default_factory=list)


class Task(greenlet):
    """One thread of a process."""

    def __init__(self, work: Callable[[], None], process: Process, parent: greenlet) -> None:
        super().__init__(work, parent)
        self.process = process
        self.turn = 0
        process.tasks.append(self)


class Signal:
    """What tasks wait for."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self.waiting: list[tuple[Task, int]] = []

    def notify(self) -> None:
        """Let those who wait go on, in the order in which they came."""
        waiting, self.waiting = self.waiting, []
        for task, turn in waiting:
            self._scheduler.wake(task, turn, 0.0)


class Scheduler:
    """Whose turn it is, and what time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = 0
        self._hub = getcurrent()
        self._order = itertools.count()
        # (when, order, task, the task's turn): an entry of a turn that is over says nothing any more.
        self._due: list[tuple[float, int, Task, int]] = []
        self._buried: list[Process] = []

    def start(self, process: Process, work: Callable[[], None]) -> Task:
        """Begin a task; its first turn is due at once."""
        task = Task(work, process, self._hub)
        self.wake(task, task.turn, 0.0)
        return task

    def wake(self, task: Task, turn: int, delay_s: float) -> None:
        """Give a task a turn, unless it has had that one already."""
        heapq.heappush(self._due, (self.now + delay_s, next(self._order), task, turn))

    def sleep(self, seconds: float) -> None:
        """Let time pass for the current task."""
        task = self._current()
        self.wake(task, task.turn, seconds)
        self._hub.switch()

    def wait(self, signal: Signal, timeout_s: float) -> None:
        """Let the current task wait for a signal, at most so long."""
        task = self._current()
        signal.waiting.append((task, task.turn))
        self.wake(task, task.turn, timeout_s)
        self._hub.switch()

    def kill(self, process: Process) -> None:
        """kill -9: no task of the process has another turn. What a `finally` does on the way out reaches nobody."""
        process.dead = True
        self._buried.append(process)

    def run(self, done: Callable[[], bool], until: float) -> None:
        """Give turns until it is done, or so late; what a task raises comes out here."""
        while self._due and not done() and self.now < until:
            when, _, task, turn = heapq.heappop(self._due)
            process = task.process
            if process.dead or task.dead or turn != task.turn:
                continue
            if process.frozen_until > when:
                heapq.heappush(self._due, (process.frozen_until, next(self._order), task, turn))
                continue
            self.turns += 1
            assert self.turns < MOST_TURNS, f"{self.turns} turns, and the time is {self.now:.3f}"
            self.now = max(self.now, when)
            task.turn += 1
            task.switch()
            self._bury()

    def close(self) -> None:
        """End every task that is left."""
        for _, _, task, _ in self._due:
            if not task.process.dead:
                self.kill(task.process)
        self._bury()

    def _bury(self) -> None:
        """Unwind the dead from here: a task that ends gives the turn to the hub, not to its killer."""
        while self._buried:
            process = self._buried.pop()
            for task in process.tasks:
                if not task.dead:
                    task.throw(GreenletExit)
            process.tasks.clear()

    def _current(self) -> Task:
        task = getcurrent()
        assert isinstance(task, Task)
        if task.process.dead:
            raise GreenletExit
        return task
