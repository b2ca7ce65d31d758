"""An airline's miles host on its own books: SOAP 1.1, sessions, faults that say what was not executed.

It takes a message only with a user name token whose digest is right, whose time is near its own and
whose nonce is new, and, but for signing in, only in a session that has not ended.
"""

from __future__ import annotations

import datetime as dt
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from adapters.kit.contract import Step
from adapters.kit.protocols.soap import wire
from adapters.kit.protocols.soap.settings import read_settings
from adapters.kit.simulator.faults import Fault, Trouble
from adapters.kit.simulator.http_server import draw, listening, never_answer, send
from adapters.kit.simulator.stage import Running, Stage
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from lxml import etree

    from adapters.kit.folder import Folder
    from adapters.kit.simulator.ledger import Booked

SESSION_SECONDS: Final = 900
PAGE_MOVEMENTS: Final = 50
_SKEW_SECONDS_MAX: Final = 300
_US: Final = 1_000_000
_MAINTENANCE: Final = b"<html><body>The miles host is closed for maintenance.</body></html>"
_STEPS: Final = {step.name.lower(): step for step in Step}


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[Running]:
    """Run the host until the context ends.

    Raises:
        SchemaError: The manifest's settings are malformed.
    """
    host = Host(folder, stage)
    app = web.Application(client_max_size=wire.BYTES_MAX)
    app.router.add_post(host.path, host.post_message)
    async with listening(app, stage) as address:
        yield Running(settings={"base_url": address}, stage=stage, secrets=host.secrets)


