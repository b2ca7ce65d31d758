"""A merchant's system that takes request files over SFTP and answers with files, on its own books.

It is asyncssh's own server on a folder of its own. A request file is taken when it gets its final
name: it is booked at once, and the response file follows. A file whose name was seen before has no
second effect; its first response is given again. The file of a day holds what was booked out of that
day's request files; once it is closed, a request file of that day is answered and not booked.

A fault that befalls one call of a file befalls the response to all of them, as files do.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import asyncssh
import structlog

from adapters.kit.contract import Step
from adapters.kit.files import Table, day_in, figure_in, read_table, text_in, write_table
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.sftp_file import proof_mac
from adapters.kit.protocols.sftp_file.settings import Settings, check_settings, day_name
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion, Trouble
from adapters.kit.simulator.stage import Running, Stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from adapters.kit.files import Record
    from adapters.kit.folder import Folder
    from adapters.kit.protocols.sftp_file.settings import FileKind
    from adapters.kit.simulator.ledger import Booked

log = structlog.get_logger()

_RESULT_NOT_IN_MANIFEST: Final = "XX"
_MESSAGE_MAX: Final = 20
_WATCH_SECONDS: Final = 0.2
_QUICK: Final = {"gather_seconds": 0.05, "poll_seconds": 0.1}
"""Nobody who tries a simulator wants to wait as long as a real hotel lets us wait."""
_PIECES: Final = 8
_LATE: Final = (Fault.LATENCY, Fault.LATE_FILE, Fault.LATE_CALLBACK)
_TWICE: Final = (Fault.DUPLICATE_FILE, Fault.REPEAT_CALLBACK)
_IN_PARTS: Final = (Fault.PARTIAL_FILE, Fault.SLOW_BODY)
_NO_ANSWER: Final = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)
_SPOILT: Final = ".spoilt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRunning(Running):
    """A simulator that listens, and what its operators can do.

    Attributes:
        root: The folder that the server shows.
        close_day: Close the books of a day.
    """

    root: Path
    close_day: Callable[[date], None]


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[FileRunning]:
    """Listen until the context ends; then the server's folder is gone.

    Raises:
        SchemaError: The manifest's settings are malformed.
    """
    with tempfile.TemporaryDirectory(prefix="tongdui-sftp-") as base:
        house = FileHouse(folder, stage, Path(base) / "root")
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            stage.host,
            stage.port,
            config=None,
            server_factory=lambda: _Door(house),
            server_host_keys=[host_key],
            sftp_factory=lambda channel: _Desk(channel, house),
            allow_scp=False,
        )
        watching = asyncio.create_task(house.watch())
        try:
            yield FileRunning(
                settings=_QUICK
                | {
                    "members": {"fresh_seconds": 0.1},
                    "host": stage.host,
                    "port": server.get_port(),
                    "host_keys": [host_key.export_public_key().decode().strip()],
                    "spool": str(Path(base) / "spool"),
                },
                secrets=house.secrets,
                stage=stage,
                root=house.root,
                close_day=house.close_day,
            )
        finally:
            watching.cancel()
            server.close()
            await house.stop()
            await server.wait_closed()


@dataclass(slots=True, kw_only=True)
class _Work:
    """A request file that was taken: what is answered, and what goes wrong with the answer."""

    content: bytes
    request: str
    name: str = ""
    lines: list[Record] = field(default_factory=list)
    trouble: Trouble | None = None


class FileHouse:
    """The simulated merchant behind its SFTP server."""

    def __init__(self, folder: Folder, stage: Stage, root: Path) -> None:
        """Read the settings, make the folders, invent the secrets that nobody has set."""
        self.settings = settings_as(folder.manifest, Settings)
        self.stage = stage
        self.root = root
        where = folder.where(MANIFEST_FILE) + ".settings"
        meanings = check_settings(self.settings, where=where)
        self._results = {reason: result for result, reason in meanings.items()}
        self._merchant = folder.code
        self._zone = folder.manifest.hours.zone
        self._members = folder.manifest.sandbox.members
        self._proof = folder.manifest.sandbox.proof
        self.secrets, self.client_key, self.password = _credentials(self.settings, stage)
        self._proof_secret = b""
        if self.settings.members is not None and self.settings.members.secret:
            self._proof_secret = stage.secret(self.settings.members.secret)
            self.secrets[self.settings.members.secret] = self._proof_secret
        self._works: dict[str, _Work] = {}
        self._days: dict[date, dict[str, Booked]] = {}
        self._closed: dict[date, None] = {}
        self._day = self._today()
        self._connections: dict[asyncssh.SSHServerConnection, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.opened: dict[object, None] = {}
        self._spoilt = 0
        self._held_back: asyncio.Event | None = None
        for kind in (self.settings.request, self.settings.response, self.settings.day):
            (root / kind.folder).mkdir(parents=True, exist_ok=True)
        (root / _SPOILT).mkdir()
        self._write_day(self._day)

    # --- connections ---

    def joined(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection came."""
        self._connections[connection] = None

    def left(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection went."""
        self._connections.pop(connection, None)

    async def stop(self) -> None:
        """Hang up everywhere; nothing is left running."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
            await connection.wait_closed()
        # A client that hung up in the middle of a file has left it open.
        for file in self.opened:
            file.close()  # type: ignore[attr-defined] # what asyncssh opens is a file

    async def watch(self) -> None:
        """Close each day when the clock has passed midnight."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            while self._day < self._today():
                self.close_day(self._day)

    def close_day(self, day: date) -> None:
        """Write a day's file for the last time, and take no more request files of that day."""
        self._closed[day] = None
        self._write_day(day)
        if day == self._day:
            self._day = day + timedelta(days=1)
            self._write_day(self._day)

    def _today(self) -> date:
        at = datetime.fromtimestamp(self.stage.now_us() / 1_000_000, UTC)
        return at.astimezone(ZoneInfo(self._zone)).date()

    # --- request files ---

    def arrived(self, path: Path) -> bool:
        """A file got its final name. Returns whether the connection is to be cut before it is told so."""
        if path.parent != self.root / self.settings.request.folder:
            return False
        content = path.read_bytes()
        path.unlink()
        work = self._works.get(path.name)
        if work is None:
            work = self._works[path.name] = _Work(content=content, request=path.name)
            self._take(path.name, work)
        elif work.content != content:
            log.error("simulator.request_differs", file=path.name)
            return False
        trouble, work.trouble = work.trouble, None
        if work.lines:
            task = asyncio.create_task(self._respond(work, trouble))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return trouble is not None and trouble.fault is Fault.CUT

    def _take(self, name: str, work: _Work) -> None:
        settings = self.settings
        work.name = settings.response.name.replace("*", Path(name).stem)
        try:
            table = read_table(settings.request, work.content, zone=self._zone, name=name)
        except SchemaError as error:
            log.warning("simulator.request_refused", file=name, detail=str(error))
            return
        day = day_in(table.header, "day")
        for line in table.lines:
            answer, trouble = self._answer(line, day)
            if answer is not None:
                work.lines.append(answer)
            if work.trouble is None:
                work.trouble = trouble
        self._write_day(day)

    def _answer(self, line: Record, day: date) -> tuple[Record | None, Trouble | None]:
        """Do one line; its answer if it gets one, and what goes wrong with the file that holds it."""
        step = Step[text_in(line, "step").upper()]
        reference, units = text_in(line, "reference"), figure_in(line, "units")
        trouble = self.stage.plan.draw(
            Occasion(operation=step.name.lower(), step=step, reference=reference)
        )
        fault = trouble.fault if trouble else None
        if fault is Fault.TIMEOUT_BEFORE:
            return None, None
        if fault is Fault.MAINTENANCE or day in self._closed:
            return self._refusal(reference, Reason.CALL_NOT_FOUND), None
        ledger = self.stage.ledger
        booked = ledger.book(step, reference, text_in(line, "member"), units, text_in(line, "of"))
        if booked.refused is None and booked.moved:
            self._days.setdefault(day, {})[reference] = booked
        if fault is Fault.FORGET:
            ledger.forget(reference)
        if fault is Fault.TIMEOUT_AFTER:
            return None, None
        if booked.refused is not None:
            return self._refusal(reference, booked.refused), trouble
        answer: Record = {
            "reference": reference,
            "result": self._results[None],
            "number": booked.number,
            "units": booked.moved + (fault is Fault.WRONG_AMOUNT),
            "message": "成功",
        }
        return answer, trouble

    def _refusal(self, reference: str, reason: Reason) -> Record:
        return {
            "reference": reference,
            "result": self._results.get(reason, _RESULT_NOT_IN_MANIFEST),
            "units": 0,
            "message": reason.chinese[:_MESSAGE_MAX],
        }

    # --- response files ---

    async def _respond(self, work: _Work, trouble: Trouble | None) -> None:
        """Write the response file, spoilt as the plan says."""
        fault = trouble.fault if trouble else None
        seconds = trouble.seconds if trouble else 0.0
        skew_us = int(seconds * 1_000_000) if fault is Fault.CLOCK_SKEW else 0
        path = self.root / self.settings.response.folder / work.name
        header: Record = {
            "request": work.request,
            "merchant": self._merchant,
            "at": self.stage.now_us() + skew_us,
        }
        whole = self._written(self.settings.response, Table(header=header, lines=work.lines))
        if fault in _LATE:
            await asyncio.sleep(seconds)
        elif fault is Fault.REORDER_CALLBACK:
            self._held_back = asyncio.Event()
            await self._held_back.wait()
        elif fault in _IN_PARTS:
            pieces = _PIECES if fault is Fault.SLOW_BODY else 2
            for piece in range(1, pieces):
                path.write_bytes(whole[: len(whole) * piece // pieces])
                await asyncio.sleep(seconds / pieces)
        elif fault is Fault.GARBAGE:
            whole = self.stage.random.randbytes(len(whole))
        elif fault is Fault.TRUNCATED:
            # A line is gone, but header and trailer are those of the whole.
            rows = whole.splitlines(keepends=True)
            whole = b"".join(rows[:1] + rows[2:])
        _place(path, whole)
        if fault in _TWICE:
            _place(path.with_stem(f"{path.stem}-2"), whole)
        elif fault is not Fault.REORDER_CALLBACK and self._held_back is not None:
            self._held_back.set()
            self._held_back = None

    # --- files that are only read ---

    def spoilt(self, path: Path) -> tuple[Path, Trouble | None]:
        """What a client gets that opens a file, which is the file unless the plan says otherwise."""
        operation = self._operation(path)
        if operation == "look_up":
            _place(path, self._member_file())
        trouble = self.stage.plan.draw(Occasion(operation=operation)) if operation else None
        if trouble is None or not path.exists():
            return path, trouble
        data = path.read_bytes()
        match trouble.fault:
            case Fault.GARBAGE:
                data = self.stage.random.randbytes(len(data))
            case Fault.TRUNCATED | Fault.PARTIAL_FILE:
                data = data[: len(data) // 2]
            case Fault.WRONG_AMOUNT if operation == "statement":
                data = self._with_one_more(path.name, data)
            case _:
                return path, trouble
        self._spoilt += 1
        copy = self.root / _SPOILT / str(self._spoilt)
        copy.write_bytes(data)
        return copy, trouble

    def _operation(self, path: Path) -> str:
        folder, members = path.parent, self.settings.members
        if members is not None and path == self.root / members.folder / members.name:
            return "look_up"
        return "statement" if folder == self.root / self.settings.day.folder else ""

    def _write_day(self, day: date) -> None:
        lines: list[Record] = [
            {
                "number": booked.number,
                "reference": booked.reference,
                "step": booked.step.name.lower(),
                "member": booked.member,
                "units": booked.moved,
                "at": booked.at_us,
            }
            for booked in self._days.get(day, {}).values()
        ]
        header: Record = {
            "day": day,
            "merchant": self._merchant,
            "state": "closed" if day in self._closed else "open",
            "at": self.stage.now_us(),
        }
        path = self.root / self.settings.day.folder / day_name(self.settings, day)
        _place(path, self._written(self.settings.day, Table(header=header, lines=lines)))

    def _with_one_more(self, name: str, data: bytes) -> bytes:
        """A day file that adds up and says something else than the books."""
        kind = self.settings.day
        table = read_table(kind, data, zone=self._zone, name=name)
        if table.lines:
            table.lines[0]["units"] = figure_in(table.lines[0], "units") + 1
        return self._written(kind, table)

    def _member_file(self) -> bytes:
        kind, ledger = self.settings.members, self.stage.ledger
        if kind is None:
            raise AssertionError("this merchant has no list of members")
        lines: list[Record] = [
            {
                "member": member,
                "name": "测试会员",
                "state": "active" if ledger.member(member) is None else "blocked",
                "units": ledger.available(member) or 0,
                "proof_mac": proof_mac(self._proof_secret, member, self._proof),
            }
            for member in self._members
        ]
        header: Record = {"merchant": self._merchant, "at": self.stage.now_us()}
        return self._written(kind, Table(header=header, lines=lines))

    def _written(self, kind: FileKind, table: Table) -> bytes:
        return write_table(kind, table, zone=self._zone, name=kind.name)


class _Door(asyncssh.SSHServer):
    """Lets our one user in."""

    def __init__(self, house: FileHouse) -> None:
        self._house = house
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._house.joined(conn)
        trouble = self._house.stage.plan.draw(Occasion(operation=CONNECT))
        if trouble is not None and trouble.fault in (Fault.TLS_FAILURE, Fault.MAINTENANCE):
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        if self._connection is not None:
            self._house.left(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        return True

    def password_auth_supported(self) -> bool:
        return self._house.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        return username == self._house.settings.auth.user and password == self._house.password

    def public_key_auth_supported(self) -> bool:
        return self._house.client_key is not None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._house.settings.auth.user and key == self._house.client_key


class _Desk(asyncssh.SFTPServer):
    """What our user does with files."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], house: FileHouse) -> None:
        super().__init__(channel, chroot=str(house.root).encode())
        self._house = house

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(oldpath, newpath)
        if self._house.arrived(self._local(newpath)):
            self.connection.abort()

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        local = self._local(path)
        shown, trouble = self._house.spoilt(local)
        match trouble.fault if trouble else None:
            case Fault.MAINTENANCE:
                raise asyncssh.SFTPPermissionDenied("closed for maintenance")
            case Fault.CUT | Fault.TLS_FAILURE:
                self.connection.abort()
            case fault if trouble and fault in (*_NO_ANSWER, *_LATE, Fault.SLOW_BODY):
                # An hour is longer than anybody waits.
                await asyncio.sleep(3600 if fault in _NO_ANSWER else trouble.seconds)
            case _:
                pass
        if shown != local:
            path = b"/" + str(shown.relative_to(self._house.root)).encode()
        file = super().open(path, pflags, attrs)
        self._house.opened[file] = None
        return file

    def close(self, file_obj: object) -> None:
        self._house.opened.pop(file_obj, None)
        super().close(file_obj)

    def _local(self, path: bytes) -> Path:
        return Path(self.map_path(path).decode())


def _credentials(
    settings: Settings, stage: Stage
) -> tuple[dict[str, bytes], asyncssh.SSHKey | None, str | None]:
    """The user's secret by its reference, and what of it the server compares."""
    reference = settings.auth.secret
    if settings.auth.kind == "password":
        password = stage.secret(reference)
        return {reference: password}, None, password.decode()
    if stage.secrets.has(reference):
        text = stage.secrets.read(reference, where="$")
        key = asyncssh.import_private_key(text)
    else:
        key = asyncssh.generate_private_key("ssh-ed25519")
        text = key.export_private_key()
    return {reference: text}, key.convert_to_public(), None


def _place(path: Path, data: bytes) -> None:
    """Have a file appear whole."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
