"""Client of `tcp-frames`: a merchant's system reached over one multiplexed connection of msgpack.

The wire is `adapters.kit.frames`, the connection `adapters.kit.frame_link`; here the contract is
translated into messages and results into outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from adapters.kit.contract import (
    Balance,
    Call,
    Finding,
    Found,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
    StatementLine,
    Step,
)
from adapters.kit.frame_link import FrameLink, LinkLost, LinkSettings
from adapters.kit.frames import (
    DONE,
    IN_PROGRESS,
    NOT_FOUND,
    NOT_TAKEN,
    Answer,
    AskBalance,
    AskStatement,
    End,
    Inquire,
    LookUp,
    Move,
)
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.moves import Moves
from adapters.kit.tls import TlsSettings, client_tls
from schemas.values.faults import SchemaError
from schemas.values.reason import REASON_BY_CODE, Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Mapping

    from adapters.kit.context import Context
    from adapters.kit.folder import Folder
    from adapters.kit.frames import Request

_RESERVED: Final = frozenset((DONE, IN_PROGRESS, NOT_FOUND, NOT_TAKEN))
_LOST: Final = Finding("The connection was lost after the call was written.")


class Settings(LinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[settings]` of a manifest.

    Attributes:
        key_id: Names the secret to the merchant.
        secret: Where the shared secret is.
        results: The merchant's own results, as reasons by their codes, for example
            `51 = "insufficient_points"`. A result that is not here is an unknown outcome.
        tls: Inside TLS, or not.
    """

    key_id: Annotated[str, Meta(min_length=1, max_length=64)]
    secret: str
    results: dict[Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,3}\Z")], str] = msgspec.field(
        default_factory=dict
    )
    tls: TlsSettings | None = None


def build(folder: Folder, context: Context) -> TcpFrames:
    """Build the adapter of a merchant that speaks `tcp-frames`.

    Raises:
        SchemaError: The settings are malformed, or the secret is not there.
    """
    settings = settings_as(folder.manifest, Settings)
    where = folder.where(MANIFEST_FILE) + ".settings"
    link = FrameLink(
        settings,
        merchant=folder.code,
        key_id=settings.key_id,
        secret=context.secrets.read(settings.secret, where=f"{where}.secret"),
        now_us=context.now_us,
        draw=context.random,
        tls=client_tls(settings.tls, folder, context.secrets) if settings.tls else None,
    )
    return TcpFrames(link, reasons_of(settings, where=f"{where}.results"))


def reasons_of(settings: Settings, *, where: str) -> dict[int, Reason]:
    """What each of the merchant's own results means.

    Raises:
        SchemaError: A result has a fixed meaning already, or a reason is not in the catalogue.
    """
    reasons = {}
    for text, code in settings.results.items():
        if int(text) in _RESERVED:
            raise SchemaError(f"{where}.{text}", "This result has a fixed meaning")
        if code not in REASON_BY_CODE:
            raise SchemaError(f"{where}.{text}", f"No reason has the code {code!r}")
        reasons[int(text)] = REASON_BY_CODE[code]
    return reasons


