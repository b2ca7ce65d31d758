"""The file `mapping.toml`: every call as the merchant's system wants it, every answer as it gives it.

Each rule about an answer shows an example of it. The examples are what the simulator answers, and they
prove the rules when the file is read: an example that its own rule does not recognise, or that another
rule takes first, is refused with the key's place. So a mapping file alone is an adapter, its own test,
and a simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from adapters.kit.contract import Step
from adapters.kit.protocols.http_mapping.figures import (  # noqa: TC001 - msgspec reads annotations
    AmountForm,
    DayForm,
    TimeForm,
)
from adapters.kit.protocols.http_mapping.template import placeholders
from schemas.values.faults import SchemaError
from schemas.values.reason import REASON_BY_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.kit.manifest import Manifest

MAPPING_FILE: Final = "mapping.toml"

_Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
_Statuses = Annotated[tuple[_Status, ...], msgspec.Meta(min_length=1)]
_Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
_Path = Annotated[str, msgspec.Meta(pattern=r"\A/[!-~]*\Z")]
_HeaderName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")]

_CALL: Final = frozenset({"reference", "member", "units", "of", "number", "at", "step"})
_GIVEN: Final = {
    "look_up": frozenset({"member"}),
    "authenticate": frozenset({"member", "proof"}),
    "balance": frozenset({"member"}),
    "statement": frozenset({"day", "page", "cursor", "size"}),
}
"""What a request may be filled with; `_CALL` for every other operation."""
_TOLD: Final = _CALL | {"code", "lines", "more", "cursor", "link", "total", "sum", "page"}
"""What an example may be filled with."""
_MOVES: Final = frozenset({"hold", "capture", "release", "credit", "reverse_credit"})
_ENDS: Final = frozenset({"capture", "release", "reverse_credit"})


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one kind of answer is recognised and what it means.

    Attributes:
        http: Statuses under which it comes; none for what comes by a callback.
        when: A JMESPath expression that must be true of the body; any body, or none, if empty.
        outcome: What it means. `later`: the system did not take the call and says to come again.
        reason: Code of the reason, for `refused`.
        code: Expression for the system's own error code, looked up in `[refusals.codes]`.
        expected: For `unknown`: the system works on it, and will tell or can be asked later.
        reference: Expression for our reference, where the answer repeats it.
        number: Expression for the system's own number.
        units: Expression for the units moved, or available.
        member: Expression for the member id as the system spells it.
        example: A body that this rule recognises.
    """

    http: tuple[_Status, ...] = ()
    outcome: Literal["done", "refused", "unknown", "later"]
    when: str = ""
    reason: str = ""
    code: str = ""
    expected: bool = False
    reference: str = ""
    number: str = ""
    units: str = ""
    member: str = ""
    example: Any = None

    def __post_init__(self) -> None:
        """Check that the fields fit the outcome."""
        if self.outcome == "refused":
            if self.reason not in REASON_BY_CODE:
                raise ValueError(f"reason: no reason is called {self.reason!r}")
        elif self.reason or self.code:
            raise ValueError('reason: only an answer with outcome = "refused" has one')
        if self.expected and self.outcome != "unknown":
            raise ValueError('expected: only an answer with outcome = "unknown" is waited for')
        if self.outcome != "done" and (self.number or self.units or self.member):
            raise ValueError('number, units, member: only read where outcome = "done"')
        if self.looks_inside and self.example is None:
            raise ValueError("example: missing, although the rule looks into the body")

    @property
    def looks_inside(self) -> bool:
        """Whether the body matters at all."""
        return bool(
            self.when or self.code or self.reference or self.number or self.units or self.member
        )


class Refusals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The system's table of error codes.

    Attributes:
        http: Statuses under which a code comes.
        code: Expression that finds it in the body.
        codes: Code of our reason by the system's code; a code that is not here is not understood,
            and the outcome of the call then is unknown.
        example: A body with `{code}`.
    """

    http: _Statuses
    code: Annotated[str, msgspec.Meta(min_length=1)]
    codes: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    example: dict[str, Any]

    def __post_init__(self) -> None:
        """Check that the reasons exist."""
        for code, reason in self.codes.items():
            if reason not in REASON_BY_CODE:
                raise ValueError(f"codes.{code}: no reason is called {reason!r}")


class Operation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call: how it is sent, and how its own answers are read.

    Attributes:
        method: HTTP method.
        path: Below the base URL.
        query: Pairs; one with an empty value after filling is left out.
        headers: Besides those of the auth kind.
        body: JSON; none if left out.
        answers: Looked through in order, before `[refusals]` and the common `[[answers]]`.
    """

    method: _Method
    path: _Path
    query: dict[str, str] = msgspec.field(default_factory=dict)
    headers: dict[_HeaderName, str] = msgspec.field(default_factory=dict)
    body: dict[str, Any] | None = None
    answers: Annotated[tuple[Rule, ...], msgspec.Meta(min_length=1)]