class _Refused(Exception):  # noqa: N818 - it says what the host did
    """A message that was not executed; becomes a fault."""

    def __init__(self, kind: str, text: str, code: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One message.

    Attributes:
        operation: Ours: `hold`, `status`, …
        header: Its header entries.
        texts: The texts of its body.
        trouble: What befalls it.
    """

    operation: str
    header: Mapping[str, str]
    texts: Mapping[str, str]
    trouble: Trouble | None

    @property
    def fault(self) -> Fault | None:
        """What befalls it, without how long."""
        return self.trouble.fault if self.trouble else None


class Host:
    """The host's handler, its sessions and the nonces that it has seen."""

    def __init__(self, folder: Folder, stage: Stage) -> None:
        """Read the host's words, and know the password.

        Raises:
            SchemaError: The manifest's settings are malformed.
        """
        self._settings = settings = read_settings(folder)
        self._sandbox = folder.manifest.sandbox
        self._stage = stage
        self._password = stage.secret(settings.password)
        self.secrets = {settings.password: self._password}
        self.path = settings.path
        words = settings.operations
        self._operations = {getattr(words, name): name for name in words.__struct_fields__}
        self._codes = {reason: code for code, reason in settings.codes.items()}
        self._kinds = {step: kind for kind, step in settings.kinds.steps().items()}
        self._sessions: dict[str, int] = {}
        self._nonces: dict[bytes, int] = {}

    async def post_message(self, request: web.Request) -> web.StreamResponse:
        """Take one message."""
        settings = self._settings
        header: Mapping[str, str] = {}
        trouble = None
        try:
            message = self._read(await request.read())
            header = message.header
            body = wire.texts(message.body, settings.namespace)
            operation = self._operations.get(_local_name(message.body), "")
            reference = header.get(settings.fields.reference, "") or body.get(
                settings.fields.reference, ""
            )
            trouble = draw(
                request,
                self._stage,
                operation,
                step=_STEPS.get(operation) or _step_asked_about(reference),
                reference=reference,
            )
            asked = _Asked(operation=operation, header=header, texts=body, trouble=trouble)
            if asked.fault is Fault.TIMEOUT_BEFORE:
                await never_answer()
            if asked.fault is Fault.MAINTENANCE:
                return web.Response(status=503, body=_MAINTENANCE, content_type="text/html")
            self._let_in(asked, message.security)
            answer, status = self._done(asked), 200
        except SchemaError:
            answer, status = self._fault("Client", "The message is malformed"), 500
        except _Refused as refused:
            answer, status = self._fault(refused.kind, refused.text, refused.code), 500
        return await send(
            request,
            self._enveloped(header, answer),
            content_type=wire.CONTENT_TYPE,
            trouble=trouble,
            rng=self._stage.random,
            status=status,
        )

    def _read(self, body: bytes) -> wire.Message:
        return wire.read_envelope(body, self._settings.namespace)

    def _let_in(self, asked: _Asked, security: etree._Element | None) -> None:
        """Check the user name token and the session.

        Raises:
            _Refused: The message is not executed.
            SchemaError: The token is malformed.
        """
        now_us = self._now_us(asked.trouble)
        if security is None:
            raise _Refused("Client", "A security header is missing")
        token = wire.read_username_token(security)
        if token.user != self._settings.user or not token.is_of(self._password):
            raise _Refused("FailedAuthentication", "The token could not be authenticated")
        try:
            created_us = wire.read_instant(token.created)
        except ValueError:
            raise _Refused("Client", "The token's time cannot be read") from None
        if abs(now_us - created_us) > _SKEW_SECONDS_MAX * _US:
            raise _Refused("MessageExpired", "The token's time is too far from the host's")
        self._forget_old_nonces()
        if token.nonce in self._nonces:
            raise _Refused("FailedAuthentication", "The token was used before")
        self._nonces[token.nonce] = self._stage.now_us()
        if asked.operation == "sign_in":
            return
        until_us = self._sessions.get(asked.header.get(self._settings.fields.session, ""), 0)
        if now_us >= until_us:
            raise _Refused("Client", "The session has ended", self._settings.session_expired)

    def _forget_old_nonces(self) -> None:
        """Keep a nonce as long as its token could come again; the oldest stand first."""
        since_us = self._stage.now_us() - 2 * _SKEW_SECONDS_MAX * _US
        while self._nonces:
            oldest = next(iter(self._nonces))
            if self._nonces[oldest] >= since_us:
                return
            del self._nonces[oldest]

    def _done(self, asked: _Asked) -> etree._Element:
        """Do what is asked; the answer.

        Raises:
            _Refused: It is not executed.
        """
        match asked.operation:
            case "":
                raise _Refused("Client", "No such operation")
            case "sign_in":
                return self._answer(asked, self._signed_in())
            case "look_up" | "authenticate":
                return self._answer(asked, self._member(asked))
            case "balance":
                return self._answer(asked, self._balance(asked))
            case "status":
                return self._answer(asked, self._status(asked))
            case "statement":
                return self._statement(asked)
            case _:
                return self._answer(asked, self._moved(asked))

    def _signed_in(self) -> list[tuple[str, str]]:
        session = self._stage.random.randbytes(16).hex()
        self._sessions[session] = self._stage.now_us() + SESSION_SECONDS * _US
        return [(self._settings.fields.session, session)]

    def _member(self, asked: _Asked) -> list[tuple[str, str]]:
        names = self._settings.fields
        member = asked.texts.get(names.member, "")
        reason = self._stage.ledger.member(member)
        if reason is None and asked.operation == "authenticate":
            right = asked.texts.get(names.proof) == self._sandbox.proof
            reason = None if right else Reason.MEMBER_NOT_AUTHORISED
        if reason is not None:
            raise self._no(reason)
        return [(names.member, member)]

    def _balance(self, asked: _Asked) -> list[tuple[str, str]]:
        names = self._settings.fields
        member = asked.texts.get(names.member, "")
        units = self._stage.ledger.available(member)
        if units is None:
            raise self._no(Reason.UNKNOWN_MEMBER)
        wrong = asked.fault is Fault.WRONG_AMOUNT
        return [(names.member, member), (names.available, str(units + wrong))]

    def _status(self, asked: _Asked) -> list[tuple[str, str]]:
        booked = self._stage.ledger.find(asked.texts.get(self._settings.fields.reference, ""))
        if booked is None:
            raise self._no(Reason.CALL_NOT_FOUND)
        return self._outcome(booked, asked)

    def _moved(self, asked: _Asked) -> list[tuple[str, str]]:
        names, ledger = self._settings.fields, self._stage.ledger
        reference = asked.header.get(names.reference, "")
        member = asked.texts.get(names.member, "")
        try:
            units = wire.read_long(asked.texts.get(names.amount, ""))
        except ValueError:
            units = 0
        if not (reference and member and 0 < units < AMOUNT_LIMIT):
            raise _Refused("Client", "A reference, a member or miles are missing")
        step = _STEPS[asked.operation]
        booked = ledger.book(step, reference, member, units, asked.texts.get(names.of, ""))
        if asked.fault is Fault.FORGET:
            ledger.forget(reference)
        if booked.refused is not None:
            raise self._no(booked.refused)
        return self._outcome(booked, asked)

    def _outcome(self, booked: Booked, asked: _Asked) -> list[tuple[str, str]]:
        names, states = self._settings.fields, self._settings.states
        if booked.refused is not None:
            return [
                (names.reference, booked.reference),
                (names.state, states.failed),
                (names.code, self._code(booked.refused)),
            ]
        wrong = asked.fault is Fault.WRONG_AMOUNT
        return [
            (names.reference, booked.reference),
            (names.state, states.done),
            (names.number, booked.number),
            (names.amount, str(booked.moved + wrong)),
        ]

    def _statement(self, asked: _Asked) -> etree._Element:
        """One page of a day's movements."""
        settings, names = self._settings, self._settings.fields
        try:
            day = dt.date.fromisoformat(asked.texts.get(names.day, ""))
            first = int(asked.texts.get(names.page, "0"))
        except ValueError:
            raise _Refused("Client", "No such day or page") from None
        entries = self._stage.ledger.day(day)
        end = first + PAGE_MOVEMENTS
        answer = self._answer(asked, [(names.day, day.isoformat())])
        for entry in entries[first:end]:
            answer.append(
                wire.element(
                    settings.namespace,
                    names.line,
                    [
                        (names.reference, entry.reference),
                        (names.kind, self._kinds[entry.step]),
                        (names.member, entry.member),
                        (names.amount, str(entry.moved)),
                        (names.booked, wire.instant_text(entry.at_us)),
                        (names.number, entry.number),
                    ],
                )
            )
        wrong = asked.fault is Fault.WRONG_AMOUNT
        last = [
            (names.count, str(len(entries))),
            (names.total, str(sum(entry.moved for entry in entries) + wrong)),
        ]
        for name, text in last if end >= len(entries) else [(names.page, str(end))]:
            answer.append(wire.text_element(settings.namespace, name, text))
        return answer

    def _answer(self, asked: _Asked, children: Iterable[tuple[str, str]]) -> etree._Element:
        operation = getattr(self._settings.operations, asked.operation)
        return wire.element(self._settings.namespace, f"{operation}Response", children)

    def _no(self, reason: Reason) -> _Refused:
        return _Refused("Client", "The host refused", self._code(reason))

    def _code(self, reason: Reason) -> str:
        """The host's code for a reason; one that no manifest knows if it has none."""
        if reason is Reason.CALL_NOT_FOUND:
            return self._settings.not_found
        return self._codes.get(reason.code, f"OTHER_{reason.number}")

    def _fault(self, kind: str, text: str, code: str = "") -> etree._Element:
        """A fault for what was not executed; what was executed is never answered by one."""
        names = self._settings.fields
        detail = [(names.code, code), (names.executed, "false")]
        return wire.fault_element(self._settings.namespace, kind, text, detail)

    def _enveloped(self, asked: Mapping[str, str], answer: etree._Element) -> bytes:
        settings, names = self._settings, self._settings.fields
        message = asked.get(names.message, "")
        header = [wire.text_element(settings.namespace, names.message, message)]
        return wire.write_envelope(settings.namespace, header, answer)

    def _now_us(self, trouble: Trouble | None) -> int:
        """The host's clock; a fault may set it wrong."""
        skewed = trouble is not None and trouble.fault is Fault.CLOCK_SKEW
        return self._stage.now_us() + (round(trouble.seconds * _US) if skewed and trouble else 0)


def _local_name(element: etree._Element) -> str:
    return element.tag.rpartition("}")[2]


def _step_asked_about(reference: str) -> Step | None:
    """The step that a status call asks about: the last letter of our reference."""
    try:
        return Step(reference[-1:])
    except ValueError:
        return None
