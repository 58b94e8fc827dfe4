"""Reads the movements of one register, with a reader made once for each of its columns.

Promises that a movement has exactly its register's dimensions and resources, each in canonical text, and a period
inside the register's window; otherwise says which movement and which key is at fault.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from ingest.domain.decimals import number_reader
from ingest.domain.messages import Limits, Movement, Movements, Reason
from ingest.domain.registers import Register
from ingest.domain.strict_json import UnreadableError, described, path_to
from ingest.domain.values import dimension_reader, read_time

PERIOD: Final = "period"

# No time zone is this far from UTC: a time so far inside the window needs no look at its local day.
_MARGIN_DAYS: Final = 2


class PeriodReader:
    """Reads times, and refuses those whose day in the register's time zone is outside its window."""

    def __init__(self, register: Register) -> None:
        self._first, self._last = register.period_min, register.period_max
        self._zone = ZoneInfo(register.time_zone)
        self._surely_after = _midnight(self._first, _MARGIN_DAYS)
        self._surely_before = _midnight(self._last, -_MARGIN_DAYS)

    def read(self, value: object) -> datetime:
        """The time in UTC."""
        period = read_time(value)
        if not self._surely_after <= period <= self._surely_before:
            self._check_day(period)
        return period

    def _check_day(self, period: datetime) -> None:
        try:
            day = period.astimezone(self._zone).date()
        except OverflowError:  # beyond the first or the last day there is
            day = period.date()
        if not self._first <= day <= self._last:
            detail = f"{day} in {self._zone.key} is outside {self._first} to {self._last}"
            raise UnreadableError(Reason.PERIOD_OUT_OF_RANGE, detail)


class MovementReader:
    """Reads what an event of this register has in `movements`."""

    def __init__(self, register: Register, limits: Limits) -> None:
        self._register = register
        self._max_movements = limits.max_movements
        self._dimensions = [(column.name, dimension_reader(column, limits)) for column in register.dimensions]
        self._resources = [(column.name, number_reader(column.type, limits)) for column in register.resources]
        self._width = len(self._dimensions) + len(self._resources)
        self._periods = PeriodReader(register)

    def read(self, items: Sequence[object], event_period: object) -> Movements:
        """All movements in their order; those without a period of their own get the event's, which may be None."""
        if len(items) > self._max_movements:
            detail = f"{len(items)} movements, and {self._max_movements} are allowed"
            raise UnreadableError(Reason.TOO_MANY_MOVEMENTS, detail, "movements")
        # Lines of a document mostly share their time: what is written alike is read once.
        periods: dict[str, datetime] = {}
        default = None if event_period is None else self._period(event_period, periods)
        movements: list[Movement] = []
        for index, item in enumerate(items):
            try:
                if type(item) is not dict:
                    raise UnreadableError(Reason.NOT_AN_OBJECT, f"{described(item)} where a movement is expected")
                own = item.get(PERIOD)
                period = default if own is None else self._period(own, periods)
                if period is None:
                    raise UnreadableError(Reason.MISSING_KEY, "neither the event nor this movement has it", PERIOD)
                movements.append(Movement(period, self._values(item)))
            except UnreadableError as error:
                raise error.inside(f"movements[{index}]") from None
        return Movements.of(movements)

    def _period(self, value: object, known: dict[str, datetime]) -> datetime:
        try:
            if type(value) is not str:
                return self._periods.read(value)
            if value not in known:
                known[value] = self._periods.read(value)
            return known[value]
        except UnreadableError as error:
            raise error.inside(PERIOD) from None

    def _values(self, item: Mapping[str, object]) -> tuple[str | None, ...]:
        values: list[str | None] = []
        name = ""
        try:
            for name, read in self._dimensions:
                value = item[name]
                values.append(None if value is None else read(value))
            for name, read in self._resources:
                values.append(read(item[name]))
        except KeyError:
            self._refuse_absent(item, name)
        except UnreadableError as error:
            if item[name] is None:
                self._refuse_absent(item, name)
            raise error.inside(name) from None
        if len(item) != self._width + (PERIOD in item):
            self._refuse_unknown(item)
        return tuple(values)

    def _refuse_absent(self, item: Mapping[str, object], name: str) -> NoReturn:
        # A misspelt key is absent under its right name: what was written says more than what was not.
        self._refuse_unknown(item)
        if name in (resource_name for resource_name, _ in self._resources):
            raise UnreadableError(Reason.MISSING_RESOURCE, "a resource is never left out and never null", name)
        raise UnreadableError(Reason.MISSING_DIMENSION, "a dimension may be null, but has to be there", name)

    def _refuse_unknown(self, item: Mapping[str, object]) -> None:
        """Refuse the first key that is no column of the register, if there is one."""
        columns = [name for name, _ in self._dimensions + self._resources]
        unknown = next((key for key in item if key not in columns and key != PERIOD), None)
        if unknown is not None:
            similar = get_close_matches(unknown[:64], columns, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"its columns are {', '.join(columns)}"
            detail = f"register {self._register.name} has no such dimension or resource; {hint}"
            raise UnreadableError(Reason.UNKNOWN_COLUMN, detail, path_to("", unknown))


def _midnight(day: date, days_later: int) -> datetime:
    shifted = min(max(day.toordinal() + days_later, date.min.toordinal()), date.max.toordinal())
    return datetime.combine(date.fromordinal(shifted), time.min, tzinfo=UTC)
