"""Merchants with systems of their own: shipped adapters, simulators as processes, and members who are linked there.

Two are healthy, each with limits that bind nothing, since it is our side that is measured. The third has the limits
that it is shipped with; it dies when its process is stopped (SIGSTOP): the kernel goes on taking connections for it,
and nobody answers. Continued, it does what was asked meanwhile, as a system does that comes back.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from adapters.kit import registry
from adapters.kit.manifest import MANIFEST_FILE
from deploy.database.connection import open_pool
from exchange.bench import market
from exchange.bench.processes import Failed
from exchange.service.shelf import STALE_SECONDS
from exchange.store.catalogue import fetch_catalogue
from exchange.store.connections import insert_connection
from schemas.wire.members import EnrolRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from adapters.kit.folder import Folder
    from exchange.bench.house import House, Operator

LINKED_MEMBERS: Final = 100
"""Members with an account at every one of these merchants: the first of the market."""
MEMBER_UNITS: Final = 1_000_000_000
START_SECONDS_MAX: Final = 60.0
OPEN_SECONDS_MAX: Final = 30.0
_LINKS_AT_ONCE: Final = 16
_AMPLE: Final = {"concurrency": "10_000", "per_second": "100_000", "burst": "100_000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One merchant of the benchmark.

    Attributes:
        code: Its code here.
        shipped: The shipped adapter that reaches it.
        limits: Limits of its manifest that are changed, as TOML.
    """

    code: str
    shipped: str
    limits: dict[str, str]


HEALTHY: Final = (
    Shop(code="noodle-house", shipped="noodle-house", limits=_AMPLE),
    Shop(code="orbit-coffee", shipped="orbit-coffee", limits=_AMPLE),
)
DYING: Final = Shop(code="corner-shop", shipped="noodle-house", limits={})
SHOPS: Final = (*HEALTHY, DYING)

BETWEEN_HEALTHY: Final = [(HEALTHY[0].code, HEALTHY[1].code), (HEALTHY[1].code, HEALTHY[0].code)]
"""(issuer, acceptor): a hold that is captured one way, a burn the other, a credit in both."""
WITH_DYING: Final = [(DYING.code, HEALTHY[0].code), (HEALTHY[0].code, DYING.code)]


@dataclass(slots=True, kw_only=True)
class Shops:
    """The merchants' systems, running.

    Attributes:
        pids: Their processes; the last is of the one that dies.
    """

    pids: list[int]
    _house: House
    _folders: list[Folder]
    _settings: list[dict[str, Any]]
    _linked: bool = False

    @asynccontextmanager
    async def connected(self, operator: Operator) -> AsyncIterator[None]:
        """Connect the house with them for the length of the block; the first time members are linked, too.

        Their adapters are the shipped ones and are not tried again, so the connections name no certificate.

        Raises:
            Failed: An account is not recognised, or a merchant is not reached in time.
        """
        await _connect(self._house, self._folders, self._settings)
        await _reach(operator)
        if len(self._house.pids().gateways) > 1:
            await asyncio.sleep(STALE_SECONDS)  # One that was not asked may not know it yet.
        if not self._linked:
            await _link_members(operator)
            self._linked = True
        yield
        await _connect(self._house, self._folders, None)

    def kill(self) -> None:
        """Let the third merchant's system stop answering."""
        os.kill(self.pids[-1], signal.SIGSTOP)

    def revive(self) -> None:
        """Let it go on."""
        os.kill(self.pids[-1], signal.SIGCONT)


@asynccontextmanager
async def open_shops(house: House) -> AsyncIterator[Shops]:
    """Run the merchants' systems for the length of the block.

    Raises:
        Failed: One does not start.
    """
    async with AsyncExitStack() as stack:
        folders = [_write_folder(house.folder / "shops" / shop.code, shop) for shop in SHOPS]
        running = [await stack.enter_async_context(_simulator(folder)) for folder in folders]
        settings = await asyncio.gather(*(_settings(process) for process in running))
        yield Shops(
            pids=[process.pid for process in running],
            _house=house,
            _folders=folders,
            _settings=list(settings),
        )


