"""The clauses of the contract with a merchant's own system: what each says, how it is tried, how to mend it.

A clause is tried in a fresh trial. It ends quietly, or raises `Failed` with what was seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.kit.conformance.trial import Failed, Trial, in_words
from adapters.kit.contract import Incomplete, NotSent, Outcome, Receipt, StatementLine, Step
from adapters.kit.simulator.faults import CONNECT, Fault
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from adapters.kit.contract import Call
    from adapters.kit.manifest import Manifest
    from adapters.kit.simulator.ledger import Booked

    Check = Callable[[Trial], Awaitable[None]]

STRANGER: Final = "900000000000000099"
"""A member id that no test member has."""
_SPOILT: Final = (Fault.CUT, Fault.TRUNCATED, Fault.GARBAGE)


def _always(manifest: Manifest) -> bool:  # noqa: ARG001 - the shape of every condition
    return True


def _spends(manifest: Manifest) -> bool:
    return manifest.spend.way != "none"


def _holds(manifest: Manifest) -> bool:
    return manifest.spend.way == "hold"


def _credits(manifest: Manifest) -> bool:
    return manifest.credit.way == "credit"


def _reverses(manifest: Manifest) -> bool:
    return _credits(manifest) and manifest.credit.reversible


def _answers_at_once(manifest: Manifest) -> bool:
    return manifest.answers.way != "file"


def _answers_late(manifest: Manifest) -> bool:
    return manifest.answers.way != "call"


def _calls_back(manifest: Manifest) -> bool:
    return manifest.answers.way == "callback"


def _can_be_asked(manifest: Manifest) -> bool:
    return manifest.status.way == "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One sentence of the contract.

    Attributes:
        id: Permanent name, for reports and certificates.
        sentence: What the adapter must do.
        mend: How to mend an adapter that does not.
        check: Tries it.
        applies: Whether a system that can do what its manifest says is bound by it.
        needs_books: Whether it can only be tried where the truth is known: on the simulator.
    """

    id: str
    sentence: str
    mend: str
    check: Check
    applies: Callable[[Manifest], bool] = _always
    needs_books: bool = True


CLAUSES: list[Clause] = []
"""All clauses, in the order of the report."""


def _clause(
    name: str,
    sentence: str,
    mend: str,
    *,
    applies: Callable[[Manifest], bool] = _always,
    needs_books: bool = True,
) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CLAUSES.append(
            Clause(
                id=name,
                sentence=sentence,
                mend=mend,
                check=check,
                applies=applies,
                needs_books=needs_books,
            )
        )
        return check

    return add


# Members -----------------------------------------------------------------------------------------------


@_clause(
    "member.found",
    "A member who is there is found, and looking changes nothing.",
    "Map the system's answer for a known member to DONE, and use a call that only reads.",
    needs_books=False,
)
async def _member_found(trial: Trial) -> None:
    found = await trial.adapter.look_up(trial.member)
    _expect(found.outcome is Outcome.DONE, f"look_up of a test member ended {found.outcome.value}")
    _expect(bool(found.member), "look_up named no member to use from now on")
    if trial.books:
        _expect(not trial.books.entries, "look_up moved points")


@_clause(
    "member.unknown",
    "A member who is not there is refused with unknown_member.",
    "Map the system's code for an unknown member to unknown_member.",
    needs_books=False,
)
async def _member_unknown(trial: Trial) -> None:
    found = await trial.adapter.look_up(STRANGER)
    _expect(
        found.outcome is Outcome.REFUSED and found.reason is Reason.UNKNOWN_MEMBER,
        f"look_up of a stranger ended {found.outcome.value} {found.reason}",
    )


@_clause(
    "member.authenticated",
    "Only the right proof authenticates a member.",
    "Send the proof to the system and map its refusal to member_not_authorised.",
    applies=_spends,
    needs_books=False,
)
async def _member_authenticated(trial: Trial) -> None:
    right = await trial.adapter.authenticate(trial.member, trial.folder.manifest.sandbox.proof)
    _expect(right.outcome is Outcome.DONE, f"the right proof ended {right.outcome.value}")
    wrong = await trial.adapter.authenticate(trial.member, "000000")
    _expect(
        wrong.outcome is Outcome.REFUSED and wrong.reason is Reason.MEMBER_NOT_AUTHORISED,
        f"a wrong proof ended {wrong.outcome.value} {wrong.reason}",
    )


