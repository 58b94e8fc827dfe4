"""Days are those of the register's time zone: at every midnight, in whatever sessions, in whichever partitions."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ingest.domain.plans import Outcome
from ingest.domain.registers import Dimension, Kind, Register, Resource
from tests.support.pipeline import Pipeline, movement
from tests.support.postgres import SEARCH_PATH, Database

Pipelines = Callable[..., Pipeline]

TICKS = Register("ticks", Kind.BALANCE, (Dimension("k", "int"),), (Resource("n", "int"),), period_min=date(1980, 1, 1))
MICROSECOND = timedelta(microseconds=1)

# A zone, and a local day around whose borders something happens.
BORDERS = [
    ("UTC", "2026-02-28"),
    ("UTC", "2024-02-29"),
    ("Europe/London", "2026-03-29"),  # 23 hours
    ("Europe/London", "2026-10-25"),  # 25 hours
    ("Europe/London", "2026-12-31"),
    ("America/New_York", "2026-11-01"),  # 25 hours, and the first of a month
    ("Asia/Kolkata", "2026-04-30"),  # half an hour off
    ("Asia/Kathmandu", "2026-12-31"),  # three quarters
    ("Australia/Lord_Howe", "2026-04-05"),  # clocks go back by half an hour
    ("America/Havana", "2026-11-01"),  # midnight comes twice, and a month begins there
    ("America/Havana", "2026-03-08"),  # midnight does not come
    ("Atlantic/Azores", "2027-10-31"),  # midnight comes twice
    ("Africa/Cairo", "2026-04-24"),  # midnight does not come
    ("Africa/Cairo", "2026-10-29"),  # clocks go back at midnight, to the day before
    ("Asia/Beirut", "2026-10-25"),  # the same
    ("America/Sao_Paulo", "2018-11-04"),  # midnight did not come
    ("America/St_Johns", "2006-10-29"),  # clocks went back a minute after midnight: a day that begins twice
    ("Pacific/Apia", "2011-12-31"),  # the day before was left out
    ("Pacific/Kiritimati", "2026-12-31"),  # 14 hours ahead
    ("Etc/GMT+12", "2026-12-31"),
]


def instants_around(zone: ZoneInfo, day: date) -> list[datetime]:
    """Instants from before the day to after it: every quarter of an hour, and the last moment before."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)
    quarters = [noon + timedelta(minutes=15 * step) for step in range(-4 * 16, 4 * 16)]
    return [instant for quarter in quarters for instant in (quarter - MICROSECOND, quarter)]


def expected_days(instants: list[datetime], zone: ZoneInfo) -> dict[date, int]:
    """How many instants each local day has; Python's own time zones say."""
    days: dict[date, int] = defaultdict(int)
    for instant in instants:
        days[instant.astimezone(zone).date()] += 1
    return dict(days)


def send(pipeline: Pipeline, instants: list[datetime]) -> None:
    """A document of one movement for each instant."""
    for number, instant in enumerate(instants):
        period = instant.isoformat().replace("+00:00", "Z")
        pipeline.send(movement(f"r{number}", {"k": 1, "n": 1}, register="ticks", period=period))


@pytest.mark.scenario("W9")
@pytest.mark.parametrize("partition_by", ["day", "month"])
@pytest.mark.parametrize(("zone_name", "day"), BORDERS)
def test_every_instant_counts_for_its_local_day(
    pipelines: Pipelines, zone_name: str, day: str, partition_by: str
) -> None:
    """From 23:59:59.999999 to 00:00, through hours that come twice or not at all: no event is refused or miscounted."""
    zone = ZoneInfo(zone_name)
    instants = instants_around(zone, date.fromisoformat(day))
    pipeline = pipelines([replace(TICKS, time_zone=zone_name, partition_by=partition_by)])
    consumer = pipeline.consumer()
    send(pipeline, instants)
    # In small batches: which partitions are there must not depend on what came with an event.
    while (waiting := consumer.batch(most=90)).items:
        assert set(consumer.apply(waiting).outcomes) == {Outcome.APPLIED}
    assert dict(pipeline.rows("SELECT period, n FROM ticks_totals_day")) == expected_days(instants, zone)
    pipeline.check()


