"""A hosted programme behind the contract that every merchant's own system keeps.

So an order between a hosted programme and a system elsewhere lives like any other journey. Calls are
commands in the writer's queue, each under a key made of its reference; points are burnt when they are
held, and given back to their very lots when they are released.

Source: settlement/RULES.md, rules L9 to L11 and O1.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Protocol
from zoneinfo import ZoneInfo

from adapters.kit.contract import (
    Balance,
    Finding,
    Found,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
    StatementLine,
    Step,
)
from adapters.kit.guard import Guarded
from adapters.kit.manifest import Credit as CreditWay
from adapters.kit.manifest import Limits, Manifest, Merchant, Points, Spend, Status
from adapters.kit.reference import step_of
from exchange.programme.core.command import Credit, FindCall, GiveBack, Take, TakeBack
from exchange.service.journey_roads import Connected
from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, new_uuid7, order_place
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.event import Kind

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable

    from adapters.kit.contract import Call
    from adapters.kit.figures import CallFigures
    from exchange.core.catalogue import Programme
    from settlement.core.command import Entry
    from settlement.service.clearing import Clearing

PROTOCOL: Final = "hosted"
_BIGINT: Final = 1 << 63
_DIGITS_MAX: Final = 19
STEPS: Final = {
    Kind.TAKEN: Step.HOLD,
    Kind.RETURNED: Step.RELEASE,
    Kind.CREDITED: Step.CREDIT,
    Kind.WITHDRAWN: Step.REVERSE_CREDIT,
}
"""What each kind of event is to the contract."""
_GONE: Final = "The hosted programme was closed here."
_NO_ANSWER: Final = Receipt(outcome=Outcome.UNKNOWN, detail=Finding("The writer did not answer."))


class Records(Protocol):
    """What is read of a hosted programme; each may raise `Unavailable`."""

    async def is_member(self, member_no: int) -> bool:
        """Whether somebody is enrolled under a surrogate."""
        ...

    async def live_units(self, *, merchant_no: int, member_no: int) -> int:
        """Smallest units that a member could spend now."""
        ...

    def moved(
        self, *, merchant_no: int, from_us: int, until_us: int
    ) -> AsyncIterator[tuple[Kind, int, int, int, str, int]]:
        """What calls moved in a time: kind, number, surrogate, units, reference, instant."""
        ...


def manifest_of(programme: Programme) -> Manifest:
    """What every hosted programme can do: burn and give back, credit and take back, and say what became of a call.

    One writer decides everything in arrival order, so what it does not know now it can only ever learn from
    a call that a worker sent which is gone, and that a frozen writer has not read yet; no writer stays that long.
    """
    return Manifest(
        merchant=Merchant(code=programme.code, name=programme.name[:80], protocol=PROTOCOL),
        points=Points(scale=programme.scale),
        spend=Spend(way="burn"),
        credit=CreditWay(way="credit", reversible=True),
        status=Status(way="reference", final_after_seconds=10.0, repeat_safe=True),
        limits=Limits(
            deadline_seconds=2.0,
            concurrency=10_000,
            per_second=100_000.0,
            burst=100_000,
            attempts=20,
            breaker_failures=100,
            breaker_seconds=0.5,
            inquiry_first_seconds=0.1,
            inquiry_max_seconds=5.0,
        ),
    )


def hosting(
    clearing: Clearing,
    records: Records,
    *,
    now_us: Callable[[], int],
    random_bits: Callable[[int], int],
    figures: CallFigures,
) -> Callable[[Programme], Connected]:
    """What makes a hosted programme one of the systems that orders travel between.

    Args:
        clearing: The writer.
        records: What is read.
        now_us: Clock, microseconds since 1970.
        random_bits: Draws keys of questions.
        figures: Where calls are counted.
    """

    def host(programme: Programme) -> Connected:
        manifest = manifest_of(programme)
        adapter = HostedAdapter(
            programme.merchant_no,
            manifest,
            clearing=clearing,
            records=records,
            now_us=now_us,
            random_bits=random_bits,
        )
        guarded = Guarded(adapter, manifest, now_us=now_us, figures=figures)
        return Connected(system=guarded, manifest=manifest)

    return host


class HostedAdapter:
    """The contract, kept by the writer and the database."""

    def __init__(
        self,
        merchant_no: int,
        manifest: Manifest,
        *,
        clearing: Clearing,
        records: Records,
        now_us: Callable[[], int],
        random_bits: Callable[[int], int],
    ) -> None:
        """Take what calls go through; nothing is opened.

        Args:
            merchant_no: Whose programme.
            manifest: `manifest_of` it.
            clearing: The writer.
            records: What is read.
            now_us: Clock, microseconds since 1970.
            random_bits: Draws keys of questions, for example `secrets.randbits`.
        """
        self._merchant_no = merchant_no
        self._zone = ZoneInfo(manifest.hours.zone)
        self._clearing = clearing
        self._records = records
        self._now_us = now_us
        self._random_bits = random_bits
        self._closed = False

    async def start(self) -> None:
        """Take calls; nothing is kept open."""
        self._closed = False

    async def close(self) -> None:
        """Send nothing more."""
        self._closed = True

    async def look_up(self, member: str) -> Found:
        """Find a member by the surrogate."""
        try:
            known = await self._member(member)
        except NotSent:
            return Found(outcome=Outcome.UNKNOWN)
        if known is None:
            return Found(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        return Found(outcome=Outcome.DONE, member=member)

    async def authenticate(self, member: str, proof: str) -> Found:  # noqa: ARG002 - the contract's shape
        """Refuse: members of hosted programmes are members here, and nothing is linked."""
        found = await self.look_up(member)
        if found.outcome is not Outcome.DONE:
            return found
        return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)

    async def hold(self, call: Call) -> Receipt:
        """Take the points."""
        return await self._move(call)

    async def capture(self, call: Call) -> Receipt:  # noqa: ARG002 - the contract has it; a burn has not
        """Refuse: what was taken is spent already. Not asked where the manifest says "burn"."""
        return Receipt(outcome=Outcome.REFUSED, reason=Reason.MERCHANT_REFUSED)

    async def release(self, call: Call) -> Receipt:
        """Give the points back."""
        return await self._move(call)

    async def credit(self, call: Call) -> Receipt:
        """Give new points."""
        return await self._move(call)

    async def reverse_credit(self, call: Call) -> Receipt:
        """Take the new points back, while all of them are there."""
        return await self._move(call)

    async def status(self, call: Call) -> Receipt:
        """Ask in the writer's queue what became of a call."""
        key = new_uuid7(self._random_bits, lambda: self._now_us() * 1_000).bytes
        question = FindCall(
            caller=HOUSE,
            key=key,
            body=bytes(16),
            of_key=_key_of(call.reference),
            of_body=self._body_of(call.step, call.member, call.units, call.of),
        )
        return await self._submit(question)

    async def balance(self, member: str) -> Balance:
        """Count the units that a member could spend now."""
        try:
            member_no = await self._member(member)
            if member_no is None:
                return Balance(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
            units = await self._records.live_units(
                merchant_no=self._merchant_no, member_no=member_no
            )
        except (NotSent, Unavailable):
            return Balance(outcome=Outcome.UNKNOWN)
        return Balance(outcome=Outcome.DONE, units=units)

    async def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """Everything that calls moved on one day.

        Raises:
            Incomplete: The journal could not be read to the end.
        """
        self._check_open()
        begins = datetime.combine(day, time(), self._zone)
        ends = datetime.combine(day + timedelta(days=1), time(), self._zone)
        from_us, until_us = (
            round(instant.astimezone(UTC).timestamp()) * 1_000_000 for instant in (begins, ends)
        )
        try:
            async for kind, seq, member_no, units, reference, at_us in self._records.moved(
                merchant_no=self._merchant_no, from_us=from_us, until_us=until_us
            ):
                yield StatementLine(
                    reference=reference,
                    step=STEPS[kind],
                    member=str(member_no),
                    units=units,
                    at_us=at_us,
                    number=str(seq),
                )
        except Unavailable as error:
            raise Incomplete("The journal could not be read.") from error

    # Calls ----------------------------------------------------------------------------------------

    async def _move(self, call: Call) -> Receipt:
        """Have a call decided.

        Raises:
            NotSent: This adapter was closed, or who the member is could not be read.
        """
        # What was begun is ended, also for somebody who has left meanwhile.
        member_no = _surrogate(call.member) if call.of else await self._member(call.member)
        if member_no is None:
            return Receipt(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        return await self._submit(self._command(call, member_no))

    def _command(self, call: Call, member_no: int) -> Take | GiveBack | Credit | TakeBack:
        """The writer's command for a call.

        Raises:
            ValueError: It is a capture, or it ends something that it cannot end: the caller is wrong.
        """
        key = _key_of(call.reference)
        body = self._body_of(call.step, call.member, call.units, call.of)
        begun = (HOUSE, key, body, member_no, self._merchant_no, call.units)
        if call.step in (Step.HOLD, Step.CREDIT):
            order_seq = _order_seq(call.reference)
            command = Take if call.step is Step.HOLD else Credit
            return command(*begun, call.reference, order_seq)
        first = step_of(call.of)[1]
        of_body = self._body_of(first, call.member, call.units, "")
        ending = (*begun, _key_of(call.of), of_body, call.reference)
        if (call.step, first) == (Step.RELEASE, Step.HOLD):
            return GiveBack(*ending)
        if (call.step, first) == (Step.REVERSE_CREDIT, Step.CREDIT):
            return TakeBack(*ending)
        raise ValueError(f"{call.step.name} of a {first.name}")

    async def _submit(self, command: Take | GiveBack | Credit | TakeBack | FindCall) -> Receipt:
        self._check_open()
        try:
            [[entry]] = await self._clearing.submit([command])
        except Unavailable:
            return _NO_ANSWER
        return _receipt(entry)

    async def _member(self, member: str) -> int | None:
        """The surrogate that a member id is, if somebody is enrolled under it.

        Raises:
            NotSent: It could not be looked up.
        """
        self._check_open()
        member_no = _surrogate(member)
        if member_no is None:
            return None
        try:
            known = await self._records.is_member(member_no)
        except Unavailable as error:
            raise NotSent(Finding("The members could not be read.")) from error
        return member_no if known else None

    def _check_open(self) -> None:
        if self._closed:
            raise NotSent(_GONE)

    def _body_of(self, step: Step, member: str, units: int, of: str) -> bytes:
        """Digest of everything that a call says, so that another call under its reference is told apart."""
        said = f"{self._merchant_no} {step.value} {member} {units} {of}"
        return hashlib.sha256(said.encode()).digest()[:16]


def _key_of(reference: str) -> bytes:
    """The key of a call: no sender's own key can be the same, and it tells no time (RFC 9562 §5.8)."""
    digest = bytearray(hashlib.sha256(b"tongdui hosted\0" + reference.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _surrogate(member: str) -> int | None:
    """The surrogate that a member id is in its one spelling; None for any other text."""
    if not (member.isascii() and member.isdecimal()) or member.startswith("0"):
        return None
    member_no = int(member) if len(member) <= _DIGITS_MAX else _BIGINT
    return member_no if member_no < _BIGINT else None


def _order_seq(reference: str) -> int:
    """Number of the first event of a call's order; 0 for an order that was not made here."""
    try:
        return order_place(step_of(reference)[0])[1]
    except ValueError:
        return 0


def _receipt(entry: Entry) -> Receipt:
    """What the writer's answer says; what moved nothing names no units."""
    if entry.kind == Kind.REFUSED:
        return Receipt(outcome=Outcome.REFUSED, reason=REASON_BY_NUMBER[entry.reason])
    return Receipt(outcome=Outcome.DONE, number=str(entry.seq), units=entry.units or None)