async def _tokens(operator: Operator) -> list[str]:
    """What the house calls the members, by their number."""
    names = [market.member_name(number) for number in range(LINKED_MEMBERS)]
    enrolled = await operator.call(
        "POST", "/v1/members", msgspec.json.encode(EnrolRequest(members=names))
    )
    tokens: list[str] = enrolled["tokens"]
    return tokens


async def _reach(operator: Operator) -> None:
    """Wait until the house reaches every merchant."""
    [first, *_] = await _tokens(operator)
    deadline = monotonic() + OPEN_SECONDS_MAX
    for shop in SHOPS:
        while True:
            if await _linked(operator, shop, 0, first, last=monotonic() > deadline):
                break
            await asyncio.sleep(0.1)


async def _link_members(operator: Operator) -> None:
    """Link the members, each authenticated by the merchant's own system."""
    places = asyncio.Semaphore(_LINKS_AT_ONCE)
    tokens = await _tokens(operator)

    async def link(shop: Shop, number: int) -> None:
        async with places:
            await _linked(operator, shop, number, tokens[number], last=True)

    await asyncio.gather(*(link(shop, n) for shop in SHOPS for n in range(1, LINKED_MEMBERS)))


async def _linked(operator: Operator, shop: Shop, number: int, token: str, *, last: bool) -> bool:
    """Link one member; False if the merchant is not reached yet, and this was not the last time to try."""
    proof = registry.find(shop.shipped).manifest.sandbox.proof
    body = {"merchant": shop.code, "merchant_member": _account(number), "proof": proof}
    path = f"/v1/members/{token}/links"
    try:
        await operator.call("POST", path, msgspec.json.encode(body))
    except Failed:
        if last:
            raise
        return False
    return True


def _account(number: int) -> str:
    return f"A-{number:05d}"


def _write_folder(path: Path, shop: Shop) -> Folder:
    """A copy of the shipped folder with this merchant's code, limits, members and a secret that both ends read.

    Raises:
        Failed: The shipped manifest has not the lines that are changed.
    """
    shutil.copytree(registry.find(shop.shipped).path, path)
    secret = path.with_name(f"{shop.code}.secret")
    secret.write_text(secrets.token_hex(16), encoding="utf-8")
    lines = {"code": f'"{shop.code}"', "secret": f'"file:{secret}"'} | shop.limits
    text = (path / MANIFEST_FILE).read_text(encoding="utf-8")
    for name, value in lines.items():
        text, changed = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        if changed != 1:
            raise Failed(f"the manifest of {shop.shipped} has {changed} lines of {name!r}")
    # The shipped manifests end with the table of test members.
    members = "".join(f'"{_account(n)}" = {MEMBER_UNITS}\n' for n in range(LINKED_MEMBERS))
    (path / MANIFEST_FILE).write_text(text.rstrip("\n") + "\n" + members, encoding="utf-8")
    folder = registry.at(path)
    if len(folder.manifest.sandbox.members) < LINKED_MEMBERS:
        raise Failed(f"the manifest of {shop.shipped} does not end with its test members")
    return folder


@asynccontextmanager
async def _simulator(folder: Folder) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tongdui adapter simulate` for the length of the block; its complaints go to a file beside the folder."""
    with folder.path.with_suffix(".log").open("wb") as complaints:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "exchange.cli", "adapter", "simulate", str(folder.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _settings(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """What a simulator says of where it listens.

    Raises:
        Failed: It ends instead, or says nothing in time.
    """
    assert process.stdout is not None
    text = ""
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while line := await process.stdout.readline():
                text += line.decode()
                if line == b"}\n":
                    told: dict[str, Any] = json.loads(text)["settings"]
                    return told
    except TimeoutError:
        pass
    raise Failed("the simulator of a merchant did not start")


async def _connect(
    house: House, folders: list[Folder], settings: list[dict[str, Any]] | None
) -> None:
    """Connect the merchants where their simulators listen, or disconnect them all."""
    pool = await open_pool(house.dsn, size=1)
    try:
        by_code = (await fetch_catalogue(pool)).by_code
        for place, folder in enumerate(folders):
            await insert_connection(
                pool,
                merchant_no=by_code[folder.code],
                folder="" if settings is None else str(folder.path),
                settings={} if settings is None else settings[place],
                certificate_digest=None,
                now=datetime.now(UTC),
            )
    finally:
        await pool.close()