class TcpFrames(Moves):
    """The contract, spoken in frames."""

    def __init__(self, link: FrameLink, reasons: Mapping[int, Reason]) -> None:
        """Take the connection, and what the merchant's results mean."""
        self._link = link
        self._reasons = reasons

    async def start(self) -> None:
        """Connect; if the merchant is away, go on trying in the background."""
        await self._link.start()

    async def close(self) -> None:
        """Hang up."""
        await self._link.close()

    async def status(self, call: Call) -> Receipt:
        """Ask what became of a reference."""
        return await self._receipt(lambda number: Inquire(id=number, reference=call.reference))

    async def look_up(self, member: str) -> Found:
        """Find a member."""
        return await self._found(member, None)

    async def authenticate(self, member: str, proof: str) -> Found:
        """Have the merchant check what the member presented."""
        return await self._found(member, proof)

    async def balance(self, member: str) -> Balance:
        """Ask what the member could spend."""
        answer = await self._ask(lambda number: AskBalance(id=number, member=member))
        if answer is None:
            return Balance(outcome=Outcome.UNKNOWN)
        if answer.result == DONE and answer.units is not None:
            return Balance(outcome=Outcome.DONE, units=answer.units)
        reason = self._reasons.get(answer.result)
        if reason is None:
            return Balance(outcome=Outcome.UNKNOWN)
        return Balance(outcome=Outcome.REFUSED, reason=reason)

    async def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """Give the day's lines as their frames come; the last frame holds the control totals.

        Raises:
            Incomplete: There was no connection, a frame is missing, or the totals do not add up.
        """
        count = units = parts = 0
        frames = self._link.stream(lambda number: AskStatement(id=number, day=day))
        try:
            async for part in frames:
                if isinstance(part, Answer):
                    raise Incomplete(f"the merchant answered {part.result}, and no statement")
                if isinstance(part, End):
                    if (part.count, part.units) != (count, units):
                        raise Incomplete(
                            f"{part.count} lines and {part.units} units were announced, "
                            f"{count} lines and {units} units came"
                        )
                    return
                if part.no != parts:
                    raise Incomplete(f"part {part.no} came where {parts} was due")
                parts += 1
                for line in part.lines:
                    count += 1
                    units += line.units
                    yield StatementLine(
                        reference=line.reference,
                        step=Step[line.step.upper()],
                        member=line.member,
                        units=line.units,
                        at_us=line.at_us,
                        number=line.number,
                    )
        except (NotSent, LinkLost) as error:
            raise Incomplete(str(error)) from error
        finally:
            await frames.aclose()

    async def _move(self, call: Call) -> Receipt:
        return await self._receipt(
            lambda number: Move(
                id=number,
                step=call.step.name.lower(),  # type: ignore[arg-type] # the steps' names are these words
                reference=call.reference,
                member=call.member,
                units=call.units,
                of=call.of,
                of_number=call.of_receipt,
                at_us=call.at_us,
            )
        )

    async def _receipt(self, make: Callable[[int], Request]) -> Receipt:
        answer = await self._ask(make)
        if answer is None:
            return Receipt(outcome=Outcome.UNKNOWN, detail=_LOST)
        if answer.result == DONE:
            return Receipt(outcome=Outcome.DONE, number=answer.number, units=answer.units)
        if answer.result == IN_PROGRESS:
            return Receipt(
                outcome=Outcome.UNKNOWN,
                expected=True,
                detail=Finding("The merchant is still at it."),
            )
        if answer.result == NOT_FOUND:
            return Receipt(outcome=Outcome.REFUSED, reason=Reason.CALL_NOT_FOUND)
        reason = self._reasons.get(answer.result)
        if reason is None:
            return Receipt(
                outcome=Outcome.UNKNOWN,
                detail=Finding(f"The manifest does not say what the result {answer.result} means."),
            )
        return Receipt(outcome=Outcome.REFUSED, reason=reason, number=answer.number)

    async def _found(self, member: str, proof: str | None) -> Found:
        answer = await self._ask(lambda number: LookUp(id=number, member=member, proof=proof))
        if answer is None:
            return Found(outcome=Outcome.UNKNOWN)
        if answer.result == DONE:
            return Found(outcome=Outcome.DONE, member=answer.member or member)
        reason = self._reasons.get(answer.result)
        if reason is None:
            return Found(outcome=Outcome.UNKNOWN)
        return Found(outcome=Outcome.REFUSED, reason=reason)

    async def _ask(self, make: Callable[[int], Request]) -> Answer | None:
        """Ask; None if the connection broke after the request was written.

        Raises:
            NotSent: It was not written, or the merchant says that it did not take it.
        """
        try:
            answer = await self._link.ask(make)
        except LinkLost:
            return None
        if answer.result == NOT_TAKEN:
            raise NotSent(Finding("the merchant takes no calls now"))
        return answer
