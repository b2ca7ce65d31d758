"""Closing a cycle, killed in the middle, on a real process: what was begun is finished by closing again."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from settlement.core.event import Kind
from settlement.core.report import Report
from settlement.service.verification import verify_package
from settlement.signing.keyring import Keyring
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import Clock, House, make_writer, open_house, order_of, terms

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command

A, B = (terms(code, hosted=False, cap_cu=10**12) for code in "AB")
ORDERS = 4_000

STAGES = {
    "the writer has taken over": "SELECT epoch > $1 AND cycle_no >= $2 FROM settlement.partition",
    "the cycle is closed": "SELECT epoch > $1 AND cycle_no > $2 FROM settlement.partition",
    "the batch is signed": "SELECT $1 > 0 AND EXISTS (SELECT FROM settlement.batch WHERE cycle_no = $2)",
    "files are written": "",
}
"""When a close is killed: as soon as this holds, of the epoch before it and the cycle that it closes."""


async def fill(house: House) -> None:
    """Clear orders both ways in the open cycle, and check that the books still sum to zero."""
    orders = [
        order_of(house, *pair, 100 + number)
        for number in range(ORDERS // 2)
        for pair in (("A", "B"), ("B", "A"))
    ]
    assert all(entry.kind == Kind.CLEARED for [entry] in await house.submit(*orders))
    assert not await house.pool.fetchval("SELECT sum(net_cu)::bigint FROM settlement.position")


async def killed_close(house: House, tongdui: Command, stage: str) -> None:
    """Close the open cycle by the command line, and kill it when it has come to a stage."""
    before = await house.pool.fetchrow("SELECT epoch, cycle_no FROM settlement.partition")
    assert before is not None
    folders = tongdui.home / "packages"
    process = tongdui.start("cycle", "close").popen
    deadline = time.monotonic() + 60
    while not (
        await house.pool.fetchval(STAGES[stage], *before)
        if STAGES[stage]
        else any(each.name.startswith(".2") for each in folders.glob("*"))
    ):
        assert time.monotonic() < deadline, f"it did not come to where {stage}"
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)


@pytest.mark.slow
@pytest.mark.kill
async def test_a_close_that_was_killed_anywhere_is_finished_by_the_next(
    tongdui: Command, home: Path, dsn: str
):
    """Killed before the fence, behind it, with the batch signed, or while files are written: one whole package each."""
    made = await asyncio.to_thread(tongdui.apart, "keys", "generate")
    assert made.returncode == 0, made.stderr
    async with open_house(dsn, A, B) as house:
        for stage in STAGES:
            await fill(house)
            await house.writer.stop()
            await killed_close(house, tongdui, stage)
            house.writer = make_writer(dsn, Clock(us=time.time_ns() // 1_000))
            await house.writer.start()
        await fill(house)
        await house.writer.stop()
        done = await asyncio.to_thread(tongdui.apart, "cycle", "close")
        assert done.returncode == 0, done.stderr
        rows = await house.pool.fetch(
            "SELECT cycle_id FROM settlement.cycle WHERE state <> 'open' ORDER BY cycle_no"
        )
        packages = [home / "packages" / row["cycle_id"] for row in rows]
        assert len(packages) >= 3, (
            "two closes were killed behind their fence, and the last one was not"
        )
        assert sorted((home / "packages").iterdir()) == sorted(packages)
        trusted = Keyring.open(home / "keys").trusted()
        lines = 0
        for before, package in zip([None, *packages], packages, strict=False):
            report = verify_package(package, trusted=trusted, previous=before)
            assert isinstance(report, Report)
            assert report.ok, report
            lines += json.loads((package / "manifest.json").read_bytes())["counts"]["orders"]
        assert lines == ORDERS * (len(STAGES) + 1)
        await assert_audits_clean(house.pool)
