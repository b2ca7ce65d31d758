"""Cutting batches: the signed package of one closed cycle, made once and written again the same.

The row in `settlement.batch` is what makes a package: it is committed before the folder appears,
and a cut that died anywhere is finished by cutting again, from the manifest that the row holds.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.files.instant import microseconds
from schemas.files.manifest import (
    CYCLE_ID_PATTERN,
    ChainHead,
    FileFacts,
    read_manifest,
    write_manifest,
)
from schemas.values.reason import Reason, Refusal
from settlement.core.arrangement import Model
from settlement.core.instruction import (
    HOUSE_LEG,
    Instruction,
    instruct,
    instruct_nothing,
    instruct_pairs,
    nets_of_pairs,
)
from settlement.core.line import LINE_CYCLE_NO, LINE_SEQ, LineReader
from settlement.core.netting import Netting, Obligation, net
from settlement.core.package import (
    FIRST_PLACE,
    Contents,
    Cycle,
    PlaceInChain,
    compose_manifest,
    difference,
)
from settlement.render.statements import StatementsHead, StatementsWriter
from settlement.render.tables import (
    party_codes,
    render_instructions,
    render_obligations,
    render_positions,
)
from settlement.service.package_folder import PackageFolder, only_cutter
from settlement.signing.merkle import MerkleTree
from settlement.store import batches as store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import asyncpg

    from settlement.signing.keyring import Keyring


class BooksDiffer(Exception):  # noqa: N818 - a state of the books, told to a person
    """Two accounts of the same cycle disagree; nothing was cut. The message names the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutBatch:
    """A package that stands.

    Attributes:
        cycle_no: Number of the cycle.
        cycle_id: Id of the cycle.
        sequence: Number of the package.
        folder: Where it is.
        manifest_sha256: Digest of its manifest; the next package names it.
        orders: Lines of the cycle; each stands in two statements.
        netting: The result of the cycle, with its explanation.
        instructions: Who pays in and who is paid out.
        again: Whether the cycle had been cut before.
    """

    cycle_no: int
    cycle_id: str
    sequence: int
    folder: Path
    manifest_sha256: bytes
    orders: int
    netting: Netting
    instructions: tuple[Instruction, ...]
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """Events of the cycle in one partition, by sequence number."""

    part: int
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the books say of the cycle, but for its lines."""

    cycle: Cycle
    ranges: list[_Range]
    place: PlaceInChain
    obligations: list[Obligation]
    positions: dict[int, int]
    carries: dict[tuple[int, int], int]
    codes: dict[int, str]
    rates: dict[int, tuple[int, int]]
    chain_heads: list[ChainHead]
    stored: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    """What the lines of the cycle came to."""

    files: list[FileFacts]
    leaf_count: int
    root: bytes
    pairs: dict[tuple[int, int, bool], tuple[int, int, int, int]]


async def cut_batch(
    pool: asyncpg.Pool,
    *,
    cycle_no: int,
    keyring: Keyring,
    out: Path,
    progress: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> CutBatch | Refusal:
    """Write the signed package of a closed cycle into `out / <cycle id>`.

    Everything is read in one snapshot. The lines are summed as they stream by and held against the
    books' own obligations and positions. Cutting a cycle again writes the same bytes.

    Args:
        pool: The books.
        cycle_no: The cycle; closed or settled.
        keyring: Keys that sign; for a cycle that was cut before, those that signed then.
        out: Folder of all packages; made if it is missing.
        progress: Called now and then with the number of lines so far.
        now: When it is cut, which says only which keys sign; the wall clock by default.

    Returns:
        The package, or CYCLE_NOT_CLOSED for a cycle that is unknown or open, or that has an
        earlier one before it whose batch has not been cut.

    Raises:
        BooksDiffer: Lines, obligations, positions or the stored manifest disagree.
        PackageDiffers: Another package stands in the folder.
        KeyringUnusable: No key can sign.
        KeyUnusable: A key behind PKCS #11 does not sign now.

    Source: settlement/RULES.md, rules K1 to K9.
    """
    now = now or datetime.now(UTC)
    async with only_cutter(out), pool.acquire() as conn:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            facts = await _gather(conn, cycle_no)
            if isinstance(facts, Refusal):
                return facts
            folder = PackageFolder.begin(out, facts.cycle.cycle_id)
            try:
                statements = await _write_statements(conn, facts, folder, progress)
            except BaseException:
                folder.discard()
                raise
        try:
            return await _finish(conn, facts, statements, folder, keyring, now)
        finally:
            folder.discard()


async def _gather(conn: store.Connection, cycle_no: int) -> _Facts | Refusal:
    """Read what the books say of a cycle, in the transaction of the caller."""
    parts = await store.fetch_cycle_parts(conn, cycle_no=cycle_no)
    if not parts or any(row["state"] == "open" for row in parts):
        state = "still open" if parts else "unknown"
        return Refusal(Reason.CYCLE_NOT_CLOSED, f"cycle {cycle_no} is {state}")
    earlier = await store.fetch_uncut_before(conn, cycle_no=cycle_no)
    if earlier is not None:
        return Refusal(
            Reason.CYCLE_NOT_CLOSED, f"cycle {earlier} comes first: its batch has not been cut"
        )
    stored = await store.fetch_batch(conn, cycle_no=cycle_no)
    if stored is None and await store.has_batch_after(conn, cycle_no=cycle_no):
        return Refusal(
            Reason.CYCLE_NOT_CLOSED,
            f"cycle {cycle_no} was settled without a batch, and a later one has been cut",
        )
    if not re.match(CYCLE_ID_PATTERN, parts[0]["cycle_id"]):
        raise BooksDiffer(f"the cycle's id {parts[0]['cycle_id']!r} cannot name a folder")
    cut_offs = [row["cut_off_at"] for row in parts if row["cut_off_at"] is not None]
    ranges = [
        _Range(part=row["part"], first_seq=row["first_seq"], last_seq=row["last_seq"])
        for row in parts
    ]
    before = await store.fetch_batch_before(conn, cycle_no=cycle_no)
    carrying = await store.fetch_carrying_batch(conn, cycle_no=cycle_no)
    return _Facts(
        cycle=Cycle(
            cycle_no=cycle_no,
            cycle_id=parts[0]["cycle_id"],
            opened_us=microseconds(min(row["opened_at"] for row in parts)),
            cut_off_us=microseconds(max(cut_offs)) if cut_offs else None,
            closed_us=microseconds(max(row["closed_at"] for row in parts)),
            arrangement=parts[0]["arrangement"],
            model=Model[parts[0]["model"].upper()],
        ),
        ranges=ranges,
        place=FIRST_PLACE
        if before is None
        else PlaceInChain(
            sequence=before["sequence"] + 1,
            previous_id=before["cycle_id"],
            previous_sha256=before["manifest_sha256"],
            carries_id=carrying["cycle_id"] if carrying else FIRST_PLACE.carries_id,
            carries_sha256=carrying["manifest_sha256"] if carrying else FIRST_PLACE.carries_sha256,
        ),
        obligations=await store.fetch_obligations(conn, cycle_no=cycle_no),
        positions=await store.fetch_positions(conn, cycle_no=cycle_no),
        carries={}
        if carrying is None
        else await store.fetch_carries(conn, cycle_no=carrying["cycle_no"]),
        codes=await store.fetch_codes(conn),
        rates=await store.fetch_rates(conn, cycle_no=cycle_no),
        chain_heads=[await _chain_head(conn, one) for one in ranges],
        stored=None if stored is None else stored["manifest"],
    )


async def _chain_head(conn: store.Connection, end: _Range) -> ChainHead:
    """Read where a partition's chain stood when the cycle's end was written."""
    row = await store.fetch_chain_head(conn, part=end.part, last_seq=end.last_seq)
    if row is None or row["first_seq"] + row["events"] <= end.last_seq:
        raise BooksDiffer(f"no flush of part {end.part} holds event {end.last_seq}")
    return ChainHead(
        part=row["part"],
        flush_no=row["flush_no"],
        last_seq=row["first_seq"] + row["events"] - 1,
        digest=row["digest"].hex(),
    )


async def _write_statements(
    conn: store.Connection,
    facts: _Facts,
    folder: PackageFolder,
    progress: Callable[[int], None] | None,
) -> _Statements:
    """Stream the cycle's lines into the statements and the tree."""
    cycle = facts.cycle
    writer = StatementsWriter(
        folder.statements,
        head=StatementsHead(
            cycle_id=cycle.cycle_id, cycle_no=cycle.cycle_no, sequence=facts.place.sequence
        ),
        codes=facts.codes,
        rates=facts.rates,
    )
    tree = MerkleTree()

    def take(piece: bytes) -> None:
        lines = reader.feed(piece)
        for line in lines:
            if line[LINE_CYCLE_NO] != cycle.cycle_no:
                raise BooksDiffer(
                    f"event {line[LINE_SEQ]} names cycle {line[LINE_CYCLE_NO]} "
                    f"and stands inside cycle {cycle.cycle_no}"
                )
        try:
            writer.write(lines)
        except KeyError as error:
            raise BooksDiffer(
                f"a line names a merchant or rate that is not there: {error}"
            ) from None
        tree.extend([line[0] for line in lines])
        if progress is not None:
            progress(writer.lines)

    for one in facts.ranges:
        reader = LineReader()
        await store.copy_lines(
            conn,
            part=one.part,
            first_seq=one.first_seq,
            last_seq=one.last_seq,
            sink=take,
            beside=await store.fetch_cycles_beside(conn, part=one.part, cycle_no=cycle.cycle_no),
        )
        reader.close()
    files = writer.finish()
    return _Statements(
        files=files, leaf_count=tree.count, root=tree.root(), pairs=writer.pair_totals()
    )


