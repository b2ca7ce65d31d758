"""The checks of a package's statements, in one streamed pass over their lines.

Each line stands in two statements, the issuer's and the acceptor's, and says which leaf of the
signed tree it is. So the lines of all issuers together are all leaves: their hashes give the root,
and their figures give the obligations. Leaf hashes are kept in a file that is mapped into memory,
32 bytes a line, since the statements bring them in the order of merchants.
"""

from __future__ import annotations

import mmap
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from schemas.files.msgpack_stream import read_objects
from schemas.files.statement import (
    ADJUSTED,
    CSV_HEAD,
    ISSUER,
    LINE_FIELDS,
    REVERSED,
    RoleTotals,
    StatementLine,
    StatementTotals,
    csv_line,
    csv_totals,
    read_header,
    read_line,
    read_totals,
)
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed, NotChecked
from settlement.signing.merkle import DIGEST_BYTES, MerkleTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from schemas.files.manifest import Manifest
    from settlement.service.verify_figures import Figures, Pair

_LINE_BYTES_MIN = 60
"""No line is shorter, so files of this size cannot hold more of them than that."""
_BLOCK_LEAVES = 4096
_SEEN_BY_ISSUER, _SEEN_BY_ACCEPTOR = 1, 2
_NO_MORE = object()  # None is an object that a stream may hold
_NOT_READ = NotChecked("The statements cannot be read.", "对账单无法读取，未核对。")


