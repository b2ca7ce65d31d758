"""Client of `sftp-file`: a merchant that takes request files over SFTP and answers with files.

A call is done here when it is safe in the spool: the answer is unknown and expected. What the
merchant says comes with a response file, later, and is given to the `Answers` of the context.
`status` reads what has come; what no response file ever answers, the merchant's day file decides.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from adapters.kit.files import check_line, figure_in, read_table, text_in
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.moves import Moves
from adapters.kit.protocols.sftp_file.courier import Courier, request_record
from adapters.kit.protocols.sftp_file.session import Session
from adapters.kit.protocols.sftp_file.settings import (
    Settings,
    check_settings,
    day_name,
)
from adapters.kit.protocols.sftp_file.spool import Spool
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.reason import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import ParamSpec, TypeVar

    from adapters.kit.context import Context
    from adapters.kit.files import Record
    from adapters.kit.folder import Folder
    from adapters.kit.protocols.sftp_file.spool import Kept

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["SftpFile", "build", "proof_mac"]

_DAYS_REMEMBERED: Final = 8
_EXPECTED: Final = Finding("The call waits for the merchant's response file.")
_DIFFERS: Final = Finding("The reference was used for something else.")


def build(folder: Folder, context: Context) -> SftpFile:
    """Build the adapter of a merchant that exchanges files over SFTP.

    Raises:
        SchemaError: The settings are malformed, or a secret is not there or cannot be read.
    """
    settings = settings_as(folder.manifest, Settings)
    where = folder.where(MANIFEST_FILE) + ".settings"
    results = check_settings(settings, where=where)
    secret = context.secrets.read(settings.auth.secret, where=f"{where}.auth.secret")
    members = settings.members
    proof_secret = b""
    if members is not None and members.secret:
        proof_secret = context.secrets.read(members.secret, where=f"{where}.members.secret")
    return SftpFile(
        settings,
        merchant=folder.code,
        zone=folder.manifest.hours.zone,
        results=results,
        session=Session(settings, secret=secret, where=where),
        proof_secret=proof_secret,
        context=context,
    )


def proof_mac(secret: bytes, member: str, proof: str) -> str:
    """What a merchant's list holds instead of a member's proof: HMAC-SHA-256, 64 hex digits."""
    return hmac.new(secret, f"{member}\0{proof}".encode(), "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class _Member:
    """A line of the merchant's list."""

    units: int
    proof_mac: str
    blocked: bool


@dataclass(frozen=True, slots=True)
class _Day:
    """A day file: whether the merchant has closed it, and its lines by reference."""

    closed: bool
    lines: Mapping[str, Record]


