"""A register that decides by itself switches to high-write when sessions wait for its cells, and no other one does."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.domain.contention import WEIGHT, Contention
from ingest.postgres import registers
from ingest.postgres.contention import ContentionWatch
from tests.support.events import INVENTORY
from tests.support.pipeline import Pipeline, access_to, line, movement
from tests.support.sessions import Running, holding, wait_for_waiters

Pipelines = Callable[..., Pipeline]

AUTO = replace(INVENTORY, high_write_auto=True)
HOT_CELL = "SELECT 1 FROM inventory_balance_cache FOR UPDATE"
WAITING = "SELECT register, sessions FROM _waiting_for_cells()"


@pytest.mark.parametrize("declared", [AUTO, INVENTORY], ids=["auto", "by hand"])
def test_waiting_sessions_are_counted_and_the_register_switches(pipelines: Pipelines, declared: object) -> None:
    """Two workers wait for one cell; the batches that waited, and those after the switch, add up."""
    pipeline = pipelines([declared], partitions=3)
    auto = declared is AUTO
    workers = [pipeline.consumer(f"worker-{n}", [n]) for n in range(3)]
    pipeline.send(movement("r0", line(1, "1")), partition=0)
    workers[0].apply()
    for n in (1, 2):
        pipeline.send(movement(f"r{n}", line(1, "10")), partition=n)
    watch = ContentionWatch(access_to(pipeline.database), threshold=2 * WEIGHT)
    with holding(pipeline.database, HOT_CELL):
        waiting = [Running(workers[n].apply) for n in (1, 2)]
        wait_for_waiters(pipeline.database, 2)
        assert pipeline.rows(WAITING) == ([("inventory", 2)] if auto else [])
        switching = Running(watch.step)
        if auto:
            wait_for_waiters(pipeline.database, 3)
    for one in waiting:
        one.result()
    assert switching.result() == (1 if auto else 0)
    assert watch.step() == 0
    pipeline.reload()
    assert pipeline.registry.registers["inventory"].high_write is auto
    pipeline.send(movement("r3", line(1, "100")), partition=0)
    workers[0].apply()
    assert pipeline.count("inventory_balance_cache_delta") == 1 if auto else True
    assert pipeline.balances() == {(1, 1, "A"): 121}
    pipeline.check()


def test_the_switch_does_not_hold_everybody_up(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """A long transaction is in its way: it gives up soon, says so, and tries again only after more samples."""
    pipeline = pipelines([AUTO])
    watch = ContentionWatch(access_to(pipeline.database), threshold=1.0, contention=Contention({"inventory": 5.0}))
    row = '{"recorder": "r", "period": "2026-04-18", "warehouse": 1, "product": 1, "lot": "A"}'
    post = f"SELECT register_post('inventory', '{row}')"
    with holding(pipeline.database, post):
        assert watch.step() == 0
        assert watch.contention.over(0.1) == ()
        assert "not switched to high-write yet" in capsys.readouterr().out
        assert watch.step() == 0
    watch.contention = Contention({"inventory": 5.0})
    assert watch.step() == 1
    assert "register switched to high-write" in capsys.readouterr().out
    pipeline.check()


def test_its_file_does_not_switch_it_back(pipelines: Pipelines) -> None:
    """Applied again, a register that has switched is unchanged; without the option it is switched off."""
    pipeline = pipelines([AUTO])
    access = access_to(pipeline.database)
    assert pipeline.value("SELECT _switch_to_high_write('inventory')") is True
    assert pipeline.value("SELECT _switch_to_high_write('inventory')") is False
    assert registers.apply_registers(access, [AUTO]) == [("inventory", "unchanged")]
    done = registers.apply_registers(access, [INVENTORY])
    assert done == [("inventory", "high_write changed, high_write_auto changed")]
    pipeline.reload()
    assert pipeline.registry.registers["inventory"] == INVENTORY
    assert pipeline.value("SELECT _switch_to_high_write('inventory')") is False
