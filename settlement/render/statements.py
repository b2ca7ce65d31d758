"""Every merchant's statement, written in one pass over the cycle's lines.

A file is opened only to append what has gathered for it, so neither memory nor open files grow with
the cycle or with the number of merchants; its digest is kept as it grows.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.files.csv_text import text_field
from schemas.files.instant import instant_text
from schemas.files.manifest import FileFacts
from schemas.files.statement import (
    ACCEPTOR,
    CSV_HEAD,
    ISSUER,
    KIND_TEXT,
    RoleTotals,
    StatementTotals,
    csv_totals,
    write_header,
)
from schemas.values.amounts import CU_PER_YUAN, yuan_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from settlement.core.line import Line

FOLDER: Final = "statements"
_FLUSH_LINES = 8_192
_FRACTIONS: Final = tuple(f".{cu:04d}" for cu in range(CU_PER_YUAN))
"""What follows the yuan; formatting it each time would be a tenth of all the work."""


class _GrowingFile:
    """A file that is appended to and closed again, with its digest so far."""

    __slots__ = ("_digest", "_path", "length")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self.length = 0

    def append(self, data: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(data)
        self._digest.update(data)
        self.length += len(data)

    def close(self) -> FileFacts:
        with self._path.open("ab") as file:
            os.fsync(file.fileno())
        return FileFacts(
            path=f"{FOLDER}/{self._path.name}", bytes=self.length, sha256=self._digest.hexdigest()
        )


class _Sheet:
    """The two files of one merchant, and what waits to be written to them."""

    __slots__ = ("code", "csv", "csv_file", "packed", "packed_file")

    def __init__(self, folder: Path, merchant: str, header: bytes) -> None:
        self.code = merchant
        self.csv = [CSV_HEAD]
        self.packed = [header]
        self.csv_file = _GrowingFile(folder / f"{merchant}.csv")
        self.packed_file = _GrowingFile(folder / f"{merchant}.msgpack")

    def flush(self) -> None:
        if self.csv:
            self.csv_file.append("".join(self.csv).encode())
            self.packed_file.append(b"".join(self.packed))
            self.csv.clear()
            self.packed.clear()


class _Pair:
    """Where the lines of one issuer and one acceptor go, orders or reversals, and their sums so far, CU."""

    __slots__ = (
        "acceptor", "acceptor_csv", "acceptor_packed", "debit_cu", "fee_cu", "issuer",
        "issuer_csv", "issuer_packed", "lines", "value_cu",
    )  # fmt: skip

    def __init__(self, issuer: _Sheet, acceptor: _Sheet) -> None:
        self.issuer = issuer.code
        self.issuer_csv = issuer.csv
        self.issuer_packed = issuer.packed
        self.acceptor = acceptor.code
        self.acceptor_csv = acceptor.csv
        self.acceptor_packed = acceptor.packed
        self.lines = self.debit_cu = self.value_cu = self.fee_cu = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementsHead:
    """What every statement of a package says of itself.

    Attributes:
        cycle_id: Id of the cycle.
        cycle_no: Number of the cycle.
        sequence: Number of the package.
    """

    cycle_id: str
    cycle_no: int
    sequence: int


class StatementsWriter:
    """Writes the statements of one package.

    Attributes:
        lines: Lines of the cycle so far; each stands in two statements.
    """

    def __init__(
        self,
        folder: Path,
        *,
        head: StatementsHead,
        codes: Mapping[int, str],
        rates: Mapping[int, tuple[int, int]],
    ) -> None:
        """Take what does not change from line to line.

        Args:
            folder: Folder of the statements; exists and is empty.
            head: What each statement says of itself.
            codes: Code of each merchant number.
            rates: Numerator and denominator of each rate that is used; rate 0 is none.
        """
        self.lines = 0
        self._folder = folder
        self._head = head
        self._codes = codes
        self._rates = dict(rates) | {0: (0, 0)}
        self._sheets: dict[int, _Sheet] = {}
        self._pairs: dict[tuple[int, int, bool], _Pair] = {}
        self._waiting = 0

    def write(self, lines: Sequence[Line]) -> None:
        """Write the next lines of the cycle, each to its issuer's and its acceptor's statement.

        Raises:
            KeyError: A line names a merchant or a rate that is not there.
        """
        rates, pairs, fractions = self._rates, self._pairs, _FRACTIONS
        pack = msgspec.msgpack.Encoder().encode
        index = self.lines
        cleared, cleared_us = "", None
        for (
            leaf, order, _, at_us, till_us, units, debit_cu, value_cu, fee_cu, _,
            issuer, acceptor, rate_no, kind, reference,
        ) in lines:  # fmt: skip
            if at_us != cleared_us:  # lines that were written together share the instant
                cleared, cleared_us = instant_text(at_us), at_us
            parties = issuer, acceptor, debit_cu <= 0  # only what takes back is not above 0
            pair = pairs.get(parties) or self._new_pair(parties)
            num, den = rates[rate_no]
            remainder_cu, credit_cu = debit_cu - value_cu, value_cu - fee_cu
            head = f"{order},{text_field(reference)},{instant_text(till_us)},{cleared},{KIND_TEXT[kind]},"
            rate = f"{units},{num},{den}"
            if debit_cu > 0 and 0 <= fee_cu <= value_cu:
                owed = f"-{debit_cu}"
                owed_yuan = f"-{debit_cu // CU_PER_YUAN}{fractions[debit_cu % CU_PER_YUAN]}"
                credit_yuan = f"{credit_cu // CU_PER_YUAN}{fractions[credit_cu % CU_PER_YUAN]}"
            else:
                owed = str(-debit_cu)
                owed_yuan, credit_yuan = yuan_text(-debit_cu), yuan_text(credit_cu)
            pair.issuer_csv.append(
                f"{head}issuer,{pair.acceptor},{rate},{owed},0,{remainder_cu},{owed},{owed_yuan},{index}\r\n"
            )
            pair.acceptor_csv.append(
                f"{head}acceptor,{pair.issuer},{rate},{value_cu},{-fee_cu},0,{credit_cu},{credit_yuan},{index}\r\n"
            )
            pair.issuer_packed.append(
                pack((
                    index, leaf, order, reference, till_us, at_us, kind, ISSUER, pair.acceptor,
                    units, num, den, -debit_cu, 0, remainder_cu, -debit_cu,
                ))
            )  # fmt: skip
            pair.acceptor_packed.append(
                pack((
                    index, leaf, order, reference, till_us, at_us, kind, ACCEPTOR, pair.issuer,
                    units, num, den, value_cu, -fee_cu, 0, credit_cu,
                ))
            )  # fmt: skip
            pair.lines += 1
            pair.debit_cu += debit_cu
            pair.value_cu += value_cu
            pair.fee_cu += fee_cu
            index += 1
        self._waiting += len(lines)
        self.lines = index
        if self._waiting >= _FLUSH_LINES:
            self._flush()

    def pair_totals(self) -> dict[tuple[int, int, bool], tuple[int, int, int, int]]:
        """Lines, debit, value and fee (CU), summed from the lines.

        Returns:
            By issuer, acceptor, and whether they take back, so that their figures are negative.
        """
        return {
            parties: (pair.lines, pair.debit_cu, pair.value_cu, pair.fee_cu)
            for parties, pair in self._pairs.items()
        }

    def finish(self) -> list[FileFacts]:
        """Write the totals and put every file on disk.

        Returns:
            Path, length and digest of each file, in the order of paths.
        """
        for merchant_no, sheet in self._sheets.items():
            totals = self._totals(merchant_no)
            sheet.csv.append(csv_totals(totals))
            sheet.packed.append(msgspec.msgpack.encode(totals))
        self._flush()
        facts = [
            file.close()
            for sheet in self._sheets.values()
            for file in (sheet.csv_file, sheet.packed_file)
        ]
        return sorted(facts, key=lambda fact: fact.path)

    def _new_pair(self, parties: tuple[int, int, bool]) -> _Pair:
        issuer, acceptor, _ = parties
        pair = self._pairs[parties] = _Pair(
            self._sheets.get(issuer) or self._new_sheet(issuer),
            self._sheets.get(acceptor) or self._new_sheet(acceptor),
        )
        return pair

    def _new_sheet(self, merchant_no: int) -> _Sheet:
        merchant = self._codes[merchant_no]
        header = write_header(
            cycle_id=self._head.cycle_id,
            cycle_no=self._head.cycle_no,
            sequence=self._head.sequence,
            merchant=merchant,
        )
        sheet = self._sheets[merchant_no] = _Sheet(self._folder, merchant, header)
        return sheet

    def _flush(self) -> None:
        self._waiting = 0
        for sheet in self._sheets.values():
            sheet.flush()

    def _totals(self, merchant_no: int) -> StatementTotals:
        issued = [pair for (issuer, _, _), pair in self._pairs.items() if issuer == merchant_no]
        accepted = [pair for (_, to, _), pair in self._pairs.items() if to == merchant_no]
        debit_cu = sum(pair.debit_cu for pair in issued)
        value_cu = sum(pair.value_cu for pair in accepted)
        fee_cu = sum(pair.fee_cu for pair in accepted)
        return StatementTotals(
            issuer=RoleTotals(
                lines=sum(pair.lines for pair in issued),
                gross_cu=-debit_cu,
                fee_cu=0,
                remainder_cu=sum(pair.debit_cu - pair.value_cu for pair in issued),
                net_cu=-debit_cu,
            ),
            acceptor=RoleTotals(
                lines=sum(pair.lines for pair in accepted),
                gross_cu=value_cu,
                fee_cu=-fee_cu,
                remainder_cu=0,
                net_cu=value_cu - fee_cu,
            ),
            net_cu=value_cu - fee_cu - debit_cu,
        )
