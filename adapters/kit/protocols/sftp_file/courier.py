"""Carries files to the merchant and back: what was gathered goes out, what came is told.

A round may be cut off anywhere, also by a crash, and is simply done again: a request file has one
name and one content for ever, an answer that was taken is taken once, and a response file is removed
from the merchant's folder only after everything in it is durable with whoever waited. Of several
processes that share a spool one makes the round, and the others find its answers in the spool.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import math
import os
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import structlog

from adapters.kit.contract import Outcome, Receipt
from adapters.kit.files import Table, figure_in, read_table, text_in, write_table
from adapters.kit.protocols.sftp_file.session import NameTakenError
from adapters.kit.protocols.sftp_file.settings import request_name
from adapters.kit.protocols.sftp_file.spool import RequestFile
from schemas.values.faults import SchemaError, Unavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from typing import ParamSpec, Protocol, TypeVar

    from adapters.kit.context import Clock
    from adapters.kit.contract import Answers, Call
    from adapters.kit.files import Record
    from adapters.kit.protocols.sftp_file.session import Entry, Session
    from adapters.kit.protocols.sftp_file.settings import Settings
    from adapters.kit.protocols.sftp_file.spool import Spool
    from schemas.values.reason import Reason

    P = ParamSpec("P")
    T = TypeVar("T")

    class Disk(Protocol):
        """Somewhere to run the spool's functions, which block."""

        def __call__(
            self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
        ) -> Awaitable[T]:
            """Run one beside the loop, after those that were given before it."""
            ...


log = structlog.get_logger()

_WAIT_SECONDS_MAX: Final = 60.0
_DAY_US: Final = 86_400_000_000
_SAME_SECONDS: Final = 2.0


