"""What a merchant's points system can do and how it wants to be called, read from `manifest.toml`.

The order's life reads nothing else about a merchant: there is no special case for one anywhere.
Tables that only one protocol knows are `[settings]`, which that protocol reads with `settings_as`.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN
from schemas.wire.decoding import schema_error

MANIFEST_FILE: Final = "manifest.toml"

T = TypeVar("T")

_Units = Annotated[int, msgspec.Meta(ge=1, lt=AMOUNT_LIMIT)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=31 * 86_400)]
_SecondsOrNone = Annotated[float, msgspec.Meta(ge=0, le=31 * 86_400)]
_Span = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z"
    ),
]
_DAYS_AHEAD: Final = 9
"""A week, a day before it for spans that pass midnight, and one for a change of the zone's offset."""


class Merchant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who it is, and how it speaks.

    Attributes:
        code: The merchant's code, as the exchange knows it.
        name: Name for people.
        protocol: Name in the table of protocols (`adapters.kit.registry`).
    """

    code: Annotated[str, msgspec.Meta(pattern=MERCHANT_CODE_PATTERN)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    protocol: Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,31}\Z")]


class Points(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures of points.

    Attributes:
        scale: Decimal places of the merchant's own figures; the contract speaks smallest units.
        units_min: Fewest smallest units that one call may move.
        units_max: Most smallest units that one call may move.
    """

    scale: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    units_min: _Units = 1
    units_max: _Units = AMOUNT_LIMIT - 1

    def __post_init__(self) -> None:
        """Check the range."""
        if self.units_min > self.units_max:
            raise ValueError(f"units_max: {self.units_max} is below units_min, {self.units_min}")


class Spend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How points are taken from a member.

    Attributes:
        way: `hold`: reserve, then capture or release. `burn`: take at once, give back where the
            order does not stand. `none`: this merchant issues nothing that is spent here.
        hold_seconds_max: How long the merchant's system keeps a hold by itself.
    """

    way: Literal["hold", "burn", "none"]
    hold_seconds_max: Annotated[int, msgspec.Meta(ge=1, le=31 * 86_400)] = 900


class Credit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How points are given to a member.

    Attributes:
        way: `credit`: by a call. `none`: never; this merchant only gives goods.
        reversible: Whether a credit can be taken back while the points are unspent.
    """

    way: Literal["credit", "none"]
    reversible: bool = True


