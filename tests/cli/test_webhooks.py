"""Webhooks in service: a delivery worker as a process of its own, and the command line for people."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from exchange.core.feed import Cursor
from exchange.core.webhook import is_webhook_signed, parse_public_key
from exchange.store import endpoints as store
from exchange.store.feed import fetch_head
from tests.cli.conftest import Command
from tests.cli.test_serve import (  # noqa: F401 - a fixture
    Serving,
    give_points,
    order,
    serving,
    with_merchants,
)


class Hook(BaseHTTPRequestHandler):
    """A merchant's endpoint, which keeps what it takes in its server's `got`."""

    def do_POST(self) -> None:
        """Take one webhook."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))  # type: ignore[attr-defined] # given below
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    """An endpoint that listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []  # type: ignore[attr-defined] # what it took
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def wait_for(check: Callable[[], object], seconds: float = 90) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.kill
def test_webhooks_in_service(
    tongdui: Command,
    serving: Callable[..., Serving],  # noqa: F811 - the fixture
    hook: ThreadingHTTPServer,
):
    """A served house tells endpoints of orders, also after its delivery worker was killed, and notes who registered."""
    server = serving(tongdui, "--private-endpoints")
    with_merchants(tongdui)
    give_points(server, "anna")
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    server.json("POST", "/v1/endpoints", {"url": url, "types": ["order.cleared"]})
    got = hook.got  # type: ignore[attr-defined] # the fixture's

    def told() -> int:
        """How many events the endpoint was told of; a worker that was killed may have told one without noting it."""
        return len({headers["webhook-id"] for headers, _ in got})

    server.json("POST", "/v1/orders", order("anna"), key="1")
    wait_for(lambda: told() == 1)
    [pid] = server.ready["delivery_worker_pids"]
    os.kill(pid, signal.SIGKILL)
    server.json("POST", "/v1/orders", order("anna"), key="2")
    wait_for(lambda: told() == 2)
    keys = tongdui.json("webhooks", "keys")
    for headers, body in got:
        assert is_webhook_signed(
            [parse_public_key(key["public_key"]) for key in keys],
            message_id=headers["webhook-id"],
            timestamp=headers["webhook-timestamp"],
            body=body,
            signatures=headers["webhook-signature"],
            now_seconds=int(time.time()),
        )
        assert json.loads(body)["data"]["issuer"] == "GROCERY"
    assert server.stop() == 0
    assert [each["action"] for each in tongdui.json("trail", "list")].count(
        "endpoint.register"
    ) == 1


def test_people_see_resume_and_replay(with_ledger: Command, dsn: str, home: Path):
    """The command line shows endpoints with their dead letters, replays and resumes them, and rotates the keys."""
    from datetime import UTC, datetime

    from deploy.database.connection import open_pool

    now = datetime.now(UTC)

    async def prepare() -> int:
        pool = await open_pool(dsn, size=1)
        async with pool.acquire() as conn:
            cursor = await fetch_head(conn, part=1) or Cursor(0, 0)
            number = await store.insert_endpoint(
                conn, merchant_no=0, url="https://house.example/", types=[], cursor=cursor, now=now
            )
            await store.write_dead_letter(
                conn, endpoint_no=number, claim_no=0, cursor=cursor, event_id="evt-1-1",
                attempts=10, error="answered 400", now=now,
            )  # fmt: skip
            await store.write_failure(
                conn, endpoint_no=number, claim_no=0, cursor=cursor, attempts=1, next_at=now,
                error="no connection", paused_at=now,
            )  # fmt: skip
        await pool.close()
        return number

    number = asyncio.run(prepare())
    [view] = with_ledger.json("webhooks", "list")
    assert (view["endpoint"], view["dead_letters"]) == (number, 1)
    assert view["paused_at"]
    assert "no connection" in with_ledger("webhooks", "list").stdout
    [letter] = with_ledger.json("webhooks", "dead", number)
    assert (letter["id"], letter["last_error"]) == ("evt-1-1", "answered 400")
    assert with_ledger("webhooks", "replay", number, "evt-1-2").returncode == 1
    assert "1 dead letter will" in with_ledger("webhooks", "replay", number).stdout
    assert with_ledger("webhooks", "resume", number, "--why", "it is back").returncode == 0
    assert with_ledger.json("webhooks", "list")[0]["paused_at"] is None
    for command in ("dead", "replay", "resume"):
        gone = with_ledger("webhooks", command, number + 1)
        assert gone.returncode == 1
        assert "there is no endpoint" in gone.stderr
    [key] = with_ledger.json("webhooks", "keys")
    assert with_ledger("webhooks", "rotate-keys", "--overlap-days", 1).returncode == 0
    newer, older = with_ledger.json("webhooks", "keys")
    assert older["public_key"] == key["public_key"]
    assert older["signs_until"]
    assert newer["signs_until"] is None
