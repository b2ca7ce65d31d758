"""The operating system's user that runs the private server, and what it can reach."""

import contextlib
import os
import pwd
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from deploy.database.binaries import ServerUnavailable

log = structlog.get_logger()

SERVER_USER = "tongdui"
"""The system user under whom root's server runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user that runs the server."""

    uid: int
    gid: int
    name: str


def account_for(cluster: Path) -> Account:
    """Return who runs the server: the caller; for root the data's owner, else the system user."""
    uid = os.geteuid()
    if uid != 0:
        return _account(uid)
    with contextlib.suppress(OSError):
        owner = cluster.stat().st_uid
        if owner != 0:
            return _account(owner)
    said = ""
    for attempt in range(5):
        with contextlib.suppress(KeyError):
            return _account(pwd.getpwnam(SERVER_USER).pw_uid)
        try:
            done = subprocess.run(
                [
                    *("useradd", "--system", "--user-group", "--no-create-home"),
                    *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SERVER_USER),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise ServerUnavailable(
                f"PostgreSQL does not run as root, and this machine has no useradd: "
                f"make a system user named {SERVER_USER}, or run as another user than root"
            ) from error
        said = done.stderr.strip()
        if done.returncode == 0:
            log.info("system_user.created", name=SERVER_USER)
        elif attempt:
            time.sleep(0.1 * attempt)  # Another launcher may hold the user database.
    raise ServerUnavailable(f"cannot make the system user {SERVER_USER}: {said}")


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise ServerUnavailable(
            f"user id {uid} has no name on this machine, and PostgreSQL wants one; "
            f"name a server in DATABASE_URL"
        ) from error
    return Account(uid=uid, gid=entry.pw_gid, name=entry.pw_name)


def allows(path: Path, account: Account, bits: int) -> bool:
    """Say whether the mode of `path` gives `account` all of `bits` (4 read, 2 write, 1 enter)."""
    held = path.stat()
    shift = 6 if held.st_uid == account.uid else 3 if held.st_gid == account.gid else 0
    return (held.st_mode >> shift) & bits == bits


def closed_folder(path: Path, account: Account) -> Path | None:
    """Return the first existing folder on the way to `path` that `account` cannot enter, if any."""
    way = (path, *path.parents)
    for folder in reversed(way):
        if folder.is_dir() and not allows(folder, account, 1):
            return folder
    return None


def can_run(bin_dir: Path, account: Account) -> bool:
    """Say whether `account` can run the programs in `bin_dir` and read what they need."""
    real = bin_dir.resolve()
    if closed_folder(real, account) is not None:
        return False
    return all(
        allows(path, account, 5) for path in (real / "postgres", real / "initdb", real, real.parent)
    ) and all(allows(folder, account, 5) for folder in real.parent.iterdir() if folder.is_dir())