async def _finish(
    conn: store.Connection,
    facts: _Facts,
    statements: _Statements,
    folder: PackageFolder,
    keyring: Keyring,
    now: datetime,
) -> CutBatch:
    """Check, compose, sign, commit, publish: in this order, so that each step can be repeated."""
    _require_same_pairs(facts, statements.pairs)
    netting = net(facts.obligations)
    _require_same_positions(facts, netting)
    if facts.cycle.model is Model.BILATERAL:
        instructions = instruct_pairs(nets=nets_of_pairs(facts.obligations), carries=facts.carries)
    elif facts.cycle.model is Model.GROSS:
        instructions = instruct_nothing(netting.positions)
    else:
        carries = {party: carry_cu for (party, _), carry_cu in facts.carries.items()}
        instructions = instruct(nets=netting.positions, carries=carries)
    codes = party_codes(facts.codes)
    if facts.stored is None:
        signing_keys, approval = keyring.package_signers(now), keyring.approval(now)
    else:
        stored = read_manifest(facts.stored)
        signing_keys, approval = stored.signing_keys, stored.approval
    files = [
        *statements.files,
        folder.write("positions.csv", render_positions(netting, codes)),
        folder.write("obligations.csv", render_obligations(facts.obligations, codes)),
        folder.write("instructions.csv", render_instructions(instructions, codes)),
    ]
    manifest = compose_manifest(
        cycle=facts.cycle,
        place=facts.place,
        contents=Contents(
            netting=netting,
            obligations=len(facts.obligations),
            instructions=len(instructions),
            leaf_count=statements.leaf_count,
            root=statements.root,
            files=files,
        ),
        chain_heads=facts.chain_heads,
        codes=codes,
        signing_keys=signing_keys,
        approval=approval,
    )
    data = write_manifest(manifest)
    if facts.stored is not None and data != facts.stored:
        raise BooksDiffer(
            f"cycle {facts.cycle.cycle_id} was cut with another manifest: "
            f"{difference(read_manifest(facts.stored), manifest)}"
        )
    folder.require_same_or_absent(data)
    folder.sign(data, signing_keys, keyring)
    await _commit(conn, facts, data, instructions)
    folder.publish()
    return CutBatch(
        cycle_no=facts.cycle.cycle_no,
        cycle_id=facts.cycle.cycle_id,
        sequence=facts.place.sequence,
        folder=folder.target,
        manifest_sha256=hashlib.sha256(data).digest(),
        orders=statements.leaf_count,
        netting=netting,
        instructions=tuple(instructions),
        again=facts.stored is not None,
    )


