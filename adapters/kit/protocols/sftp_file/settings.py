"""The table `[settings]` of a merchant that exchanges files over SFTP."""

from __future__ import annotations

import re
from datetime import date  # noqa: TC003 - msgspec reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from adapters.kit.files import Layout
from schemas.values.faults import SchemaError
from schemas.values.reason import REASON_BY_CODE, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE_RESULT: Final = "done"
NUMBER_MARK: Final = "{number}"
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
"""Names of files that are looked at; a name with a path in it is never one."""

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Folder = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._/-]{1,128}\Z")]
_Pattern = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9%][A-Za-z0-9._%{}*?-]{0,127}\Z")]
_STEP_CODES: Final = frozenset({"hold", "capture", "release", "credit", "reverse_credit"})


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who we are.

    Attributes:
        user: Name at the merchant's server.
        kind: With a private `key` (OpenSSH or PKCS#8) or a `password`.
        secret: Where it is.
    """

    user: Annotated[str, Meta(min_length=1, max_length=64)]
    kind: Literal["key", "password"]
    secret: str


class FileKind(Layout, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of file: where it lies, what it is called, and how it looks.

    Attributes:
        folder: On the merchant's server, from where the user lands.
        name: Of a request: as `strftime` takes it, with `{number}` for its number of that day.
            Of a response: with `*` and `?`. Of a day: as `strftime` takes it.
    """

    folder: _Folder
    name: _Pattern


class MemberFile(FileKind, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The merchant's list of members, under one name that does not change.

    Attributes:
        fresh_seconds: How long a list that was read is taken for the latest.
        secret: Where the secret of the field `proof_mac` is; without both nobody is authenticated.
    """

    fresh_seconds: _Seconds = 60.0
    secret: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the merchant's server is, what lies there, and how often we come.

    Attributes:
        host: Name or address.
        port: TCP port.
        host_keys: The server's public keys, as OpenSSH writes them; any other is not trusted.
        auth: Who we are.
        spool: Absolute path of a folder of ours on a disk that survives a crash. All processes that
            speak to this merchant share it.
        request: What we send.
        response: What comes back.
        day: Everything booked on one day of the merchant.
        members: Its list of members; without it nobody can be looked up.
        results: The merchant's result codes: `done`, or the code of a reason. A code that is not
            here leaves the call unknown.
        gather_seconds: How long calls are gathered before a request file is made of them.
        gather_calls: So many calls are a file at once.
        poll_seconds: How often response files are looked for.
        connect_seconds: Longest wait for a connection, and for any answer of the server.
        file_bytes_max: Largest file that is taken.
        remove_taken: Whether we remove a response file that was taken; where only the merchant may,
            it is left there and not looked at again while it does not change.
        keep_days: How long the spool keeps what is done.
        day_proves_absence: Whether the merchant has agreed that a request file of a day is not taken
            any more once the file of that day is closed. Only then is a call that is not in it known
            never to happen.
    """

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 22
    host_keys: Annotated[tuple[str, ...], Meta(min_length=1)]
    auth: Auth
    spool: Annotated[str, Meta(pattern=r"\A/")]
    request: FileKind
    response: FileKind
    day: FileKind
    members: MemberFile | None = None
    results: dict[str, str]
    gather_seconds: _Seconds = 2.0
    gather_calls: Annotated[int, Meta(ge=1, le=100_000)] = 500
    poll_seconds: _Seconds = 5.0
    connect_seconds: _Seconds = 10.0
    file_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 64 << 20
    remove_taken: bool = True
    keep_days: Annotated[int, Meta(ge=2, le=400)] = 35
    day_proves_absence: bool = True


def check_settings(settings: Settings, *, where: str) -> dict[str, Reason | None]:
    """Check that the files can carry what is asked of them.

    Args:
        settings: What the manifest says.
        where: Path of the settings, for complaints.

    Returns:
        What each result code means: a reason, or None for done.

    Raises:
        SchemaError: A field is missing, or a code is not known.
    """
    needed = {
        "request": (settings.request, {"reference", "step", "member", "units", "of"}),
        "response": (settings.response, {"reference", "result", "units"}),
        "day": (settings.day, {"reference", "step", "member", "units", "at"}),
    }
    if settings.members is not None:
        needed["members"] = (settings.members, {"member", "units"})
    for kind, (file, names) in needed.items():
        _check_fields(file, names, f"{where}.{kind}")
    if NUMBER_MARK not in settings.request.name:
        raise SchemaError(f"{where}.request.name", f"Has no {NUMBER_MARK}")
    meanings: dict[str, Reason | None] = {}
    for result, code in settings.results.items():
        if code != DONE_RESULT and code not in REASON_BY_CODE:
            raise SchemaError(f"{where}.results.{result}", f"No reason has the code {code!r}")
        meanings[result] = REASON_BY_CODE.get(code)
    if None not in meanings.values():
        raise SchemaError(f"{where}.results", f"No result means {DONE_RESULT!r}")
    return meanings


def request_name(settings: Settings, day: date, number: int) -> str:
    """Name of a request file; numbers of a day have at least four digits."""
    return day.strftime(settings.request.name).replace(NUMBER_MARK, f"{number:04d}")


def day_name(settings: Settings, day: date) -> str:
    """Name of the file of a day."""
    return day.strftime(settings.day.name)


def _check_fields(file: Layout, names: set[str], where: str) -> None:
    fields: Mapping[str, str] = {field.name: field.kind for field in file.line}
    missing = sorted(names - fields.keys())
    if missing:
        raise SchemaError(f"{where}.line", f"Has no field {', '.join(missing)}")
    if fields["units"] not in ("digits", "decimal"):
        raise SchemaError(f"{where}.line", "The field units is not a figure")
    if fields.get("at", "instant") != "instant":
        raise SchemaError(f"{where}.line", "The field at is not an instant")
    for field in file.line:
        if field.name == "step" and field.codes.keys() != _STEP_CODES:
            raise SchemaError(
                f"{where}.line", f"The field step has codes for {sorted(_STEP_CODES)}"
            )
