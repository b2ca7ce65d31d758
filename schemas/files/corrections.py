"""A file of corrections: reversals and adjustments with control count and totals, taken whole or refused whole.

Source: schemas/FORMAT.md, "Corrections".
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.files.csv_text import plain_text
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS: Final = (
    "kind", "order", "issuer", "acceptor", "units", "debit_cu", "value_cu", "fee_cu", "currency",
    "reference",
)  # fmt: skip
FIGURES: Final = ("units", "debit_cu", "value_cu", "fee_cu")
TOTAL: Final = "TOTAL"
ROWS_MAX: Final = 100_000
BYTES_MAX: Final = 32 * 1024 * 1024
REFERENCE_MAX: Final = 35

_DIGITS: Final = re.compile(r"-?(0|[1-9][0-9]{0,14})\Z")
_CODE: Final = re.compile(MERCHANT_CODE_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One row.

    Attributes:
        line: Its line in the file, the header being line 1.
        order: The order that is corrected; None for an adjustment without one.
        issuer: Code of who owes, of an adjustment without an order; empty otherwise.
        acceptor: Code of who is credited, likewise.
        units: Units that a reversal takes back; 0 for an adjustment.
        debit_cu: Figure of an adjustment, CU: above 0 owed, below 0 taken back; 0 for a reversal.
        value_cu: Likewise.
        fee_cu: Likewise.
        reference: What the sender calls it.
    """

    line: int
    order: uuid.UUID | None
    issuer: str
    acceptor: str
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    reference: str

    @property
    def is_reversal(self) -> bool:
        """Whether it is a reversal, at the order's own figures."""
        return self.units > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionFile:
    """A file that adds up.

    Attributes:
        sha256: Of its bytes.
        rows: In the order of the file.
        totals: Sums of the figures, by name.
    """

    sha256: bytes
    rows: Sequence[Correction]
    totals: Mapping[str, int]


def place(line: int, field: str) -> str:
    """How a field of a file is named."""
    return f"line {line}, {field}"


def read_corrections(data: bytes) -> CorrectionFile:
    """Read a file of corrections.

    Raises:
        SchemaError: It is no such file, a field is malformed, the currency is not CNY, or the last row's count or
            totals are not those of the rows; names line and field.
    """
    if len(data) > BYTES_MAX:
        raise SchemaError("line 1", f"Expected at most {BYTES_MAX} bytes")
    try:
        table = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SchemaError("line 1", f"not a CSV file: {error}") from error
    if not table or tuple(table[0]) != COLUMNS:
        raise SchemaError("line 1", f"Expected the header {','.join(COLUMNS)}")
    if len(table) - 2 > ROWS_MAX:
        raise SchemaError(place(ROWS_MAX + 3, "kind"), f"Expected at most {ROWS_MAX} rows")
    records = []
    for line, fields in enumerate(table[1:], 2):
        if len(fields) != len(COLUMNS):
            raise SchemaError(f"line {line}", f"{len(fields)} fields, not {len(COLUMNS)}")
        record = dict(zip(COLUMNS, map(plain_text, fields), strict=True))
        if record["currency"] != "CNY":
            raise SchemaError(place(line, "currency"), f"Expected CNY, not {record['currency']!r}")
        records.append(record)
    if not records or records[-1]["kind"] != TOTAL:
        raise SchemaError(place(len(table), "kind"), f"Expected the row {TOTAL} at the end")
    rows = [_row(line, record) for line, record in enumerate(records[:-1], 2)]
    totals = {name: sum(getattr(row, name) for row in rows) for name in FIGURES}
    _check_totals(len(table), records[-1], len(rows), totals)
    return CorrectionFile(sha256=hashlib.sha256(data).digest(), rows=rows, totals=totals)


def _row(line: int, record: Mapping[str, str]) -> Correction:
    kind = record["kind"]
    if kind not in ("reverse", "adjust"):
        raise SchemaError(place(line, "kind"), f"Expected reverse or adjust, not {kind!r}")
    reversal = kind == "reverse"
    figures = {}
    for name in FIGURES:
        if (name == "units") == reversal:
            figures[name] = _integer(line, name, record[name])
        elif record[name]:
            raise SchemaError(place(line, name), f"Expected nothing in a row of {kind}")
        else:
            figures[name] = 0
    if reversal and figures["units"] <= 0:
        raise SchemaError(place(line, "units"), "Expected units above 0")
    signs = {cu > 0 for name, cu in figures.items() if name != "units" and cu}
    if not reversal and len(signs) != 1:
        raise SchemaError(place(line, "debit_cu"), "Expected figures of one sign, not all 0")
    order = _order(line, record["order"])
    if reversal and order is None:
        raise SchemaError(place(line, "order"), "Expected the order that is taken back")
    for name in ("issuer", "acceptor"):
        if order is not None and record[name]:
            raise SchemaError(place(line, name), "Expected nothing beside an order")
        if order is None and not _CODE.match(record[name]):
            raise SchemaError(place(line, name), "Expected a merchant's code, or an order")
    reference = record["reference"]
    if len(reference) > REFERENCE_MAX or not reference.isprintable():
        raise SchemaError(
            place(line, "reference"), f"Expected at most {REFERENCE_MAX} printable characters"
        )
    return Correction(
        line=line,
        order=order,
        issuer=record["issuer"],
        acceptor=record["acceptor"],
        reference=reference,
        **figures,
    )


def _order(line: int, text: str) -> uuid.UUID | None:
    if not text:
        return None
    try:
        order = uuid.UUID(text)
    except ValueError:
        order = None
    if order is None or str(order) != text:
        raise SchemaError(place(line, "order"), "Expected an order's id")
    return order


def _integer(line: int, name: str, text: str) -> int:
    if not _DIGITS.match(text) or text == "-0" or abs(int(text)) >= AMOUNT_LIMIT:
        raise SchemaError(place(line, name), f"Expected an integer, not {text!r}")
    return int(text)


def _check_totals(
    line: int, record: Mapping[str, str], count: int, totals: Mapping[str, int]
) -> None:
    """Hold the last row against the rows."""
    if _integer(line, "order", record["order"]) != count:
        raise SchemaError(place(line, "order"), f"{record['order']} rows are told, {count} found")
    for name, found in totals.items():
        told = record[name]
        if not re.fullmatch(r"-?(0|[1-9][0-9]{0,20})", told) or int(told) != found:
            raise SchemaError(place(line, name), f"{told or 'nothing'} is told, {found} found")
    for name in ("issuer", "acceptor", "reference"):
        if record[name]:
            raise SchemaError(place(line, name), "Expected nothing in the last row")
