"""What simulators over HTTP share: listening, and spoiling an answer on its way as the plan says."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters.kit.simulator.faults import CONNECT, FAULT_HEADER, Fault, Occasion, Trouble

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping

    from adapters.kit.contract import Step
    from adapters.kit.simulator.stage import Stage

_TRICKLES: Final = 8
_GARBAGE_BYTES: Final = 200
_END_SECONDS: Final = 0.02
"""How long calls under way may still take when the simulator ends; those that hang never end."""


@asynccontextmanager
async def listening(
    app: web.Application, stage: Stage, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve an application where the stage says; gives its address, `http://host:port`.

    A handler is cancelled when its caller goes away, so that one which never answers ends too.

    Args:
        app: What is served.
        stage: Says where, and which connections fail: with TLS in the handshake, else at once.
        tls: The server's context; plain HTTP if None.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=_END_SECONDS,
    )
    await runner.setup()
    loop = asyncio.get_running_loop()

    def fails() -> bool:
        trouble = stage.plan.draw(Occasion(operation=CONNECT))
        return trouble is not None and trouble.fault is Fault.TLS_FAILURE

    def protocol() -> asyncio.BaseProtocol:
        if tls is None and fails():
            return _Closing()
        if runner.server is None:
            raise RuntimeError("the runner was not set up")
        return runner.server()

    if tls is not None:
        tls.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE if fails() else None
    server = await loop.create_server(protocol, stage.host, stage.port, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http{'s' if tls else ''}://{host}:{port}"
    finally:
        server.close()
        await runner.cleanup()


def draw(
    request: web.Request,
    stage: Stage,
    operation: str,
    *,
    step: Step | None = None,
    reference: str = "",
) -> Trouble | None:
    """What befalls a request; its header may wish for it.

    Raises:
        SchemaError: The wish cannot be read.
    """
    wish = request.headers.get(FAULT_HEADER, "")
    return stage.plan.draw(Occasion(operation=operation, step=step, reference=reference, wish=wish))


async def never_answer() -> None:
    """Hang until the caller has gone."""
    await asyncio.Event().wait()


async def send(
    request: web.Request,
    body: bytes,
    *,
    content_type: str,
    trouble: Trouble | None,
    rng: random.Random,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer, with what befalls an answer on its way; whatever took effect before stays.

    Args:
        request: What is answered.
        body: The whole and right answer.
        content_type: Its type, with the charset.
        trouble: What befalls it; faults that do not concern the way are passed over.
        rng: Draws garbage.
        status: The HTTP status.
        headers: More headers.
    """
    fault = trouble.fault if trouble else None
    seconds = trouble.seconds if trouble else 0.0
    if fault is Fault.TIMEOUT_AFTER:
        await never_answer()
    if fault is Fault.LATENCY:
        await asyncio.sleep(seconds)
    if fault is Fault.GARBAGE:
        body = rng.randbytes(_GARBAGE_BYTES)
    if fault is Fault.TRUNCATED:
        body = body[: len(body) // 2]
    answer = web.StreamResponse(
        status=status, headers={"Content-Type": content_type, **(headers or {})}
    )
    answer.content_length = len(body)
    # A caller that has given up meanwhile is no fault of the server, and worth no line in a log.
    with suppress(ConnectionResetError):
        await answer.prepare(request)
        if fault is Fault.CUT:
            await answer.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
            return answer
        if fault is Fault.SLOW_BODY:
            piece = len(body) // _TRICKLES + 1
            for start in range(0, len(body), piece):
                await asyncio.sleep(seconds / _TRICKLES)
                await answer.write(body[start : start + piece])
        else:
            await answer.write(body)
        await answer.write_eof()
    return answer


class _Closing(asyncio.Protocol):
    """Ends a connection as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
