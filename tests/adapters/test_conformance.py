# ruff: noqa: D101, D102 - each class below breaks the one sentence that its name says
"""The conformance kit: every shipped adapter passes, and an adapter that breaks one clause is caught by it."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from adapters.kit import registry
from adapters.kit.conformance.examination import all_clauses, examine
from adapters.kit.contract import Found, Incomplete, NotSent, Outcome, Receipt
from adapters.kit.reference import reference_of
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from adapters.kit.context import Context
    from adapters.kit.contract import Adapter, Balance, Call, StatementLine
    from adapters.kit.folder import Folder

DONE = Receipt(outcome=Outcome.DONE)


class Passing:
    """An adapter around a good one, changing nothing; those below each break one sentence."""

    def __init__(self, folder: Folder, context: Context) -> None:
        self.context = context
        self.good: Adapter = registry.build(folder, context)

    async def move(self, call: Call) -> Receipt:
        """Every call that moves points passes here."""
        return await getattr(self.good, call.step.name.lower())(call)

    async def start(self) -> None:
        await self.good.start()

    async def close(self) -> None:
        await self.good.close()

    async def look_up(self, member: str) -> Found:
        return await self.good.look_up(member)

    async def authenticate(self, member: str, proof: str) -> Found:
        return await self.good.authenticate(member, proof)

    async def hold(self, call: Call) -> Receipt:
        return await self.move(call)

    async def capture(self, call: Call) -> Receipt:
        return await self.move(call)

    async def release(self, call: Call) -> Receipt:
        return await self.move(call)

    async def credit(self, call: Call) -> Receipt:
        return await self.move(call)

    async def reverse_credit(self, call: Call) -> Receipt:
        return await self.move(call)

    async def status(self, call: Call) -> Receipt:
        return await self.good.status(call)

    async def balance(self, member: str) -> Balance:
        return await self.good.balance(member)

    async def statement(self, day: Any) -> AsyncIterator[StatementLine]:
        async for line in self.good.statement(day):
            yield line


class FindsNobody(Passing):
    async def look_up(self, member: str) -> Found:
        return Found(outcome=Outcome.UNKNOWN)


class FindsEverybody(Passing):
    async def look_up(self, member: str) -> Found:
        return Found(outcome=Outcome.DONE, member=member)


class BelievesEverybody(Passing):
    async def authenticate(self, member: str, proof: str) -> Found:
        return Found(outcome=Outcome.DONE, member=member)


class MistakesTheScale(Passing):
    async def balance(self, member: str) -> Balance:
        balance = await self.good.balance(member)
        return dataclasses.replace(balance, units=balance.units and balance.units * 100)


class AddsOne(Passing):
    async def move(self, call: Call) -> Receipt:
        receipt = await super().move(dataclasses.replace(call, units=call.units + 1))
        return dataclasses.replace(receipt, units=None)


class RoundsToTens(Passing):
    async def move(self, call: Call) -> Receipt:
        units = call.units if call.units < 50 else round(call.units, -1)
        receipt = await super().move(dataclasses.replace(call, units=units))
        return dataclasses.replace(receipt, units=None)


def pretends(step: str) -> type[Passing]:
    """An adapter that says a step is done and does nothing."""

    class Pretends(Passing):
        async def move(self, call: Call) -> Receipt:
            return DONE if call.step.name == step else await super().move(call)

    return Pretends


class NamesNoReason(Passing):
    async def move(self, call: Call) -> Receipt:
        receipt = await super().move(call)
        refused = receipt.outcome is Outcome.REFUSED
        return dataclasses.replace(receipt, reason=Reason.MERCHANT_REFUSED) if refused else receipt


class ReleasesOnlyHolds(Passing):
    async def release(self, call: Call) -> Receipt:
        if call.of_receipt:
            return await self.move(call)
        return Receipt(outcome=Outcome.REFUSED, reason=Reason.CALL_NOT_FOUND)


class IgnoresAmounts(Passing):
    async def move(self, call: Call) -> Receipt:
        receipt = await super().move(call)
        if receipt.outcome is Outcome.UNKNOWN and receipt.units is None:
            return receipt
        return DONE if receipt.outcome is not Outcome.REFUSED else receipt

    async def status(self, call: Call) -> Receipt:
        receipt = await self.good.status(call)
        return DONE if receipt.units is not None else receipt


class InventsReferences(Passing):
    async def move(self, call: Call) -> Receipt:
        other = reference_of(uuid.uuid4(), call.step)
        return await super().move(dataclasses.replace(call, reference=other))


class SharesItsState(Passing):
    """Keeps the call in the object, where the next call finds it."""

    current: Call

    async def move(self, call: Call) -> Receipt:
        self.current = call
        await asyncio.sleep(0.005)
        return await super().move(self.current)


class RacesItself(Passing):
    """Takes a new reference while the first call under it is still under way."""

    def __init__(self, folder: Folder, context: Context) -> None:
        super().__init__(folder, context)
        self.under_way: set[str] = set()

    async def move(self, call: Call) -> Receipt:
        if call.reference in self.under_way:
            other = reference_of(uuid.uuid4(), call.step)
            return await super().move(dataclasses.replace(call, reference=other))
        self.under_way.add(call.reference)
        try:
            await asyncio.sleep(0.005)
            return await super().move(call)
        finally:
            self.under_way.discard(call.reference)


class TakesAmountsIntoReferences(Passing):
    def __init__(self, folder: Folder, context: Context) -> None:
        super().__init__(folder, context)
        self.first: dict[str, int] = {}

    async def move(self, call: Call) -> Receipt:
        if self.first.setdefault(call.reference, call.units) == call.units:
            return await super().move(call)
        other = reference_of(uuid.uuid4(), call.step)
        return await super().move(dataclasses.replace(call, reference=other))


class Guesses(Passing):
    """Takes no answer, and any bad answer, for a yes."""

    async def move(self, call: Call) -> Receipt:
        try:
            async with asyncio.timeout(0.3):
                receipt = await super().move(call)
        except TimeoutError:
            return DONE
        return receipt if receipt.outcome is Outcome.REFUSED else DONE


class GivesUp(Passing):
    """Takes no answer, and any bad answer, for a no."""

    async def move(self, call: Call) -> Receipt:
        no = Receipt(outcome=Outcome.REFUSED, reason=Reason.MERCHANT_UNAVAILABLE)
        try:
            async with asyncio.timeout(0.3):
                receipt = await super().move(call)
        except (TimeoutError, NotSent):
            return no
        return no if receipt.outcome is Outcome.UNKNOWN else receipt


class Resends(Passing):
    """Sends again by itself."""

    async def move(self, call: Call) -> Receipt:
        try:
            async with asyncio.timeout(0.3):
                receipt = await super().move(call)
        except (TimeoutError, NotSent):
            receipt = Receipt(outcome=Outcome.UNKNOWN)
        for _ in range(20):
            if receipt.outcome is not Outcome.UNKNOWN:
                break
            try:
                receipt = await super().move(call)
            except NotSent:
                await asyncio.sleep(0.05)
        return receipt


class TakesClosedForDone(Passing):
    async def move(self, call: Call) -> Receipt:
        try:
            await super().move(call)
        except NotSent:
            return DONE
        return DONE


class NeverKnows(Passing):
    async def status(self, call: Call) -> Receipt:
        return Receipt(outcome=Outcome.UNKNOWN)


class AlwaysSaysYes(Passing):
    async def status(self, call: Call) -> Receipt:
        return DONE


class TakesSilenceForNo(Passing):
    async def status(self, call: Call) -> Receipt:
        receipt = await self.good.status(call)
        no = Receipt(outcome=Outcome.REFUSED, reason=Reason.CALL_NOT_FOUND)
        return no if receipt.outcome is Outcome.UNKNOWN else receipt


class RemembersItself(Passing):
    """Answers inquiries from its own memory."""

    def __init__(self, folder: Folder, context: Context) -> None:
        super().__init__(folder, context)
        self.done: dict[str, Receipt] = {}

    async def move(self, call: Call) -> Receipt:
        receipt = await super().move(call)
        if receipt.outcome is Outcome.DONE:
            self.done[call.reference] = receipt
        return receipt

    async def status(self, call: Call) -> Receipt:
        return self.done.get(call.reference) or await self.good.status(call)


class ExpectsNothing(Passing):
    async def move(self, call: Call) -> Receipt:
        return dataclasses.replace(await super().move(call), expected=False)


class ChangesItsMind(Passing):
    def __init__(self, folder: Folder, context: Context) -> None:
        seen: set[str] = set()

        async def answers(reference: str, receipt: Receipt) -> None:
            no = Receipt(outcome=Outcome.REFUSED, reason=Reason.MERCHANT_REFUSED)
            await context.answers(reference, no if reference in seen else receipt)
            seen.add(reference)
            if len(seen) == 1:
                await context.answers(reference, no)

        super().__init__(folder, dataclasses.replace(context, answers=answers))


class AcknowledgesTooEarly(Passing):
    def __init__(self, folder: Folder, context: Context) -> None:
        async def answers(reference: str, receipt: Receipt) -> None:
            try:
                await context.answers(reference, receipt)
            except ConnectionError:
                return

        super().__init__(folder, dataclasses.replace(context, answers=answers))

    async def status(self, call: Call) -> Receipt:
        return Receipt(outcome=Outcome.UNKNOWN)


class ReadsOnePage(Passing):
    async def statement(self, day: Any) -> AsyncIterator[StatementLine]:
        lines = [line async for line in self.good.statement(day)]
        for line in lines[:-1]:
            yield line


class TakesAPartForTheWhole(Passing):
    async def statement(self, day: Any) -> AsyncIterator[StatementLine]:
        try:
            async for line in self.good.statement(day):
                yield line
        except (Incomplete, NotSent):
            return


class StaysOpen(Passing):
    async def close(self) -> None:
        """Close at the second time, so that the test leaves nothing open."""
        if getattr(self, "asked", False):
            await self.good.close()
        self.asked = True


class Talks(Passing):
    async def look_up(self, member: str) -> Found:
        structlog.get_logger().warning("member.looked_up", member=member)
        return await super().look_up(member)


CALLS, CONNECTS, CALLS_BACK = "till-town", "noodle-house", "bright-optics"
BROKEN: dict[str, tuple[str, type[Passing]]] = {
    "member.found": (CALLS, FindsNobody),
    "member.unknown": (CALLS, FindsEverybody),
    "member.authenticated": (CALLS, BelievesEverybody),
    "member.balance": (CALLS, MistakesTheScale),
    "hold.reserves": (CALLS, AddsOne),
    "hold.captured": (CALLS, pretends("CAPTURE")),
    "hold.released": (CALLS, pretends("RELEASE")),
    "hold.refused": (CALLS, NamesNoReason),
    "hold.never_was": (CALLS, ReleasesOnlyHolds),
    "credit.given": (CALLS, AddsOne),
    "credit.reversed": (CALLS, pretends("REVERSE_CREDIT")),
    "amount.exact": (CALLS, RoundsToTens),
    "amount.contradicted": (CALLS, IgnoresAmounts),
    "repeat.harmless": (CALLS, InventsReferences),
    "repeat.at_once": (CALLS, RacesItself),
    "repeat.changed": (CALLS, TakesAmountsIntoReferences),
    "unknown.timeout_before": (CALLS, Guesses),
    "unknown.timeout_after": (CALLS, GivesUp),
    "unknown.cut": (CALLS, Resends),
    "unknown.truncated": (CALLS, Guesses),
    "unknown.garbage": (CALLS, GivesUp),
    "unknown.slow_body": (CALLS, Resends),
    "closed.says_so": (CALLS, TakesClosedForDone),
    "connection.lost": (CONNECTS, GivesUp),
    "status.done": (CALLS, NeverKnows),
    "status.refused": (CALLS, AlwaysSaysYes),
    "status.not_found": (CALLS, NeverKnows),
    "status.spoilt": (CALLS, TakesSilenceForNo),
    "status.forgotten": (CALLS, RemembersItself),
    "late.told": (CALLS_BACK, ExpectsNothing),
    "late.repeated": (CALLS_BACK, ChangesItsMind),
    "late.acknowledged": (CALLS_BACK, AcknowledgesTooEarly),
    "statement.whole": (CALLS, ReadsOnePage),
    "statement.incomplete": (CALLS, TakesAPartForTheWhole),
    "many.not_mixed": (CALLS, SharesItsState),
    "close.ends": (CALLS, StaysOpen),
}
IN_THE_FOLDER = ["folder.complete", "folder.no_secret", "log.silent"]


async def verdict(
    folder: Folder, clause: str, build: Callable[[Folder, Context], Any] | None = None
) -> str:
    """How one clause ended."""
    findings = await examine(folder, build=build, only=[clause, "member.found"])
    [found] = [finding for finding in findings if finding.id == clause]
    if found.verdict == "failed":
        assert found.seen
        assert found.mend
    return found.verdict


def test_every_clause_has_an_adapter_that_breaks_it():
    """No clause is without a proof that the kit catches who breaks it."""
    assert sorted([*BROKEN, *IN_THE_FOLDER]) == sorted(all_clauses())


@pytest.mark.parametrize("clause", BROKEN)
async def test_a_broken_adapter_fails_its_clause(clause):
    """An adapter that breaks a clause, and is good otherwise, is told so by that clause."""
    merchant, broken = BROKEN[clause]
    assert await verdict(registry.find(merchant), clause, broken) == "failed"


@pytest.mark.parametrize("name", registry.names())
async def test_every_shipped_adapter_passes_every_clause(name):
    """Every clause that applies passes on the simulator, and something was tried at all."""
    findings = await examine(registry.find(name))
    assert [(each.id, each.seen) for each in findings if each.verdict == "failed"] == []
    assert [each.id for each in findings] == all_clauses()
    assert sum(each.verdict == "passed" for each in findings) >= 20


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a good folder, to be spoilt."""
    return shutil.copytree(registry.find(CALLS).path, tmp_path / CALLS)


