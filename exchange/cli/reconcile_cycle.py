"""`tongdui reconcile cycle`: a cycle seen three ways, merchant by merchant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.reconcile import KINDS, reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settlement.core.three_way import Side

FAULTS = {
    "position": "position 头寸",
    "instruction": "instruction 指令",
    "money": "money 资金",
    "file": "file 商户文件",
    "no_file": "no file 无文件",
}
COLUMNS = (
    "merchant", "agrees", "differs", "lines", "lines_yuan", "position_yuan", "instructed_yuan", "carry_before_yuan",
    "carry_after_yuan", "due_yuan", "seen_yuan", "matches", "their_lines", "told_yuan", "compared_yuan", "open_yuan",
    "accepted_yuan", "breaks",
)  # fmt: skip


@reconcile.command()
@click.argument("cycle_id")
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write CSV.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU and fen."
)
@click.pass_context
def cycle(context: click.Context, cycle_id: str, *, target: Path | None, as_json: bool) -> None:
    """See CYCLE_ID three ways: each merchant's lines, position, instruction, money at the bank, and its own files.

    Status 1 if they do not agree somewhere; the differences are named, and the breaks that explain them.
    """
    from settlement.service.open_lines import FileRefused
    from settlement.service.three_way import three_way

    home = this_home()

    async def work(dsn: str) -> list[Side]:
        async with pool_of(dsn) as pool:
            return await three_way(
                pool, cycle_id=cycle_id, packages=home.packages, at=datetime.now(UTC)
            )

    with database(home) as dsn:
        try:
            sides = run(work(dsn))
        except FileRefused as error:
            raise Unusable(str(error)) from error
    if target is not None:
        with target.open("xb") as opened:
            opened.write(_csv(sides))
        print(f"{target}: {len(sides)} merchants")
    elif as_json:
        print_json([_json(each) for each in sides])
    else:
        _print(sides)
    context.exit(0 if all(each.agrees for each in sides) else 1)


def _json(side: Side) -> dict[str, Any]:
    """A merchant for programs."""
    own, money = side.own, side.money
    return {
        "merchant": side.merchant,
        "agrees": side.agrees,
        "differs": list(side.faults()),
        "lines": side.lines,
        "lines_cu": str(side.lines_cu),
        "position_cu": str(side.position_cu),
        "instructed_cu": str(side.instructed_cu),
        "carry_before_cu": str(side.carry_before_cu),
        "carry_after_cu": str(side.carry_after_cu),
        "due_fen": str(money.due_fen),
        "seen_fen": None if money.seen_fen is None else str(money.seen_fen),
        "accepted_fen": str(money.accepted_fen),
        "matches": {str(number): kind.value for number, kind in money.differs.items()},
        "own": None
        if own is None
        else {
            "lines": own.lines,
            "told_cu": str(own.told_cu),
            "compared_cu": str(own.compared_cu),
            "open_cu": str(own.open_cu),
            "accepted_cu": str(own.accepted_cu),
            "unexplained_cu": str(own.unexplained_cu),
            "breaks": {kind.value: count for kind, count in sorted(own.breaks.items())},
        },
    }


def _csv(sides: Sequence[Side]) -> bytes:
    """All merchants, a line each; amounts in yuan."""
    from schemas.files.csv_text import write_table
    from schemas.values.amounts import fen_text, yuan_text

    rows = []
    for side in sides:
        own, money = side.own, side.money
        rows.append(
            (
                side.merchant,
                "yes" if side.agrees else "no",
                " ".join(side.faults()),
                side.lines,
                yuan_text(side.lines_cu),
                yuan_text(side.position_cu),
                yuan_text(side.instructed_cu),
                yuan_text(side.carry_before_cu),
                yuan_text(side.carry_after_cu),
                fen_text(money.due_fen),
                "" if money.seen_fen is None else fen_text(money.seen_fen),
                " ".join(f"{number}:{kind}" for number, kind in money.differs.items()),
                *(
                    ("", "", "", "", "", "")
                    if own is None
                    else (
                        own.lines,
                        yuan_text(own.told_cu),
                        yuan_text(own.compared_cu),
                        yuan_text(own.open_cu),
                        yuan_text(own.accepted_cu),
                        " ".join(f"{kind}:{count}" for kind, count in sorted(own.breaks.items())),
                    )
                ),
            )
        )
    return write_table(COLUMNS, rows)


def _print(sides: Sequence[Side]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from schemas.values.amounts import fen_text, yuan_text

    table = Table()
    table.add_column("merchant 商户", no_wrap=True)
    for title in (
        "lines 明细",
        "lines 明细(元)",
        "position 头寸(元)",
        "due 应收付(元)",
        "seen 已动账(元)",
        "own file 商户(元)",
    ):
        table.add_column(title, justify="right")
    table.add_column("differs 不符")
    for side in sides:
        own, money = side.own, side.money
        differs = [FAULTS[each] for each in side.faults()]
        if own is not None:
            differs += [f"{count} {KINDS[kind]}" for kind, count in sorted(own.breaks.items())]
        table.add_row(
            escape(side.merchant),
            str(side.lines),
            yuan_text(side.lines_cu),
            yuan_text(side.position_cu),
            fen_text(money.due_fen),
            "–" if money.seen_fen is None else fen_text(money.seen_fen),
            "–" if own is None else yuan_text(own.told_cu),
            ", ".join(differs) or "✓",
        )
    out().print(table)
