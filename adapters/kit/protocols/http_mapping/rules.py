"""What an answer means: the first rule that recognises it decides; what none recognises is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from adapters.kit.contract import Finding, Outcome
from adapters.kit.protocols.http_mapping.figures import (
    amount_read,
    amount_written,
    read_json,
    write_json,
)
from adapters.kit.protocols.http_mapping.mapping import StatementOperation
from adapters.kit.protocols.http_mapping.template import filled
from adapters.kit.reference import step_of
from schemas.values.faults import SchemaError
from schemas.values.reason import REASON_BY_CODE, Reason

if TYPE_CHECKING:
    from adapters.kit.protocols.http_mapping.mapping import Mapping, Operation, Rule

NO_BODY: Final = object()
"""Stands for a body that is no JSON; no expression is true of it."""
_RETRY_SECONDS_MAX: Final = 3_600
_INTERPRETER: Final = TreeInterpreter()
"""One for all: it keeps nothing of what it walks over, and making one costs more than most walks."""
_UNITS: Final = 12_345
SAMPLE: Final = {
    "reference": "A" * 26 + "H",
    "member": "M-1",
    "of": "B" * 26 + "H",
    "number": "N-1",
    "step": "",
    "code": "",
    "lines": [],
    "more": False,
    "cursor": None,
    "link": None,
    "total": 0,
    "page": 1,
}
"""What examples are filled with when a mapping is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer means.

    Attributes:
        outcome: Done, refused, or unknown.
        later: Whether the call was not taken and may be sent again.
        reason: Why it was refused.
        expected: Whether the system works on it.
        number: The system's own number.
        units: Smallest units that it names; None if none.
        member: The member as it spells it.
        body: The body, for what else is read from it.
        detail: One sentence for people.
    """

    outcome: Outcome
    later: bool = False
    reason: Reason | None = None
    expected: bool = False
    number: str = ""
    units: int | None = None
    member: str = ""
    body: Any = None
    detail: str = ""


def search(expression: str, body: Any) -> Any:
    """What an expression finds; None where there is nothing, or where it makes no sense of the body."""
    if body is NO_BODY:
        return None
    try:
        return _INTERPRETER.visit(_compiled(expression), body)
    except JMESPathError:
        return None


def judge(mapping: Mapping, name: str, status: int, raw: bytes, reference: str) -> Verdict:
    """Read an answer.

    An error code in the answer to an inquiry is about the inquiry, not about the call: for those only
    "no such call" is taken from the common tables.

    Args:
        mapping: The merchant's mapping.
        name: What was asked, for example `hold` or `status_of_hold`.
        status: HTTP status of the answer.
        raw: Its body.
        reference: Our reference, which an answer may repeat; empty where there is none.
    """
    try:
        body = read_json(raw)
    except ValueError:
        body = NO_BODY
    operation = mapping.operation(name)
    for rule in operation.answers if operation else ():
        if _recognises(rule, status, body):
            return _verdict(mapping, rule, body, reference)
    reason = _refusal(mapping, status, body)
    if reason is not None and speaks_of_call(name, reason):
        return Verdict(outcome=Outcome.REFUSED, reason=reason)
    for rule in mapping.file.answers:
        if _recognises(rule, status, body):
            verdict = _verdict(mapping, rule, body, reference)
            if verdict.reason is None or speaks_of_call(name, verdict.reason):
                return verdict
    detail = Finding(f"No rule recognises this answer with status {status}.")
    return Verdict(outcome=Outcome.UNKNOWN, detail=detail)


def judge_callback(mapping: Mapping, raw: bytes) -> tuple[str, Verdict]:
    """Read what the system posted to us: our reference, and what became of the call.

    Raises:
        SchemaError: It names none of our references, or no rule recognises it.
    """
    callback = mapping.file.callback
    try:
        body = read_json(raw)
    except ValueError as error:
        raise SchemaError("$", f"Not JSON: {error}") from None
    reference = _text(search(callback.reference, body)) if callback else ""
    try:
        step_of(reference)
    except ValueError as error:
        raise SchemaError("$", f"No reference of ours: {error}") from None
    for rule in callback.answers if callback else ():
        if _recognises(rule, 0, body):
            verdict = _verdict(mapping, rule, body, reference)
            if verdict.outcome is Outcome.UNKNOWN and not verdict.expected:
                raise SchemaError("$", verdict.detail or "The outcome is not understood")
            return reference, verdict
    raise SchemaError("$", "No rule recognises it")


def speaks_of_call(name: str, reason: Reason) -> bool:
    """Whether a common refusal is about the call that is meant, and not about an inquiry itself."""
    return not name.startswith("status") or reason is Reason.CALL_NOT_FOUND


def retry_after_seconds(text: str) -> float:
    """What the header Retry-After asks for (RFC 9110 §10.2.3), in seconds; 0 if it names a date or nothing."""
    return float(min(int(text), _RETRY_SECONDS_MAX)) if text.isdecimal() and text.isascii() else 0.0


def check_rules(mapping: Mapping) -> None:
    """Check every expression, and every example against the rules.

    Raises:
        SchemaError: An expression is malformed, or an example is not recognised as it should be.
    """
    for place, rule in enumerate(mapping.file.answers):
        _check_expressions(rule, f"{mapping.where}.answers[{place}]")
    _check_examples(mapping, mapping.file.answers, f"{mapping.where}.answers")
    if mapping.file.refusals is not None:
        _check_expression(mapping.file.refusals.code, f"{mapping.where}.refusals.code")
    callback = mapping.file.callback
    if callback is not None:
        where = f"{mapping.where}.callback"
        _check_expression(callback.reference, f"{where}.reference")
        for place, rule in enumerate(callback.answers):
            _check_expressions(rule, f"{where}.answers[{place}]")
        _check_examples(mapping, callback.answers, f"{where}.answers")
    for name, operation in mapping.operations():
        where = f"{mapping.where}.calls.{name}"
        for place, rule in enumerate(operation.answers):
            _check_expressions(rule, f"{where}.answers[{place}]")
        if isinstance(operation, StatementOperation):
            for part in ("lines", "paging"):
                _check_expressions(getattr(operation, part), f"{where}.{part}")
        _check_examples(mapping, operation.answers, f"{where}.answers")
        _check_codes(mapping, name)
        if name.startswith("status"):
            _check_not_found(mapping, operation, f"{where}.answers")


def sample_of(mapping: Mapping) -> dict[str, Any]:
    """What examples are filled with when a mapping is checked."""
    scale = mapping.manifest.points.scale
    units = amount_written(_UNITS, mapping.file.amount.form, scale)
    return {**SAMPLE, "units": units, "sum": units, "at": "2026-03-02T00:00:00Z"}


def _recognises(rule: Rule, status: int, body: Any) -> bool:
    if rule.http and status not in rule.http:
        return False
    return not rule.when or _true(search(rule.when, body))


def _true(value: Any) -> bool:
    """Truth as JMESPath has it: 0 is true, empty texts, lists and objects are not."""
    return value is not None and value is not False and value not in ("", [], {})


def _verdict(mapping: Mapping, rule: Rule, body: Any, reference: str) -> Verdict:
    if rule.reference and search(rule.reference, body) != reference:
        return Verdict(
            outcome=Outcome.UNKNOWN, detail=Finding("The answer names another reference.")
        )
    if rule.outcome == "later":
        return Verdict(
            outcome=Outcome.UNKNOWN, later=True, detail=Finding("The system said to come again.")
        )
    if rule.outcome == "unknown":
        return Verdict(outcome=Outcome.UNKNOWN, expected=rule.expected, body=body)
    if rule.outcome == "refused":
        reason = REASON_BY_CODE[rule.reason]
        if rule.code and mapping.file.refusals is not None:
            code = mapping.file.refusals.codes.get(_text(search(rule.code, body)))
            reason = REASON_BY_CODE[code] if code is not None else reason
        return Verdict(outcome=Outcome.REFUSED, reason=reason, body=body)
    number = _text(search(rule.number, body)) if rule.number else ""
    member = _text(search(rule.member, body)) if rule.member else ""
    if (rule.number and not number) or (rule.member and not member):
        return Verdict(
            outcome=Outcome.UNKNOWN, detail=Finding("The answer lacks what it always has.")
        )
    units = None
    if rule.units:
        try:
            units = amount_read(
                search(rule.units, body), mapping.file.amount.form, mapping.manifest.points.scale
            )
        except ValueError as error:
            return Verdict(outcome=Outcome.UNKNOWN, detail=f"The amount of the answer is {error}.")
    return Verdict(outcome=Outcome.DONE, number=number, units=units, member=member, body=body)


def _refusal(mapping: Mapping, status: int, body: Any) -> Reason | None:
    """The reason that the table of codes gives; None if it does not apply."""
    table = mapping.file.refusals
    if table is None or status not in table.http:
        return None
    code = table.codes.get(_text(search(table.code, body)))
    return REASON_BY_CODE[code] if code is not None else None


def _text(value: Any) -> str:
    """A text or a whole number as text; nothing for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