async def test_a_folder_without_documents_is_not_complete(copied):
    """Without a README or samples the folder is no use to whoever looks after it."""
    assert await verdict(registry.at(copied), "folder.complete") == "passed"
    (copied / "README.md").unlink()
    assert await verdict(registry.at(copied), "folder.complete") == "failed"


async def test_a_secret_in_the_folder_is_found(copied):
    """A secret in the manifest itself is refused by its place; a reference to one is not."""
    folder = registry.at(copied)
    assert await verdict(folder, "folder.no_secret") == "passed"
    spoilt = folder.with_settings({"auth": {"secret": "s3cr3t"}})
    assert await verdict(spoilt, "folder.no_secret") == "failed"


async def test_a_member_in_the_log_is_heard():
    """An adapter that logs member ids is caught, whatever else it does well."""
    folder = registry.find(CALLS)
    assert await verdict(folder, "log.silent") == "passed"
    assert await verdict(folder, "log.silent", Talks) == "failed"


async def test_against_a_real_system_only_what_can_be_known_is_tried():
    """Without the simulator's books the clauses that need them are not tried, and never passed."""
    folder = registry.find(CALLS)
    told: list[None] = []
    findings = await examine(folder, settings={"port": 1}, done=lambda: told.append(None))
    assert len(told) == len(all_clauses())
    by_verdict = {each.id: each.verdict for each in findings}
    assert by_verdict["hold.reserves"] == "not tried"
    assert by_verdict["member.found"] == "failed"