class SftpFile(Moves):
    """The contract, spoken in files."""

    def __init__(
        self,
        settings: Settings,
        *,
        merchant: str,
        zone: str,
        results: Mapping[str, Reason | None],
        session: Session,
        proof_secret: bytes,
        context: Context,
    ) -> None:
        """Take everything; `start` opens the spool."""
        self._settings = settings
        self._merchant = merchant
        self._zone = zone
        self._results = results
        self._session = session
        self._proof_secret = proof_secret
        self._context = context
        self._spool: Spool | None = None
        self._courier: Courier | None = None
        self._disk: ThreadPoolExecutor | None = None
        self._gathering: list[tuple[Call, asyncio.Future[Kept]]] = []
        self._keeping: asyncio.Task[None] | None = None
        self._members: Mapping[str, _Member] = {}
        self._members_until = 0.0
        self._days: OrderedDict[dt.date, _Day] = OrderedDict()

    async def start(self) -> None:
        """Open the spool and begin to carry files; whether the merchant is there does not matter.

        Raises:
            Unavailable: The spool cannot be opened.
        """
        # One thread: the spool's functions run one at a time, and the disk keeps nobody waiting.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"spool-{self._merchant}")
        folder = Path(self._settings.spool)
        try:
            self._spool = await self._on_disk(Spool, folder, now_us=self._context.now_us)
        except (OSError, sqlite3.Error) as error:
            await self.close()
            raise Unavailable(f"the spool {folder} cannot be opened: {error}") from error
        self._courier = Courier(
            self._settings,
            merchant=self._merchant,
            zone=self._zone,
            results=self._results,
            spool=self._spool,
            disk=self._on_disk,
            session=self._session,
            answers=self._context.answers,
            now_us=self._context.now_us,
            draw=self._context.random,
        )
        await self._courier.start()

    async def close(self) -> None:
        """Stop; what was gathered is sent after the next start."""
        if self._courier is not None:
            await self._courier.stop()
        if self._keeping is not None:
            await self._keeping
        await self._session.close()
        if self._spool is not None:
            await self._on_disk(self._spool.close)
        if self._disk is not None:
            self._disk.shutdown()
        self._courier = self._spool = self._disk = None

    async def status(self, call: Call) -> Receipt:
        """What has come: a response, or a closed day file that decides it.

        A call that the spool never took in was never sent, so it did not happen; unless the spool is
        younger than the call, for then an earlier spool may have sent it.
        """
        spool = self._opened
        kept = await self._on_disk(spool.find, call)
        if kept is None:
            if spool.born_us < call.at_us:
                return Receipt(outcome=Outcome.REFUSED, reason=Reason.CALL_NOT_FOUND)
            return Receipt(
                outcome=Outcome.UNKNOWN, detail=Finding("The spool is younger than the call.")
            )
        if kept.differs or kept.receipt is not None or not kept.sent or kept.day is None:
            return _receipt(kept)
        try:
            day = await self._day(kept.day)
        except (Unavailable, SchemaError):
            return _receipt(kept)
        line = day.lines.get(call.reference) if day else None
        if line is not None:
            if (line["step"], line["member"]) != (call.step.name.lower(), call.member):
                return Receipt(outcome=Outcome.UNKNOWN, detail=_DIFFERS)
            return Receipt(
                outcome=Outcome.DONE,
                number=text_in(line, "number"),
                units=figure_in(line, "units"),
            )
        if day is None or not day.closed or not self._settings.day_proves_absence:
            return _receipt(kept)
        await self._on_disk(spool.prove_absent, call.reference)
        return Receipt(outcome=Outcome.REFUSED, reason=Reason.CALL_NOT_FOUND)

    async def look_up(self, member: str) -> Found:
        """Find a member in the merchant's list.

        Raises:
            NotSent: The list cannot be had now.
        """
        return self._found(await self._listed(member), member)

    async def authenticate(self, member: str, proof: str) -> Found:
        """Compare what the member presented with the merchant's list.

        Raises:
            NotSent: The list cannot be had now.
        """
        listed = await self._listed(member)
        found = self._found(listed, member)
        if found.outcome is not Outcome.DONE or listed is None:
            return found
        expected = proof_mac(self._proof_secret, member, proof) if self._proof_secret else ""
        if listed.proof_mac and expected and hmac.compare_digest(expected, listed.proof_mac):
            return found
        return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)

    async def balance(self, member: str) -> Balance:
        """What the member could spend when the merchant's list was written.

        Raises:
            NotSent: The list cannot be had now.
        """
        listed = await self._listed(member)
        if self._settings.members is None:
            return Balance(outcome=Outcome.UNKNOWN)
        if listed is None:
            return Balance(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        return Balance(outcome=Outcome.DONE, units=listed.units)

    async def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """The merchant's day file; until the day is closed, what the merchant has written so far.

        Raises:
            Incomplete: There is none, it is malformed, or its control totals do not add up.
        """
        try:
            table = await self._day(day)
        except (Unavailable, SchemaError) as error:
            raise Incomplete(str(error)) from error
        if table is None:
            raise Incomplete(f"there is no file {day_name(self._settings, day)} yet")
        for line in table.lines.values():
            yield StatementLine(
                reference=text_in(line, "reference"),
                step=Step[text_in(line, "step").upper()],
                member=text_in(line, "member"),
                units=figure_in(line, "units"),
                at_us=figure_in(line, "at"),
                number=text_in(line, "number"),
            )

    # --- calls into the spool ---

    async def _move(self, call: Call) -> Receipt:
        refused = self._cannot_be_written(call)
        if refused is not None:
            return refused
        kept = await self._keep(call)
        if self._courier is not None:
            self._courier.wake()
        return _receipt(kept)

    def _cannot_be_written(self, call: Call) -> Receipt | None:
        """Whether a call has a place in the merchant's files at all; one that has not is never sent."""
        record = request_record(call)
        try:
            check_line(self._settings.request, record, zone=self._zone, name="request")
        except SchemaError as error:
            field = error.path.rpartition(" ")[2]
            reason = {
                "member": Reason.UNKNOWN_MEMBER,
                "units": Reason.AMOUNT_ABOVE_MAXIMUM,
            }.get(field, Reason.MERCHANT_REFUSED)
            detail = f"The merchant's files have no room for it: {field}, {error.detail}"
            return Receipt(outcome=Outcome.REFUSED, reason=reason, detail=detail)
        return None

    async def _keep(self, call: Call) -> Kept:
        """Have a call on the disk; calls that come meanwhile go there together."""
        waiting: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._gathering.append((call, waiting))
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep_all())
        return await waiting

    async def _keep_all(self) -> None:
        while self._gathering:
            batch, self._gathering = self._gathering, []
            try:
                kept = await self._on_disk(self._opened.keep, [call for call, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                for _, waiting in batch:
                    if not waiting.done():
                        waiting.set_exception(error)
                continue
            for (_, waiting), one in zip(batch, kept, strict=True):
                if not waiting.done():
                    waiting.set_result(one)

    @property
    def _opened(self) -> Spool:
        if self._spool is None:
            raise NotSent(Finding("the adapter is not started"))
        return self._spool

    def _on_disk(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        if self._disk is None:
            raise NotSent(Finding("the adapter is not started"))
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._disk, partial(function, *args, **kwargs))

    # --- files that are only read ---

    async def _day(self, day: dt.date) -> _Day | None:
        """The merchant's file of a day; None if there is none yet.

        Raises:
            Unavailable: The server does not answer.
            SchemaError: The file is malformed, or its control totals do not add up.
        """
        if day in self._days:
            return self._days[day]
        kind, name = self._settings.day, day_name(self._settings, day)
        data = await self._session.read(f"{kind.folder}/{name}")
        if data is None:
            return None
        table = read_table(kind, data, zone=self._zone, name=name)
        if table.header.get("day", day) != day:
            raise SchemaError(f"{name}, line 1, day", "The file is of another day")
        lines = {text_in(line, "reference"): line for line in table.lines}
        if len(lines) != len(table.lines):
            raise SchemaError(f"{name}, line 1, count", "A reference stands in it twice")
        found = _Day(closed=table.header.get("state", "closed") == "closed", lines=lines)
        if found.closed:
            # It does not change any more.
            self._days[day] = found
            while len(self._days) > _DAYS_REMEMBERED:
                self._days.popitem(last=False)
        return found

    async def _listed(self, member: str) -> _Member | None:
        kind = self._settings.members
        if kind is None:
            return None
        loop = asyncio.get_running_loop()
        if loop.time() >= self._members_until:
            path = f"{kind.folder}/{kind.name}"
            try:
                data = await self._session.read(path)
                if data is None:
                    raise NotSent(f"the merchant has no file {path}")
                table = read_table(kind, data, zone=self._zone, name=kind.name)
            except (Unavailable, SchemaError) as error:
                raise NotSent(str(error)) from error
            self._members = {text_in(line, "member"): _member(line) for line in table.lines}
            self._members_until = loop.time() + kind.fresh_seconds
        return self._members.get(member)

    def _found(self, listed: _Member | None, member: str) -> Found:
        if self._settings.members is None:
            return Found(outcome=Outcome.UNKNOWN)
        if listed is None:
            return Found(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        if listed.blocked:
            return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)
        return Found(outcome=Outcome.DONE, member=member)


def _receipt(kept: Kept) -> Receipt:
    """What is known of a call without asking the merchant."""
    if kept.differs:
        return Receipt(outcome=Outcome.UNKNOWN, detail=_DIFFERS)
    if kept.receipt is not None:
        return kept.receipt
    return Receipt(outcome=Outcome.UNKNOWN, expected=True, detail=_EXPECTED)


def _member(line: Record) -> _Member:
    return _Member(
        units=figure_in(line, "units"),
        proof_mac=text_in(line, "proof_mac"),
        blocked=line.get("state", "active") != "active",
    )