@_clause(
    "member.balance",
    "The balance is what the member could spend now, in smallest units.",
    "Check points.scale in the manifest and the field that the balance is read from.",
)
async def _member_balance(trial: Trial) -> None:
    balance = await trial.adapter.balance(trial.member)
    _expect(balance.outcome is Outcome.DONE, f"balance ended {balance.outcome.value}")
    truth = trial.truth.available(trial.member)
    _expect(balance.units == truth, f"balance says {balance.units}, the books say {truth}")
    nobody = await trial.adapter.balance(STRANGER)
    _expect(nobody.outcome is Outcome.REFUSED, f"a stranger's balance ended {nobody.outcome.value}")


# Steps -------------------------------------------------------------------------------------------------


@_clause(
    "hold.reserves",
    "A hold reserves exactly the units asked.",
    "Check the amount in the request: scale, sign, and the field that it stands in.",
    applies=_spends,
)
async def _hold_reserves(trial: Trial) -> None:
    before = trial.truth.available(trial.member) or 0
    hold = trial.start(Step.HOLD)
    await trial.done(hold)
    _moved(trial, hold)
    after = trial.truth.available(trial.member) or 0
    _expect(before - after == hold.units, f"a hold of {hold.units} took {before - after}")


@_clause(
    "hold.captured",
    "A capture spends the held points for good.",
    "Send the hold's reference or number with the capture.",
    applies=_holds,
)
async def _hold_captured(trial: Trial) -> None:
    hold = trial.start(Step.HOLD)
    held = await trial.done(hold)
    capture = trial.follow(Step.CAPTURE, hold, held)
    await trial.done(capture)
    _moved(trial, capture)
    _expect(not trial.truth.open_holds(), "the hold is still open after its capture")
    released = await trial.settle(trial.follow(Step.RELEASE, hold, held))
    _expect(
        released.outcome is Outcome.REFUSED,
        f"a release after the capture ended {in_words(released)}",
    )


@_clause(
    "hold.released",
    "A release gives every held or burnt point back.",
    "Send the hold's reference or number with the release, and the whole amount.",
    applies=_spends,
)
async def _hold_released(trial: Trial) -> None:
    before = trial.truth.available(trial.member)
    hold = trial.start(Step.HOLD)
    held = await trial.done(hold)
    await trial.done(trial.follow(Step.RELEASE, hold, held))
    after = trial.truth.available(trial.member)
    _expect(before == after, f"the member had {before} before and {after} after the release")


@_clause(
    "hold.refused",
    "Points that the member does not have are refused with insufficient_points, and nothing moves.",
    "Map the system's code for too few points to insufficient_points.",
    applies=_spends,
)
async def _hold_refused(trial: Trial) -> None:
    available = trial.truth.available(trial.member) or 0
    hold = trial.start(Step.HOLD, units=available + 1)
    if hold.units > trial.folder.manifest.points.units_max:
        poor = min(
            trial.folder.manifest.sandbox.members.items(), key=lambda each: (each[1], each[0])
        )
        hold = trial.start(Step.HOLD, member=poor[0], units=poor[1] + 1)
    receipt = await trial.settle(hold)
    _expect(
        receipt.outcome is Outcome.REFUSED and receipt.reason is Reason.INSUFFICIENT_POINTS,
        f"too many points ended {in_words(receipt)}",
    )
    _expect(trial.booked(hold) is None, "points moved all the same")


@_clause(
    "hold.never_was",
    "A hold that never came is released too, so that a hold which comes late does not stand.",
    "Let release end DONE for a hold that the system does not know, or that it refused.",
    applies=_spends,
)
async def _hold_never_was(trial: Trial) -> None:
    hold = trial.start(Step.HOLD)
    await trial.done(trial.follow(Step.RELEASE, hold))
    _expect(trial.booked(hold) is None, "the release booked a hold")