class Lines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a statement's lines are, and what they say; every value is an expression.

    Attributes:
        items: Finds the list in the body; the others are taken of one line.
        reference: Our reference.
        step: The word for what was done (`[steps]`).
        member: The member.
        units: The amount.
        at: When it was booked.
        number: The system's own number; none if empty.
        signed: Whether amounts that were taken are negative; the sign is dropped.
        example: One line.
    """

    items: str
    reference: str
    step: str
    member: str
    units: str
    at: str
    number: str = ""
    signed: bool = False
    example: dict[str, Any]


class Paging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a statement goes on.

    Attributes:
        way: By a page number, by a cursor, by a link to the next page, or not at all.
        size: What `{size}` asks for.
        first: Number of the first page.
        more: For `page`: expression that is true while there is another page.
        cursor: For `cursor`: expression for the next cursor; null or empty at the end.
        link: For `link`: expression for the next address; the header `Link` (RFC 8288) if empty.
        total: Expression for the number of lines of the whole statement; not checked if empty.
        sum: Expression for the sum of their units; not checked if empty.
    """

    way: Literal["none", "page", "cursor", "link"] = "none"
    size: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    first: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    more: str = ""
    cursor: str = ""
    link: str = ""
    total: str = ""
    sum: str = ""

    def __post_init__(self) -> None:
        """Check that the way has its expression, and no other."""
        if (self.way == "page") != bool(self.more):
            raise ValueError('more: needed for way = "page", and only for it')
        if (self.way == "cursor") != bool(self.cursor):
            raise ValueError('cursor: needed for way = "cursor", and only for it')
        if self.link and self.way != "link":
            raise ValueError('link: only for way = "link"')


