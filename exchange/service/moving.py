"""A merchant moves in with its members and their points, and can leave with everything that is its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from adapters.kit.reference import step_of
from exchange.programme.core.calls import BY_CALL
from exchange.programme.core.command import Accrual
from exchange.service.privacy import names_of
from exchange.store import leaving
from schemas.files.balances import write_balances
from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.files.instant import instant_text
from schemas.values.ids import HOUSE, key_bytes, order_text
from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.event import Kind
from settlement.core.trail import By, Change
from settlement.service import trail
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool, Record

    from exchange.core.request_digest import RequestDigests
    from exchange.service.members import Members
    from exchange.vault.sealing import Vault
    from schemas.files.balances import BalanceLine
    from settlement.service.clearing import Clearing

TOGETHER: Final = 2_500
_EVENT_COLUMNS: Final = (
    *("order", "at", "occurred_at", "kind", "issuer", "acceptor", "member", "units"),
    *("debit_cu", "value_cu", "fee_cu", "credited_units", "reason", "reference"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did.

    Attributes:
        members: Different members in the file; all of them are enrolled now.
        lots: Lots that stand now, whether made this time or before.
        units: Smallest units in them.
        refused: Line and reason of what the writer refused.
    """

    members: int
    lots: int
    units: int
    refused: list[tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote: number of lots, smallest units in them, number of events."""

    lots: int
    units: int
    events: int


async def import_balances(
    pool: Pool,
    *,
    clearing: Clearing,
    members: Members,
    digests: RequestDigests,
    merchant_no: int,
    code: str,
    lines: Sequence[BalanceLine],
    digest: bytes,
    by: By,
    now: datetime,
    done: Callable[[int], None],
) -> Imported:
    """Enrol members and give them the points that they bring.

    Each line is a command under a key made of the file's digest and the line, so a repeat, also of an
    import that was cut off, gives nothing twice. The trail names the file by its digest before anything is given.

    Args:
        pool: Connections of the program.
        clearing: The writer.
        members: Who is enrolled.
        digests: Digests the lines.
        merchant_no: Whose points; its programme is hosted.
        code: Its code.
        lines: The whole file, already checked.
        digest: SHA-256 of the file.
        by: Who imports it.
        now: Instant.
        done: Told how many more lines are done.

    Raises:
        Unavailable: The writer is away; what was done stands, and a repeat goes on.
    """
    references = {line.member for line in lines}
    lots = units = 0
    refused: list[tuple[int, str]] = []
    mark = digest.hex()[:32]
    after = {
        "file_sha256": digest.hex(),
        "lines": len(lines),
        "units": str(sum(line.units for line in lines)),
    }
    await trail.ask(pool, by, Change(action="points.import", subject=code, after=after), at=now)
    for start in range(0, len(lines), TOGETHER):
        part = lines[start : start + TOGETHER]
        known = await members.enrol({line.member for line in part}, caller=merchant_no)
        given = [line for line in part if line.units]
        answers = await clearing.submit(
            [
                Accrual(
                    caller=HOUSE,
                    key=key_bytes(f"import:{mark}:{line.line_no}"),
                    body=digests.of((merchant_no, *line[1:])),
                    member_no=known[line.member],
                    merchant_no=merchant_no,
                    units=line.units,
                    expires_at_us=line.expires_at_us,
                )
                for line in given
            ]
        )
        for line, [entry] in zip(given, answers, strict=True):
            if entry.kind == Kind.REFUSED:
                refused.append((line.line_no, REASON_BY_NUMBER[entry.reason].code))
            else:
                lots += 1
                units += entry.units
        done(len(part))
    return Imported(members=len(references), lots=lots, units=units, refused=refused)


async def export_merchant(
    pool: Pool,
    *,
    vault: Vault,
    scope: int,
    merchant_no: int,
    code: str,
    now_us: int,
    folder: Path,
    by: By,
    now: datetime,
) -> Exported:
    """Write everything that is a merchant's own into a folder: what leaves with it.

    `balances.csv` can be imported again; `events.csv` holds every event with the merchant as issuer or
    acceptor, with the member only where the points are the merchant's; `export.json` holds counts,
    control totals and the SHA-256 of both. All are of one instant. Members stand there as the merchant
    calls them; who was erased stands nowhere.

    Args:
        pool: Connections of the program.
        vault: The house's keys, which open members' names.
        scope: Whose names the merchant calls members by; see `Shelf.scope_of`.
        merchant_no: The merchant.
        code: Its code.
        now_us: Lots that expired by then are left out.
        folder: An empty folder.
        by: Who takes it, as the trail keeps it.
        now: Instant.

    Raises:
        FileExistsError: One of the files is there already.
    """
    events = 0
    with (folder / "events.csv").open("x", encoding="utf-8", newline="") as file:
        file.write(BOM + ",".join(_EVENT_COLUMNS) + LINE_END)
        async with leaving.snapshot(pool) as conn:
            names = await names_of(
                conn,
                vault,
                member_nos=await leaving.members_of(conn, part=PART, merchant_no=merchant_no),
                scope=scope,
                merchant_no=merchant_no,
            )
            lots = sorted(
                [
                    (names[row["member_no"]], row["units"], row["expires_at_us"])
                    async for row in leaving.lots_of(
                        conn, part=PART, merchant_no=merchant_no, at_us=now_us
                    )
                    if row["member_no"] in names
                ],
                key=lambda lot: (lot[0], lot[2]),
            )
            async for row in leaving.events_of(conn, part=PART, merchant_no=merchant_no):
                file.write(_event_line(row, names.get(row["member_no"], "")) + LINE_END)
                events += 1
    with (folder / "balances.csv").open("x", encoding="utf-8", newline="") as file:
        file.writelines(write_balances(lots))
    exported = Exported(lots=len(lots), units=sum(units for _, units, _ in lots), events=events)
    summary = {
        "merchant": code,
        "at": instant_text(now_us),
        "lots": exported.lots,
        "units": str(exported.units),
        "events": events,
        "sha256": {name: _sha256(folder / name) for name in ("balances.csv", "events.csv")},
    }
    after = {"lots": exported.lots, "units": str(exported.units), "events": events}
    async with pool.acquire() as writing, writing.transaction():
        await trail.record(
            writing, by, Change(action="points.export", subject=code, after=after), at=now
        )
    with (folder / "export.json").open("xb") as binary:
        binary.write(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return exported


def _event_line(row: Record, member: str) -> str:
    reason = REASON_BY_NUMBER[row["reason"]].code if row["reason"] else ""
    order = ""
    if row["kind"] in BY_CALL:
        order = str(step_of(row["reference"])[0])
    elif row["order_seq"]:
        order = order_text(row["order_at_us"], PART, row["order_seq"])
    return ",".join(
        (
            order,
            instant_text(row["at_us"]),
            instant_text(row["occurred_at_us"]),
            Kind(row["kind"]).name.lower(),
            row["issuer"] or "",
            row["acceptor"] or "",
            text_field(member),
            *(
                str(row[name])
                for name in ("units", "debit_cu", "value_cu", "fee_cu", "credited_units")
            ),
            reason,
            text_field(row["reference"]),
        )
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