@_clause(
    "credit.given",
    "A credit gives exactly the units asked.",
    "Check the amount in the request: scale, sign, and the field that it stands in.",
    applies=_credits,
)
async def _credit_given(trial: Trial) -> None:
    before = trial.truth.available(trial.member) or 0
    credit = trial.start(Step.CREDIT)
    await trial.done(credit)
    _moved(trial, credit)
    after = trial.truth.available(trial.member) or 0
    _expect(after - before == credit.units, f"a credit of {credit.units} gave {after - before}")


@_clause(
    "credit.reversed",
    "A credit can be taken back while its points are unspent, and is refused when they are spent.",
    "Send the credit's reference with the reversal; map the refusal to insufficient_points.",
    applies=_reverses,
)
async def _credit_reversed(trial: Trial) -> None:
    before = trial.truth.available(trial.member)
    credit = trial.start(Step.CREDIT)
    given = await trial.done(credit)
    await trial.done(trial.follow(Step.REVERSE_CREDIT, credit, given))
    after = trial.truth.available(trial.member)
    _expect(before == after, f"the member had {before} before and {after} after the reversal")
    stranger = trial.start(Step.CREDIT)
    receipt = await trial.settle(trial.follow(Step.REVERSE_CREDIT, stranger))
    _expect(
        receipt.outcome is Outcome.REFUSED,
        f"taking back a credit that never was ended {in_words(receipt)}",
    )


# Money fields ------------------------------------------------------------------------------------------


