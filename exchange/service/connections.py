"""Merchants' systems as one worker reaches them: folders found, adapters built, started and closed.

A hosted programme stands among them behind the same contract (`exchange.service.hosted`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.guard import Guarded
from exchange.service.journey_roads import Connected
from exchange.store.catalogue import fetch_hosted
from exchange.store.connections import fetch_connections
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg import Pool

    from adapters.kit.contract import Adapter, Answers
    from adapters.kit.figures import CallFigures
    from adapters.kit.folder import Folder
    from adapters.kit.secret import Secrets
    from exchange.core.catalogue import Programme

log = structlog.get_logger()

LOOK_SECONDS: Final = 2.0


def open_connection(folder: str, settings: dict[str, Any]) -> Folder:
    """Find the folder that a connection names: a merchant's code, or a path with a `/` in it.

    Raises:
        SchemaError: There is no such folder, or it is malformed.
    """
    found = registry.at(Path(folder)) if "/" in folder else registry.find(folder)
    return found.with_settings(settings) if settings else found


class Connections:
    """Keeps the systems of all connected merchants open; what is connected later is opened later."""

    def __init__(
        self,
        pool: Pool,
        merchants: dict[int, Connected],
        *,
        answers_of: Callable[[int], Answers],
        now_us: Callable[[], int],
        figures: CallFigures,
        build: Callable[[Folder, Context], Adapter] = registry.build,
        place: Callable[[Folder], Awaitable[tuple[Folder, Secrets]]] | None = None,
        host: Callable[[Programme], Connected] | None = None,
    ) -> None:
        """Take what adapters need.

        Args:
            pool: Where connections are read.
            merchants: Filled and kept here, by merchant number.
            answers_of: Gives a merchant's adapter where to put answers that come later.
            now_us: Clock, microseconds since 1970.
            figures: Where calls are counted.
            build: Makes an adapter of a folder.
            place: Where a merchant's system is instead, and its secrets: a simulator's; None for the real one.
            host: Makes what a hosted programme is reached through; None if those are not reached.
        """
        self._host = host
        self._place = place
        self._pool = pool
        self._merchants = merchants
        self._answers_of = answers_of
        self._now_us = now_us
        self._figures = figures
        self._build = build
        self._open: dict[int, tuple[int, Guarded]] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open everything that is connected now, and go on looking."""
        await self.refresh()
        self._watch = asyncio.create_task(self._look(), name="connections")

    async def stop(self) -> None:
        """Close everything."""
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        opened, self._open = self._open, {}
        self._merchants.clear()
        await asyncio.gather(
            *(guarded.close() for _, guarded in opened.values()), return_exceptions=True
        )

    async def refresh(self) -> None:
        """Open what is new, and what is connected otherwise than before.

        A merchant that was disconnected stays open until this worker ends: orders that are under way
        there must end, and gateways send no new ones.
        """
        if self._host is not None:
            for programme in await fetch_hosted(self._pool):
                if programme.merchant_no not in self._merchants:
                    self._merchants[programme.merchant_no] = self._host(programme)
        for row in await fetch_connections(self._pool):
            number, merchant_no = row["connection_no"], row["merchant_no"]
            before = self._open.get(merchant_no)
            if before is not None and before[0] == number:
                continue
            try:
                guarded, connected = await self._start(merchant_no, row["folder"], row["settings"])
            except Exception as error:  # noqa: BLE001 - one merchant's folder must not keep the others closed
                log.warning("merchant.not_opened", merchant=row["code"], detail=_sentence(error))
                continue
            self._open[merchant_no] = (number, guarded)
            self._merchants[merchant_no] = connected
            log.info("merchant.opened", merchant=row["code"], folder=row["folder"])
            if before is not None:
                await before[1].close()

    async def _start(self, merchant_no: int, name: str, settings: str) -> tuple[Guarded, Connected]:
        folder = open_connection(name, msgspec.json.decode(settings, type=dict[str, Any]))
        context = Context(answers=self._answers_of(merchant_no), now_us=self._now_us)
        if self._place is not None:
            folder, secrets = await self._place(folder)
            context = replace(context, secrets=secrets)
        adapter = self._build(folder, context)
        guarded = Guarded(adapter, folder.manifest, now_us=self._now_us, figures=self._figures)
        await guarded.start()
        return guarded, Connected(system=guarded, manifest=folder.manifest)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - a database that is away comes back
                log.warning("connections.not_read", detail=_sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, SchemaError):
        return str(error)
    return f"{type(error).__name__}: {error}"
