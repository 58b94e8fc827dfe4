"""The demonstration from beginning to end, in the order in which things happen.

It uses the product as anybody would: two registers declared in TOML, events produced to a topic, workers of one group,
and reading by SQL. What it knows beforehand is only what the shop's own books say.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TypeVar

from pydantic import SecretStr
from rich.console import Console

from ingest import __version__, resources
from ingest.demo.crew import Crew
from ingest.demo.embedded import Servers
from ingest.demo.live import Moment, Stock, open_view
from ingest.demo.readings import Readings, by_product
from ingest.demo.report import print_balances, print_dead_letters, print_turnovers, print_verdict
from ingest.demo.shop import INVENTORY, SALES, History, ShopEvent, write_history
from ingest.demo.verdict import Findings, judge
from ingest.domain.declarations import read_declarations
from ingest.domain.plans import Outcome
from ingest.domain.registers import Register
from ingest.errors import OperatorError
from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from ingest.observability.logs import configure_logs
from ingest.postgres.status import read_positions
from ingest.settings import Settings
from ingest.settings.model import ENVIRONMENT_PREFIX
from ingest.wiring import commands, parts, processes

TOPIC = "shop.events"
PARTITIONS = 4

TICK_S = 0.1
STOCK_EVERY_S = 0.5
STOCK_SHOWN = ("espresso-beans", "filter-beans", "assam-tea", "oat-milk", "biscuits", "mug")

MOST_LAG = 5000
"""Events that may wait: the broker keeps only a few MB, so a slow machine takes longer instead of losing some."""

STALLED_AFTER_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What a visitor may choose."""

    seconds: float
    events: int
    workers: int
    seed: int
    keep: bool


def tell_story(options: Options, console: Console) -> bool:
    """Tell it; says whether everything came out right."""
    console.print(f"[bold]Tallystream {__version__}[/], shown on six weeks of a small coffee shop\n", highlight=False)
    with ExitStack() as stack:
        take = Steps(console).take
        servers, history = take(
            "starting PostgreSQL and a Kafka broker", lambda: _prepare(options, stack), _name_servers
        )
        settings = _settings(servers)
        _log_to_file(servers, stack)
        take("installing the schema", lambda: commands.migrate(settings), lambda _: "the schema is installed")
        take("declaring registers", lambda: commands.apply_registers(settings, _declared()), _name_registers)
        for_workers = settings.model_copy(update={"postgres_dsn": SecretStr(servers.postgres.worker_dsn)})
        crew = stack.enter_context(Crew(lambda: processes.build_worker(for_workers), options.workers))
        console.print(f"  {options.workers} workers share the {PARTITIONS} partitions of topic {TOPIC}\n")
        _stream(options, console, settings, crew, history.events)
        right = _report(console, settings, history)
        if options.keep:
            _keep(console, servers, settings)
    return right


def _prepare(options: Options, stack: ExitStack) -> tuple[Servers, History]:
    """Start the servers, and make up the events meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        history = pool.submit(write_history, options.seed, options.events)
        servers = stack.enter_context(Servers(TOPIC, PARTITIONS))
        return servers, history.result()


def _settings(servers: Servers) -> Settings:
    return Settings(
        postgres_dsn=SecretStr(servers.postgres.dsn),
        kafka_bootstrap_servers=servers.broker.address,
        topics=(TOPIC,),
        # The embedded broker takes seconds for a rebalance of the classic protocol.
        group_protocol="consumer",
    )


def _log_to_file(servers: Servers, stack: ExitStack) -> None:
    """Keep the workers' logs off the screen."""
    log = stack.enter_context((servers.postgres.folder / "tallystream.log").open("w", encoding="utf-8"))
    stack.callback(configure_logs, "error")
    configure_logs("info", "json", log)


def _declared() -> tuple[Register, ...]:
    file = resources.schema() / "registers" / "demo" / "shop.toml"
    return read_declarations([(file.name, file.read_text(encoding="utf-8"))])


def _name_servers(prepared: tuple[Servers, History]) -> str:
    return f"PostgreSQL {prepared[0].postgres.version} and a Kafka broker are up"


def _name_registers(done: Sequence[tuple[str, str]]) -> str:
    kinds = {register.name: register.kind for register in _declared()}
    return "registers " + ", ".join(f"{name} ({kinds[name]}) {what}" for name, what in done)


