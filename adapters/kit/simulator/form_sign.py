"""A form-and-sign gateway on its own books: signed answers, notifications that insist, a GBK bill.

It signs with the sandbox's keys (`keys/`). After each call that took effect it posts a notification, as
such gateways do, and posts it again until `success` is answered; where the manifest says that answers
come by callback, a call is only taken at first, and the notification alone tells the outcome.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import hashlib
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web

from adapters.kit.amount import amount_text, units_of
from adapters.kit.contract import Step
from adapters.kit.protocols.form_sign import wire
from adapters.kit.protocols.form_sign.bill import INSTANT
from adapters.kit.protocols.form_sign.notify import TAKEN
from adapters.kit.protocols.form_sign.settings import read_settings
from adapters.kit.signers import read_signer, read_verifier
from adapters.kit.simulator.faults import Fault, Trouble
from adapters.kit.simulator.http_server import draw, listening, never_answer, send
from adapters.kit.simulator.stage import Running, Stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from adapters.kit.folder import Folder
    from adapters.kit.simulator.ledger import Booked

KEYS: Final = Path(__file__).parent / "keys"
_BILLS: Final = "/bills/{name}"
_SKEW_SECONDS_MAX: Final = 600
_AGAIN_SECONDS: Final = (0.05, 0.2, 1.0, 5.0, 20.0)
"""Waits before a notification is posted again; real gateways wait minutes and hours."""
_REORDER_SECONDS: Final = 0.5
_POST_SECONDS: Final = 5.0
_HTML: Final = "text/html; charset=utf-8"
_STEPS: Final = {step.name.lower(): step for step in Step}


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[Running]:
    """Run the gateway until the context ends.

    Raises:
        SchemaError: The manifest's settings are malformed.
    """
    gateway = Gateway(folder, stage)
    app = web.Application()
    app.router.add_post(gateway.path, gateway.post_call)
    app.router.add_get(_BILLS, gateway.get_bill)
    async with gateway.notifying(), listening(app, stage) as address:
        gateway.address = address
        yield Running(
            settings={"base_url": address},
            stage=stage,
            secrets=gateway.secrets,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One verified request.

    Attributes:
        operation: Ours: `hold`, `status`, …
        pairs: As sent.
        trouble: What befalls it.
    """

    operation: str
    pairs: Mapping[str, str]
    trouble: Trouble | None

    @property
    def fault(self) -> Fault | None:
        """The fault alone."""
        return self.trouble.fault if self.trouble else None


