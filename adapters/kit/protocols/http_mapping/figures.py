"""How a merchant's JSON writes points and times; nothing here is ever a float."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from adapters.kit.amount import amount_text, units_of

AmountForm = Literal["integer", "digits", "decimal", "decimal-number"]
TimeForm = Literal["seconds", "milliseconds", "rfc3339", "local"]
DayForm = Literal["iso", "basic"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL: Final = "%Y-%m-%d %H:%M:%S"
_DAYS: Final = {"iso": "%Y-%m-%d", "basic": "%Y%m%d"}


class Figure(str):
    """A JSON number with a fraction or an exponent, as it was written."""

    __slots__ = ()


def read_json(body: bytes) -> Any:
    """Read a body; numbers that are not whole stay the text that they were.

    Raises:
        ValueError: It is not JSON in UTF-8, or a key stands twice in one object: which of the two
            is meant, nobody can say.
    """
    try:
        return _DECODER.decode(body.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(value: Any) -> bytes:
    """Write a body."""
    return msgspec.json.encode(value)


def amount_written(units: int, form: AmountForm, scale: int) -> Any:
    """Smallest units as the system writes them."""
    match form:
        case "integer":
            return units
        case "digits":
            return str(units)
        case "decimal":
            return amount_text(units, scale)
        case "decimal-number":
            return msgspec.Raw(amount_text(units, scale).encode())


def amount_read(value: Any, form: AmountForm, scale: int) -> int:
    """Read an amount as smallest units.

    Args:
        value: What stands in the body.
        form: How the system writes amounts; anything else is refused, also where it could be guessed.
        scale: Decimal places of a decimal.

    Raises:
        ValueError: It is not written so, or does not fit exactly.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = isinstance(value, str) and not isinstance(value, Figure)
    match form:
        case "integer" if whole:
            return units_of(str(value), 0)
        case "digits" if text:
            return units_of(value, 0)
        case "decimal" if text:
            return units_of(value, scale)
        case "decimal-number" if whole or isinstance(value, Figure):
            return units_of(str(value), scale)
        case _:
            raise ValueError(f"not an amount written as {form}")


@lru_cache(maxsize=1_024)
def time_written(at_us: int, form: TimeForm, zone: str) -> Any:
    """An instant as the system writes it, to the second; milliseconds where it counts those.

    The calls of one order all carry the same instant.
    """
    match form:
        case "seconds":
            return at_us // 1_000_000
        case "milliseconds":
            return at_us // 1_000
        case "rfc3339":
            return _instant(at_us).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "local":
            return _instant(at_us).astimezone(ZoneInfo(zone)).strftime(_LOCAL)


def time_read(value: Any, form: TimeForm, zone: str) -> int:
    """Read an instant as microseconds since 1970 UTC.

    Raises:
        ValueError: It is not written so, or lies outside of the years 1970 to 9999.
    """
    if form in {"seconds", "milliseconds"}:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("not a whole number")
        at_us = value * (1_000_000 if form == "seconds" else 1_000)
    elif not isinstance(value, str):
        raise ValueError("not a text")
    elif form == "rfc3339":
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError("has no offset")
        at_us = (at - _EPOCH) // timedelta(microseconds=1)
    else:
        local = datetime.strptime(value, _LOCAL).replace(tzinfo=ZoneInfo(zone))
        at_us = (local - _EPOCH) // timedelta(microseconds=1)
    if not 0 <= at_us < 253_402_300_800_000_000:
        raise ValueError("outside of the years 1970 to 9999")
    return at_us


def day_written(day: date, form: DayForm) -> str:
    """A day as the system writes it."""
    return day.strftime(_DAYS[form])


def day_read(value: str, form: DayForm) -> date:
    """Read a day.

    Raises:
        ValueError: It is not written so.
    """
    return datetime.strptime(value, _DAYS[form]).replace(tzinfo=UTC).date()


def _instant(at_us: int) -> datetime:
    return _EPOCH + timedelta(seconds=at_us // 1_000_000)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return whole


_DECODER: Final = json.JSONDecoder(
    parse_float=Figure, parse_constant=_no_number, object_pairs_hook=_object
)