async def _commit(
    conn: store.Connection, facts: _Facts, manifest: bytes, instructions: list[Instruction]
) -> None:
    """Write the batch and its instructions, or see that they stand."""
    cycle_no = facts.cycle.cycle_no
    # The house's carry is what the merchants' carries leave, so its one row holds none of its own.
    rows = [
        (one.party, 0, one.net_cu, 0, one.pay_fen, 0)
        if one.party == HOUSE_LEG and not one.counterparty
        else (
            one.party, one.counterparty, one.net_cu, one.carry_before_cu, one.pay_fen, one.carry_after_cu,
        )
        for one in instructions
    ]  # fmt: skip
    async with conn.transaction():
        if facts.stored is None and await store.insert_batch(
            conn,
            cycle_no=cycle_no,
            sequence=facts.place.sequence,
            cycle_id=facts.cycle.cycle_id,
            manifest=manifest,
            previous_sha256=facts.place.previous_sha256,
            manifest_sha256=hashlib.sha256(manifest).digest(),
        ):
            await store.insert_instructions(conn, cycle_no=cycle_no, rows=rows)
            return
        standing = await store.fetch_batch(conn, cycle_no=cycle_no)
        if standing is None or standing["manifest"] != manifest:
            raise BooksDiffer(f"another process cut cycle {cycle_no} with another manifest")
        paid = await store.fetch_instructions(conn, cycle_no=cycle_no)
        if sorted(rows) != [tuple(row) for row in paid]:
            raise BooksDiffer(f"the stored instructions of cycle {cycle_no} are others")