class AnswersWay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the outcome of a call is told.

    Attributes:
        way: In the answer to the `call`, by a signed `callback`, or in a `file`.
        seconds: How long an answer that is expected may take before asking for it is of use.
    """

    way: Literal["call", "callback", "file"] = "call"
    seconds: _Seconds = 5.0


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be found out about a call that got no answer.

    Attributes:
        way: `reference`: the system can be asked about any reference. `none`: it cannot.
        final_after_seconds: A reference that is not known this long after the call was last sent
            never happened and never will.
        repeat_safe: Whether a repeat under the same reference has no second effect.
    """

    way: Literal["reference", "none"] = "reference"
    final_after_seconds: _SecondsOrNone = 30.0
    repeat_safe: bool = True

    def __post_init__(self) -> None:
        """Refuse a system whose unknown outcomes nothing could ever resolve."""
        if self.way == "none" and not self.repeat_safe:
            raise ValueError(
                'repeat_safe: a system with way = "none" must take repeats safely, or the outcome '
                "of a call that got no answer can never be known"
            )


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of us the merchant's system bears, and how long we wait for it.

    Attributes:
        deadline_seconds: Longest that one call may take before its outcome counts as unknown.
        statement_seconds: Longest that reading one day's statement may take.
        concurrency: Most calls under way at once.
        per_second: Most calls a second, on average.
        burst: Most calls at once after a quiet time.
        attempts: Inquiries and repeats of one step before people are asked.
        breaker_failures: Failures in a row after which no call is sent for a while.
        breaker_seconds: How long that while is.
        inquiry_first_seconds: Wait before the first inquiry about an unknown outcome.
        inquiry_max_seconds: Longest wait between two inquiries.
    """

    deadline_seconds: _Seconds = 2.0
    statement_seconds: _Seconds = 600.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    per_second: Annotated[float, msgspec.Meta(gt=0, le=100_000)] = 200.0
    burst: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 50
    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    breaker_failures: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 5
    breaker_seconds: _Seconds = 5.0
    inquiry_first_seconds: _Seconds = 0.2
    inquiry_max_seconds: _Seconds = 30.0

    def __post_init__(self) -> None:
        """Check that the waits fit each other."""
        if self.inquiry_first_seconds > self.inquiry_max_seconds:
            raise ValueError(
                f"inquiry_max_seconds: {self.inquiry_max_seconds} is below inquiry_first_seconds, "
                f"{self.inquiry_first_seconds}"
            )


class Hours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the merchant's system takes calls, in the wall time of a named zone.

    Attributes:
        zone: IANA name of the time zone; the merchant's own days are of this zone too.
        open: Spans `HH:MM-HH:MM`; one whose end is not later than its start passes midnight.
        weekdays: Days on which a span may begin, 1 for Monday to 7 for Sunday.
    """

    zone: str = "Asia/Shanghai"
    open: Annotated[tuple[_Span, ...], msgspec.Meta(min_length=1)] = ("00:00-24:00",)
    weekdays: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...], msgspec.Meta(min_length=1)
    ] = (1, 2, 3, 4, 5, 6, 7)

    def __post_init__(self) -> None:
        """Look the zone up now: at night would be late."""
        try:
            ZoneInfo(self.zone)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"zone: no time zone is called {self.zone!r}") from error

    def wait_seconds(self, at_us: int) -> float:
        """Seconds from `at_us` until calls are taken; 0 while they are.

        Args:
            at_us: Microseconds since 1970 UTC.
        """
        if "00:00-24:00" in self.open and len(set(self.weekdays)) == 7:
            return 0.0
        at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
        spans = sorted(self._spans_around(at.astimezone(ZoneInfo(self.zone))))
        if any(start <= at < end for start, end in spans):
            return 0.0
        return min((start - at).total_seconds() for start, _ in spans if start > at)

    def _spans_around(self, local: datetime) -> list[tuple[datetime, datetime]]:
        """Instants between which calls are taken, from yesterday's spans to next week's."""
        zone = ZoneInfo(self.zone)
        spans = []
        for ahead in range(-1, _DAYS_AHEAD):
            day = local.date() + timedelta(days=ahead)
            if day.isoweekday() not in self.weekdays:
                continue
            for span in self.open:
                first, last = span.split("-")
                start = datetime.combine(day, time.fromisoformat(first), zone)
                if last == "24:00":
                    end = datetime.combine(day + timedelta(days=1), time(), zone)
                else:
                    until = time.fromisoformat(last)
                    passes = until <= start.time().replace(tzinfo=None)
                    end = datetime.combine(day + timedelta(days=int(passes)), until, zone)
                spans.append((start.astimezone(UTC), end.astimezone(UTC)))
        return spans


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the merchant's simulator starts with.

    Attributes:
        members: Smallest units of each test member, by the merchant's own member id.
        proof: What every test member presents to be authenticated.
    """

    members: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=AMOUNT_LIMIT)]] = msgspec.field(
        default_factory=dict
    )
    proof: str = "246810"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One merchant's points system, as declared by whoever connected it."""

    merchant: Merchant
    points: Points
    spend: Spend
    credit: Credit
    answers: AnswersWay = AnswersWay()
    status: Status = Status()
    limits: Limits = Limits()
    hours: Hours = Hours()
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    sandbox: Sandbox = msgspec.field(default_factory=Sandbox)

    def with_settings(self, changed: dict[str, Any]) -> Manifest:
        """The same merchant reached otherwise, for example at a simulator's address.

        Args:
            changed: Settings to replace; a table is merged into the table of the same name.
        """
        return msgspec.structs.replace(self, settings=_merged(self.settings, changed))


def parse_manifest(text: str, *, where: str = "$") -> Manifest:
    """Read a manifest.

    Args:
        text: TOML.
        where: Begins the path in a complaint, for example `noodle-house/manifest.toml: $`.

    Raises:
        SchemaError: It is not TOML, a key is unknown or missing, or a value is out of range.
    """
    return _manifest(text, where)


@lru_cache(maxsize=64)
def _manifest(text: str, where: str) -> Manifest:
    """Read once for each content; nobody changes what was read."""
    return decoded(parse_toml(text, where=where), Manifest, where=where)


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Read any TOML file of a merchant's folder.

    Raises:
        SchemaError: It is not TOML; names line and column.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(where, f"Not TOML: {error}") from None


def decoded(data: object, kind: type[T], *, where: str) -> T:
    """Turn plain tables into a record.

    Raises:
        SchemaError: A key is unknown or missing, or a value does not fit; names the key.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise schema_error(error, under=where) from None


def settings_as(manifest: Manifest, kind: type[T]) -> T:
    """A protocol's own settings.

    Raises:
        SchemaError: A key is unknown or missing, or a value does not fit; names the key.
    """
    where = f"{manifest.merchant.code}/{MANIFEST_FILE}: $.settings"
    return decoded(manifest.settings, kind, where=where)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """One table over another, table by table."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type] # `both` says so
    return merged
