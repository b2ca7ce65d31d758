"""A merchant's system over HTTP, made of the mapping file that describes it.

Requests are recognised by the very templates that the adapter fills, and answered with the examples
that the mapping shows; what is booked, and what goes wrong, is the stage's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from aiohttp import web

from adapters.kit.amount import units_of
from adapters.kit.contract import Step
from adapters.kit.manifest import settings_as
from adapters.kit.protocols.http_mapping.client import Settings
from adapters.kit.protocols.http_mapping.figures import (
    amount_read,
    amount_written,
    day_read,
    read_json,
    time_written,
    write_json,
)
from adapters.kit.protocols.http_mapping.load import load_mapping
from adapters.kit.protocols.http_mapping.mapping import (
    StatementOperation,
)
from adapters.kit.protocols.http_mapping.rules import sample_of, speaks_of_call
from adapters.kit.protocols.http_mapping.template import (
    PLACEHOLDER,
    filled,
    read_back,
    text_read_back,
)
from adapters.kit.simulator.faults import Fault, Trouble
from adapters.kit.simulator.gate import Gate
from adapters.kit.simulator.http_server import draw, listening, never_answer, send
from adapters.kit.simulator.stage import Running, Stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adapters.kit.folder import Folder
    from adapters.kit.protocols.http_mapping.mapping import Mapping, Operation, Rule
    from adapters.kit.simulator.ledger import Booked

_STEPS: Final = {step.name.lower(): step for step in Step}
_TAKES: Final = {Step.CAPTURE, Step.REVERSE_CREDIT}
_AFTER: Final = "sandbox_after"
"""Where a link to the next page says how many lines were given."""


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[Running]:
    """Speak what a folder's mapping file describes.

    Raises:
        SchemaError: Manifest or mapping is malformed.
    """
    settings = settings_as(folder.manifest, Settings)
    mapping = load_mapping(folder)
    gate = Gate(settings, stage)
    system = System(mapping, stage, gate)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", system.take)
    async with listening(app, stage, gate.tls) as address:
        yield Running(settings=gate.settings(address), secrets=gate.secrets, stage=stage)


TellLater = Callable[[str, "Booked", Trouble | None], None]
"""Takes an address, what was booked, and what goes wrong with telling it."""


class System:
    """Takes requests, does what they ask, and answers as the mapping says."""

    def __init__(
        self, mapping: Mapping, stage: Stage, gate: Gate, tell_later: TellLater | None = None
    ) -> None:
        """Take a mapping whose rules were checked.

        Args:
            mapping: The mapping.
            stage: Books, faults, clock.
            gate: Knows the callers.
            tell_later: Told what was booked, and where to, by a system that answers with callbacks.
        """
        self._mapping = mapping
        self._stage = stage
        self._gate = gate
        self._ledger = stage.ledger
        self._tell_later = tell_later

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        raw = await request.read()
        token = await self._gate.token(request)
        if token is not None:
            return token
        found = self._recognise(request, raw)
        if found is None:
            return web.json_response({"problem": "no such call"}, status=400)
        name, operation, said = found
        if not self._gate.admits(request, raw):
            return web.json_response({"problem": "not authenticated"}, status=401)
        reference = str(said.get("reference", ""))
        try:
            step = self._step(name, said)
            kind = "status" if name.startswith("status") else name
            trouble = draw(request, self._stage, kind, step=step, reference=reference)
        except (SchemaError, ValueError) as error:
            return web.json_response({"problem": str(error)}, status=400)
        fault = trouble.fault if trouble else None
        if fault is Fault.TIMEOUT_BEFORE:
            await never_answer()
        if fault is Fault.MAINTENANCE:
            return web.Response(status=503, headers={"Retry-After": "1"})
        try:
            status, body, headers = self._answer(name, operation, said, step, trouble, request)
        except ValueError as error:
            return web.json_response({"problem": str(error)}, status=400)
        if fault is Fault.FORGET:
            self._ledger.forget(reference)
        return await send(
            request,
            body,
            content_type="application/json",
            trouble=trouble,
            rng=self._stage.random,
            status=status,
            headers=headers,
        )

    def _recognise(
        self, request: web.Request, raw: bytes
    ) -> tuple[str, Operation, dict[str, Any]] | None:
        """The operation that a request is, and what its placeholders were filled with."""
        try:
            body = read_json(raw) if raw else None
        except ValueError:
            return None
        for name, operation in self._mapping.operations():
            said: dict[str, Any] = {}
            in_path: dict[str, Any] = {}
            if (
                request.method == operation.method
                and text_read_back(operation.path, request.rel_url.raw_path, in_path)
                and (operation.body is None or read_back(operation.body, body, said))
                and all(
                    _read_part(text, request.headers.get(key), said)
                    for key, text in operation.headers.items()
                )
                and all(
                    _read_part(text, request.query.get(key), said, optional=True)
                    for key, text in operation.query.items()
                )
            ):
                return name, operation, said | {k: unquote(v) for k, v in in_path.items()}
        return None

    def _step(self, name: str, said: dict[str, Any]) -> Step | None:
        if "step" in said:
            return self._mapping.step(said["step"])
        return _STEPS.get(name.removeprefix("status_of_"))

    def _answer(
        self,
        name: str,
        operation: Operation,
        said: dict[str, Any],
        step: Step | None,
        trouble: Trouble | None,
        request: web.Request,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Do what is asked; status, body and headers of the right answer."""
        if isinstance(operation, StatementOperation):
            return self._statement(operation, said, trouble, request)
        reason: Reason | None
        known = self.known(trouble)
        member = str(said.get("member", ""))
        if name == "balance":
            units = self._ledger.available(member)
            reason = Reason.UNKNOWN_MEMBER if units is None else None
            known |= {"member": member, "units": self._written(units or 0, trouble)}
        elif name in {"look_up", "authenticate"}:
            reason = self._ledger.member(member)
            if name == "authenticate" and reason is None:
                proof = self._mapping.manifest.sandbox.proof
                reason = None if said["proof"] == proof else Reason.MEMBER_NOT_AUTHORISED
            known |= {"member": member}
        elif name.startswith("status"):
            booked = self._ledger.find(str(said["reference"]))
            if step is not None and booked is not None and booked.step is not step:
                booked = None
            reason = Reason.CALL_NOT_FOUND if booked is None else booked.refused
            known |= {"reference": said["reference"], **self.told(booked, trouble)}
        else:
            booked = self._book(_STEPS[name], said)
            reason = booked.refused
            known |= self.told(booked, trouble)
            if self._tell_later is not None and "callback" in said:
                self._tell_later(str(said["callback"]), booked, trouble)
                rule = next(rule for rule in operation.answers if rule.expected)
                return *_of_rule(rule, known), {}
        status, body = self._rendered(name, operation, reason, known)
        return status, body, {}

    def _book(self, step: Step, said: dict[str, Any]) -> Booked:
        """Book a call; what a capture or a release does not say is that of the call that it ends."""
        of = str(said.get("of", ""))
        earlier = self._ledger.first(of)
        if "number" in said:
            earlier = self._ledger.numbered(str(said["number"]))
            of = earlier.reference if earlier else of
        member = said.get("member", earlier.member if earlier else "")
        units = self._read(said["units"]) if "units" in said else earlier.units if earlier else 0
        return self._ledger.book(step, str(said["reference"]), str(member), units, of)

    def _rendered(
        self, name: str, operation: Operation, reason: Reason | None, known: dict[str, Any]
    ) -> tuple[int, bytes]:
        """The example that says this, filled."""
        table = self._mapping.file.refusals
        if reason is None:
            rule = next(rule for rule in operation.answers if rule.outcome == "done")
            return _of_rule(rule, known)
        codes = table.codes if table else {}
        code = next((code for code, ours in codes.items() if ours == reason.code), "")
        for rule in operation.answers:
            if rule.reason == reason.code and not rule.code:
                return _of_rule(rule, known)
        if table and code and speaks_of_call(name, reason):
            return table.http[0], write_json(filled(table.example, {**known, "code": code}))
        for rule in operation.answers:
            if rule.code:
                return _of_rule(rule, {**known, "code": code or reason.code})
        for rule in self._mapping.file.answers:
            if rule.reason == reason.code:
                return _of_rule(rule, known)
        # The mapping has no word for it, so the adapter must not understand the answer either.
        return 500, write_json({"problem": reason.code})

    def _statement(
        self,
        operation: StatementOperation,
        said: dict[str, Any],
        trouble: Trouble | None,
        request: web.Request,
    ) -> tuple[int, bytes, dict[str, str]]:
        paging, time = operation.paging, self._mapping.file.time
        entries = self._ledger.day(day_read(str(said["day"]), time.day))
        start, end = self._window(operation, said, request, len(entries))
        rest = end < len(entries)
        known = self.known(trouble) | {
            "lines": [self._line(operation, entry, trouble) for entry in entries[start:end]],
            "more": rest,
            "cursor": str(end) if rest else None,
            "total": len(entries),
            "sum": self._written(sum(entry.moved for entry in entries), None),
            "page": int(said.get("page", paging.first)),
        }
        headers = {}
        if paging.way == "link" and rest:
            link = str(request.rel_url.update_query({_AFTER: str(end)}))
            known["link"] = link
            headers = {} if paging.link else {"Link": f'<{link}>; rel="next"'}
        rule = next(rule for rule in operation.answers if rule.outcome == "done")
        return *_of_rule(rule, known), headers

    def _window(
        self, operation: StatementOperation, said: dict[str, Any], request: web.Request, count: int
    ) -> tuple[int, int]:
        """First line of the page that is asked for, and the first after it."""
        paging = operation.paging
        if paging.way == "none":
            return 0, count
        if paging.way == "page":
            start = (int(said["page"]) - paging.first) * paging.size
        elif paging.way == "cursor":
            start = int(said.get("cursor") or 0)
        else:
            start = int(request.query.get(_AFTER, 0))
        return start, start + paging.size

    def _line(self, operation: StatementOperation, entry: Booked, trouble: Trouble | None) -> Any:
        units = entry.moved
        burns = self._mapping.manifest.spend.way == "burn" and entry.step is Step.HOLD
        if operation.lines.signed and (burns or entry.step in _TAKES):
            units = -units
        told = self.told(entry, trouble) | {"units": self._written(units, None)}
        return filled(operation.lines.example, self.known(trouble) | told)

    def known(self, trouble: Trouble | None) -> dict[str, Any]:
        """Something for every placeholder, as in the check of the examples."""
        at = self._time(self._ledger.now_us(), trouble)
        return sample_of(self._mapping) | {"at": at, "number": "", "sum": 0}

    def told(self, booked: Booked | None, trouble: Trouble | None) -> dict[str, Any]:
        """What can be told about a call."""
        if booked is None:
            return {}
        return {
            "reference": booked.reference,
            "member": booked.member,
            "units": self._written(booked.units, trouble),
            "of": booked.of,
            "number": booked.number,
            "at": self._time(booked.at_us, trouble),
            "step": self._mapping.word(booked.step),
        }

    def _time(self, at_us: int, trouble: Trouble | None) -> Any:
        skewed = trouble is not None and trouble.fault is Fault.CLOCK_SKEW
        ahead_us = int(trouble.seconds * 1_000_000) if trouble and skewed else 0
        form, zone = self._mapping.file.time.form, self._mapping.manifest.hours.zone
        return time_written(at_us + ahead_us, form, zone)

    def _written(self, units: int, trouble: Trouble | None) -> Any:
        wrong = trouble is not None and trouble.fault is Fault.WRONG_AMOUNT
        form, scale = self._mapping.file.amount.form, self._mapping.manifest.points.scale
        return amount_written(units + int(wrong), form, scale)

    def _read(self, value: Any) -> int:
        form, scale = self._mapping.file.amount.form, self._mapping.manifest.points.scale
        if type(value) is str and form in {"integer", "decimal-number"}:
            # From a path or a query, where every number is a text.
            return units_of(value, scale if form == "decimal-number" else 0)
        return amount_read(value, form, scale)


def _of_rule(rule: Rule, known: dict[str, Any]) -> tuple[int, bytes]:
    body = b"" if rule.example is None else write_json(filled(rule.example, known))
    return rule.http[0], body


def _read_part(
    template: str, value: str | None, said: dict[str, Any], *, optional: bool = False
) -> bool:
    """Read a header or a query value; one that was filled with nothing was left out."""
    if value is None:
        return optional and PLACEHOLDER.search(template) is not None
    return read_back(template, value, said)
