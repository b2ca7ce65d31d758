"""One SFTP session with a merchant's server, opened when it is needed and kept while it works.

Only the server's keys in the manifest are trusted, and nothing is read from the home folder of
whoever runs the process: no known hosts, no configuration, no agent.
"""

from __future__ import annotations

import asyncio
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, cast

import asyncssh

from adapters.kit.protocols.sftp_file.settings import FILE_NAME
from schemas.values.faults import SchemaError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from adapters.kit.protocols.sftp_file.settings import Settings

    T = TypeVar("T")

_KEEPALIVE_SECONDS: Final = 15
_EXISTS: Final = (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists)
_ABSENT: Final = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class NameTakenError(Exception):
    """Another file lies at the merchant's under the name of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file at the merchant's; size in bytes, time of its last change in whole seconds."""

    name: str
    size: int
    changed: int


class Session:
    """Connects when something is asked, and again after a failure."""

    def __init__(self, settings: Settings, *, secret: bytes, where: str) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: Where to, who we are, and whom to trust.
            secret: The private key or the password.
            where: Path of the settings, for complaints.

        Raises:
            SchemaError: A key cannot be read.
        """
        self._settings = settings
        self._trusted = [_public(text, f"{where}.host_keys") for text in settings.host_keys]
        self._key = None
        self._password = None
        try:
            if settings.auth.kind == "key":
                self._key = asyncssh.import_private_key(secret)
            else:
                self._password = secret.decode()
        except (asyncssh.KeyImportError, UnicodeDecodeError) as error:
            raise SchemaError(f"{where}.auth.secret", f"Cannot be read: {error}") from None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Hang up."""
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            connection.abort()
            await connection.wait_closed()

    async def entries(self, folder: str, pattern: str) -> list[Entry]:
        """Files of a folder whose names fit a pattern, in the order of their names.

        Raises:
            Unavailable: The server does not answer, or there is no such folder.
        """

        async def scan(sftp: asyncssh.SFTPClient) -> list[Entry]:
            found = []
            async for entry in sftp.scandir(folder):
                name = str(entry.filename)
                fits = FILE_NAME.match(name) and fnmatchcase(name, pattern)
                if fits and stat.S_ISREG(entry.attrs.permissions or stat.S_IFREG):
                    size, changed = entry.attrs.size or 0, int(entry.attrs.mtime or 0)
                    found.append(Entry(name=name, size=size, changed=changed))
            return sorted(found, key=lambda entry: entry.name)

        return await self._do(scan)

    async def read(self, path: str) -> bytes | None:
        """A whole file; None if there is none.

        Raises:
            Unavailable: The server does not answer, or the file is too large.
        """

        async def fetch(sftp: asyncssh.SFTPClient) -> bytes | None:
            try:
                async with sftp.open(path, "rb") as file:
                    size = (await file.stat()).size or 0
                    if size > self._settings.file_bytes_max:
                        raise Unavailable(f"{path} has {size} bytes, too many to be taken")
                    return cast("bytes", await file.read(size))
            except _ABSENT:
                return None

        return await self._do(fetch)

    async def put(self, folder: str, name: str, content: bytes) -> None:
        """Have a file lie there, whole from the first moment on; doing it twice changes nothing.

        Raises:
            Unavailable: The server does not answer; whether the file lies there is not known.
            NameTakenError: Another file has the name.
        """
        target, part = f"{folder}/{name}", f"{folder}/.{name}.part"

        async def write(sftp: asyncssh.SFTPClient) -> bool:
            async with sftp.open(part, "wb") as file:
                await file.write(content)
            try:
                # Without the extension that replaces: a name that is taken is an error here.
                await sftp.rename(part, target)
            except _EXISTS:
                if not await sftp.exists(target):
                    raise
                await sftp.remove(part)
                return False
            return True

        if not await self._do(write) and await self.read(target) not in (content, None):
            raise NameTakenError(target)

    async def remove(self, path: str) -> None:
        """Have a file be gone.

        Raises:
            Unavailable: The server does not answer or does not let us.
        """

        async def unlink(sftp: asyncssh.SFTPClient) -> None:
            try:
                await sftp.remove(path)
            except _ABSENT:
                return

        await self._do(unlink)

    async def _do(self, work: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        """Do some work at the server, in the time that there is for it."""
        sftp = await self._open()
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                return await work(sftp)
        except asyncssh.SFTPError as error:
            if isinstance(error, asyncssh.SFTPNoConnection | asyncssh.SFTPConnectionLost):
                await self.close()
            raise Unavailable(f"the server said {error.reason or type(error).__name__}") from error
        except (OSError, asyncssh.Error, TimeoutError) as error:
            await self.close()
            raise Unavailable(f"the session broke: {_told(error)}") from error

    async def _open(self) -> asyncssh.SFTPClient:
        async with self._opening:
            if self._sftp is not None and self._connection is not None:
                return self._sftp
            settings = self._settings
            try:
                async with asyncio.timeout(settings.connect_seconds):
                    self._connection = await asyncssh.connect(
                        settings.host,
                        settings.port,
                        config=None,
                        known_hosts=(self._trusted, [], []),
                        server_host_key_algs=sorted({key.get_algorithm() for key in self._trusted}),
                        username=settings.auth.user,
                        client_keys=None if self._key is None else [self._key],
                        password=self._password,
                        agent_path=None,
                        keepalive_interval=_KEEPALIVE_SECONDS,
                    )
                    self._sftp = await self._connection.start_sftp_client()
            except (OSError, asyncssh.Error, TimeoutError) as error:
                await self.close()
                raise Unavailable(f"no session: {_told(error)}") from error
            return self._sftp


def _public(text: str, where: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise SchemaError(where, f"Not a public key: {error}") from None


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
