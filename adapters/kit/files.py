"""Files of merchants: lines of fixed width or with delimiters, between a header and a trailer.

A merchant's manifest describes each of its files as a `Layout`; nothing here knows what the fields
mean, but for two: wherever a header or a trailer has a field `count` or `units`, it is a control
total over the lines, written from them and checked against them.

A file is read whole or not at all. The first thing that is wrong is named by file, line and field,
and never quoted: it may be a member's.

Widths and starts count bytes, as merchants' hosts do, and a Chinese character is two bytes of GBK.
The second of these bytes may look like a delimiter (`|` is 0x7C), so lines with delimiters are
decoded first and cut afterwards, and lines of fixed width are cut first and decoded afterwards. No
byte of such a pair looks like a line end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from adapters.kit.amount import amount_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | int | date
Record = dict[str, Value]
"""One line's fields by name: text and codes are `str`, figures and instants (microseconds since
1970 UTC) are `int`, days are `date`."""

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_DIGITS_MAX: Final = 18
_TOTALS: Final = ("count", "units")
_Name = Annotated[str, Meta(pattern=r"\A[a-z][a-z_]{0,31}\Z")]


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a line.

    Attributes:
        name: What the protocol calls it.
        kind: `text`; `digits`, a whole number; `decimal`, a number with a point and `scale` places,
            read as smallest units; `day` and `instant`, written by `pattern` in the merchant's time
            zone; `constant`, always `value`.
        start: First byte, from 1 (fixed width only).
        width: Bytes (fixed width), or the most bytes (delimited; 0: no limit).
        pad: What fills the width; "0" for figures unless said otherwise, else a space.
        align: Where the value stands; figures to the right unless said otherwise, else left.
        scale: Decimal places of a `decimal`.
        pattern: As `strptime` takes it.
        value: What a `constant` is.
        codes: The merchant's word for each of ours, for example `HOLD = "01"`.
        required: Whether an empty field is an error.
    """

    name: _Name
    kind: Literal["text", "digits", "decimal", "day", "instant", "constant"] = "text"
    start: Annotated[int, Meta(ge=0, le=4096)] = 0
    width: Annotated[int, Meta(ge=0, le=4096)] = 0
    pad: Annotated[str, Meta(max_length=1)] = ""
    align: Literal["", "left", "right"] = ""
    scale: Annotated[int, Meta(ge=0, le=9)] = 0
    pattern: Annotated[str, Meta(max_length=64)] = ""
    value: Annotated[str, Meta(max_length=256)] = ""
    codes: dict[str, str] = msgspec.field(default_factory=dict)
    required: bool = True

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if (self.kind == "constant") != bool(self.value):
            raise ValueError(
                f"field {self.name}: `value` is for a constant, and a constant has one"
            )
        if self.codes and self.kind != "text":
            raise ValueError(f"field {self.name}: `codes` are for text")
        if len(set(self.codes.values())) != len(self.codes):
            raise ValueError(f"field {self.name}: two words have the same code")
        if self.pattern and self.kind not in ("day", "instant"):
            raise ValueError(f"field {self.name}: `pattern` is for a day or an instant")
        if self.scale and self.kind != "decimal":
            raise ValueError(f"field {self.name}: `scale` is for a decimal")

    @property
    def is_figure(self) -> bool:
        """Whether it is padded like a number."""
        return self.kind in ("digits", "decimal")

    @property
    def filler(self) -> str:
        """What fills the width."""
        return self.pad or ("0" if self.is_figure else " ")

    @property
    def is_right(self) -> bool:
        """Whether the value stands at the right end of the width."""
        return self.align == "right" or (not self.align and self.is_figure)


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one kind of file looks.

    Attributes:
        shape: `fixed` width, or `delimited`.
        line: The fields of each line.
        header: The fields of the first line; empty if there is none.
        trailer: The fields of the last line; empty if there is none.
        encoding: Of all text.
        line_end: Ends every line; the last one may lack it.
        delimiter: Stands between the fields of a delimited file; no value may hold it.
    """

    shape: Literal["fixed", "delimited"]
    line: Annotated[tuple[Field, ...], Meta(min_length=1)]
    header: tuple[Field, ...] = ()
    trailer: tuple[Field, ...] = ()
    encoding: Literal["gbk", "gb18030", "utf-8", "ascii"] = "utf-8"
    line_end: Literal["\n", "\r\n"] = "\n"
    delimiter: Annotated[str, Meta(max_length=4)] = ""

    def __post_init__(self) -> None:
        """Check that fields have places of their own, and that a cut file would be noticed."""
        for part in ("header", "line", "trailer"):
            fields: tuple[Field, ...] = getattr(self, part)
            names = [field.name for field in fields if field.kind != "constant"]
            if len(set(names)) != len(names):
                raise ValueError(f"{part}: a name stands twice")
            if self.shape == "fixed":
                _check_places(part, fields)
            elif any(field.start for field in fields):
                raise ValueError(f"{part}: `start` is for files of fixed width")
        if (self.shape == "delimited") != bool(self.delimiter):
            raise ValueError("delimiter: a delimited file has one, and only that")
        totals = {field.name: field for field in (*self.header, *self.trailer)}
        for name in _TOTALS:
            if name not in totals:
                raise ValueError(f"trailer: neither it nor the header has the control total {name}")
            if not totals[name].is_figure:
                raise ValueError(f"trailer: the control total {name} is not a figure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a file holds.

    Attributes:
        header: Fields of the first line, without control totals.
        lines: Fields of each line, in order.
    """

    header: Record
    lines: list[Record]


