"""The demo's dispute: a merchant contests a line of a closed cycle, and the next package corrects it with the link."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from exchange.cli.context import Unusable, number_of
from schemas.values.amounts import yuan_text

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from exchange.cli.demo_money import Treasury
    from settlement.service.disputes import Dispute

CLAIM: Final = (
    "The member brought the goods back; the till took nothing back. 会员已退货，门店未冲正。"
)
ANSWER: Final = "True: the till was offline that evening. 属实，当晚收银离线。"
WHY: Final = "Both sides agree. 双方一致。"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A case that ended in an adjustment.

    Attributes:
        name: What it is called.
        merchant: Who opened it; the issuer of the line.
        other: The acceptor.
        order: The order that was disputed.
        cycle_id: The closed cycle that its line stands in.
        corrected_in: The cycle whose package holds the correction.
        net_cu: What the correction gives back to the merchant, CU.
        net_line_cu: What the line had taken from it, CU.
    """

    name: str
    merchant: str
    other: str
    order: str
    cycle_id: str
    corrected_in: str
    net_cu: int
    net_line_cu: int

    @property
    def good(self) -> bool:
        """Whether the correction is all of the line."""
        return self.net_cu == -self.net_line_cu > 0


async def dispute_a_line(money: Treasury, package: Path, merchant: str) -> Dispute:
    """Dispute the largest of the merchant's lines as an issuer, have the other side answer, and decide the case.

    Args:
        money: The demo's treasury.
        package: A closed cycle's package.
        merchant: Who disputes.

    Raises:
        Unusable: A step is refused: a fault of the demo.
    """
    from settlement.core.dispute import Step
    from settlement.core.trail import By
    from settlement.service import disputes

    line = max(_lines(package, merchant, role="issuer"), key=lambda one: -int(one["net_cu"]))
    opener = await number_of(money.pool, merchant)
    answerer = await number_of(money.pool, line["counterparty"])
    now = datetime.now(UTC)
    opened = await disputes.open_dispute(
        money.pool,
        disputes.Opening(
            opener=opener,
            order=UUID(line["order"]),
            text=CLAIM,
            key=bytes(15) + b"\1",
            body=bytes(16),
        ),
        by=By(who=f"merchant:{merchant}"),
        at=now,
    )
    number = disputes.dispute_no(_taken(opened).name)
    answered = await disputes.take_step(
        money.pool,
        number,
        disputes.Wish(
            party=answerer,
            step=Step.ANSWER,
            text=ANSWER,
            key=bytes(15) + b"\2",
            body=bytes(16),
        ),
        by=By(who=f"merchant:{line['counterparty']}"),
        at=now,
    )
    claim = _taken(answered).case.claim
    decided_by = By(who="person:treasurer", second="person:operator", why=WHY)
    async with disputes.changing(money.pool, rehearse=False) as conn:
        decided = await disputes.decide(conn, number, granted=claim, by=decided_by, at=now)
    if not isinstance(decided, bytes):
        raise Unusable(f"the case was not decided: {decided.detail}")
    if refused := await disputes.book(money.pool, money.clearing, number, at=now):
        raise Unusable(f"the case was not booked: {refused.detail}")
    return _taken(answered)


def find_correction(case: Dispute, merchant: str, disputed: Path, corrected: Path) -> Resolved:
    """Find the disputed line in its own package, and the correction that names the same order in a later one.

    Raises:
        Unusable: One of both is not there.
    """
    order = str(case.order)
    [line] = [one for one in _lines(disputed, merchant, role="issuer") if one["order"] == order]
    found = [one for one in _lines(corrected, merchant, role="issuer") if one["order"] == order]
    if [one["kind"] for one in found] != ["adjusted"]:
        raise Unusable(f"the package of {corrected.name} does not correct the order {order}")
    return Resolved(
        name=case.name,
        merchant=merchant,
        other=line["counterparty"],
        order=order,
        cycle_id=disputed.name,
        corrected_in=corrected.name,
        net_cu=int(found[0]["net_cu"]),
        net_line_cu=int(line["net_cu"]),
    )


def print_resolved(console: Console, one: Resolved) -> None:
    """Print how the dispute ended."""
    console.print(
        f"Dispute {one.name} 争议: {one.merchant} contested order {one.order} of {one.cycle_id}; {one.other} agreed, "
        f"two people decided.\n  Corrected in the package of {one.corrected_in}, which names the order: "
        f"{yuan_text(one.net_line_cu)} is given back as {yuan_text(one.net_cu)}. 已在下一结算包更正并注明原单。",
        soft_wrap=True,
    )


def resolved_json(one: Resolved) -> dict[str, str]:
    """The same for a program."""
    return {
        "dispute": one.name,
        "merchant": one.merchant,
        "order": one.order,
        "cycle": one.cycle_id,
        "corrected_in": one.corrected_in,
        "net_cu": str(one.net_cu),
    }


def _lines(package: Path, merchant: str, *, role: str) -> list[dict[str, str]]:
    """Lines of a merchant's statement, by the English word of each column."""
    path = package / "statements" / f"{merchant}.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        [heading, *rows] = csv.reader(file)
    names = [name.partition(" ")[0] for name in heading]
    lines = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    return [line for line in lines if line["role"] == role and line["leaf"]]


def _taken(outcome: Dispute | object) -> Dispute:
    from settlement.service.disputes import Dispute

    if not isinstance(outcome, Dispute):
        raise Unusable(f"the demo's dispute was refused: {outcome}")
    return outcome
