"""A merchant's endpoint on a real socket, and a delivery worker beside a house."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from exchange.core.webhook import is_webhook_signed, parse_public_key
from exchange.service.feed import Feed
from exchange.service.postman import Postman
from exchange.service.webhook_keys import WebhookSigners
from exchange.service.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import House

LOOK_SECONDS = 0.01


@dataclass(slots=True)
class Got:
    """One attempt, as the endpoint saw it."""

    message_id: str
    timestamp: str
    signatures: str
    body: bytes
    path: str

    @property
    def event(self) -> Any:
        """The event."""
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """An endpoint that answers what its script says, and 204 when that is over.

    Attributes:
        script: Statuses to answer next; a float is a wait before 204.
        got: Every attempt, in its order.
        headers: Sent with each answer.
        answer_bytes: Size of each answer's body.
    """

    script: list[int | float] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answer_bytes: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[str]:
        """Types of what came, in its order."""
        return [each.event["type"] for each in self.got]

    async def handle(self, request: web.Request) -> web.Response:
        """Take one webhook."""
        headers = request.headers
        self.got.append(
            Got(
                headers["webhook-id"],
                headers["webhook-timestamp"],
                headers["webhook-signature"],
                await request.read(),
                request.path,
            )
        )
        answer = self.script.pop(0) if self.script else 204
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = 204
        return web.Response(status=answer, headers=self.headers, body=b"x" * self.answer_bytes)


@contextlib.asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    """An endpoint that listens for the block."""
    receiver = Receiver(**options)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Delivery:
    """A delivery worker in this process."""

    postman: Postman
    looking: asyncio.Task[None]

    async def die(self) -> None:
        """End as a killed process does: nothing is written, no lease given back."""
        self.looking.cancel()
        served = list(self.postman._served.values())
        self.postman._served.clear()
        for each in served:
            if each.task is not None:
                each.task.cancel()
        await asyncio.gather(
            self.looking, *(each.task for each in served if each.task), return_exceptions=True
        )


@contextlib.asynccontextmanager
async def delivering(house: House, **sending: Any) -> AsyncIterator[Delivery]:
    """A delivery worker for the block, on the house's clock."""
    sender = WebhookSender(**({"private": True} | sending))
    postman = Postman(
        house.pool,
        feed=Feed(house.pool, look_seconds=LOOK_SECONDS),
        shelf=house.services.shelf,
        sender=sender,
        signers=WebhookSigners(house.services.key_folder),
        now_us=house.clock,
        random=random.Random(1),
    )

    async def keep_looking() -> None:
        while True:
            await postman.look()
            await asyncio.sleep(LOOK_SECONDS)

    delivery = Delivery(postman, asyncio.create_task(keep_looking()))
    try:
        yield delivery
    finally:
        delivery.looking.cancel()
        await asyncio.gather(delivery.looking, return_exceptions=True)
        await postman.stop(seconds=1)
        await sender.close()


async def register(house: House, url: str, *, caller: str = "house", **more: Any) -> int:
    """Register an endpoint; its number."""
    answer = await house.call("POST", "/v1/endpoints", {"url": url, **more}, caller=caller)
    assert answer.status == 201, answer.raw
    return int(answer.body["endpoint"])


async def is_ours(house: House, got: Got) -> bool:
    """Whether a webhook is signed with a key that the house publishes."""
    answer = await house.call("GET", "/v1/events/keys", caller=None)
    return is_webhook_signed(
        [parse_public_key(key["public_key"]) for key in answer.body["keys"]],
        message_id=got.message_id,
        timestamp=got.timestamp,
        body=got.body,
        signatures=got.signatures,
        now_seconds=house.clock() // 1_000_000,
    )
