"""Every error the program raises on purpose, in one tree; each class says what the process does.

    TallystreamError
    ├── OperatorError            stop with exit code 2: a person has to act
    │   ├── SettingsError
    │   ├── DeclarationError
    │   ├── MigrationError
    │   ├── RegisterError
    │   └── PositionError
    ├── TransientError           retry the whole batch with backoff
    │   └── LoginRefusedError    the same; a process that only begins stops with exit code 2
    ├── TooLargeError            read again in smaller batches
    ├── FencedError              drop what is in memory and rejoin the group
    ├── RegistryChangedError     reload the declarations and decode again
    └── DataError                bisect the batch; the culprit becomes a dead letter

A bad event is not an error here: the decoder returns a `Refusal`, because bad input is expected.
Messages are lower-case facts that name the thing they are about, and never carry a secret.
"""


class TallystreamError(Exception):
    """The root: nothing raises it directly; the process stops if it ever gets that far."""


class OperatorError(TallystreamError):
    """The process stops with exit code 2 and this message alone, without a traceback.

    The message tells what happened, to which thing, and what to do about it.
    """


class SettingsError(OperatorError):
    """A setting is missing, malformed or contradicts another; nothing has been started."""


class DeclarationError(OperatorError):
    """A register declaration is not valid; nothing has been applied."""


class MigrationError(OperatorError):
    """The database schema is absent, older or newer than this program can work with."""


class RegisterError(OperatorError):
    """A register cannot be created, changed or dropped as asked."""


class PositionError(OperatorError):
    """A partition stops: its position and the topic's log contradict each other, or its events are refused one by one.

    Going on would skip or repeat events, or refuse them all, so a person decides; the position is left as it is.
    """


class TransientError(TallystreamError):
    """Something outside failed and may recover: the whole batch is retried with backoff.

    It is never a reason to refuse an event.
    """


class LoginRefusedError(TransientError):
    """PostgreSQL answers, and does not let this role in or is not to be trusted: at the beginning a setting is wrong.

    Later the password was changed, or a server is being replaced; a process that was in before waits.
    """


class TooLargeError(TallystreamError):
    """PostgreSQL lacks the memory for the batch: claim its partitions again, and read smaller ones.

    A process that lacks memory itself ends, and is no error of ours: the next one reads smaller batches too.
    """


class FencedError(TallystreamError):
    """Another worker owns the partition now: drop what is in memory, rejoin the group."""


class RegistryChangedError(TallystreamError):
    """A register changed since it was read: reload the declarations and decode again."""


class DataError(TallystreamError):
    """The database refused the batch's data: bisect until the culprit is alone.

    That one becomes a dead letter with the SQLSTATE and the detail; the rest is applied.
    """

    def __init__(self, sqlstate: str, detail: str) -> None:
        super().__init__(f"{detail} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate
        self.detail = detail
