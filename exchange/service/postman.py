"""Delivery of events to endpoints: each in its own order, each at its own pace.

One worker serves an endpoint at a time, under a lease with a claim number: whatever is written under an older claim
counts for nothing. How far an endpoint has been told is written after events were delivered, never before, so a worker
that dies anywhere leaves events to be sent again under the same id, and none unsent.

An event that is not taken holds those behind it back, for that is what order means. It is tried again with growing
pauses over three days; then it is given up as a dead letter and the next one is sent. If that fails as well, nobody is
there, and the endpoint is paused where it stands: the journal keeps what it missed until somebody resumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from exchange.core.feed import Cursor, Happening, Notice, event_id, parse_event_id, project
from exchange.core.webhook import pause_seconds
from exchange.service.outage import is_outage
from exchange.store import endpoints as store
from settlement.signing.keyring import KeyringUnusable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from asyncpg import Pool, Record

    from exchange.service.feed import Feed
    from exchange.service.shelf import Shelf
    from exchange.service.webhook_keys import WebhookSigners
    from exchange.service.webhook_sender import Sent, WebhookSender

log = structlog.get_logger()

LEASE_SECONDS: Final = 15.0
RENEW_SECONDS: Final = 2.0
CLAIMED_AT_ONCE: Final = 50
SERVED_MAX: Final = 1_000
"""Endpoints that one worker serves at once."""
PAGE: Final = 50
"""Events after which the place is written down; so many may be sent again after a crash."""
IDLE_SECONDS: Final = 30.0
REPLAYS: Final = 50
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(slots=True)
class _Served:
    """An endpoint while this worker serves it.

    Attributes:
        number: The endpoint.
        claim_no: Under which claim.
        merchant_no: Whose it is; 0 for the house.
        url: Where it is.
        types: Types of events; empty for all.
        cursor: Up to where everything was delivered or given up.
        written: The same, as it is written down.
        attempts: Failed attempts at the next event.
        silent: Whether the event before was given up.
        replay_wanted: Whether dead letters are to be tried once more.
        due: Whether the next event may be tried.
        task: Who serves it.
    """

    number: int
    claim_no: int
    merchant_no: int
    url: str
    types: list[str]
    cursor: Cursor
    written: Cursor
    attempts: int
    silent: bool
    replay_wanted: bool
    due: bool
    task: asyncio.Task[None] | None = None


class Postman:
    """Delivers events to the endpoints that it has claimed; others may do the same beside it."""

    def __init__(
        self,
        pool: Pool,
        *,
        feed: Feed,
        shelf: Shelf,
        sender: WebhookSender,
        signers: WebhookSigners,
        now_us: Callable[[], int],
        random: random.Random,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Take what deliveries need.

        Args:
            pool: The database.
            feed: The stream of events.
            shelf: Who the merchants are.
            sender: Sends webhooks.
            signers: Keys that sign them.
            now_us: Clock, microseconds since 1970.
            random: For jitter.
            lease_seconds: How long others wait before they take over what this worker serves.
        """
        self._pool = pool
        self._feed = feed
        self._shelf = shelf
        self._sender = sender
        self._signers = signers
        self._now_us = now_us
        self._random = random
        self._lease = timedelta(seconds=lease_seconds)
        self._worker = uuid.uuid4()
        self._served: dict[int, _Served] = {}
        self._renewed_us = 0

    @property
    def served(self) -> int:
        """How many endpoints this worker serves now."""
        return len(self._served)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_us() / 1_000_000, UTC)

    async def look(self) -> None:
        """Claim what is due, and keep what is served; called a few times a second."""
        now = self._now()
        now_us = self._now_us()
        if self._served and now_us - self._renewed_us >= RENEW_SECONDS * 1_000_000:
            await self._renew(now)
            self._renewed_us = now_us
        room = min(CLAIMED_AT_ONCE, SERVED_MAX - len(self._served))
        if room <= 0:
            return
        for row in await store.claim_endpoints(
            self._pool,
            worker=self._worker,
            now=now,
            lease_until=now + self._lease,
            limit=room,
        ):
            self._begin(row)

    async def _renew(self, now: datetime) -> None:
        """Renew the leases; whoever is not ours any more, or is paused or removed, is let go."""
        kept = await store.renew_leases(
            self._pool, worker=self._worker, now=now, lease_until=now + self._lease
        )
        for served in list(self._served.values()):
            row = kept.get(served.number)
            if row is None or row["claim_no"] != served.claim_no:
                if served.task is not None:
                    served.task.cancel()
            elif row["replay_wanted"]:
                served.replay_wanted = True
                self._feed.nudge(served.merchant_no)

    def _begin(self, row: Record) -> None:
        cursor = Cursor(row["seq"], row["notice_no"])
        served = _Served(
            number=row["endpoint_no"],
            claim_no=row["claim_no"],
            merchant_no=row["merchant_no"],
            url=row["url"],
            types=row["types"],
            cursor=cursor,
            written=cursor,
            attempts=row["attempts"],
            silent=row["silent"],
            replay_wanted=row["replay_wanted"],
            due=row["due"],
        )
        before = self._served.get(served.number)
        if before is not None and before.task is not None:
            before.task.cancel()
        self._served[served.number] = served
        served.task = asyncio.create_task(self._serve(served), name=f"endpoint {served.number}")

    async def _serve(self, served: _Served) -> None:
        """Deliver to one endpoint until it fails, is taken away, or everybody stops."""
        try:
            async with self._feed.listening():
                await self._deliver(served)
            await self._write(served)
            await store.release_endpoint(
                self._pool,
                endpoint_no=served.number,
                claim_no=served.claim_no,
                now=self._now(),
            )
        except KeyringUnusable as error:
            log.error("webhook.not_signed", detail=str(error))  # noqa: TRY400 - a state, no fault of ours
        except Exception as error:
            # The lease runs out, and whoever is well takes the endpoint over.
            if is_outage(error):
                log.warning("webhook.waits", endpoint=served.number, detail=type(error).__name__)
            else:
                log.exception("webhook.failed", endpoint=served.number)
        finally:
            if self._served.get(served.number) is served:
                del self._served[served.number]

    async def _deliver(self, served: _Served) -> None:
        """Send what is due, in order; returns when the endpoint is to be let go of."""
        while not self._feed.is_stopping():
            if served.replay_wanted:
                await self._replay(served)
            if not served.due:
                return
            page = await self._feed.page(
                served.merchant_no, served.cursor, types=served.types, limit=PAGE
            )
            for cursor, each in page.events:
                if not await self._try(served, cursor, each):
                    return
                if self._feed.is_stopping():
                    return
            served.cursor = page.cursor
            if page.events and not await self._write(served):
                return
            if not page.more:
                await self._feed.wait(served.merchant_no, served.cursor, seconds=IDLE_SECONDS)

    async def _try(self, served: _Served, cursor: Cursor, each: Happening | Notice) -> bool:
        """Try the next event once; False if the endpoint is to be let go of."""
        sent = await self._send(served, each)
        if sent.delivered:
            served.cursor = cursor
            served.attempts = 0
            served.silent = False
            return True
        served.attempts += 1
        pause = (
            None
            if sent.gone or served.silent
            else pause_seconds(
                served.attempts, draw=self._random.random(), asked_seconds=sent.asked_seconds
            )
        )
        now = self._now()
        if pause is None and not sent.gone and not served.silent:
            log.warning(
                "webhook.given_up",
                endpoint=served.number,
                event_id=event_id(each),
                attempts=served.attempts,
                detail=sent.error,
            )
            await store.write_dead_letter(
                self._pool,
                endpoint_no=served.number,
                claim_no=served.claim_no,
                cursor=cursor,
                event_id=event_id(each),
                attempts=served.attempts,
                error=sent.error,
                now=now,
            )
            served.cursor = served.written = cursor
            served.attempts = 0
            served.silent = True
            return True
        if pause is None:
            log.warning("webhook.paused", endpoint=served.number, detail=sent.error)
        await store.write_failure(
            self._pool,
            endpoint_no=served.number,
            claim_no=served.claim_no,
            cursor=served.cursor,
            attempts=served.attempts,
            next_at=now + timedelta(seconds=pause or 0),
            error=sent.error,
            paused_at=now if pause is None else None,
        )
        served.written = served.cursor
        return False

    async def _replay(self, served: _Served) -> None:
        """Try dead letters once more, beside the order."""
        served.replay_wanted = False
        while letters := await store.take_replays(
            self._pool, endpoint_no=served.number, limit=REPLAYS
        ):
            for letter in letters:
                seq, notice_no = parse_event_id(letter["event_id"])
                each = await self._feed.find(seq, notice_no, merchant_no=served.merchant_no)
                assert each is not None, "a dead letter names an event that is not there"
                sent = await self._send(served, each)
                await store.write_replay(
                    self._pool,
                    endpoint_no=served.number,
                    letter_no=letter["letter_no"],
                    delivered_at=self._now() if sent.delivered else None,
                    error=sent.error,
                )
            if len(letters) < REPLAYS:
                return

    async def _send(self, served: _Served, each: Happening | Notice) -> Sent:
        codes = await self._shelf.codes_of([each])
        return await self._sender.send(
            served.url,
            keys=self._signers.signing(now=self._now()),
            message_id=event_id(each),
            timestamp=self._now_us() // 1_000_000,
            body=_ENCODER.encode(project(each, served.merchant_no, codes)),
        )

    async def _write(self, served: _Served) -> bool:
        """Write down how far the endpoint has been told; False if it is not ours any more."""
        if served.cursor == served.written:
            return True
        served.written = served.cursor
        return await store.write_progress(
            self._pool,
            endpoint_no=served.number,
            claim_no=served.claim_no,
            cursor=served.cursor,
        )

    async def stop(self, *, seconds: float) -> None:
        """Finish the attempts that are under way, and let go of everything."""
        self._feed.stop()
        tasks = [each.task for each in self._served.values() if each.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with contextlib.suppress(OSError):
            await store.release_endpoints(self._pool, worker=self._worker, now=self._now())