def _require_same_pairs(
    facts: _Facts, pairs: Mapping[tuple[int, int, bool], tuple[int, int, int, int]]
) -> None:
    """Hold the sums of the lines against the books' obligations, and what was taken back of them."""
    owed = {
        (one.issuer, one.acceptor, one.reversal): (
            one.orders,
            one.sign * one.debit_cu,
            one.sign * one.value_cu,
            one.sign * one.fee_cu,
        )
        for one in facts.obligations
    }
    for pair in sorted(owed.keys() | pairs.keys()):
        if owed.get(pair) != pairs.get(pair):
            issuer, acceptor = (facts.codes.get(party, party) for party in pair[:2])
            what = "reversals" if pair[2] else "orders"
            raise BooksDiffer(
                f"cycle {facts.cycle.cycle_id}, {issuer} to {acceptor} ({what}, debit, value, fee): "
                f"the lines sum to {pairs.get(pair)}, the obligation says {owed.get(pair)}"
            )


def _require_same_positions(facts: _Facts, netting: Netting) -> None:
    """Hold the figures against the books' positions; a party without a row stands at zero."""
    figures = netting.positions
    for party in sorted(figures.keys() | facts.positions.keys()):
        if figures.get(party, 0) != facts.positions.get(party, 0):
            raise BooksDiffer(
                f"cycle {facts.cycle.cycle_id}, {party_codes(facts.codes).get(party, party)}: "
                f"netting gives {figures.get(party, 0)} CU, the position says "
                f"{facts.positions.get(party, 0)} CU"
            )