def write_table(layout: Layout, table: Table, *, zone: str, name: str) -> bytes:
    """Write a file, with control totals over its lines.

    Args:
        layout: How it looks.
        table: What it holds; fields that the layout does not have are left out, and the trailer's
            fields other than the totals are taken from the header.
        zone: The merchant's time zone.
        name: The file's name, for complaints.

    Raises:
        SchemaError: A value is missing or does not fit its field; names file, line and field.
    """
    totals: Record = {
        "count": len(table.lines),
        "units": sum(_units(record) for record in table.lines),
    }
    around = table.header | totals
    rows: list[tuple[tuple[Field, ...], Mapping[str, Value]]] = []
    if layout.header:
        rows.append((layout.header, around))
    rows.extend((layout.line, record) for record in table.lines)
    if layout.trailer:
        rows.append((layout.trailer, around))
    tzinfo = ZoneInfo(zone)
    end = layout.line_end.encode("ascii")
    out = bytearray()
    for number, (fields, record) in enumerate(rows, 1):
        out += _write_row(layout, fields, record, tzinfo, f"{name}, line {number}") + end
    return bytes(out)


def text_in(record: Mapping[str, Value], name: str) -> str:
    """A text or a code of a line; empty where the line has none."""
    value = record.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def figure_in(record: Mapping[str, Value], name: str) -> int:
    """A figure or an instant of a line."""
    value = record[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is no figure")
    return value


def day_in(record: Mapping[str, Value], name: str) -> date:
    """A day of a line."""
    value = record[name]
    if not isinstance(value, date):
        raise TypeError(f"{name} is no day")
    return value


def check_line(layout: Layout, record: Mapping[str, Value], *, zone: str, name: str) -> None:
    """Check that a line could be written.

    Raises:
        SchemaError: A value is missing or does not fit its field; the path ends in the field.
    """
    _write_row(layout, layout.line, record, ZoneInfo(zone), name)


def read_table(layout: Layout, data: bytes, *, zone: str, name: str) -> Table:
    """Read a file whole, and check its control totals.

    Args:
        layout: How it looks.
        data: The file.
        zone: The merchant's time zone.
        name: The file's name, for complaints.

    Raises:
        SchemaError: A line is malformed, one is missing, or the totals do not add up; names file,
            line and field.
    """
    tzinfo = ZoneInfo(zone)
    rows = data.removesuffix(layout.line_end.encode("ascii")).split(layout.line_end.encode("ascii"))
    around_count = bool(layout.header) + bool(layout.trailer)
    if not data or len(rows) < around_count:
        raise SchemaError(f"{name}, line {len(rows)}", "The file ends before its header or trailer")
    # Numbers of lines as an editor shows them.
    numbered = [(f"{name}, line {number}", row) for number, row in enumerate(rows, 1)]
    header: Record = {}
    where_of_total: dict[str, str] = {}
    stated: Record = {}
    if layout.header:
        where, row = numbered.pop(0)
        header = _read_row(layout, layout.header, row, tzinfo, where)
        _keep_totals(header, stated, where_of_total, where)
    trailer: Record = {}
    if layout.trailer:
        where, row = numbered.pop()
        trailer = _read_row(layout, layout.trailer, row, tzinfo, where)
        _keep_totals(trailer, stated, where_of_total, where)
    lines = [_read_row(layout, layout.line, row, tzinfo, where) for where, row in numbered]
    found = {"count": len(lines), "units": sum(_units(record) for record in lines)}
    for total, where in where_of_total.items():
        if stated[total] != found[total]:
            raise SchemaError(
                f"{where}, {total}",
                f"The control total is {stated[total]}, but the lines make {found[total]}",
            )
    return Table(header=trailer | header, lines=lines)


# Rows ------------------------------------------------------------------------------------------------


def _write_row(
    layout: Layout, fields: Sequence[Field], record: Mapping[str, Value], zone: ZoneInfo, where: str
) -> bytes:
    if layout.shape == "delimited":
        texts = []
        for field in fields:
            text = _text_of(field, record, zone, where)
            if layout.delimiter in text:
                raise SchemaError(f"{where}, {field.name}", "The value holds the delimiter")
            if field.width and len(_encoded(layout, field, text, where)) > field.width:
                raise SchemaError(f"{where}, {field.name}", f"Longer than {field.width} bytes")
            texts.append(text)
        joined = layout.delimiter.join(texts)
        return _encoded(layout, fields[0], joined, where)
    row = bytearray(b" " * max(field.start - 1 + field.width for field in fields))
    for field in fields:
        text = _text_of(field, record, zone, where)
        filled = text[:1] if field.is_right else text[-1:]
        if filled == field.filler and not field.is_figure:
            raise SchemaError(f"{where}, {field.name}", "The value ends in what fills the field")
        value = _encoded(layout, field, text, where)
        if len(value) > field.width:
            raise SchemaError(f"{where}, {field.name}", f"Longer than {field.width} bytes")
        fill = field.filler.encode("ascii") * (field.width - len(value))
        padded = fill + value if field.is_right else value + fill
        row[field.start - 1 : field.start - 1 + field.width] = padded
    return bytes(row)


def _read_row(
    layout: Layout, fields: Sequence[Field], row: bytes, zone: ZoneInfo, where: str
) -> Record:
    if layout.shape == "delimited":
        try:
            texts = row.decode(layout.encoding).split(layout.delimiter)
        except UnicodeDecodeError as error:
            raise SchemaError(where, f"Not {layout.encoding} at byte {error.start + 1}") from None
        if len(texts) != len(fields):
            raise SchemaError(where, f"{len(texts)} fields, not {len(fields)}")
    else:
        width = max(field.start - 1 + field.width for field in fields)
        if len(row) != width:
            raise SchemaError(where, f"{len(row)} bytes, not {width}")
        texts = [_unpadded(layout, field, row, where) for field in fields]
    record: Record = {}
    for field, text in zip(fields, texts, strict=True):
        value = _value_of(field, text, zone, f"{where}, {field.name}")
        if field.kind != "constant":
            record[field.name] = value
    return record


def _unpadded(layout: Layout, field: Field, row: bytes, where: str) -> str:
    cut = row[field.start - 1 : field.start - 1 + field.width]
    try:
        text = cut.decode(layout.encoding)
    except UnicodeDecodeError:
        raise SchemaError(f"{where}, {field.name}", f"Not {layout.encoding}") from None
    if field.is_figure and field.filler == "0":
        # A field of zeros is the figure nought; the zeros of another one do no harm.
        return text
    return text.lstrip(field.filler) if field.is_right else text.rstrip(field.filler)


def _encoded(layout: Layout, field: Field, text: str, where: str) -> bytes:
    if "\n" in text or "\r" in text:
        raise SchemaError(f"{where}, {field.name}", "The value holds a line end")
    try:
        return text.encode(layout.encoding)
    except UnicodeEncodeError as error:
        raise SchemaError(
            f"{where}, {field.name}", f"{layout.encoding} has no {text[error.start]!r}"
        ) from None


# Values ----------------------------------------------------------------------------------------------


def _text_of(field: Field, record: Mapping[str, Value], zone: ZoneInfo, where: str) -> str:
    """One value, as the file writes it, without padding."""
    if field.kind == "constant":
        return field.value
    value = record.get(field.name, "")
    where = f"{where}, {field.name}"
    if value == "":
        if field.required:
            raise SchemaError(where, "The value is missing")
        return ""
    match field.kind, value:
        case "text", str():
            if field.codes and value not in field.codes:
                raise SchemaError(where, f"No code for {value!r}")
            return field.codes.get(value, value)
        case "digits", int() if value >= 0:
            return str(value)
        case "decimal", int() if value >= 0:
            return amount_text(value, field.scale)
        case "instant", int():
            at = (_EPOCH + timedelta(microseconds=value)).astimezone(zone)
            return at.strftime(field.pattern or "%Y%m%d%H%M%S")
        case "day", date():
            return value.strftime(field.pattern or "%Y%m%d")
        case _:
            raise SchemaError(where, f"{value!r} is no {field.kind}")


def _value_of(field: Field, text: str, zone: ZoneInfo, where: str) -> Value:
    """Read one value, without padding."""
    if field.kind == "constant":
        if text != field.value:
            raise SchemaError(where, f"Not {field.value!r}")
        return text
    if not text:
        if field.required:
            raise SchemaError(where, "The value is missing")
        return ""
    if field.kind == "text":
        if not field.codes:
            return text
        for ours, theirs in field.codes.items():
            if theirs == text:
                return ours
        raise SchemaError(where, "The code is not in the layout")
    if field.is_figure:
        return _figure(field, text, where)
    pattern = field.pattern or ("%Y%m%d" if field.kind == "day" else "%Y%m%d%H%M%S")
    try:
        at: datetime | None = datetime.strptime(text, pattern).replace(tzinfo=zone)
    except ValueError:
        at = None
    # `strptime` takes fewer digits too; what it took must be what stands there.
    if at is None or at.strftime(pattern) != text:
        raise SchemaError(where, f"No {field.kind} as {pattern}")
    if field.kind == "day":
        return at.date()
    return (at - _EPOCH) // timedelta(microseconds=1)


def _figure(field: Field, text: str, where: str) -> int:
    """A figure without a sign; a decimal has exactly its places, so nothing is rounded."""
    whole, point, places = text.partition(".")
    if bool(point) != bool(field.scale) or len(places) != field.scale:
        raise SchemaError(where, f"Not a figure with {field.scale} decimal places")
    digits = (whole + places).lstrip("0")
    plain = whole.isascii() and whole.isdigit() and (not places or places.isascii())
    if not plain or (places and not places.isdigit()) or len(digits) > _DIGITS_MAX:
        raise SchemaError(where, f"Not a figure of at most {_DIGITS_MAX} digits")
    return int(digits or "0")


def _units(record: Mapping[str, Value]) -> int:
    return figure_in(record, "units") if record.get("units") else 0


def _keep_totals(record: Record, stated: Record, places: dict[str, str], where: str) -> None:
    """Move the control totals of a header or trailer out of its fields."""
    for total in _TOTALS:
        if total in record:
            stated[total] = record.pop(total)
            places[total] = where


def _check_places(part: str, fields: Sequence[Field]) -> None:
    """Fields of fixed width have a start and a width, and do not overlap."""
    end = 0
    for field in sorted(fields, key=lambda field: field.start):
        if not field.start or not field.width:
            raise ValueError(f"{part}: field {field.name} has no start or no width")
        if field.start <= end:
            raise ValueError(f"{part}: field {field.name} begins inside the one before it")
        end = field.start - 1 + field.width
