"""Keys under which quotes are sealed: one file that all gateways share.

The file lists keys, the newest last; the newest seals, the others are honoured until every quote that
they sealed has expired. A gateway that meets an unknown key id reads the file again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from exchange.core.token import key_id, named_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

FILE_NAME: Final = "quotes.json"
OVERLAP_SECONDS: Final = 24 * 3600
"""How long a superseded key is honoured: longer than any quote lives."""
REREAD_SECONDS: Final = 1.0


class QuoteKeysUnusable(Exception):  # noqa: N818 - a state of the file, told to a person
    """The key file cannot be used; the message says what to do."""


class _StoredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as it is stored.

    Attributes:
        secret: 32 bytes, in hexadecimal.
        made_at: When it was made (ISO 8601).
        superseded_at: When a newer key took over; null while it seals.
    """

    secret: str
    made_at: str
    superseded_at: str | None = None


class QuoteKeys:
    """The keys as this gateway knows them."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            QuoteKeysUnusable: It is missing, malformed, or others may read it.
        """
        self._path = path
        self._read_at = 0.0
        self._stamp: tuple[int, int] = (0, 0)
        self._keys: dict[bytes, bytes] = {}
        self._newest = b""
        self._read()

    @property
    def newest(self) -> bytes:
        """The key that seals."""
        self._reread()
        return self._newest

    def for_token(self, token: str) -> Mapping[bytes, bytes]:
        """Keys that are honoured, by id; read again if the token names one that is unknown."""
        if named_key(token) not in self._keys:
            self._reread()
        return self._keys

    def _reread(self) -> None:
        """Look at the file again, though not more often than once a second."""
        if monotonic() - self._read_at < REREAD_SECONDS:
            return
        with contextlib.suppress(OSError, QuoteKeysUnusable):
            # A file that is being replaced is no reason to stop: the keys in memory still serve.
            self._read()

    def _read(self) -> None:
        self._read_at = monotonic()
        try:
            found = self._path.stat()
        except OSError as error:
            raise QuoteKeysUnusable(f"cannot read {self._path}: {error.strerror}") from error
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == self._stamp:
            return
        keys = [bytes.fromhex(stored.secret) for stored in _load(self._path)]
        self._keys = {key_id(key): key for key in keys}
        self._newest = keys[-1]
        self._stamp = stamp


def open_quote_keys(folder: Path, *, now: datetime) -> QuoteKeys:
    """Open the key file in `folder`, and make it if there is none; several gateways may start at once."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if not path.exists():
        _write(path, [_fresh(now)], replace=False)
    return QuoteKeys(path)


def rotate_quote_keys(folder: Path, *, now: datetime) -> str:
    """Add a key that seals from now on; those that no quote can need any more are forgotten.

    Returns:
        Id of the new key, in hexadecimal.

    Raises:
        QuoteKeysUnusable: There is no usable file.
    """
    path = folder / FILE_NAME
    kept: list[_StoredKey] = []
    for stored in _load(path):
        if stored.superseded_at is None:
            kept.append(msgspec.structs.replace(stored, superseded_at=now.isoformat()))
        elif (
            now - type(now).fromisoformat(stored.superseded_at)
        ).total_seconds() < OVERLAP_SECONDS:
            kept.append(stored)
    fresh = _fresh(now)
    _write(path, [*kept, fresh], replace=True)
    return key_id(bytes.fromhex(fresh.secret)).hex()


def _fresh(now: datetime) -> _StoredKey:
    return _StoredKey(secret=secrets.token_hex(32), made_at=now.isoformat())


def _load(path: Path) -> list[_StoredKey]:
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise QuoteKeysUnusable(f"others may read {path}: run `chmod 600` on it")
        stored = msgspec.json.decode(path.read_bytes(), type=list[_StoredKey])
        if not stored or any(len(bytes.fromhex(one.secret)) != 32 for one in stored):
            raise QuoteKeysUnusable(f"{path} holds no usable key")
    except OSError as error:
        raise QuoteKeysUnusable(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise QuoteKeysUnusable(f"{path} is damaged: {error}") from error
    return stored


def _write(path: Path, keys: list[_StoredKey], *, replace: bool) -> None:
    """Write the file whole; without `replace`, one that another process made meanwhile stays."""
    work = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if replace:
            work.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(work)
    finally:
        work.unlink(missing_ok=True)