class Courier:
    """Makes rounds between the spool and the merchant's server."""

    def __init__(
        self,
        settings: Settings,
        *,
        merchant: str,
        zone: str,
        results: Mapping[str, Reason | None],
        spool: Spool,
        disk: Disk,
        session: Session,
        answers: Answers,
        now_us: Clock,
        draw: random.Random,
    ) -> None:
        """Prepare; `start` makes the first round.

        Args:
            settings: Which files, where, and how often.
            merchant: Its code, for log lines and headers.
            zone: The merchant's time zone.
            results: What its result codes mean; None for done.
            spool: What is to be sent, and what has come.
            disk: Runs the spool's functions, one at a time.
            session: The merchant's server.
            answers: Who is told.
            now_us: The clock of days, microseconds since 1970 UTC.
            draw: Draws the jitter after failures.
        """
        self._settings = settings
        self._merchant = merchant
        self._zone = zone
        self._results = results
        self._spool = spool
        self._disk = disk
        self._session = session
        self._answers = answers
        self._now_us = now_us
        self._draw = draw
        self._folder = Path(settings.spool)
        self._log = log.bind(merchant=merchant)
        self._woken = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._left: dict[str, tuple[Entry, float]] = {}
        self._purged_us = 0
        self._failures = 0
        self._stopping = False

    async def start(self) -> None:
        """Begin to make rounds."""
        self._rounds = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Make no more rounds; what was gathered and not sent waits for the next start."""
        self._stopping = True
        if self._rounds is not None:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
            self._rounds = None

    def wake(self) -> None:
        """There are calls to be gathered."""
        self._woken.set()

    async def _run(self) -> None:
        polled = -math.inf
        loop = asyncio.get_running_loop()
        while not self._stopping:
            started = loop.time()
            try:
                due = started - polled >= self._settings.poll_seconds
                if await self.round(poll=due) and due:
                    polled = started
                self._failures = 0
            except Unavailable as error:
                self._failures += 1
                self._log.warning("files.unavailable", detail=str(error), failures=self._failures)
            except Exception:  # noqa: BLE001 - whatever it was, the next round may go well
                self._failures += 1
                self._log.exception("files.failed", failures=self._failures)
            await self._wait(polled)

    async def _wait(self, polled: float) -> None:
        """Wait for the next round; longer after each failure, by chance, so that many spread out."""
        if self._failures:
            most = self._settings.poll_seconds * 2.0 ** min(self._failures, 20)
            wait_seconds = min(most, _WAIT_SECONDS_MAX)
            await asyncio.sleep(self._draw.uniform(wait_seconds / 2, wait_seconds))
            return
        loop = asyncio.get_running_loop()
        poll_at = polled + self._settings.poll_seconds
        while True:
            self._woken.clear()
            left = min(poll_at - loop.time(), await self._gather_left())
            if left <= 0:
                return
            # Not `wait_for`: before Python 3.12 it may swallow that we are told to stop.
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._woken.wait()

    async def _gather_left(self) -> float:
        """Seconds until a request file is due; infinite while nothing was gathered."""
        count, since_us = await self._disk(self._spool.gathered)
        if not count:
            return math.inf
        if count >= self._settings.gather_calls:
            return 0.0
        waited_seconds = (self._now_us() - since_us) / 1_000_000
        # A clock that was set back must not hold calls up.
        return self._settings.gather_seconds - waited_seconds if waited_seconds >= 0 else 0.0

    # --- one round ---

    async def round(self, *, poll: bool = True) -> bool:
        """Tell what is untold, send what was gathered, take what has come.

        Args:
            poll: Whether to look for response files.

        Returns:
            False if another process makes a round on this spool now.

        Raises:
            Unavailable: The merchant's server does not answer.
        """
        with self._alone() as alone:
            if not alone:
                return False
            await self._tell()
            await self._make_files()
            await self._send()
            if poll:
                await self._fetch()
            await self._purge()
            return True

    async def _make_files(self) -> None:
        while True:
            if await self._gather_left() > 0:
                return
            day = self.today()
            write = partial(self._written, day)
            await self._disk(self._spool.make_file, day, self._settings.gather_calls, write)

    def today(self) -> date:
        """The merchant's day."""
        at = datetime.fromtimestamp(self._now_us() / 1_000_000, UTC)
        return at.astimezone(ZoneInfo(self._zone)).date()

    def _written(self, day: date, number: int, calls: Sequence[Call]) -> RequestFile:
        name = request_name(self._settings, day, number)
        header: Record = {
            "file": name,
            "day": day,
            "number": number,
            "merchant": self._merchant,
            "at": self._now_us(),
        }
        table = Table(header=header, lines=[request_record(call) for call in calls])
        content = write_table(self._settings.request, table, zone=self._zone, name=name)
        return RequestFile(name=name, content=content)

    async def _send(self) -> None:
        for file in await self._disk(self._spool.unsent):
            try:
                await self._session.put(self._settings.request.folder, file.name, file.content)
            except NameTakenError:
                # Two spools number the files of one merchant, or somebody changed the file there.
                self._log.error("request.name_taken", file=file.name)
                continue
            await self._disk(self._spool.mark_sent, file.name)
            # Whatever fails after this, the server is there.
            self._failures = 0
            self._log.info("request.sent", file=file.name, bytes=len(file.content))

    async def _fetch(self) -> None:
        kind = self._settings.response
        taken = []
        entries = await self._session.entries(kind.folder, kind.name)
        for gone in self._left.keys() - {entry.name for entry in entries}:
            del self._left[gone]
        for entry in entries:
            if self._is_left(entry):
                continue
            if entry.size > self._settings.file_bytes_max:
                self._log.error("response.too_large", file=entry.name, bytes=entry.size)
                continue
            data = await self._session.read(f"{kind.folder}/{entry.name}")
            if data is not None and await self._take(entry.name, data):
                taken.append(entry.name)
        untold = await self._tell()
        for name in taken:
            if not untold and self._settings.remove_taken:
                await self._session.remove(f"{kind.folder}/{name}")
            elif untold:
                # To be fetched again: the merchant is not told that all of it is safe.
                del self._left[name]

    def _is_left(self, entry: Entry) -> bool:
        """Whether a file was read already and has not changed since; else notes that it is looked at.

        Times of files are whole seconds, so one that was changed a moment ago may change again without
        looking any different: for a short while it is read whenever we come.
        """
        now = asyncio.get_running_loop().time()
        known, since = self._left.get(entry.name, (None, now))
        if known != entry:
            self._left[entry.name] = (entry, now)
            return False
        too_large = entry.size > self._settings.file_bytes_max
        return too_large or now - since > _SAME_SECONDS

    async def _take(self, name: str, data: bytes) -> bool:
        """Take one response file whole; False if it was refused whole."""
        try:
            table = read_table(self._settings.response, data, zone=self._zone, name=name)
        except SchemaError as error:
            await self._refuse(name, data, error)
            return False
        answers = []
        for record in table.lines:
            receipt = self._receipt(record)
            if receipt is None:
                self._log.error(
                    "response.result_unknown",
                    file=name,
                    reference=record["reference"],
                    result=record["result"],
                )
            else:
                answers.append((text_in(record, "reference"), receipt))
        found = await self._disk(self._spool.take, name, answers)
        for reference in found.strange:
            self._log.error("response.reference_unknown", file=name, reference=reference)
        for reference in found.contradicted:
            self._log.error("response.contradicted", file=name, reference=reference)
        self._log.info("response.taken", file=name, lines=len(table.lines), new=len(found.new))
        return True

    def _receipt(self, record: Record) -> Receipt | None:
        """What a line of a response says; None where the manifest does not know its result."""
        result = text_in(record, "result")
        if result not in self._results:
            return None
        number = text_in(record, "number")
        reason = self._results[result]
        if reason is not None:
            return Receipt(outcome=Outcome.REFUSED, reason=reason, number=number)
        # A release that found nothing to give back is done and moved nothing.
        moved = figure_in(record, "units") or None
        return Receipt(outcome=Outcome.DONE, number=number, units=moved)

    async def _refuse(self, name: str, data: bytes, error: SchemaError) -> None:
        """Set a copy aside and tell people, once for each content; at the merchant's nothing changes.

        The file may still be on its way there: when it has grown it is read again.
        """
        digest = hashlib.sha256(data).hexdigest()
        if not await self._disk(self._spool.refuse, name, digest, str(error)):
            return
        aside = self._folder / "refused" / f"{name}.{digest[:16]}"
        await self._disk(_set_aside, aside, data)
        self._log.error(
            "response.refused", file=name, where=error.path, detail=error.detail, copy=str(aside)
        )

    async def _tell(self) -> int:
        """Tell answers to whoever waits; how many could not be told."""
        told = []
        untold = await self._disk(self._spool.untold)
        for reference, receipt in untold:
            try:
                await self._answers(reference, receipt)
            except Exception as error:  # noqa: BLE001 - whatever the sink raises, the answer is kept and told again
                self._log.error("answer.not_taken", reference=reference, error=type(error).__name__)
                continue
            told.append(reference)
        if told:
            await self._disk(self._spool.mark_told, told)
        return len(untold) - len(told)

    async def _purge(self) -> None:
        """Once a day, forget what is done and old."""
        now_us = self._now_us()
        if now_us - self._purged_us < _DAY_US:
            return
        self._purged_us = now_us
        keep = timedelta(days=self._settings.keep_days)
        await self._disk(self._spool.purge, now_us - int(keep.total_seconds()) * 1_000_000)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process makes a round; the kernel gives the lock back if this one dies."""
        handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)


def request_record(call: Call) -> Record:
    """A call, as fields of a line of a request file."""
    return {
        "reference": call.reference,
        "step": call.step.name.lower(),
        "member": call.member,
        "units": call.units,
        "of": call.of,
        "of_number": call.of_receipt,
        "at": call.at_us,
    }


def _set_aside(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
