"""Lines of a cycle, read from the journal's own bytes as they stream out of the database.

`COPY … TO STDOUT (FORMAT binary)` yields the canonical bytes of events (`settlement.core.event`),
so a line needs no building: the bytes are hashed as they come, as leaves of the signed tree, and
only the figures that a statement shows are read out of them. Each row carries one column before
the event's own, the instant of the order's first event, which the order's id is made of.

Source: schemas/FORMAT.md, "Event" and "Merkle tree".
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final

from schemas.values.ids import order_text
from settlement.core.event import COLUMNS, EPOCH_2000_US

Line = tuple[bytes, str, int, int, int, int, int, int, int, int, int, int, int, int, str]
"""What a statement shows of one event; a plain tuple, since a cycle has millions of them.

In order: hash of the event as a leaf of the tree (RFC 6962 §2.1); the order's id (of a reversal, that
of the order that it reverses; of an adjustment that concerns no order, the id that it would have);
`seq`; `at_us`; `occurred_at_us`; `units`;
`debit_cu`; `value_cu`; `fee_cu`; `cycle_no`; `issuer`; `acceptor`; `rate_no`; `kind`; `reference`,
all as in `settlement.core.event.Event`.
"""

LINE_SEQ: Final = 2
LINE_CYCLE_NO: Final = 9
"""Places in a line that others than the statements look at."""

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_PREAMBLE: Final = len(_SIGNATURE) + 8
_TRAILER: Final = b"\xff\xff"
_WANTED: Final = frozenset(
    ("seq", "order_seq", "at", "occurred_at", "units", "debit_cu", "value_cu", "fee_cu",
     "cycle_no", "issuer", "acceptor", "rate_no", "part", "kind")
)  # fmt: skip
_CODES: Final = "q" * 12 + "ss" + "i" * 5 + "h" * 4
_BYTES: Final = {"q": 8, "s": 16, "i": 4, "h": 2}


def _layout() -> struct.Struct:
    """Struct of one row up to its reference that reads the wanted columns and skips the rest."""
    parts = [">h4xq"]
    for name, code in zip(COLUMNS[:-1], _CODES, strict=True):
        parts.append(f"4x{code}" if name in _WANTED else f"{4 + _BYTES[code]}x")
    return struct.Struct("".join(parts) + "i")


_ROW: Final = _layout()
_EVENT_AT: Final = 14
"""Where the event's first column begins: after the count and the column before it."""
_LEAF_PREFIX: Final = b"\0" + struct.pack(">h", len(COLUMNS))
"""What stands before a leaf is hashed (RFC 6962 §2.1), and the event's own number of columns."""
_SHORT_SEQ: Final = 1 << 48
_PREFIX_CHARS: Final = 24
"""An order's id ends in 12 digits that are its number; what stands before is the same for every
order of one millisecond, and orders that were written together share it."""


class LineReader:
    """Cuts the stream of a binary COPY into lines, wherever its pieces end."""

    __slots__ = ("_begun", "_ended", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._ended = False

    def feed(self, piece: bytes) -> list[Line]:
        """Take the next piece of the stream.

        Returns:
            The lines that are complete now.

        Raises:
            ValueError: The stream is not the COPY that this reads.
        """
        data = self._rest + piece if self._rest else piece
        place = 0
        if not self._begun:
            if len(data) < _PREAMBLE:
                self._rest = data
                return []
            if not data.startswith(_SIGNATURE):
                raise ValueError("not a binary COPY stream")
            self._begun = True
            place = _PREAMBLE
        lines: list[Line] = []
        append = lines.append
        size = len(data)
        row_size = _ROW.size
        prefix, prefix_at, prefix_part = "", None, None
        while place + row_size <= size:
            (
                columns, first_at, seq, order_seq, at, occurred_at, units, debit_cu, value_cu,
                fee_cu, cycle_no, issuer, acceptor, rate_no, part, kind, length,
            ) = _ROW.unpack_from(data, place)  # fmt: skip
            reference_at = place + row_size
            end = reference_at + length
            if end > size:
                break
            if columns != len(COLUMNS) + 1 or length < 0:
                raise ValueError(f"a row of {columns} columns in the COPY stream")
            first = order_seq or seq
            if first_at != prefix_at or part != prefix_part:
                prefix = order_text(first_at + EPOCH_2000_US, part, 0)[:_PREFIX_CHARS]
                prefix_at, prefix_part = first_at, part
            append(
                (
                    sha256(_LEAF_PREFIX + data[place + _EVENT_AT : end]).digest(),
                    f"{prefix}{first:012x}"
                    if first < _SHORT_SEQ
                    else order_text(first_at + EPOCH_2000_US, part, first),
                    seq,
                    at + EPOCH_2000_US,
                    occurred_at + EPOCH_2000_US,
                    units,
                    debit_cu,
                    value_cu,
                    fee_cu,
                    cycle_no,
                    issuer,
                    acceptor,
                    rate_no,
                    kind,
                    data[reference_at:end].decode(),
                )
            )
            place = end
        self._rest = data[place:]
        if self._rest == _TRAILER:
            self._rest = b""
            self._ended = True
        return lines

    def close(self) -> None:
        """Check that the stream came to its end.

        Raises:
            ValueError: It was cut short.
        """
        if not self._ended or self._rest:
            raise ValueError("the COPY stream was cut short")


def event_bytes_of(stream: bytes) -> bytes | None:
    """Canonical bytes of the one event in a whole stream; None if the stream holds another number.

    Args:
        stream: All of a COPY, of rows as `LineReader` reads them.
    """
    row = stream[_PREAMBLE : -len(_TRAILER)]
    if len(row) < _ROW.size or len(row) != _ROW.size + _ROW.unpack_from(row)[-1]:
        return None
    return struct.pack(">h", len(COLUMNS)) + row[_EVENT_AT:]