@lru_cache(maxsize=4_096)
def _compiled(expression: str) -> Any:
    """The tree of an expression."""
    return jmespath.compile(expression).parsed


def _check_expression(expression: str, where: str) -> None:
    try:
        _compiled(expression)
    except JMESPathError as error:
        reason = str(error).splitlines()[0]
        raise SchemaError(where, f"Not an expression of JMESPath: {reason}") from None


def _check_expressions(table: Any, where: str) -> None:
    """Check every expression of a rule, of lines, or of paging."""
    for key in (
        *("when", "code", "reference", "number", "units", "member"),
        *("items", "step", "at", "more", "cursor", "link", "total", "sum"),
    ):
        expression = getattr(table, key, "")
        if expression:
            _check_expression(expression, f"{where}.{key}")


def _check_examples(mapping: Mapping, rules: tuple[Rule, ...], where: str) -> None:
    """Each example must be recognised by its own rule, and read as what it was filled with."""
    sample = sample_of(mapping)
    for place, rule in enumerate(rules):
        raw = b"" if rule.example is None else write_json(filled(rule.example, sample))
        body = NO_BODY if rule.example is None else read_json(raw)
        for status in rule.http or (0,):
            takers = [other for other in rules if _recognises(other, status, body)]
            if not takers or takers[0] is not rule:
                problem = (
                    "another rule takes it first" if takers else "its own rule does not take it"
                )
                raise SchemaError(f"{where}[{place}].example", f"With status {status}, {problem}")
        verdict = _verdict(mapping, rule, body, str(sample["reference"]))
        if rule.outcome != "done":
            continue
        read = {"number": verdict.number, "member": verdict.member, "units": verdict.units}
        for key, should in (("number", "N-1"), ("member", "M-1"), ("units", _UNITS)):
            if getattr(rule, key) and read[key] != should:
                problem = verdict.detail or f"read as {read[key]!r}"
                raise SchemaError(
                    f"{where}[{place}].{key}",
                    f"Does not find {{{key}}} in the example: {problem}",
                )
        if verdict.outcome is not Outcome.DONE:
            raise SchemaError(f"{where}[{place}].reference", verdict.detail)


def _check_codes(mapping: Mapping, name: str) -> None:
    """The table of codes must be reached: no rule of an operation may take its example first."""
    table = mapping.file.refusals
    if table is None:
        return
    for code, reason in table.codes.items():
        if not speaks_of_call(name, REASON_BY_CODE[reason]):
            continue
        raw = write_json(filled(table.example, {**sample_of(mapping), "code": code}))
        for status in table.http:
            verdict = judge(mapping, name, status, raw, "")
            if verdict.reason is not REASON_BY_CODE[reason]:
                raise SchemaError(
                    f"{mapping.where}.refusals.example",
                    f"With code {code} and status {status} calls.{name} does not read it as {reason}",
                )


def _check_not_found(mapping: Mapping, operation: Operation, where: str) -> None:
    """An inquiry must be able to end in "no such call", or a lost call could never be resolved."""
    code = Reason.CALL_NOT_FOUND.code
    table = mapping.file.refusals
    rules = (*operation.answers, *mapping.file.answers)
    if not any(rule.reason == code for rule in rules) and (
        table is None or code not in table.codes.values()
    ):
        raise SchemaError(where, f'None of them has reason = "{code}", and no common one has')
