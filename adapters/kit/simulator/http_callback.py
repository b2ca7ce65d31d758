"""A merchant's system that takes a call with 202 and posts the outcome later, signed.

What it answers and what it posts are the examples of its mapping file. It posts until it is
acknowledged, a few times; a fault makes that late, repeated, out of order, or signed by somebody else.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import ClientError, ClientTimeout, web
from yarl import URL

from adapters.kit.http_auth import Ed25519, Sent, signature_headers
from adapters.kit.protocols.http_callback.client import load_callback_mapping
from adapters.kit.protocols.http_callback.settings import read_settings
from adapters.kit.protocols.http_mapping.figures import write_json
from adapters.kit.protocols.http_mapping.template import filled
from adapters.kit.simulator.faults import Fault
from adapters.kit.simulator.gate import Gate, new_key_pair
from adapters.kit.simulator.http_json import System
from adapters.kit.simulator.http_server import listening
from adapters.kit.simulator.stage import Running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adapters.kit.folder import Folder
    from adapters.kit.protocols.http_callback.settings import CallbackSettings
    from adapters.kit.protocols.http_mapping.mapping import Mapping, Rule
    from adapters.kit.simulator.faults import Trouble
    from adapters.kit.simulator.ledger import Booked
    from adapters.kit.simulator.stage import Stage

_POSTS_MAX: Final = 8
_WAIT_SECONDS: Final = 0.05
"""Before the second post; twice as long before each one after it."""
_REPEATS: Final = 3
_OVERTAKEN_SECONDS: Final = 0.3
"""How long a callback that should be overtaken waits for another one."""
_ANSWER_SECONDS: Final = 2.0


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[Running]:
    """Speak what a folder's mapping file describes, and call back.

    Raises:
        SchemaError: Manifest or mapping is malformed.
    """
    settings = read_settings(folder)
    mapping = load_callback_mapping(folder)
    gate = Gate(settings, stage)
    poster = Poster(settings.callback, mapping, stage)
    system = System(mapping, stage, gate, poster.tell_later)
    poster.system = system
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", system.take)
    async with poster.posting(), listening(app, stage, gate.tls) as address:
        yield Running(
            settings={
                "callback": {"host": "127.0.0.1", "port": 0, "url": ""},
                **gate.settings(address),
            },
            secrets=gate.secrets | {settings.callback.auth.secret: poster.checks},
            stage=stage,
        )


class Poster:
    """Posts outcomes to whoever made the call."""

    system: System

    def __init__(self, settings: CallbackSettings, mapping: Mapping, stage: Stage) -> None:
        """Draw a key, or take the one that is set."""
        self._auth = settings.auth
        self._mapping = mapping
        self._stage = stage
        if isinstance(self._auth, Ed25519):
            self.checks, self._signs = new_key_pair(stage.random)
            _, self._strange = new_key_pair(stage.random)
        else:
            self.checks = self._signs = stage.secret(self._auth.secret)
            self._strange = stage.random.randbytes(16).hex().encode()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._posted = asyncio.Condition()
        self._count = 0

    @asynccontextmanager
    async def posting(self) -> AsyncIterator[None]:
        """Post until the context ends; what is not posted by then never is."""
        timeout = ClientTimeout(total=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            self._session = session
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def tell_later(self, url: str, booked: Booked, trouble: Trouble | None) -> None:
        """Begin to post an outcome."""
        # The order in which tasks begin is that of their making, on every loop.
        task = asyncio.get_running_loop().create_task(self._tell(url, booked, trouble))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, url: str, booked: Booked, trouble: Trouble | None) -> None:
        fault = trouble.fault if trouble else None
        if fault is Fault.LATE_CALLBACK and trouble is not None:
            await asyncio.sleep(trouble.seconds)
        if fault is Fault.REORDER_CALLBACK:
            await self._wait_to_be_overtaken()
        body = self._body(booked, trouble)
        for _ in range(_REPEATS if fault is Fault.REPEAT_CALLBACK else 1):
            await self._post_until_taken(url, body, trouble)
        async with self._posted:
            self._count += 1
            self._posted.notify_all()

    async def _wait_to_be_overtaken(self) -> None:
        before = self._count
        try:
            async with asyncio.timeout(_OVERTAKEN_SECONDS), self._posted:
                await self._posted.wait_for(lambda: self._count > before)
        except TimeoutError:
            return

    def _body(self, booked: Booked, trouble: Trouble | None) -> bytes:
        rule, code = self._rule(booked)
        known = self.system.known(trouble) | self.system.told(booked, trouble) | {"code": code}
        example: Any = filled(rule.example, known)
        return write_json(example)

    def _rule(self, booked: Booked) -> tuple[Rule, str]:
        """The rule whose example says what was booked, and the code for a refusal."""
        callback = self._mapping.file.callback
        rules = callback.answers if callback else ()
        if booked.refused is None:
            return next(rule for rule in rules if rule.outcome == "done"), ""
        reason = booked.refused.code
        table = self._mapping.file.refusals
        codes = table.codes if table else {}
        code = next((code for code, ours in codes.items() if ours == reason), reason)
        refusals = [rule for rule in rules if rule.outcome == "refused"]
        exact = [rule for rule in refusals if rule.reason == reason and not rule.code]
        return next(iter(exact + refusals)), code

    async def _post_until_taken(self, url: str, body: bytes, trouble: Trouble | None) -> None:
        for place in range(_POSTS_MAX):
            if await self._post(url, body, trouble):
                return
            await asyncio.sleep(_WAIT_SECONDS * 2**place)

    async def _post(self, url: str, body: bytes, trouble: Trouble | None) -> bool:
        """Post once; whether it was acknowledged."""
        fault = trouble.fault if trouble else None
        ahead_us = 0
        if fault is Fault.CLOCK_SKEW and trouble is not None:
            ahead_us = int(trouble.seconds * 1_000_000)
        place = URL(url)
        sent = Sent(
            method="POST",
            host=place.authority,
            path=place.raw_path,
            query=place.raw_query_string,
            body=body,
        )
        headers = signature_headers(
            self._auth,
            self._strange if fault is Fault.WRONG_SIGNATURE else self._signs,
            sent,
            now_us=self._stage.now_us() + ahead_us,
            nonce=self._stage.random.randbytes(16).hex(),
        )
        headers["Content-Type"] = "application/json"
        if self._session is None:
            raise RuntimeError("outcomes are posted inside `posting` only")
        try:
            async with self._session.post(place, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status == 200
        except (ClientError, OSError, TimeoutError):
            return False
