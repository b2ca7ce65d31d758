"""CSV in somebody else's columns: a mapping in TOML says which column is what.

Source: schemas/FORMAT.md, "Bank statements" and "Merchants' own files".
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from schemas.files.csv_text import BOM
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

_MappingT = TypeVar("_MappingT", bound=msgspec.Struct)

_THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?", re.ASCII)


def read_mapping(text: str, record: type[_MappingT]) -> _MappingT:
    """Read a mapping file as its record.

    Raises:
        SchemaError: It is not TOML, or a field is missing, unknown or malformed.
    """
    try:
        return msgspec.convert(tomllib.loads(text), record)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError("$", f"not TOML: {error}") from None
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        raise SchemaError(path.rstrip("`") or "$", what) from None


def check_dialect(encoding: str, delimiter: str) -> None:
    """See that a file can be read so.

    Raises:
        SchemaError: No encoding is called so, or the delimiter is not one character that can be one.
    """
    try:
        "0".encode(encoding)
    except (LookupError, ValueError):
        raise SchemaError("$.encoding", "no encoding of texts is called so") from None
    if len(delimiter) != 1:
        raise SchemaError("$.delimiter", "one character")
    if delimiter in '\r\n"\0':
        raise SchemaError("$.delimiter", "a character that has no other meaning in a CSV")


def check_time_format(text: str, path: str) -> None:
    """See that a form of `strptime` tells whole days.

    Raises:
        SchemaError: Year, month or day cannot be read back.
    """
    for day in (datetime(2024, 2, 29, tzinfo=UTC), datetime(1999, 12, 31, tzinfo=UTC)):
        try:
            found = datetime.strptime(day.strftime(text), text)  # noqa: DTZ007 - most forms have no zone
        except ValueError:
            found = None
        if found is None or found.date() != day.date():
            raise SchemaError(path, "tells no year, month and day that can be read back")


def mapped_rows(
    file: IO[bytes],
    columns: Iterable[str],
    *,
    encoding: str,
    delimiter: str,
    skip_lines: int,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream each line that is not empty, by the headings, with its number.

    Args:
        file: The file's bytes, from its beginning.
        columns: Headings that must be there, once each.
        encoding: Name of its encoding.
        delimiter: One character.
        skip_lines: Lines above the headings.

    Raises:
        SchemaError: It cannot be decoded, is not CSV, a heading is missing, or a line has too few or too many fields.
    """
    # Only CR and LF end a line: a remark may hold what Unicode calls a separator of lines.
    text = io.TextIOWrapper(file, encoding, newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        for _ in range(skip_lines):
            next(reader, None)
        headings = [each.strip().removeprefix(BOM) for each in next(reader, [])]
        for name in columns:
            if headings.count(name) != 1:
                raise SchemaError(
                    f"line {reader.line_num}, {name}",
                    f"expected one column of this heading, found {headings.count(name)}",
                )
        for fields in reader:
            if not any(each.strip() for each in fields):
                continue
            if len(fields) != len(headings):
                raise SchemaError(
                    f"line {reader.line_num}",
                    f"expected {len(headings)} fields, found {len(fields)}",
                )
            yield (
                reader.line_num,
                {name: each.strip() for name, each in zip(headings, fields, strict=True)},
            )
    except UnicodeDecodeError as error:
        before = error.object.count(b"\n", 0, error.start)
        raise SchemaError(f"line {reader.line_num + 1 + before}", f"not {encoding}") from None
    except csv.Error as error:
        raise SchemaError(f"line {reader.line_num}", f"not CSV: {error}") from None
    finally:
        if not file.closed:
            text.detach()


def plain_digits(text: str) -> str:
    """An amount without the sign of the yuan, and without commas where they stand between thousands."""
    text = text.removeprefix("¥").removeprefix("￥").strip()
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
