"""The exchange's side of a SOAP host: one endpoint, a session, and our reference in every header.

Every message carries a user name token with the digest of our password. A session is opened when it
is first needed, by one caller at a time. A call that the host refused because its session has ended is
made once more in a new one, under the same reference, and only if the host says that it was not
executed; otherwise its outcome is unknown like any other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import (
    Balance,
    Call,
    Finding,
    Found,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
    StatementLine,
)
from adapters.kit.http import HttpClient, HttpRequest, NoAnswer
from adapters.kit.manifest import MANIFEST_FILE
from adapters.kit.protocols.moves import Moves
from adapters.kit.protocols.soap import wire
from adapters.kit.protocols.soap.answers import (
    Said,
    is_expired,
    read_miles,
    read_said,
    receipt_of,
    refusal_of,
)
from adapters.kit.protocols.soap.settings import read_settings
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Iterable

    from lxml import etree

    from adapters.kit.context import Context
    from adapters.kit.folder import Folder

_ABOUT_MEMBERS: Final = frozenset((Reason.UNKNOWN_MEMBER, Reason.MEMBER_NOT_AUTHORISED))
_PAGES_MAX: Final = 100_000


def build(folder: Folder, context: Context) -> Soap:
    """Make the adapter of a SOAP host.

    Raises:
        SchemaError: The settings are malformed, or the password is missing.
    """
    return Soap(folder, context)


class Soap(Moves):
    """The contract over SOAP 1.1."""

    def __init__(self, folder: Folder, context: Context) -> None:
        """Read the host's words and the password; nothing is opened yet.

        Raises:
            SchemaError: As for `build`.
        """
        self._settings = settings = read_settings(folder)
        self._context = context
        where = f"{folder.where(MANIFEST_FILE)}.settings.password"
        self._password = context.secrets.read(settings.password, where=where)
        self._http = HttpClient(settings, folder, context)
        self._sign_in_seconds = folder.manifest.limits.deadline_seconds / 2
        self._session = ""
        self._signing_in = asyncio.Lock()
        self._steps = settings.kinds.steps()

    async def start(self) -> None:
        """Make ready to call; the session is opened by the first call."""
        await self._http.start()

    async def close(self) -> None:
        """End calls under way; the host ends the session by itself."""
        await self._http.close()
        self._session = ""

    async def look_up(self, member: str) -> Found:
        """Retrieve a member."""
        return await self._find(self._settings.operations.look_up, member, ())

    async def authenticate(self, member: str, proof: str) -> Found:
        """Have the host check what the member presented."""
        if not wire.is_writable(proof):
            return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)
        more = [(self._settings.fields.proof, proof)]
        return await self._find(self._settings.operations.authenticate, member, more)

    async def capture(self, call: Call) -> Receipt:  # noqa: ARG002 - the contract has it; a burn has not
        """Refuse: what was burnt is spent already. Not asked where the manifest says "burn"."""
        return Receipt(outcome=Outcome.REFUSED, reason=Reason.MERCHANT_REFUSED)

    async def status(self, call: Call) -> Receipt:
        """Retrieve what became of a call."""
        names = self._settings.fields
        said = await self._ask(
            self._settings.operations.status,
            [(names.reference, call.reference)],
        )
        return receipt_of(said, self._settings, reference=call.reference, step=call.step)

    async def balance(self, member: str) -> Balance:
        """Retrieve the miles that a member could spend."""
        names = self._settings.fields
        if not wire.is_writable(member):
            return Balance(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        said = await self._ask(self._settings.operations.balance, [(names.member, member)])
        reason = refusal_of(said, self._settings) if said else None
        if reason in _ABOUT_MEMBERS:
            return Balance(outcome=Outcome.REFUSED, reason=reason)
        if said is None or said.texts.get(names.member) != member:
            return Balance(outcome=Outcome.UNKNOWN)
        try:
            units = read_miles(said.texts.get(names.available, ""))
        except ValueError:
            return Balance(outcome=Outcome.UNKNOWN)
        return Balance(outcome=Outcome.DONE, units=units)

    async def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """Retrieve the day's movements page by page; the last page holds the control totals.

        Raises:
            Incomplete: A page is missing, malformed, or names one that was read before, or the totals
                differ.
            NotSent: The host could not be reached.
        """
        names = self._settings.fields
        page, seen = "", {""}
        count = units = 0
        for _ in range(_PAGES_MAX):
            answer, texts = await self._page(day, page)
            for line in self._lines(answer):
                count, units = count + 1, units + line.units
                yield line
            page = texts.get(names.page, "")
            if not page:
                self._check_totals(texts, count, units)
                return
            if page in seen:
                raise Incomplete("The host named a page of the statement twice")
            seen.add(page)
        raise Incomplete("The statement does not end")

    async def _page(self, day: dt.date, page: str) -> tuple[etree._Element, dict[str, str]]:
        names = self._settings.fields
        asked = [(names.day, day.isoformat()), (names.page, page)]
        said = await self._ask(self._settings.operations.statement, asked)
        if said is None or said.answer is None:
            raise Incomplete("The host did not give a page of the statement")
        texts = dict(said.texts)
        if texts.get(names.day) != day.isoformat():
            raise Incomplete("The host answered about another day")
        return said.answer, texts

    def _lines(self, answer: etree._Element) -> Iterable[StatementLine]:
        settings, names = self._settings, self._settings.fields
        for entry in answer.iterchildren(f"{{{settings.namespace}}}{names.line}"):
            try:
                texts = wire.texts(entry, settings.namespace)
                line = StatementLine(
                    reference=texts[names.reference],
                    step=self._steps[texts[names.kind]],
                    member=texts[names.member],
                    units=read_miles(texts[names.amount]),
                    at_us=wire.read_instant(texts[names.booked]),
                    number=texts.get(names.number, ""),
                )
            except (KeyError, ValueError) as error:
                raise Incomplete(f"A movement of the statement cannot be read: {error}") from error
            if not (line.units and line.reference and line.member):
                raise Incomplete("A movement of the statement names no call, member or miles")
            yield line

    def _check_totals(self, texts: dict[str, str], count: int, units: int) -> None:
        names = self._settings.fields
        try:
            total = read_miles(texts[names.count]), read_miles(texts[names.total])
        except (KeyError, ValueError):
            raise Incomplete("The statement ends without its totals") from None
        if total != (count, units):
            raise Incomplete(
                f"The statement's totals are {total[0]} movements and {total[1]} units; "
                f"its movements are {count} and make {units}"
            )

    async def _find(self, operation: str, member: str, more: Iterable[tuple[str, str]]) -> Found:
        names = self._settings.fields
        if not wire.is_writable(member):
            return Found(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        said = await self._ask(operation, [(names.member, member), *more])
        reason = refusal_of(said, self._settings) if said else None
        if reason in _ABOUT_MEMBERS:
            return Found(outcome=Outcome.REFUSED, reason=reason)
        found = said.texts.get(names.member, "") if said else ""
        return Found(outcome=Outcome.DONE if found else Outcome.UNKNOWN, member=found)

    async def _move(self, call: Call) -> Receipt:
        names = self._settings.fields
        if not wire.is_writable(call.member):
            # The host cannot have such a member; nothing was sent, and never will be.
            return Receipt(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        said = await self._ask(
            getattr(self._settings.operations, call.step.name.lower()),
            [
                (names.member, call.member),
                (names.amount, str(call.units)),
                (names.of, call.of),
                (names.of_number, call.of_receipt),
            ],
            reference=call.reference,
        )
        return receipt_of(said, self._settings, reference=call.reference, step=call.step)

    async def _ask(
        self, operation: str, children: Iterable[tuple[str, str]], *, reference: str = ""
    ) -> Said | None:
        """Make one call; what the host said to it, or None if nothing that can be believed.

        Raises:
            NotSent: There is no session, or no connection: the call certainly had no effect.
        """
        body = list(children)
        session = await self._signed_in("")
        said = await self._exchange(operation, body, session, reference)
        if said is None or not is_expired(said, self._settings):
            return said
        session = await self._signed_in(session)
        return await self._exchange(operation, body, session, reference)

    async def _signed_in(self, ended: str) -> str:
        """A session that is not the one that ended.

        Raises:
            NotSent: The host gave none, so what needs it was not sent.
        """
        if self._session != ended:
            return self._session
        try:
            # Half of the deadline: if it takes longer, the call itself could not be answered in time,
            # and here it is still certain that it had no effect.
            async with asyncio.timeout(self._sign_in_seconds), self._signing_in:
                if self._session == ended:
                    self._session = await self._sign_in()
                return self._session
        except TimeoutError:
            raise NotSent(Finding("The host opened no session in time")) from None

    async def _sign_in(self) -> str:
        said = await self._exchange(self._settings.operations.sign_in, [], "", "")
        session = said.texts.get(self._settings.fields.session, "") if said else ""
        if not session:
            raise NotSent(Finding("The host opened no session"))
        return session

    async def _exchange(
        self, operation: str, body: list[tuple[str, str]], session: str, reference: str
    ) -> Said | None:
        settings, names = self._settings, self._settings.fields
        nonce = self._context.random.randbytes(wire.NONCE_BYTES)
        created = wire.instant_text(self._context.now_us())
        header = [wire.security(settings.user, self._password, nonce, created)]
        message = self._context.random.randbytes(wire.NONCE_BYTES).hex()
        for name, text in (
            (names.message, message),
            (names.session, session),
            (names.reference, reference),
        ):
            if text:
                header.append(wire.text_element(settings.namespace, name, text))
        asked = wire.element(settings.namespace, operation, body)
        request = HttpRequest(
            method="POST",
            path=settings.path,
            headers={
                "Content-Type": wire.CONTENT_TYPE,
                "SOAPAction": f'"{settings.action}{operation}"',
            },
            body=wire.write_envelope(settings.namespace, header, asked),
        )
        try:
            answer = await self._http.send(request)
            return read_said(answer.body, answer.status, settings, operation, message)
        except (NoAnswer, SchemaError):
            return None
