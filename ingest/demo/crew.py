"""The demo's workers: the product's own, each in a thread of this process."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from ingest.domain.plans import Outcome
from ingest.domain.progress import Progress
from ingest.worker import Worker

if TYPE_CHECKING:
    from types import TracebackType


class Crew:
    """Workers of one group; they run while the context lasts."""

    def __init__(self, build: Callable[[], Worker], size: int) -> None:
        self._workers = [build() for _ in range(size)]
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"worker-{number}", daemon=True)
            for number, worker in enumerate(self._workers, 1)
        ]
        self._errors: list[BaseException] = []

    def check(self) -> None:
        """Raise what ended a worker, if anything did."""
        for error in self._errors:
            raise error
        for progress in self.progress:
            for stopped in list(progress.stopped.values()):
                raise stopped

    @property
    def progress(self) -> Sequence[Progress]:
        """What each worker has done."""
        return [worker.progress for worker in self._workers]

    def count(self, outcome: Outcome) -> int:
        """The events that came to this, over all workers."""
        return sum(progress.outcomes[outcome] for progress in self.progress)

    @property
    def batches_s(self) -> float:
        """The time that all batches took together."""
        # A list first, in one go: the workers write meanwhile.
        return sum(progress.batch_seconds.total for progress in self.progress)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join()

    def _run(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 - raised again by check, in the thread that tells the story
            self._errors.append(error)