class StatementsVerifier:
    """One pass over all statements of a package, and the checks that it answers.

    Attributes:
        checks: Each check by name; it returns its sentences or raises `CheckFailed`.
    """

    CHECKS: ClassVar = ("statements", "statement_forms", "leaf_count", "merkle_root")

    def __init__(self, folder: Path, manifest: Manifest, figures: Figures) -> None:
        """Take the package and its tables."""
        self._folder = folder
        self._manifest = manifest
        self._figures = figures
        self._leaves = manifest.merkle.leaf_count
        self._read = False
        self._forms_differ: CheckFailed | None = None
        self._counts_differ: CheckFailed | None = None
        self._root: bytes | None = None
        self.checks: dict[str, Callable[[], tuple[str, str]]] = {
            "statements": self._statements,
            "statement_forms": self._forms,
            "leaf_count": self._leaf_count,
            "merkle_root": self._merkle_root,
        }

    def _statements(self) -> tuple[str, str]:
        """Read every statement once; the other checks tell what was seen on the way."""
        packed = [
            self._folder / one.path for one in self._manifest.files if one.path.endswith(".msgpack")
        ]
        merchants = {party for pair in self._figures.obligations for party in pair[:2]}
        if {path.stem for path in packed} != merchants:
            raise CheckFailed(
                "The statements are not those of the merchants that have obligations.",
                "对账单的商户与债务表不一致。",
            )
        if self._leaves > sum(path.stat().st_size for path in packed) // _LINE_BYTES_MIN:
            self._counts_differ = CheckFailed(
                f"{self._leaves} lines are claimed, more than the statements can hold.",
                f"声称有 {self._leaves} 笔，超出对账单所能容纳。",
            )
            raise _NOT_READ
        with ExitStack() as stack:
            leaves = _LeafHashes(self._leaves, stack)
            sums = _Sums()
            for path in packed:
                self._statement(path, leaves, sums)
            self._read = True
            self._compare(sums)
            self._counts_differ = leaves.gap()
            if self._counts_differ is None:
                self._root = leaves.root()
        return (
            f"The lines of {len(packed)} statements sum to the obligations and positions.",
            f"{len(packed)} 份对账单的明细与债务及净额相符。",
        )

    def _forms(self) -> tuple[str, str]:
        if self._forms_differ is not None:
            raise self._forms_differ
        if not self._read:
            raise _NOT_READ
        return (
            "Each statement says the same as CSV and as msgpack.",
            "每份对账单的 CSV 与 msgpack 内容一致。",
        )

    def _leaf_count(self) -> tuple[str, str]:
        if self._counts_differ is not None:
            raise self._counts_differ
        if not self._read:
            raise _NOT_READ
        if self._leaves != self._manifest.counts.orders:
            raise CheckFailed(
                f"The tree has {self._leaves} leaves and the cycle {self._manifest.counts.orders} lines.",
                f"树有 {self._leaves} 个叶，周期有 {self._manifest.counts.orders} 笔。",
            )
        return (
            f"The {self._leaves} lines are the leaves of the tree, each once.",
            f"{self._leaves} 笔明细与树叶一一对应。",
        )

    def _merkle_root(self) -> tuple[str, str]:
        if self._root is None:
            raise NotChecked(
                "Without every line the root cannot be made.", "明细不全，无法重算树根。"
            )
        if self._root.hex() != self._manifest.merkle.root:
            raise CheckFailed(
                "The lines' hashes do not lead to the signed root.", "明细哈希与签名的树根不符。"
            )
        return "The lines' hashes lead to the signed root.", "明细哈希与签名的树根相符。"

    def _statement(self, path: Path, leaves: _LeafHashes, sums: _Sums) -> None:
        """Read one merchant's two files side by side."""
        merchant = path.stem
        csv_path = path.with_suffix(".csv")
        own = _Own()
        with path.open("rb") as file, csv_path.open("rb") as csv_file:
            text = _ExpectedText(csv_file)
            text.expect(CSV_HEAD)
            totals: StatementTotals | None = None
            try:
                for line in self._lines(read_objects(file, path.stat().st_size), merchant):
                    if isinstance(line, StatementTotals):
                        totals = line
                        break
                    text.expect(csv_line(line))
                    own.add(line)
                    sums.add(merchant, line)
                    leaves.put(line)
            except SchemaError as error:
                raise SchemaError(f"{path.name} {error.path}", error.detail) from error
            if totals is not None:
                text.expect(csv_totals(totals))
            if not text.is_all() and self._forms_differ is None:
                self._forms_differ = CheckFailed(
                    f"{csv_path.name} does not say the same as {path.name}.",
                    f"{csv_path.name} 与 {path.name} 内容不一致。",
                )
        position = self._figures.positions.get(merchant)
        if totals != own.totals() or position is None or totals.net_cu != position.net_cu:
            raise CheckFailed(
                f"The lines of {merchant} do not sum to its totals and its position.",
                f"{merchant} 的明细与其合计或净额不符。",
            )

    def _lines(
        self, objects: Iterator[object], merchant: str
    ) -> Iterator[StatementLine | StatementTotals]:
        """Lines of a statement, checked one by one, then its totals, which end the file."""
        self._header(next(objects, None), merchant)
        last_leaf = -1
        for number, value in enumerate(objects, 1):
            if isinstance(value, dict):
                totals = read_totals(value, number)
                if next(objects, _NO_MORE) is not _NO_MORE:
                    raise SchemaError(f"$[{number}]", "the totals do not end the file")
                yield totals
                return
            line = read_line(value, number)
            if line.leaf_index <= last_leaf:
                raise SchemaError(f"$[{number}][0]", "lines are not in the journal's order")
            last_leaf = line.leaf_index
            yield line
        raise SchemaError("$", "the totals are missing")

    def _header(self, value: object, merchant: str) -> None:
        """Check that a statement belongs to this package and this merchant."""
        header = read_header(value)
        manifest = self._manifest
        if (header.cycle_id, header.cycle_no, header.sequence, header.merchant, header.fields) != (
            manifest.cycle.id, manifest.cycle.no, manifest.sequence, merchant, list(LINE_FIELDS),
        ):  # fmt: skip
            raise SchemaError("$[0]", f"not the statement of {merchant} in this package")

    def _compare(self, sums: _Sums) -> None:
        """Hold the sums of the lines, from both sides, against the obligations."""
        for pair, row in self._figures.obligations.items():
            lines = abs(row.orders)
            issued = (lines, row.debit_cu, row.value_cu)
            accepted = (lines, row.value_cu, row.fee_cu)
            if tuple(sums.issued.pop(pair, ())) != issued or (
                tuple(sums.accepted.pop(pair, ())) != accepted
            ):
                raise CheckFailed(
                    f"The lines of {pair[0]} and {pair[1]} do not sum to their obligation.",
                    f"{pair[0]} 与 {pair[1]} 的明细与债务不符。",
                )
        if sums.issued or sums.accepted:
            raise CheckFailed("Some lines belong to no obligation.", "部分明细不属于任何债务。")