def _stream(options: Options, console: Console, settings: Settings, crew: Crew, events: Sequence[ShopEvent]) -> None:
    """Produce the events at a person's pace, and show what becomes of them until none is left."""
    producer = EventProducer(producer_config(settings.kafka_bootstrap_servers, {"linger.ms": "5"}), TOPIC)
    watch = Watch(crew, Readings(parts.database(settings)), len(events))
    with open_view(console, every_s=max(1.0, options.seconds / 15)) as view:
        while not (watch.sent == len(events) and _is_through(settings, len(events))):
            crew.check()
            moment = watch.look()
            view.show(moment)
            due = len(events) if moment.at_s >= options.seconds else int(len(events) * moment.at_s / options.seconds)
            due = min(due, watch.sent + MOST_LAG - moment.lag)
            for event in events[watch.sent : due]:
                producer.send(event.key, event.value)
            watch.sent = max(watch.sent, due)
            time.sleep(TICK_S)
        view.show(watch.look())
        view.finish()


def _is_through(settings: Settings, events: int) -> bool:
    """Ask the database, whose batches account for every event."""
    positions = read_positions(parts.database(settings), settings.group)
    return sum(position.events for position in positions) == events


def _report(console: Console, settings: Settings, history: History) -> bool:
    database = parts.database(settings)
    readings = Readings(database)
    letters = commands.list_dead_letters(settings, "waiting", None, None, 100)
    findings = Findings(
        positions=read_positions(database, settings.group),
        refused=Counter(str(letter["reason"]) for letter in letters),
        differences={register: commands.verify_register(settings, register) for register in (INVENTORY, SALES)},
        movements=dict(zip((INVENTORY, SALES), readings.movements(), strict=True)),
    )
    print_balances(console, readings.balances())
    print_turnovers(console, readings)
    print_dead_letters(console, letters[::-1])
    right = print_verdict(console, judge(history.books, readings, findings))
    console.print(f"\n[bold]{'Everything agrees.' if right else 'Something is wrong, see above.'}[/]")
    return right


def _keep(console: Console, servers: Servers, settings: Settings) -> None:
    """Leave everything running, the workers too, until a person has seen enough."""
    variables = {
        "POSTGRES_DSN": servers.postgres.dsn,
        "KAFKA_BOOTSTRAP_SERVERS": servers.broker.address,
        "TOPICS": TOPIC,
        "GROUP": settings.group,
    }
    console.print(
        "\n[bold]Have a look around[/]; Ctrl-C stops the servers and removes their folder.\n", highlight=False
    )
    lines = [
        servers.postgres.psql,
        "",
        *(f"export {ENVIRONMENT_PREFIX}{name}='{value}'" for name, value in variables.items()),
        "tallystream status",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        signal.pause()


class Steps:
    """Says what is being done, and then what was done and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def take(self, doing: str, do: Callable[[], T], done: Callable[[T], str]) -> T:
        """Do it."""
        started = time.monotonic()
        with self._console.status(f"{doing} ..."):
            result = do()
        seconds = time.monotonic() - started
        self._console.print(f"  {done(result):<64}[dim]{seconds:6.1f} s[/]", highlight=False)
        return result


class Watch:
    """Looks at the crew and the stock."""

    def __init__(self, crew: Crew, readings: Readings, to_send: int) -> None:
        self.sent = 0
        self._crew = crew
        self._readings = readings
        self._to_send = to_send
        self._started = time.monotonic()
        self._stock: tuple[Stock, ...] = ()
        self._next_stock_s = 0.0
        self._events = 0
        self._moved_s = 0.0

    def look(self) -> Moment:
        """Take everything in that is shown; fail when nothing has moved for long."""
        at_s = time.monotonic() - self._started
        if at_s >= self._next_stock_s:
            self._next_stock_s = at_s + STOCK_EVERY_S
            sums = by_product(self._readings.balances())
            self._stock = tuple(Stock(name, *sums[name]) for name in STOCK_SHOWN if name in sums)
        crew = self._crew
        moment = Moment(
            at_s=at_s,
            to_send=self._to_send,
            sent=self.sent,
            applied=crew.count(Outcome.APPLIED),
            duplicates=crew.count(Outcome.DUPLICATE),
            stale=crew.count(Outcome.STALE),
            dead_letters=crew.count(Outcome.DEAD_LETTER),
            movements=sum(progress.movements for progress in crew.progress),
            batches=sum(progress.batches for progress in crew.progress),
            batches_s=crew.batches_s,
            stock=self._stock,
        )
        self._check_movement(moment)
        return moment

    def _check_movement(self, moment: Moment) -> None:
        if moment.events != self._events:
            self._events, self._moved_s = moment.events, moment.at_s
        if moment.at_s - self._moved_s > STALLED_AFTER_S:
            raise OperatorError(
                f"the workers have applied nothing for {STALLED_AFTER_S:g} s, with {moment.lag:,} events waiting"
            )
