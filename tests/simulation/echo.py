"""A history of aiohttp alone: echoes over a troubled virtual network, printed line by line.

`python -m tests.simulation.echo SEED` prints the trace; two processes must print the same.
"""

import asyncio
import logging
import random
import sys
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from exchange.simulation.loop import Host, VirtualLoop
from exchange.simulation.network import Disturbance, Network, Trouble
from exchange.simulation.pinning import pinned

START_US = 1_772_000_000_000_000
REQUESTS = 200
URL = "http://127.0.0.1:8080/echo"


async def echo(request: web.Request) -> web.Response:
    """Give the body back, twice."""
    body = await request.read()
    return web.Response(body=body + body)


async def serve() -> None:
    """Be the server, for ever."""
    app = web.Application()
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 8080).start()


async def ask(session: aiohttp.ClientSession, number: int, rng: random.Random) -> str:
    """Send one request and say how it ended."""
    body = rng.randbytes(rng.randrange(1, 3000))
    await asyncio.sleep(rng.random() * 3)
    try:
        async with session.post(
            URL, data=body, timeout=aiohttp.ClientTimeout(total=0.5)
        ) as response:
            answer = await response.read()
            same = "same" if answer == body + body else "other"
            return f"{number} {response.status} {len(answer)} {same} {response.headers['Date']}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{number} {type(error).__name__}"


def troubles() -> Iterator[Disturbance]:
    """Every kind of trouble, in both directions, within three seconds."""
    rng = random.Random(5)
    for _ in range(30):
        from_us = rng.randrange(3_000_000)
        source, target = rng.choice([("client", "server"), ("server", "client")])
        trouble = rng.choice([*Trouble, Trouble.CUT, Trouble.CUT])
        yield Disturbance(
            trouble=trouble,
            source=source,
            target=target,
            from_us=from_us,
            to_us=from_us + rng.randrange(1, 200_000),
            figure=rng.randrange(4000) if trouble is Trouble.CUT else 600_000,
        )


def run(seed: str) -> list[str]:
    """Run the history of one seed and give its trace."""
    lines: list[str] = []
    loop = VirtualLoop()

    def note(event: str, **fields: object) -> None:
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        lines.append(f"{loop.time():.6f} {event} {told}")

    network = Network(loop, seed=seed, troubles=troubles(), note=note)

    async def ask_all() -> None:
        rng = random.Random(seed)
        async with aiohttp.ClientSession() as session:
            asked = {asyncio.create_task(ask(session, number, rng)) for number in range(REQUESTS)}
            while asked:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                lines.extend(f"{loop.time():.6f} {task.result()}" for task in done)

    with pinned(loop, seed=seed, start_us=START_US):
        loop.run_on(Host("server"), serve(), name="server")
        loop.run_on(Host("client"), ask_all(), name="client")
        lines.append(
            f"{loop.time():.6f} {network.deliveries} {network.carried_bytes} {network.checksum:08x}"
        )
        loop.end()
    lines.extend(loop.failures())
    return lines


if __name__ == "__main__":
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    print("\n".join(run(sys.argv[1])))