class Gateway:
    """The gateway's handlers and its notifications."""

    def __init__(self, folder: Folder, stage: Stage) -> None:
        """Read the merchant's words and the keys.

        Raises:
            SchemaError: The manifest's settings are malformed.
        """
        self._settings = settings = read_settings(folder)
        self._manifest = folder.manifest
        self._stage = stage
        self._zone = ZoneInfo(folder.manifest.hours.zone)
        kind = settings.sign_type.lower()
        self.secrets = {
            settings.private_key: (KEYS / f"exchange-{kind}.pem").read_bytes(),
            settings.public_key: (KEYS / f"merchant-{kind}-public.pem").read_bytes(),
        }
        private, public = KEYS / f"merchant-{kind}.pem", KEYS / f"exchange-{kind}-public.pem"
        self._signer = read_signer(
            settings.sign_type,
            private.read_bytes(),
            where=private.name,
        )
        stranger = KEYS / f"exchange-{kind}.pem"
        self._stranger = read_signer(
            settings.sign_type,
            stranger.read_bytes(),
            where=stranger.name,
        )
        self._verifier = read_verifier(settings.sign_type, public.read_bytes(), where=public.name)
        self._methods = {
            getattr(settings.methods, name): name for name in settings.methods.__struct_fields__
        }
        self._codes = {reason: code for code, reason in settings.codes.items()}
        self.path = settings.path
        self._bills: dict[str, bytes] = {}
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_sent = asyncio.Event()
        self.address = ""

    @asynccontextmanager
    async def notifying(self) -> AsyncIterator[None]:
        """Post notifications while the context lasts; those that are not taken then are lost."""
        timeout = aiohttp.ClientTimeout(total=_POST_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def post_call(self, request: web.Request) -> web.StreamResponse:
        """Take one call."""
        settings = self._settings
        try:
            pairs = wire.read_form(await request.read(), settings.charset)
        except SchemaError:
            return await self._answer(
                request, {}, {settings.fields.code: "INVALID_PARAMETER"}, None
            )
        operation = self._methods.get(pairs.get(settings.fields.method, ""), "")
        reference = pairs.get(settings.fields.reference, "")
        trouble = draw(
            request,
            self._stage,
            operation,
            step=_STEPS.get(operation) or _step_asked_about(reference),
            reference=reference,
        )
        asked = _Asked(operation=operation, pairs=pairs, trouble=trouble)
        if asked.fault is Fault.TIMEOUT_BEFORE:
            await never_answer()
        if asked.fault is Fault.MAINTENANCE:
            return web.Response(status=503, body="系统维护中".encode(), content_type="text/html")
        found = self._refused_at_the_door(asked) or self._done(asked)
        return await self._answer(request, pairs, found, trouble)

    async def get_bill(self, request: web.Request) -> web.StreamResponse:
        """Give a bill that was made before."""
        body = self._bills.get(request.match_info["name"])
        if body is None:
            raise web.HTTPNotFound
        trouble = draw(request, self._stage, "statement_file")
        if trouble is not None and trouble.fault is Fault.TIMEOUT_BEFORE:
            await never_answer()
        if trouble is not None and trouble.fault is Fault.MAINTENANCE:
            raise web.HTTPServiceUnavailable
        content_type = f"text/csv; charset={self._settings.charset}"
        return await send(
            request, body, content_type=content_type, trouble=trouble, rng=self._stage.random
        )

    def _refused_at_the_door(self, asked: _Asked) -> dict[str, str] | None:
        """The answer to a request that is not let in; nothing took effect."""
        settings, names = self._settings, self._settings.fields
        if not wire.is_signed(asked.pairs, self._verifier, settings.sign_type, settings.charset):
            return {names.code: "INVALID_SIGNATURE"}
        if asked.pairs.get(names.app_id) != settings.app_id or not asked.operation:
            return {names.code: "INVALID_APP_OR_METHOD"}
        try:
            written = dt.datetime.strptime(asked.pairs.get(names.time, ""), INSTANT).replace(
                tzinfo=self._zone
            )
        except ValueError:
            return {names.code: "INVALID_TIMESTAMP"}
        off = self._local(asked.trouble) - written
        if abs(off.total_seconds()) > _SKEW_SECONDS_MAX:
            return {names.code: "INVALID_TIMESTAMP"}
        return None

    def _done(self, asked: _Asked) -> dict[str, str]:
        """Do what is asked; the pairs of the answer."""
        match asked.operation:
            case "look_up" | "authenticate":
                return self._member(asked)
            case "balance":
                return self._balance(asked)
            case "status":
                return self._status(asked)
            case "statement":
                return self._statement(asked)
            case _:
                return self._moved(asked)

    def _member(self, asked: _Asked) -> dict[str, str]:
        names = self._settings.fields
        member = asked.pairs.get(names.member, "")
        reason = self._stage.ledger.member(member)
        proof = asked.pairs.get(names.proof, "")
        if reason is None and asked.operation == "authenticate":
            right = proof == self._manifest.sandbox.proof
            reason = None if right else Reason.MEMBER_NOT_AUTHORISED
        return self._said(reason, {names.member: member})

    def _balance(self, asked: _Asked) -> dict[str, str]:
        names = self._settings.fields
        member = asked.pairs.get(names.member, "")
        units = self._stage.ledger.available(member)
        if units is None:
            return self._said(Reason.UNKNOWN_MEMBER, {})
        wrong = asked.fault is Fault.WRONG_AMOUNT
        return self._said(
            None, {names.member: member, names.available: self._amount(units + wrong)}
        )

    def _status(self, asked: _Asked) -> dict[str, str]:
        booked = self._stage.ledger.find(asked.pairs.get(self._settings.fields.reference, ""))
        if booked is None:
            return {self._settings.fields.code: self._settings.not_found}
        return self._said(None, self._outcome(booked, asked.trouble))

    def _moved(self, asked: _Asked) -> dict[str, str]:
        names = self._settings.fields
        pairs = asked.pairs
        reference, member = pairs.get(names.reference, ""), pairs.get(names.member, "")
        try:
            units = units_of(pairs.get(names.amount, ""), self._manifest.points.scale)
        except ValueError:
            return {names.code: "INVALID_PARAMETER"}
        if not (reference and member and units):
            return {names.code: "INVALID_PARAMETER"}
        ledger = self._stage.ledger
        is_first = ledger.first(reference) is None
        step = _STEPS[asked.operation]
        booked = ledger.book(step, reference, member, units, pairs.get(names.of, ""))
        if asked.fault is Fault.FORGET:
            ledger.forget(reference)
        by_callback = self._manifest.answers.way == "callback"
        url = pairs.get(names.notify_url, "")
        if url and is_first and (by_callback or booked.refused is None):
            self._notify(url, booked, asked.trouble)
        if by_callback and is_first:
            taken = {names.reference: reference, names.state: self._settings.states.pending}
            return self._said(None, taken)
        if booked.refused is not None:
            return self._said(booked.refused, {names.reference: reference})
        return self._said(None, self._outcome(booked, asked.trouble))

    def _outcome(self, booked: Booked, trouble: Trouble | None) -> dict[str, str]:
        """What became of a call, as an answer or a notification says it."""
        names, states = self._settings.fields, self._settings.states
        found = {names.reference: booked.reference, names.member: booked.member}
        if booked.refused is not None:
            return {
                **found,
                names.state: states.failed,
                names.why: self._code(booked.refused),
            }
        wrong = trouble is not None and trouble.fault is Fault.WRONG_AMOUNT
        return {
            **found,
            names.state: states.done,
            names.number: booked.number,
            names.amount: self._amount(booked.moved + wrong),
        }

    def _statement(self, asked: _Asked) -> dict[str, str]:
        names = self._settings.fields
        try:
            day = dt.date.fromisoformat(asked.pairs.get(names.day, ""))
        except ValueError:
            return {names.code: "INVALID_PARAMETER"}
        bill = self._bill(day, wrong=asked.fault is Fault.WRONG_AMOUNT)
        name = f"{self._stage.random.randbytes(16).hex()}.csv"
        self._bills[name] = bill
        return self._said(
            None,
            {
                names.day: day.isoformat(),
                names.url: self.address + _BILLS.format(name=name),
                names.digest: hashlib.sha256(bill).hexdigest(),
            },
        )

    def _bill(self, day: dt.date, *, wrong: bool) -> bytes:
        """The day's bill; a wrong one has a total that its rows do not make."""
        words = self._settings.statement
        kinds = {step: name for name, step in words.step_names().items()}
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\r\n")
        table.writerow(
            (words.reference, words.step, words.member, words.amount, words.booked, words.number)
        )
        entries = self._stage.ledger.day(day)
        for entry in entries:
            at = dt.datetime.fromtimestamp(entry.at_us // 1_000_000, self._zone)
            table.writerow(
                (
                    entry.reference,
                    kinds[entry.step],
                    entry.member,
                    self._amount(entry.moved),
                    f"{at:{INSTANT}}",
                    entry.number,
                )
            )
        total = sum(entry.moved for entry in entries) + wrong
        table.writerow((words.total, len(entries), self._amount(total)))
        return text.getvalue().encode(self._settings.charset)

    def _notify(self, url: str, booked: Booked, trouble: Trouble | None) -> None:
        """Post a notification from now on, until it is taken."""
        task = asyncio.get_running_loop().create_task(self._post(url, booked, trouble))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, url: str, booked: Booked, trouble: Trouble | None) -> None:
        fault = trouble.fault if trouble else None
        if fault is Fault.LATE_CALLBACK and trouble:
            await asyncio.sleep(trouble.seconds)
        if fault is Fault.REORDER_CALLBACK:
            await self._let_the_next_go_first()
        body = self._notification(booked, trouble)
        for seconds in (*_AGAIN_SECONDS, None):
            taken = await self._is_taken(url, body)
            self._next_sent.set()
            if taken or seconds is None:
                break
            await asyncio.sleep(seconds)
        if fault is Fault.REPEAT_CALLBACK:
            await self._is_taken(url, body)

    async def _let_the_next_go_first(self) -> None:
        self._next_sent.clear()
        try:
            async with asyncio.timeout(_REORDER_SECONDS):
                await self._next_sent.wait()
        except TimeoutError:
            return

    def _notification(self, booked: Booked, trouble: Trouble | None) -> bytes:
        settings, names = self._settings, self._settings.fields
        pairs = {
            names.app_id: settings.app_id,
            names.time: f"{self._local(trouble):{INSTANT}}",
            "notify_id": self._stage.random.randbytes(16).hex(),
            **self._outcome(booked, trouble),
        }
        return wire.write_form(self._signed(pairs, trouble), settings.charset)

    async def _is_taken(self, url: str, body: bytes) -> bool:
        if self._http is None:
            raise RuntimeError("notifications are posted inside `notifying` only")
        content_type = f"application/x-www-form-urlencoded; charset={self._settings.charset}"
        try:
            async with self._http.post(
                url, data=body, headers={"Content-Type": content_type}
            ) as answer:
                return answer.status == 200 and await answer.text() == TAKEN
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def _answer(
        self,
        request: web.Request,
        asked: Mapping[str, str],
        found: Mapping[str, str],
        trouble: Trouble | None,
    ) -> web.StreamResponse:
        """Sign an answer and send it."""
        settings, names = self._settings, self._settings.fields
        pairs = self._signed(
            {
                names.nonce: asked.get(names.nonce, ""),
                names.time: f"{self._local(trouble):{INSTANT}}",
                **found,
            },
            trouble,
        )
        write = wire.write_json if settings.answer == "json" else wire.write_form
        kind = "application/json" if settings.answer == "json" else "text/plain"
        return await send(
            request,
            write(pairs, settings.charset),
            content_type=f"{kind}; charset={settings.charset}",
            trouble=trouble,
            rng=self._stage.random,
        )

    def _signed(self, pairs: Mapping[str, str], trouble: Trouble | None) -> dict[str, str]:
        wrong = trouble is not None and trouble.fault is Fault.WRONG_SIGNATURE
        signer = self._stranger if wrong else self._signer
        return wire.signed(pairs, signer, self._settings.sign_type, self._settings.charset)

    def _said(self, reason: Reason | None, pairs: Mapping[str, str]) -> dict[str, str]:
        code = self._settings.success if reason is None else self._code(reason)
        return {self._settings.fields.code: code, **pairs}

    def _code(self, reason: Reason) -> str:
        """The gateway's code for a reason; one that no manifest knows if it has none."""
        if reason is Reason.CALL_NOT_FOUND:
            return self._settings.not_found
        return self._codes.get(reason.code, f"OTHER_{reason.number}")

    def _amount(self, units: int) -> str:
        return amount_text(units, self._manifest.points.scale)

    def _local(self, trouble: Trouble | None) -> dt.datetime:
        """The gateway's wall time; a fault may set it wrong."""
        at_us = self._stage.now_us()
        if trouble is not None and trouble.fault is Fault.CLOCK_SKEW:
            at_us += round(trouble.seconds * 1_000_000)
        return dt.datetime.fromtimestamp(at_us // 1_000_000, self._zone)


def _step_asked_about(reference: str) -> Step | None:
    """The step that a status call asks about: the last letter of our reference."""
    try:
        return Step(reference[-1:])
    except ValueError:
        return None