class StatementOperation(Operation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The statement: an operation whose answer has lines and goes on."""

    lines: Lines
    paging: Paging = Paging()


class Calls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every operation; which must be there, the manifest decides.

    `status_of_hold` and its like are for systems that keep holds and credits in different places;
    `status` serves every step that has none of its own.
    """

    look_up: Operation | None = None
    authenticate: Operation | None = None
    hold: Operation | None = None
    capture: Operation | None = None
    release: Operation | None = None
    credit: Operation | None = None
    reverse_credit: Operation | None = None
    status: Operation | None = None
    status_of_hold: Operation | None = None
    status_of_capture: Operation | None = None
    status_of_release: Operation | None = None
    status_of_credit: Operation | None = None
    status_of_reverse_credit: Operation | None = None
    balance: Operation | None = None
    statement: StatementOperation | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the system posts to us when it has decided.

    Attributes:
        reference: Expression for our reference.
        answers: Looked through in order.
        acknowledge: The body of our answer 200, which says that it need not come again.
    """

    reference: Annotated[str, msgspec.Meta(min_length=1)]
    answers: Annotated[tuple[Rule, ...], msgspec.Meta(min_length=1)]
    acknowledge: dict[str, Any] = msgspec.field(default_factory=dict)


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How points are written: `integer` 1234, `digits` "1234", `decimal` "12.34", `decimal-number` 12.34."""

    form: AmountForm = "integer"


class Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How instants and days are written; `local` is the wall time of the manifest's zone."""

    form: TimeForm = "rfc3339"
    day: DayForm = "iso"


class MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    amount: Amount = Amount()
    time: Time = Time()
    steps: dict[str, str] = msgspec.field(default_factory=dict)
    answers: tuple[Rule, ...] = ()
    refusals: Refusals | None = None
    callback: Callback | None = None
    calls: Calls

    def __post_init__(self) -> None:
        """Check that every step's word is its own."""
        names = {step.name.lower() for step in Step}
        unknown = set(self.steps) - names
        if unknown:
            raise ValueError(f"steps: no step is called {sorted(unknown)}")
        words = [self.steps.get(name, name) for name in names]
        if len(set(words)) != len(words):
            raise ValueError("steps: two steps have the same word")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A mapping file that was read and whose placeholders were checked, with its manifest.

    Attributes:
        file: The file.
        manifest: The manifest beside it.
        where: How a complaint about the file begins.
    """

    file: MappingFile
    manifest: Manifest
    where: str

    def word(self, step: Step) -> str:
        """The system's word for a step."""
        name = step.name.lower()
        return self.file.steps.get(name, name)

    def step(self, word: object) -> Step:
        """The step that a word of the system means.

        Raises:
            ValueError: None.
        """
        for step in Step:
            if self.word(step) == word:
                return step
        raise ValueError("a word for no step")

    def operation(self, name: str) -> Operation | None:
        """The operation of a name, for example `hold`; for `status_of_hold` also the common `status`."""
        found: Operation | None = getattr(self.file.calls, name)
        return self.file.calls.status if found is None and name.startswith("status") else found

    def operations(self) -> Iterator[tuple[str, Operation]]:
        """Every operation that the file has, with its name."""
        for name in Calls.__struct_fields__:
            operation: Operation | None = getattr(self.file.calls, name)
            if operation is not None:
                yield name, operation

    def __post_init__(self) -> None:
        """Check that what the manifest promises is there, and that placeholders can be filled.

        Raises:
            SchemaError: It is not, or they cannot; names the key.
        """
        for name, why in _needed(self.manifest):
            if getattr(self.file.calls, name) is None and not (
                name == "status"
                and all(getattr(self.file.calls, f"status_of_{step.name.lower()}") for step in Step)
            ):
                raise SchemaError(f"{self.where}.calls.{name}", f"Missing, and {why}")
        later = self.file.callback is not None
        for name, operation in self.operations():
            _check_operation(name, operation, f"{self.where}.calls.{name}", later=later)
        for place, rule in enumerate(self.file.answers):
            _check_rule("", rule, f"{self.where}.answers[{place}]")
        for place, rule in enumerate(self.file.callback.answers if self.file.callback else ()):
            _check_names(rule.example, _TOLD, f"{self.where}.callback.answers[{place}].example")
        if self.file.refusals is not None:
            _check_names(self.file.refusals.example, _TOLD, f"{self.where}.refusals.example")


def _needed(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Operations that must be there, each with the reason."""
    for name in ("look_up", "balance", "statement"):
        yield name, "every system has it"
    if manifest.spend.way != "none":
        yield "hold", f'the manifest says spend.way = "{manifest.spend.way}"'
        yield "release", f'the manifest says spend.way = "{manifest.spend.way}"'
    if manifest.spend.way == "hold":
        yield "capture", 'the manifest says spend.way = "hold"'
    if manifest.credit.way == "credit":
        yield "credit", 'the manifest says credit.way = "credit"'
        if manifest.credit.reversible:
            yield "reverse_credit", "the manifest says credit.reversible = true"
    if manifest.status.way == "reference":
        yield "status", 'the manifest says status.way = "reference"'


def _check_operation(name: str, operation: Operation, where: str, *, later: bool) -> None:
    given = _GIVEN.get(name, _CALL | {"callback"} if later else _CALL)
    used = set()
    for key in ("path", "query", "headers", "body"):
        template = getattr(operation, key)
        _check_names(template, given, f"{where}.{key}")
        used |= {found for _, found in placeholders(template)}
    if (name in _MOVES or name.startswith("status")) and "reference" not in used:
        raise SchemaError(where, "Nowhere has {reference}, so a repeat could not be recognised")
    if name in _ENDS and not used & {"of", "number"}:
        raise SchemaError(where, "Has neither {of} nor {number} of the call that it ends")
    if name in {"hold", "credit"} and not {"member", "units"} <= used:
        raise SchemaError(where, "Needs {member} and {units}")
    told_later = later and name in _MOVES and any(rule.expected for rule in operation.answers)
    if not told_later and not any(rule.outcome == "done" for rule in operation.answers):
        raise SchemaError(f"{where}.answers", 'None of them has outcome = "done"')
    for place, rule in enumerate(operation.answers):
        _check_rule(name, rule, f"{where}.answers[{place}]")
    if isinstance(operation, StatementOperation):
        _check_names(operation.lines.example, _CALL, f"{where}.lines.example")
        if operation.paging.way in {"page", "cursor"} and operation.paging.way not in used:
            raise SchemaError(where, f"Nowhere has {{{operation.paging.way}}}, as its paging says")


def _check_rule(name: str, rule: Rule, where: str) -> None:
    if not rule.http:
        raise SchemaError(f"{where}.http", "Missing: under which statuses does it come?")
    _check_names(rule.example, _TOLD, f"{where}.example")
    if name == "balance" and rule.outcome == "done" and not rule.units:
        raise SchemaError(f"{where}.units", "Missing: it is what a balance says")


def _check_names(template: Any, names: frozenset[str], where: str) -> None:
    for place, name in placeholders(template):
        if name not in names:
            known = ", ".join(sorted(names))
            raise SchemaError(f"{where}{place}", f"Nothing is called {{{name}}}; there are {known}")
