"""The replay's rules as one plain pass over the file, in memory: what the books are measured against.

python -m exchange.bench.model PURCHASES.csv PROGRAMMES.toml      prints the outcome as JSON

It books nothing, signs nothing, and forgets everything when it ends. It shares no code with the books, so that its
figures are also a check of theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import deque
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final

DAY_SECONDS: Final = 86_400
_EPOCH: Final = date(1970, 1, 1).toordinal()
_BPS: Final = 10_000

Lot = tuple[int, int, int]
"""Expiry (seconds since 1970), number, units left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutcome:
    """What the model came to; amounts in CU.

    Attributes:
        positions: (cycle, party, net) other than 0, sorted.
        orders: Orders cleared.
        refused: Orders refused for a net debit cap.
        lots: Lots made.
        gross_cu: Sum of the issuers' debits.
        net_cu: Sum of positive positions.
        unfunded_cu: Discounts that no points paid.
        cycles: Cycles with a figure.
        lines: Lines read, the header not counted.
        seconds: How long it took, reading the files included.
    """

    positions: list[tuple[str, str, int]]
    orders: int
    refused: int
    lots: int
    gross_cu: int
    net_cu: int
    unfunded_cu: int
    cycles: int
    lines: int
    seconds: float


def run_model(purchases: Path, programmes: Path) -> ModelOutcome:
    """Run the whole file through the rules.

    Args:
        purchases: CSV file, well formed.
        programmes: TOML file.

    Raises:
        ValueError: A line is malformed; which one is not said.
    """
    began = perf_counter()
    with programmes.open("rb") as toml:
        terms = tomllib.load(toml)
    with purchases.open(encoding="utf-8", newline="") as lines:
        outcome = _pass(lines, terms)
    return ModelOutcome(**outcome, seconds=perf_counter() - began)


def _pass(lines: Any, terms: dict[str, Any]) -> dict[str, Any]:
    """The single pass; one function, since a call for each line would be the model's own cost."""
    fee_bps = terms["house"]["fee_bps"]
    shops = {
        p["code"]: (
            p["value_num"], p["value_den"], p["earn_num"], p["earn_den"],
            p["valid_days"] * DAY_SECONDS, -p["cap_cu"],
        )
        for p in terms["programme"]
    }  # fmt: skip
    purses: dict[str, dict[str, deque[Lot]]] = {}
    positions: list[tuple[str, str, int]] = []
    net = dict.fromkeys(shops, 0)
    fees = rounding = lot_no = orders = refused = gross = unfunded = count = 0
    last_text = last_day = cycle = ""
    midnight = at = 0
    next(lines)
    for line in lines:
        count += 1
        text, member, merchant, amount_text, discount_text = line.rstrip().split(",")
        if text != last_text:
            last_text, day = text, text[:10]
            if day != last_day:
                last_day = day
                ordinal = date.fromisoformat(day)
                midnight = (ordinal.toordinal() - _EPOCH) * DAY_SECONDS
                week = (ordinal - timedelta(days=ordinal.weekday())).isoformat()
                if week != cycle:
                    positions += _close(cycle, net, fees, rounding)
                    net = dict.fromkeys(shops, 0)
                    fees = rounding = 0
                    cycle = week
            at = midnight + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        shop = shops.get(merchant)
        if shop is None:
            continue
        purse = purses.get(member)
        if purse is None:
            purse = purses[member] = {}
        if discount_text != "0":
            need = 100 * int(discount_text)
            candidates = []
            for code, own in purse.items():
                if code == merchant:
                    continue
                while own and own[0][0] <= at:
                    own.popleft()
                if own:
                    candidates.append((own[0], code, own))
            candidates.sort()
            for _, code, own in candidates:
                if not need:
                    break
                num, den, _, _, _, floor = shops[code]
                wanted = -(-need * den // num)
                units = 0
                for lot in own:
                    units += lot[2]
                    if units >= wanted:
                        units = wanted
                        break
                debit = units * num // den
                value = min(need, debit)
                if not value:
                    continue
                if net[code] - debit < floor:
                    refused += 1
                    continue
                fee = value * fee_bps // _BPS
                net[code] -= debit
                net[merchant] += value - fee
                fees += fee
                rounding += debit - value
                orders += 1
                gross += debit
                need -= value
                while units:
                    expiry, number, left = own.popleft()
                    if left > units:
                        own.appendleft((expiry, number, left - units))
                        break
                    units -= left
            unfunded += need
        earned = int(amount_text) * shop[2] // shop[3]
        if earned:
            lot_no += 1
            own_lots = purse.get(merchant)
            if own_lots is None:
                own_lots = purse[merchant] = deque()
            # Times never decrease and a programme's lots live equally long, so the newest expires last.
            own_lots.append((at + shop[4], lot_no, earned))
    positions += _close(cycle, net, fees, rounding)
    positions.sort()
    return {
        "positions": positions,
        "orders": orders,
        "refused": refused,
        "lots": lot_no,
        "gross_cu": gross,
        "net_cu": sum(figure for _, _, figure in positions if figure > 0),
        "unfunded_cu": unfunded,
        "cycles": len({cycle for cycle, _, _ in positions}),
        "lines": count,
    }


def _close(cycle: str, net: dict[str, int], fees: int, rounding: int) -> list[tuple[str, str, int]]:
    """The figures of one week."""
    figures = net | {"HOUSE:fees": fees, "HOUSE:rounding": rounding}
    return [(cycle, party, figure) for party, figure in figures.items() if figure]


def positions_csv(outcome: ModelOutcome) -> str:
    """The positions in the form of the replay's `positions.csv`."""
    rows = [f"{cycle},{party},{figure}\n" for cycle, party, figure in outcome.positions]
    return "cycle,party,net_cu\n" + "".join(rows)


def main() -> None:
    """Run as a process of its own, so that nothing else is in its memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purchases", type=Path)
    parser.add_argument("programmes", type=Path)
    arguments = parser.parse_args()
    json.dump(asdict(run_model(arguments.purchases, arguments.programmes)), sys.stdout)


if __name__ == "__main__":
    main()
