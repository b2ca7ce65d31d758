"""The adapter that a mapping file describes: fills requests, reads answers, holds no state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from adapters.kit.contract import Balance, Finding, Found, NotSent, Outcome, Receipt
from adapters.kit.http import HttpClient, HttpSettings, NoAnswer
from adapters.kit.manifest import settings_as
from adapters.kit.protocols.http_mapping.load import load_mapping
from adapters.kit.protocols.http_mapping.pages import Pages
from adapters.kit.protocols.http_mapping.request import known_of, request_of
from adapters.kit.protocols.http_mapping.rules import (
    Verdict,
    judge,
    retry_after_seconds,
)
from adapters.kit.protocols.http_mapping.template import placeholders
from adapters.kit.protocols.moves import Moves
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date

    from adapters.kit.context import Context
    from adapters.kit.contract import Call, StatementLine
    from adapters.kit.folder import Folder
    from adapters.kit.http import HttpAnswer, HttpRequest
    from adapters.kit.protocols.http_mapping.mapping import Mapping, Operation


class Settings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[settings]`: the address and the auth kind are all that the mapping file does not say."""


def build(folder: Folder, context: Context) -> HttpMapping:
    """Build the adapter of a folder with a mapping file.

    Raises:
        SchemaError: Manifest or mapping is malformed; names file, table and key.
    """
    settings = settings_as(folder.manifest, Settings)
    mapping = load_mapping(folder)
    return HttpMapping(mapping, HttpClient(settings, folder, context), settings.base_url)


def receipt_of(verdict: Verdict) -> Receipt:
    """What a verdict says about a call."""
    return Receipt(
        outcome=verdict.outcome,
        reason=verdict.reason,
        number=verdict.number,
        units=verdict.units,
        expected=verdict.expected,
        detail=verdict.detail,
    )


class HttpMapping(Moves):
    """A merchant's system over HTTP, as its mapping file describes it."""

    def __init__(self, mapping: Mapping, client: HttpClient, base_url: str) -> None:
        """Take a mapping whose rules were checked, and a client that is not started."""
        self._mapping = mapping
        self._client = client
        self._base_url = base_url
        self._also: dict[str, str] = {}

    async def start(self) -> None:
        """Make ready to send."""
        await self._client.start()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def look_up(self, member: str) -> Found:
        """Find a member."""
        return await self._find("look_up", member, {"member": member})

    async def authenticate(self, member: str, proof: str) -> Found:
        """Check what a member presented; refused where the system has no such call."""
        if self._mapping.operation("authenticate") is None:
            return Found(outcome=Outcome.REFUSED, reason=Reason.MEMBER_NOT_AUTHORISED)
        return await self._find("authenticate", member, {"member": member, "proof": proof})

    async def status(self, call: Call) -> Receipt:
        """Ask what became of a call."""
        return await self._ask_about(f"status_of_{call.step.name.lower()}", call)

    async def balance(self, member: str) -> Balance:
        """What a member could spend now."""
        verdict = await self._ask("balance", {"member": member})
        return Balance(outcome=verdict.outcome, units=verdict.units, reason=verdict.reason)

    async def statement(self, day: date) -> AsyncIterator[StatementLine]:
        """Everything booked on one day, page by page.

        Raises:
            Incomplete: A page is not understood, or the control totals do not add up.
            NotSent: The first page was not asked for.
        """
        pages = Pages(self._mapping, day, self._base_url)
        while (request := pages.next_request()) is not None:
            for line in pages.read(await self._page(request)):
                yield line
        pages.finish()

    async def _page(self, request: HttpRequest) -> HttpAnswer | None:
        try:
            return await self._client.send(request)
        except NoAnswer:
            return None

    async def _find(self, name: str, member: str, known: dict[str, Any]) -> Found:
        verdict = await self._ask(name, known)
        if verdict.outcome is not Outcome.DONE:
            return Found(outcome=verdict.outcome, reason=verdict.reason)
        return Found(outcome=Outcome.DONE, member=verdict.member or member)

    async def _move(self, call: Call) -> Receipt:
        return await self._ask_about(call.step.name.lower(), call)

    async def _ask_about(self, name: str, call: Call) -> Receipt:
        return receipt_of(await self._ask(name, known_of(self._mapping, call) | self._also))

    async def _ask(self, name: str, known: dict[str, Any]) -> Verdict:
        """Send one request and read its answer.

        Raises:
            NotSent: It was not sent, or the system says that it did not take it.
        """
        operation = self._mapping.operation(name)
        if operation is None:
            raise NotSent(Finding(f"The system has no call {name}."))
        if known.get("number") == "" and _wants_number(operation):
            raise NotSent(Finding("The system's own number of the earlier call is not known."))
        try:
            answer = await self._client.send(request_of(operation, known))
        except NoAnswer as error:
            return Verdict(outcome=Outcome.UNKNOWN, detail=Finding(error))
        reference = str(known.get("reference", ""))
        verdict = judge(self._mapping, name, answer.status, answer.body, reference)
        if verdict.later:
            wait_seconds = retry_after_seconds(answer.headers.get("Retry-After", ""))
            raise NotSent(verdict.detail, retry_after_seconds=wait_seconds)
        return verdict


_REQUEST_PARTS: Final = ("path", "query", "headers", "body")


def _wants_number(operation: Operation) -> bool:
    return any(
        name == "number"
        for part in _REQUEST_PARTS
        for _, name in placeholders(getattr(operation, part))
    )