SESSIONS = [
    "-c TimeZone=Asia/Kolkata -c DateStyle=SQL,DMY",
    "-c TimeZone=America/New_York -c DateStyle=German",
    "-c TimeZone=Pacific/Kiritimati -c DateStyle=Postgres,MDY -c IntervalStyle=sql_standard",
    "-c TimeZone=Etc/GMT-14 -c DateStyle=ISO,DMY",
]


@pytest.mark.scenario("W8")
@pytest.mark.parametrize("options", SESSIONS)
@pytest.mark.parametrize("zone_name", ["Europe/London", "Asia/Kolkata"])
def test_sessions_decide_nothing(database: Database, pipelines: Pipelines, zone_name: str, options: str) -> None:
    """A worker, a person who inserts and one who deletes, in sessions of other zones and styles: the same days."""
    zone = ZoneInfo(zone_name)
    instants = instants_around(zone, date(2026, 3, 31))
    pipeline = pipelines([replace(TICKS, time_zone=zone_name)])
    consumer = pipeline.consumer()
    consumer.store = pipeline.store(dsn=f"{database.dsn} options='{options}'")
    consumer.claim()
    send(pipeline, instants)
    assert consumer.apply().outcomes == {Outcome.APPLIED: len(instants)}
    with database.connect(options=f"{options} {SEARCH_PATH}") as hand:
        hand.execute(
            "INSERT INTO ticks_movements (recorder, period, k, n) SELECT 'hand', period, 1, 1 FROM ticks_movements"
        )
    expected = expected_days(instants, zone)
    totals = "SELECT period, n FROM ticks_totals_day WHERE n <> 0"
    assert dict(pipeline.rows(totals)) == {day: 2 * count for day, count in expected.items()}
    pipeline.check()
    with database.connect(options=f"{options} {SEARCH_PATH}") as hand:
        hand.execute("DELETE FROM ticks_movements WHERE recorder = 'hand'")
        april = "SELECT count(*) FROM ticks_movements(NULL, date '20260401', date '20260401')"
        assert hand.execute(april.encode()).fetchone() == (expected[date(2026, 4, 1)],)
    assert dict(pipeline.rows(totals)) == expected
    pipeline.check()


@pytest.mark.scenario("P12")
def test_the_window_is_of_local_days(pipelines: Pipelines) -> None:
    """The first and the last instant of the declared periods are taken, their neighbours are refused."""
    zone = ZoneInfo("Asia/Kolkata")
    first, last = date(2026, 4, 10), date(2026, 5, 20)
    pipeline = pipelines([replace(TICKS, time_zone=str(zone), period_min=first, period_max=last, partition_by="day")])
    start = datetime(2026, 4, 10, tzinfo=zone)
    end = datetime(2026, 5, 21, tzinfo=zone)
    send(pipeline, [start - MICROSECOND, start, end - MICROSECOND, end])
    assert pipeline.consumer().apply().outcomes == {Outcome.APPLIED: 2, Outcome.DEAD_LETTER: 2}
    assert [reason for (reason,) in pipeline.rows("SELECT reason FROM _dead_letters")] == ["period_out_of_range"] * 2
    assert [day for (day,) in pipeline.rows("SELECT period FROM ticks_totals_day ORDER BY 1")] == [first, last]
    pipeline.check()


@pytest.mark.parametrize("last", [date(2026, 10, 31), date(2026, 11, 1)])
def test_a_window_that_ends_where_midnight_comes_twice(pipelines: Pipelines, last: date) -> None:
    """An event of an allowed day is never refused because its partition begins before the window."""
    zone = ZoneInfo("America/Havana")
    register = replace(TICKS, time_zone=str(zone), period_min=last, period_max=last, partition_by="day")
    pipeline = pipelines([register])
    instants = [i for i in instants_around(zone, last) if i.astimezone(zone).date() == last]
    send(pipeline, instants)
    assert pipeline.consumer().apply().outcomes == {Outcome.APPLIED: len(instants)}
    assert dict(pipeline.rows("SELECT period, n FROM ticks_totals_day")) == {last: len(instants)}
    pipeline.check()
