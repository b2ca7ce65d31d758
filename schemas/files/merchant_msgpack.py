"""Merchants' own files as msgpack, in a form of our own: a map, an array for each line, a map with the totals.

Source: schemas/FORMAT.md, "Merchants' own files"; settlement/RULES.md, rule X15.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from schemas.files.instant import INSTANT_US_LIMIT, INSTANT_US_MIN
from schemas.files.manifest import CycleId, Party  # noqa: TC001 - msgspec reads the annotations
from schemas.files.merchant_file import (
    TEXT_MAX,
    Basis,
    Clock,
    Figure,
    FileLine,
    Rounding,
    beijing_day,
)
from schemas.files.msgpack_stream import read_objects
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MERCHANT_FILE_FORMAT: Final = "tongdui-merchant-file/1"
FILE_FIELDS: Final = ("order", "reference", "at_us", "amount_cu", "units", "counterparty")
"""Elements of a line's array, in order."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: what is not named here may not stand there."""


class FileHeader(_Record, frozen=True, kw_only=True):
    """First object of the msgpack form."""

    format: Literal["tongdui-merchant-file/1"]
    merchant: Party
    cycle_id: CycleId
    currency: Literal["CNY"]
    fields: tuple[
        Literal["order"], Literal["reference"], Literal["at_us"], Literal["amount_cu"],
        Literal["units"], Literal["counterparty"],
    ]  # fmt: skip
    figure: Figure = "net"
    clock: Clock = "till"
    rounding: Rounding = "none"


class FileTotals(_Record, frozen=True, kw_only=True):
    """Last object of the msgpack form."""

    lines: int
    amount_cu: int


_Text = Annotated[str, Meta(max_length=TEXT_MAX, pattern=r"\A[^\x00]*\Z")]


class _Line(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One line as its array; see `FILE_FIELDS`."""

    order: _Text
    reference: _Text
    at_us: Annotated[int, Meta(ge=INSTANT_US_MIN, lt=INSTANT_US_LIMIT)]
    amount_cu: Annotated[int, Meta(gt=-AMOUNT_LIMIT, lt=AMOUNT_LIMIT)]
    units: Annotated[int, Meta(ge=0, lt=AMOUNT_LIMIT)] | None
    counterparty: _Text


def read_merchant_header(
    file: BinaryIO, size: int, *, merchant: str, cycle_id: str
) -> tuple[Basis, Iterator[FileLine]]:
    """Read the head of a file in msgpack, and stream its lines.

    Args:
        file: The file, at its beginning.
        size: Its length in bytes.
        merchant: Code of the merchant whose file it is.
        cycle_id: Id of the cycle that it is of.

    Raises:
        SchemaError: The head is malformed, or names another merchant or cycle; or, while lines are taken, one of them
            is malformed, there is none, or the totals are not those of the lines. The path names object and field.
    """
    objects = read_objects(file, size)
    header = _convert(next(objects, None), FileHeader, 0)
    for name, told, expected in (
        ("merchant", header.merchant, merchant),
        ("cycle_id", header.cycle_id, cycle_id),
    ):
        if told != expected:
            raise SchemaError(f"$[0].{name}", f"expected {expected}, found {told!r}")
    basis = Basis(figure=header.figure, clock=header.clock, rounding=header.rounding)
    return basis, _packed_lines(objects)


def _packed_lines(objects: Iterator[object]) -> Iterator[FileLine]:
    number = count = sum_cu = 0
    for number, value in enumerate(objects, 1):
        if isinstance(value, dict):
            totals = _convert(value, FileTotals, number)
            for name, told, found in (
                ("lines", totals.lines, count),
                ("amount_cu", totals.amount_cu, sum_cu),
            ):
                if told != found:
                    raise SchemaError(
                        f"$[{number}].{name}", f"is {told}, but lines come to {found}"
                    )
            if next(objects, None) is not None:
                raise SchemaError(f"$[{number + 1}]", "stands behind the totals")
            if not count:
                raise SchemaError(f"$[{number}]", "there is no line in this file")
            return
        line = _convert(value, _Line, number)
        count, sum_cu = count + 1, sum_cu + line.amount_cu
        yield FileLine(
            place=f"$[{number}]",
            order=line.order.lower(),
            reference=line.reference,
            day=beijing_day(_EPOCH + timedelta(microseconds=line.at_us)),
            amount_cu=line.amount_cu,
            units=line.units,
            counterparty=line.counterparty,
        )
    raise SchemaError(f"$[{number + 1}]", "the totals are missing")


_RecordT = TypeVar("_RecordT")


def _convert(value: object, record: type[_RecordT], number: int) -> _RecordT:
    """Check decoded objects against a record."""
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(f"$[{number}]" + path.rstrip("`").removeprefix("$"), detail) from error
