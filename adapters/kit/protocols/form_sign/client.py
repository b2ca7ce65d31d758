"""The exchange's side of a form-and-sign gateway: every call is one signed form posted to one address.

An answer is believed only if the gateway's key signed it and it repeats the nonce of the call: an
older answer, however well signed, is no answer. Whatever is not believed leaves the outcome unknown.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import msgspec
from yarl import URL

from adapters.kit.amount import amount_text, units_of
from adapters.kit.contract import (
    Balance,
    Call,
    Found,
    Incomplete,
    Outcome,
    Receipt,
    StatementLine,
)
from adapters.kit.http import HttpAnswer, HttpClient, HttpRequest, NoAnswer
from adapters.kit.manifest import MANIFEST_FILE
from adapters.kit.protocols.form_sign import wire
from adapters.kit.protocols.form_sign.answers import receipt_of
from adapters.kit.protocols.form_sign.bill import INSTANT, read_bill
from adapters.kit.protocols.form_sign.notify import Listener
from adapters.kit.protocols.form_sign.settings import read_settings
from adapters.kit.protocols.moves import Moves, unknown
from adapters.kit.protocols.words import reason_of
from adapters.kit.signers import aside, read_signer, read_verifier
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from adapters.kit.context import Context
    from adapters.kit.folder import Folder

_NONCE_BITS: Final = 128
_ABOUT_MEMBERS: Final = frozenset((Reason.UNKNOWN_MEMBER, Reason.MEMBER_NOT_AUTHORISED))
_UNTRUSTED: Final = "No answer that the gateway signed for this call"


def build(folder: Folder, context: Context) -> FormSign:
    """Make the adapter of a form-and-sign merchant.

    Raises:
        SchemaError: The settings are malformed, or a key is missing or is none.
    """
    return FormSign(folder, context)


class FormSign(Moves):
    """The contract over signed forms."""

    def __init__(self, folder: Folder, context: Context) -> None:
        """Read the merchant's words and the keys; nothing is opened yet.

        Raises:
            SchemaError: As for `build`.
        """
        self._settings = settings = read_settings(folder)
        where = f"{folder.where(MANIFEST_FILE)}.settings"
        self._context = context
        self._merchant = folder.code
        self._zone = ZoneInfo(folder.manifest.hours.zone)
        self._scale = folder.manifest.points.scale
        secrets = context.secrets
        self._signer = read_signer(
            settings.sign_type,
            secrets.read(settings.private_key, where=f"{where}.private_key"),
            where=f"{where}.private_key",
        )
        self._verifier = read_verifier(
            settings.sign_type,
            secrets.read(settings.public_key, where=f"{where}.public_key"),
            where=f"{where}.public_key",
        )
        self._http = HttpClient(settings, folder, context)
        self._folder = folder
        self._listener = (
            Listener(
                settings.notify,
                settings,
                self._verifier,
                context.answers,
                merchant=self._merchant,
                scale=self._scale,
            )
            if settings.notify
            else None
        )

    async def start(self) -> None:
        """Make ready to call, and listen for notifications."""
        await self._http.start()
        if self._listener is not None:
            await self._listener.start()

    async def close(self) -> None:
        """Stop listening, and end calls under way."""
        if self._listener is not None:
            await self._listener.close()
        await self._http.close()

    async def look_up(self, member: str) -> Found:
        """Find a member."""
        return await self._find("look_up", member, {})

    async def authenticate(self, member: str, proof: str) -> Found:
        """Check what the member presented."""
        if not wire.is_writable(proof, self._settings.charset):
            return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)
        return await self._find("authenticate", member, {self._settings.fields.proof: proof})

    async def status(self, call: Call) -> Receipt:
        """Query what became of a call."""
        names = self._settings.fields
        answer = await self._ask("status", {names.reference: call.reference})
        return self._receipt(answer, call)

    async def balance(self, member: str) -> Balance:
        """Query the points that a member could spend."""
        names = self._settings.fields
        if not wire.is_writable(member, self._settings.charset):
            return Balance(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        answer = await self._ask("balance", {names.member: member})
        if answer is None:
            return Balance(outcome=Outcome.UNKNOWN)
        code = answer.get(names.code, "")
        if code != self._settings.success:
            reason = reason_of(self._settings, code)
            known = reason in _ABOUT_MEMBERS
            outcome = Outcome.REFUSED if known else Outcome.UNKNOWN
            return Balance(outcome=outcome, reason=reason if known else None)
        try:
            units = units_of(answer.get(names.available, ""), self._scale)
        except ValueError:
            return Balance(outcome=Outcome.UNKNOWN)
        return Balance(outcome=Outcome.DONE, units=units)

    async def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """Ask where the day's bill lies, fetch it, and read it as it comes.

        Raises:
            Incomplete: The bill is not to be had, was cut, or its digest or its totals differ.
            NotSent: The gateway could not be reached.
        """
        settings, names = self._settings, self._settings.fields
        answer = await self._ask("statement", {names.day: day.isoformat()})
        if answer is None or answer.get(names.code) != settings.success:
            raise Incomplete("The gateway did not say where the statement lies")
        if answer.get(names.day) != day.isoformat():
            raise Incomplete("The gateway answered about another day")
        bill = await self._fetch(answer.get(names.url, ""))
        if hashlib.sha256(bill).hexdigest() != answer.get(names.digest, "").lower():
            raise Incomplete("The statement is not the one that the gateway signed for")
        lines = read_bill(bill, settings, day=day, zone=self._zone.key, scale=self._scale)
        for line in lines:
            yield line

    async def _fetch(self, url: str) -> bytes:
        """Fetch a bill; only from the gateway itself, whatever a signed answer says."""
        try:
            other = URL(url)
            is_own = other.origin() == URL(self._settings.base_url).origin()
        except ValueError:
            raise Incomplete("The gateway named no address of the statement") from None
        if not is_own:
            raise Incomplete("The statement does not lie at the gateway")
        settings = msgspec.structs.replace(
            self._settings, body_bytes_max=self._settings.bill_bytes_max
        )
        bills = HttpClient(settings, self._folder, self._context)
        await bills.start()
        try:
            answer = await bills.send(HttpRequest(method="GET", path=other.raw_path_qs))
        except NoAnswer as error:
            raise Incomplete("The statement could not be fetched whole") from error
        finally:
            await bills.close()
        if answer.status != HTTPStatus.OK:
            raise Incomplete("The gateway does not give the statement")
        return answer.body

    async def _find(self, operation: str, member: str, more: Mapping[str, str]) -> Found:
        names = self._settings.fields
        if not wire.is_writable(member, self._settings.charset):
            return Found(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        answer = await self._ask(operation, {names.member: member, **more})
        if answer is None:
            return Found(outcome=Outcome.UNKNOWN)
        code = answer.get(names.code, "")
        if code == self._settings.success:
            found = answer.get(names.member, "")
            return Found(outcome=Outcome.DONE if found else Outcome.UNKNOWN, member=found)
        reason = reason_of(self._settings, code)
        if reason not in _ABOUT_MEMBERS:
            return Found(outcome=Outcome.UNKNOWN)
        return Found(outcome=Outcome.REFUSED, reason=reason)

    async def _move(self, call: Call) -> Receipt:
        names = self._settings.fields
        if not wire.is_writable(call.member, self._settings.charset):
            # The merchant cannot have such a member; nothing was sent, and never will be.
            return Receipt(outcome=Outcome.REFUSED, reason=Reason.UNKNOWN_MEMBER)
        answer = await self._ask(
            call.step.name.lower(),
            {
                names.reference: call.reference,
                names.member: call.member,
                names.amount: amount_text(call.units, self._scale),
                names.of: call.of,
                names.of_number: call.of_receipt,
                names.notify_url: self._listener.url if self._listener else "",
            },
        )
        return self._receipt(answer, call)

    def _receipt(self, answer: Mapping[str, str] | None, call: Call) -> Receipt:
        if answer is None:
            return unknown(_UNTRUSTED)
        return receipt_of(
            answer, self._settings, reference=call.reference, step=call.step, scale=self._scale
        )

    async def _ask(self, operation: str, pairs: Mapping[str, str]) -> dict[str, str] | None:
        """Make one call; the verified pairs of its answer, or None if there is none to believe.

        Raises:
            NotSent: The gateway could not be reached, so that no byte of the call left.
        """
        settings, names = self._settings, self._settings.fields
        nonce = f"{self._context.random.getrandbits(_NONCE_BITS):032x}"
        whole = {
            names.app_id: settings.app_id,
            names.method: getattr(settings.methods, operation),
            names.charset: settings.charset,
            names.version: settings.version,
            names.time: self._now_text(),
            names.nonce: nonce,
            **pairs,
        }
        kind, charset = settings.sign_type, settings.charset
        signed = await aside(kind, wire.signed, whole, self._signer, kind, charset)
        try:
            found = self._read(await self._http.send(self._request(signed)))
        except (NoAnswer, SchemaError):
            return None
        is_signed = await aside(kind, wire.is_signed, found, self._verifier, kind, charset)
        return found if is_signed and found.get(names.nonce) == nonce else None

    def _request(self, pairs: Mapping[str, str]) -> HttpRequest:
        charset = self._settings.charset
        return HttpRequest(
            method="POST",
            path=self._settings.path,
            headers={"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"},
            body=wire.write_form(pairs, charset),
        )

    def _read(self, answer: HttpAnswer) -> dict[str, str]:
        """The pairs of an answer, not yet verified.

        Raises:
            SchemaError: It is not one.
        """
        if answer.status != HTTPStatus.OK:
            raise SchemaError("$", f"The status {answer.status}")
        read = wire.read_json if self._settings.answer == "json" else wire.read_form
        return read(answer.body, self._settings.charset)

    def _now_text(self) -> str:
        seconds = self._context.now_us() // 1_000_000
        return f"{dt.datetime.fromtimestamp(seconds, self._zone):{INSTANT}}"
