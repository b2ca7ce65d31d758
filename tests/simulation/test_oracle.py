"""The real writer on the real database against a slow, obvious clearing house that shares no code with it."""

import asyncio
import itertools
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from deploy.database.embedded import EmbeddedServer
from tests.simulation.compare import assert_audits_clean, assert_same_figures, assert_same_reports
from tests.simulation.ground import House, make_writer, open_house
from tests.simulation.histories import (
    FEE_BPS,
    PRELUDE,
    Script,
    Stretch,
    command_of,
    member_rules,
    merchant_terms,
    plain,
    steps,
)

_numbers = itertools.count(1)

PATIENT = settings(
    deadline=None,
    max_examples=int(os.environ.get("TONGDUI_HISTORIES", "9")),
    suppress_health_check=list(HealthCheck),
    # Shrinking takes minutes, since each try has a database of its own: add Phase.shrink by hand.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def in_database(server: EmbeddedServer, play):
    """Run one example in a database of its own."""
    name = f"history_{next(_numbers)}"
    dsn = server.clone_database("migrated", name)
    try:
        asyncio.run(play(dsn))
    finally:
        server.drop_database(name)


async def send(house: House, stretch: Stretch, *, together: bool) -> None:
    """Send a stretch's groups, one after the other or all at once, and compare every answer."""
    groups = [[command_of(wish) for wish in group] for group in stretch.groups]
    if together:
        # Tasks start in the order in which they were made, so the groups arrive in order, and later
        # ones are decided while earlier ones are on their way to the disk.
        answers = await asyncio.gather(*(house.writer.submit(group) for group in groups))
    else:
        answers = [await house.writer.submit(group) for group in groups]
    for wishes, expected, given_ in zip(stretch.groups, stretch.expected, answers, strict=True):
        for wish, should, answer in zip(wishes, expected, given_, strict=True):
            assert [plain(entry) for entry in answer] == should, wish


async def play_history(
    dsn: str, history: list[tuple], *, caller_clock: bool, together: bool, ruled: bool
) -> None:
    """Play steps against a house of its own and compare everything."""
    async with open_house(
        dsn,
        *merchant_terms(),
        caller_clock=caller_clock,
        fee_bps=FEE_BPS,
        rules=member_rules() if ruled else None,
    ) as house:
        script = Script(caller_clock=caller_clock, ruled=ruled)
        for step in [*PRELUDE, ("send",), *history]:
            before = script.step(step)
            if not before:
                continue
            await send(house, script.take(), together=together)
            if before == "wait":
                script.wait(step[1])
                house.clock.us = script.clock_us
            elif before == "lapse":
                script.lapse(step[1])
            elif before == "takeover":
                successor = make_writer(dsn, house.clock)
                await successor.start()
                old, house.writer = house.writer, successor
                await old.stop()
            else:
                await house.writer.stop()
                house.writer = make_writer(dsn, house.clock)
                await house.writer.start()
        await send(house, script.take(), together=together)
        note(f"{len(script.oracle.log)} events")
        await assert_same_figures(house.pool, script.oracle)
        await assert_same_reports(house.pool, script.oracle, now=datetime(3000, 1, 1, tzinfo=UTC))
        assert await assert_audits_clean(house.pool) == len(script.oracle.log)


@pytest.fixture(params=["usual memory", "little memory"])
def _memory(request, monkeypatch):
    """Once as it runs, and once with a writer that forgets keys and lots at once and takes few commands at a time."""
    if request.param == "little memory":
        monkeypatch.setattr("settlement.service.clearing.REMEMBERED_KEYS", 3)
        monkeypatch.setattr("settlement.service.clearing.FLUSH_LIMIT", 3)
        monkeypatch.setattr("exchange.programme.service.rider.MEMBERS_MAX", 1)


@pytest.mark.usefixtures("_memory")
@PATIENT
@given(history=steps(), together=st.booleans(), ruled=st.booleans())
def test_history_in_wall_time_is_what_the_oracle_says(server, history, together, ruled):
    """Any history of orders, holds, pins, baskets, purchases, lapses, cycles, caps, rules, repeats and take-overs.

    Every answer, position, obligation, hold, lot and balance at any time is the oracle's, and the audit is clean.
    """
    in_database(
        server,
        lambda dsn: play_history(dsn, history, caller_clock=False, together=together, ruled=ruled),
    )


@pytest.mark.usefixtures("_memory")
@PATIENT
@given(history=steps(), together=st.booleans(), ruled=st.booleans())
def test_history_in_business_time_is_what_the_oracle_says(server, history, together, ruled):
    """The same in a ledger made for replay, where time comes from the callers."""
    in_database(
        server,
        lambda dsn: play_history(dsn, history, caller_clock=True, together=together, ruled=ruled),
    )