@_clause(
    "amount.exact",
    "Every amount arrives to the last unit: the smallest, odd ones, round ones and large ones.",
    "Never calculate amounts with floats; check scale, padding and the width of the field.",
)
async def _amount_exact(trial: Trial) -> None:
    points = trial.folder.manifest.points
    step = Step.CREDIT if _credits(trial.folder.manifest) else Step.HOLD
    most = points.units_max
    if step is Step.HOLD:
        most = min(most, (trial.truth.available(trial.member) or 0) // 8)
    wanted = {points.units_min, 7, 10, 99, 100, 101, 1_005, 12_345, 1_000_000, most // 3, most}
    for units in sorted(each for each in wanted if points.units_min <= each <= most):
        call = trial.start(step, units=units)
        receipt = await trial.done(call)
        _moved(trial, call)
        _expect(receipt.units in (None, units), f"{units} units were receipted as {receipt.units}")


@_clause(
    "amount.contradicted",
    "An answer that names other units than asked is never taken as simply done.",
    "Read the amount from the answer into Receipt.units, or say UNKNOWN.",
    applies=_answers_at_once,
)
async def _amount_contradicted(trial: Trial) -> None:
    call = _first_move(trial)
    operation = call.step.name.lower()
    trial.befall(Fault.WRONG_AMOUNT, operation, times=100)
    trial.befall(Fault.WRONG_AMOUNT, "status", times=100)
    receipt = await trial.settle(call)
    if trial.plan.calls[operation, call.reference] and receipt.outcome is Outcome.DONE:
        _expect(
            receipt.units not in (None, call.units),
            "the answer named one unit more, and the receipt says done without saying so",
        )


# Repeats -----------------------------------------------------------------------------------------------


@_clause(
    "repeat.harmless",
    "A call repeated under its reference has no second effect and gets the first answer.",
    "Send the reference as the system's duplicate check key, and map its code for a duplicate to the "
    "first answer.",
)
async def _repeat_harmless(trial: Trial) -> None:
    calls = await _one_of_each(trial)
    for call in calls:
        again = await trial.settle(call)
        _expect(
            again.outcome is Outcome.DONE,
            f"a repeated {call.step.name.lower()} ended {in_words(again)}",
        )
    _effects(trial, len(calls))


@_clause(
    "repeat.at_once",
    "Two repeats that run at the same time have one effect.",
    "Send the reference with every call; keep no state of your own that two calls could race for.",
)
async def _repeat_at_once(trial: Trial) -> None:
    call = _first_move(trial)
    receipts = await asyncio.gather(*(trial.settle(call) for _ in range(3)))
    _expect(
        all(receipt.outcome is not Outcome.REFUSED for receipt in receipts),
        "one of three equal calls was refused: " + ", ".join(map(in_words, receipts)),
    )
    _moved(trial, call)
    _effects(trial, 1)


@_clause(
    "repeat.changed",
    "A reference that comes again with other units does not move those.",
    "Do not make the reference up from the amount; pass it on as it is.",
)
async def _repeat_changed(trial: Trial) -> None:
    call = _first_move(trial)
    await trial.done(call)
    other = type(call)(
        step=call.step, reference=call.reference, member=call.member, units=call.units + 1
    )
    receipt = await trial.settle(other)
    if receipt.outcome is Outcome.DONE:
        _expect(
            receipt.units not in (None, other.units),
            "another amount under a used reference was receipted as done",
        )
    _moved(trial, call)
    _effects(trial, 1)


# Ambiguity ---------------------------------------------------------------------------------------------


def _unknown_after(fault: Fault, words: str) -> None:
    async def check(trial: Trial) -> None:
        call = _first_move(trial)
        operation = call.step.name.lower()
        trial.befall(fault, operation, seconds=2 * trial.deadline_seconds)
        receipt = await _sent(trial, call)
        if not trial.plan.calls[operation, call.reference]:
            raise Failed("the call never reached the simulator")
        if receipt is not None:
            _expect(
                receipt.outcome is Outcome.UNKNOWN,
                f"the adapter says {in_words(receipt)}, and cannot know that",
            )
        _expect(
            trial.plan.calls[operation, call.reference] == 1,
            "the adapter sent the call again by itself",
        )
        await _resolves_to_truth(trial, call, receipt)

    _clause(
        f"unknown.{fault.value}",
        f"{words} leaves the outcome unknown; the adapter neither guesses nor resends, "
        "and an inquiry finds the truth.",
        "Say UNKNOWN for whatever is not a whole and well-formed answer, and never resend.",
        applies=_answers_at_once,
    )(check)


_unknown_after(Fault.TIMEOUT_BEFORE, "No answer, and no effect,")
_unknown_after(Fault.TIMEOUT_AFTER, "No answer after the effect")
_unknown_after(Fault.CUT, "A connection cut in the middle of the answer")
_unknown_after(Fault.TRUNCATED, "An answer that ends early")
_unknown_after(Fault.GARBAGE, "An answer that cannot be read")
_unknown_after(Fault.SLOW_BODY, "An answer that trickles past the deadline")


@_clause(
    "closed.says_so",
    "A system that says it is closed has done nothing, and the adapter claims nothing else.",
    "Map the system's code for maintenance to UNKNOWN or merchant_unavailable, never to DONE.",
    applies=_answers_at_once,
)
async def _closed(trial: Trial) -> None:
    call = _first_move(trial)
    trial.befall(Fault.MAINTENANCE, call.step.name.lower())
    receipt = await _sent(trial, call)
    if receipt is None:
        return
    _expect(receipt.outcome is not Outcome.DONE, "a closed system was taken as done")
    if receipt.outcome is Outcome.REFUSED:
        _expect(
            receipt.reason is Reason.MERCHANT_UNAVAILABLE,
            f"a closed system was mapped to {in_words(receipt)}",
        )
        again = await trial.settle(call)
        _expect(
            again.outcome is not Outcome.DONE,
            "refused for good, and done under the same reference later",
        )
        return
    await _resolves_to_truth(trial, call, receipt)


@_clause(
    "connection.lost",
    "A connection that ends before the call is not sent, or unknown; never refused and never done.",
    "Raise NotSent only if no byte of the call left; else say UNKNOWN.",
    applies=_answers_at_once,
)
async def _connection_lost(trial: Trial) -> None:
    call = _first_move(trial)
    trial.befall(Fault.TLS_FAILURE, CONNECT, times=100)
    receipt = await _sent(trial, call)
    if receipt is not None and trial.booked(call) is None:
        _expect(
            receipt.outcome is Outcome.UNKNOWN,
            f"without a connection the adapter says {in_words(receipt)}",
        )


# Inquiries ---------------------------------------------------------------------------------------------


@_clause(
    "status.done",
    "What was done is told as done, with the same number.",
    "Ask by our reference; read the number from the same field as in the first answer.",
    applies=_can_be_asked,
)
async def _status_done(trial: Trial) -> None:
    for call in await _one_of_each(trial):
        receipt = await trial.status(call)
        _expect(
            receipt.outcome is Outcome.DONE,
            f"status of a {call.step.name.lower()} that was done says {in_words(receipt)}",
        )


@_clause(
    "status.refused",
    "What was refused is told as refused.",
    "Map the status of a refused call to REFUSED with its reason.",
    applies=lambda manifest: _can_be_asked(manifest) and _spends(manifest),
)
async def _status_refused(trial: Trial) -> None:
    poor = min(trial.folder.manifest.sandbox.members.items(), key=lambda each: (each[1], each[0]))
    hold = trial.start(Step.HOLD, member=poor[0], units=poor[1] + 1)
    await trial.settle(hold)
    receipt = await trial.status(hold)
    _expect(
        receipt.outcome is Outcome.REFUSED,
        f"status of a refused hold says {in_words(receipt)}",
    )


@_clause(
    "status.not_found",
    "What never came is told as call_not_found, and asking books nothing.",
    "Map the system's code for an unknown reference to call_not_found; ask with a call that only reads.",
    applies=lambda manifest: _can_be_asked(manifest) and _answers_at_once(manifest),
)
async def _status_not_found(trial: Trial) -> None:
    call = _first_move(trial)
    receipt = await trial.status(call)
    _expect(
        receipt.outcome is Outcome.REFUSED and receipt.reason is Reason.CALL_NOT_FOUND,
        f"status of a call that never came says {in_words(receipt)}",
    )
    _expect(trial.booked(call) is None, "asking for its status booked the call")


@_clause(
    "status.spoilt",
    "An inquiry whose own answer is lost or spoilt says nothing about the call.",
    "Say UNKNOWN for every inquiry that was not answered whole.",
    applies=lambda manifest: _can_be_asked(manifest) and _answers_at_once(manifest),
)
async def _status_spoilt(trial: Trial) -> None:
    call = _first_move(trial)
    await trial.done(call)
    for fault in (*_SPOILT, Fault.TIMEOUT_AFTER, Fault.MAINTENANCE):
        trial.befall(fault, "status")
        try:
            receipt = await trial.status(call)
        except NotSent:
            continue
        _expect(
            receipt.outcome is Outcome.UNKNOWN,
            f"an inquiry that ended in {fault.value} says {in_words(receipt)}",
        )


@_clause(
    "status.forgotten",
    "A system that forgot a reference is not believed to have done it, and a repeat does not double it.",
    "Say call_not_found for what the system does not know; never keep outcomes in the adapter.",
    applies=lambda manifest: _can_be_asked(manifest) and _answers_at_once(manifest),
)
async def _status_forgotten(trial: Trial) -> None:
    call = _first_move(trial)
    trial.befall(Fault.FORGET, call.step.name.lower())
    await trial.settle(call)
    receipt = await trial.status(call)
    _expect(
        receipt.outcome is not Outcome.DONE,
        "the system does not know the call, and the adapter says done",
    )
    await trial.settle(call)
    _not_doubled(trial)


# Late answers ------------------------------------------------------------------------------------------


@_clause(
    "late.told",
    "An outcome that comes later reaches the sink under its reference, and agrees with the books.",
    "Read the reference from the callback or file and give it to `answers`.",
    applies=_answers_late,
)
async def _late_told(trial: Trial) -> None:
    call = _first_move(trial)
    receipt = await trial.send(call)
    _expect(
        receipt.outcome is Outcome.UNKNOWN and receipt.expected,
        f"a call whose answer comes later ended {in_words(receipt)}, expected: {receipt.expected}",
    )
    final = await _await_answer(trial, call)
    _expect(final.outcome is Outcome.DONE, f"the late answer says {in_words(final)}")
    _moved(trial, call)


@_clause(
    "late.repeated",
    "An answer that comes twice, late or out of order says the same each time.",
    "Take each answer by its reference; keep no queue of your own.",
    applies=_answers_late,
)
async def _late_repeated(trial: Trial) -> None:
    faults = (Fault.REPEAT_CALLBACK, Fault.REORDER_CALLBACK, Fault.LATE_CALLBACK)
    if trial.folder.manifest.answers.way == "file":
        faults = (Fault.DUPLICATE_FILE, Fault.PARTIAL_FILE, Fault.LATE_FILE)
    calls = [_first_move(trial, units=trial.units + place) for place in range(len(faults))]
    for fault, call in zip(faults, calls, strict=True):
        trial.befall(fault, call.step.name.lower(), seconds=0.1, nth=calls.index(call) + 1)
    await asyncio.gather(*(trial.send(call) for call in calls))
    for call in calls:
        await _await_answer(trial, call)
        _moved(trial, call)
        outcomes = {(each.outcome, each.reason) for each in trial.told[call.reference]}
        _expect(len(outcomes) == 1, f"one call was told as {outcomes}")
    _not_doubled(trial)


@_clause(
    "late.acknowledged",
    "A callback is acknowledged only after its answer is durable: one that could not be stored comes again.",
    "Acknowledge after `answers` has returned; if it raises, answer with a failure.",
    applies=_calls_back,
)
async def _late_acknowledged(trial: Trial) -> None:
    call = _first_move(trial)
    trial.deaf = True
    await trial.send(call)
    await asyncio.sleep(0.3)  # Long enough for the first answer, which cannot be stored.
    trial.deaf = False
    await _await_answer(trial, call)


# Statements --------------------------------------------------------------------------------------------


@_clause(
    "statement.whole",
    "The statement of a day is exactly what was booked that day, over all its pages.",
    "Follow the pages to the end; map the system's kinds of lines to steps.",
)
async def _statement_whole(trial: Trial) -> None:
    step = Step.CREDIT if _credits(trial.folder.manifest) else Step.HOLD
    calls = [trial.start(step, units=trial.units + place) for place in range(24)]
    await asyncio.gather(*(trial.settle(call) for call in calls))
    for call in await _one_of_each(trial):
        _moved(trial, call)
    lines = sorted(map(_of_line, await _statement(trial)))
    truth = sorted(map(_of_entry, trial.truth.day(trial.today())))
    _expect(
        lines == truth,
        f"the statement has {len(lines)} lines, the books have {len(truth)}; "
        f"only in one: {sorted(set(lines) ^ set(truth))[:3]}",
    )


@_clause(
    "statement.incomplete",
    "A statement that cannot be read whole raises Incomplete.",
    "Check the count or the last page before the end; raise Incomplete for anything unreadable.",
)
async def _statement_incomplete(trial: Trial) -> None:
    await trial.done(_first_move(trial))
    faults: tuple[Fault, ...] = (*_SPOILT, Fault.TIMEOUT_AFTER)
    if trial.folder.manifest.answers.way == "file":
        faults = (Fault.GARBAGE, Fault.TRUNCATED)
    for fault in faults:
        trial.befall(fault, "statement")
        met = sum(n for (name, _), n in trial.plan.calls.items() if name == "statement")
        try:
            async with asyncio.timeout(trial.deadline_seconds):
                lines = await _statement(trial)
        except (Incomplete, NotSent, TimeoutError):
            continue
        if sum(n for (name, _), n in trial.plan.calls.items() if name == "statement") > met:
            raise Failed(f"a statement that ended in {fault.value} was read as {len(lines)} lines")


# Many at once, and the end -----------------------------------------------------------------------------


@_clause(
    "many.not_mixed",
    "Many calls at once, as many as the limits allow, each get their own answer.",
    "Match answers to calls by reference or request id, never by order of arrival.",
)
async def _many_not_mixed(trial: Trial) -> None:
    limits = trial.folder.manifest.limits
    step = Step.CREDIT if _credits(trial.folder.manifest) else Step.HOLD
    count = min(limits.concurrency, limits.burst, 24)
    calls = [trial.start(step, units=trial.units + place) for place in range(count)]
    receipts = await asyncio.gather(*(trial.settle(call) for call in calls))
    for call, receipt in zip(calls, receipts, strict=True):
        _expect(receipt.outcome is Outcome.DONE, f"one of {count} calls ended {in_words(receipt)}")
        _expect(
            receipt.units in (None, call.units),
            f"a call of {call.units} units got the answer for {receipt.units}",
        )
        _moved(trial, call)


@_clause(
    "close.ends",
    "After close nothing is sent any more.",
    "Close sessions, listeners and tasks in `close`; raise NotSent for calls after it.",
)
async def _close_ends(trial: Trial) -> None:
    call = _first_move(trial)
    await trial.adapter.close()
    try:
        receipt = await trial.send(call)
    except (NotSent, Failed):
        receipt = None
    await asyncio.sleep(0.05)
    _expect(receipt is None or receipt.outcome is not Outcome.DONE, "a call after close was done")
    _expect(trial.booked(call) is None, "a call after close took effect")


# Helpers -----------------------------------------------------------------------------------------------


def _expect(holds: bool, seen: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not holds:
        raise Failed(seen)


def _first_move(trial: Trial, *, units: int | None = None) -> Call:
    """A hold, or a credit where nothing is spent at this merchant."""
    step = Step.HOLD if _spends(trial.folder.manifest) else Step.CREDIT
    return trial.start(step, units=units)


async def _one_of_each(trial: Trial) -> list[Call]:
    """One done call of every step that the system can do."""
    manifest = trial.folder.manifest
    calls: list[Call] = []
    if _spends(manifest):
        for end in (Step.CAPTURE, Step.RELEASE) if _holds(manifest) else (Step.RELEASE,):
            hold = trial.start(Step.HOLD)
            held = await trial.done(hold)
            ending = trial.follow(end, hold, held)
            await trial.done(ending)
            calls += [hold, ending]
    if _credits(manifest):
        credit = trial.start(Step.CREDIT)
        given = await trial.done(credit)
        calls.append(credit)
        if _reverses(manifest):
            reversal = trial.follow(Step.REVERSE_CREDIT, credit, given)
            await trial.done(reversal)
            calls.append(reversal)
    return calls


async def _sent(trial: Trial, call: Call) -> Receipt | None:
    """The call's receipt; None if it was not sent."""
    try:
        return await trial.send(call)
    except NotSent:
        return None


async def _resolves_to_truth(trial: Trial, call: Call, receipt: Receipt | None) -> None:
    if receipt is None:
        _expect(trial.booked(call) is None, "said to be not sent, and it took effect")
        return
    final = await trial.resolve(call, receipt)
    booked = trial.booked(call) is not None
    _expect(final.outcome is not Outcome.UNKNOWN, "the outcome stays unknown when asked")
    _expect(
        (final.outcome is Outcome.DONE) == booked,
        f"an inquiry says {in_words(final)}, and the books say {'done' if booked else 'nothing'}",
    )
    _not_doubled(trial)


async def _await_answer(trial: Trial, call: Call) -> Receipt:
    seconds = trial.folder.manifest.answers.seconds + 3.0
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        if told := trial.told.get(call.reference):
            return told[-1]
        await asyncio.sleep(0.02)
    raise Failed(f"no answer reached the sink within {seconds} s")


def _moved(trial: Trial, call: Call) -> None:
    booked = trial.booked(call)
    _expect(booked is not None, f"the books hold no {call.step.name.lower()} under its reference")
    if booked is not None:
        _expect(
            (booked.moved, booked.member, booked.step) == (call.units, call.member, call.step),
            f"asked {call.step.name.lower()} of {call.units}, booked {booked.step.name.lower()} of "
            f"{booked.moved}, member as asked: {booked.member == call.member}",
        )


def _not_doubled(trial: Trial) -> None:
    doubled = trial.truth.doubled()
    _expect(not doubled, f"{len(doubled)} references moved points twice")


def _effects(trial: Trial, count: int) -> None:
    entries = len(trial.truth.entries)
    _expect(entries == count, f"{count} calls took effect {entries} times")


async def _statement(trial: Trial) -> list[StatementLine]:
    return [line async for line in trial.adapter.statement(trial.today())]


def _of_line(line: StatementLine) -> tuple[str, str, str, int]:
    return line.reference, line.step.name, line.member, line.units


def _of_entry(entry: Booked) -> tuple[str, str, str, int]:
    return entry.reference, entry.step.name, entry.member, entry.moved