class _ExpectedText:
    """Compares a text file with what it should hold, piece by piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._same = True

    def expect(self, text: str) -> None:
        """Compare the next piece."""
        if self._same:
            data = text.encode()
            self._same = self._file.read(len(data)) == data

    def is_all(self) -> bool:
        """Whether the file held just these pieces."""
        return self._same and not self._file.read(1)


class _Own:
    """Sums of one statement's lines, by role."""

    def __init__(self) -> None:
        self._sums = {1: [0, 0, 0, 0, 0], 2: [0, 0, 0, 0, 0]}

    def add(self, line: StatementLine) -> None:
        sums = self._sums[line.role]
        sums[0] += 1
        sums[1] += line.gross_cu
        sums[2] += line.fee_cu
        sums[3] += line.remainder_cu
        sums[4] += line.net_cu

    def totals(self) -> StatementTotals:
        issuer, acceptor = (
            RoleTotals(lines=n, gross_cu=gross, fee_cu=fee, remainder_cu=remainder, net_cu=net)
            for n, gross, fee, remainder, net in self._sums.values()
        )
        return StatementTotals(
            issuer=issuer, acceptor=acceptor, net_cu=issuer.net_cu + acceptor.net_cu
        )


class _Sums:
    """Sums of all lines by issuer, acceptor and whether they are reversals, from either side.

    Attributes:
        issued: Lines, debit and value (CU) from the issuers' statements.
        accepted: Lines, value and fee (CU) from the acceptors' statements.
    """

    def __init__(self) -> None:
        self.issued: defaultdict[Pair, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.accepted: defaultdict[Pair, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, merchant: str, line: StatementLine) -> None:
        if line.net_cu != line.gross_cu + line.fee_cu:
            raise CheckFailed(
                f"Line {line.leaf_index} of {merchant}: the net is not gross plus fee.",
                f"{merchant} 第 {line.leaf_index} 笔净额不等于总额加手续费。",
            )
        reversal = is_taken_back(line)
        if line.role == ISSUER:
            sums = self.issued[merchant, line.counterparty, reversal]
            sums[1] -= line.gross_cu
            sums[2] -= line.gross_cu + line.remainder_cu
        else:
            sums = self.accepted[line.counterparty, merchant, reversal]
            sums[1] += line.gross_cu
            sums[2] -= line.fee_cu
        sums[0] += 1


def is_taken_back(line: StatementLine) -> bool:
    """Whether a line takes back what was owed: a reversal, or an adjustment with such figures (rule J1)."""
    if line.kind == ADJUSTED:
        return line.gross_cu >= 0 if line.role == ISSUER else line.gross_cu <= 0
    return line.kind == REVERSED


class _LeafHashes:
    """Hashes of all leaves by number, in a temporary file that is mapped into memory."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        self._count = count
        self._seen = bytearray(count)
        self._differ: CheckFailed | None = None
        if count:
            size = count * DIGEST_BYTES
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
            file.truncate(size)
            self._hashes = stack.enter_context(mmap.mmap(file.fileno(), size))

    def put(self, line: StatementLine) -> None:
        """Take the hash from one of the two statements that show the line; both must agree."""
        index = line.leaf_index
        if index >= self._count:
            self._differ = self._differ or CheckFailed(
                f"A line says it is leaf {index} of {self._count}.",
                f"有明细自称第 {index} 叶，而树仅有 {self._count} 叶。",
            )
            return
        start = index * DIGEST_BYTES
        side = _SEEN_BY_ISSUER if line.role == ISSUER else _SEEN_BY_ACCEPTOR
        seen = self._seen[index]
        if seen == 0:
            self._hashes[start : start + DIGEST_BYTES] = line.leaf_hash
        elif seen & side or self._hashes[start : start + DIGEST_BYTES] != line.leaf_hash:
            self._differ = self._differ or CheckFailed(
                f"Two lines claim to be leaf {index}.", f"两笔明细同称第 {index} 叶。"
            )
        self._seen[index] = seen | side

    def gap(self) -> CheckFailed | None:
        """What keeps the lines from being all leaves, each once on both sides."""
        both = _SEEN_BY_ISSUER | _SEEN_BY_ACCEPTOR
        if self._differ is None and self._seen.count(both) != self._count:
            index = next(n for n, seen in enumerate(self._seen) if seen != both)
            return CheckFailed(
                f"Leaf {index} does not stand in both statements.",
                f"第 {index} 叶未同时出现在双方对账单中。",
            )
        return self._differ

    def root(self) -> bytes:
        """Root over all leaves."""
        tree = MerkleTree()
        for start in range(0, self._count, _BLOCK_LEAVES):
            end = min(start + _BLOCK_LEAVES, self._count)
            block = self._hashes[start * DIGEST_BYTES : end * DIGEST_BYTES]
            tree.extend(
                block[place : place + DIGEST_BYTES] for place in range(0, len(block), DIGEST_BYTES)
            )
        return tree.root()
