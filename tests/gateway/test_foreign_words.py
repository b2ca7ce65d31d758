"""What a merchant's system says in its own words, which may name a member, is kept nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import structlog

from adapters.kit.contract import Finding, NotSent, Receipt, own_words
from adapters.kit.frames import Answer
from adapters.kit.guard import Guarded
from adapters.kit.simulator import tcp_frames as simulator
from adapters.kit.simulator.faults import Fault
from exchange.service.stuck import list_stuck
from schemas.values.reason import Reason
from tests.gateway.conftest import soon
from tests.gateway.test_journeys import TILLS, Town, town
from tests.gateway.test_privacy import dump

if TYPE_CHECKING:
    import pytest

__all__ = ["town"]

NAME, PHONE = "Canary-Anna-77c1", "13800138000"
WORDS = f"{NAME}, {PHONE}, has left us"


def test_only_sentences_of_our_own_are_kept():
    """A sentence that the program made is told as it is; of any other nothing is."""
    assert own_words(Finding("No answer.")) == "No answer."
    assert own_words(WORDS) == ""
    assert own_words(f"{Finding('No answer.')} {NAME}") == ""


async def test_a_merchants_words_about_a_member_are_nowhere(
    town: Town, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Name and phone in refusals and other answers stand in no table, log, problem or metric; the mapped reason does.

    The merchant's system says them in every answer, and so does an adapter that hands on what it heard.
    """
    move = Guarded.hold
    told: list[str] = []

    async def talkative(self: Guarded, call: object) -> Receipt:
        try:
            receipt = await move(self, call)  # type: ignore[arg-type] # a call
        except NotSent as error:
            raise NotSent(WORDS, retry_after_seconds=error.retry_after_seconds) from None
        told.append(receipt.outcome.value)
        return replace(receipt, detail=WORDS)

    def said(**fields: object) -> Answer:
        return msgspec.structs.replace(Answer(**fields), detail=WORDS)  # type: ignore[arg-type] # an answer's fields

    monkeypatch.setattr(Guarded, "hold", talkative)
    monkeypatch.setattr(simulator, "Answer", said)
    await town.link(TILLS)
    with structlog.testing.capture_logs() as logged:
        refused = await town.order(units="9000000")
        assert refused.reason == Reason.INSUFFICIENT_POINTS.code
        town.fails(TILLS, Fault.MAINTENANCE, operation="hold", times=1)
        closed = await town.order()
        assert closed.reason == Reason.MERCHANT_UNAVAILABLE.code
        assert (await town.order()).status == 201
        town.fails(TILLS, Fault.WRONG_AMOUNT, operation="hold", times=1)
        unclear = await town.order(decide_by_seconds=1)
        assert unclear.status >= 400

        async def stuck() -> bool:
            return bool(await list_stuck(town.house.pool, now_us=town.house.clock()))

        await soon(stuck, seconds=10)
    out, err = capfd.readouterr()
    metrics = await town.house.call("GET", "/metrics", caller=None)
    written = [await dump(town.house), repr(logged), out, err, metrics.raw.decode()]
    written += [each.raw.decode() for each in (refused, closed, unclear)]
    for text in written:
        assert NAME not in text
        assert PHONE not in text
    assert {"refused", "done"} <= set(told)
    assert await town.house.pool.fetchval(
        "SELECT count(*) FROM exchange.journey_line WHERE reason = $1",
        Reason.INSUFFICIENT_POINTS.number,
    )
