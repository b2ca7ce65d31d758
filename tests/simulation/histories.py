"""Histories that Hypothesis draws, turned into wishes for the oracle and commands for the product."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from exchange.programme.core.command import (
    Accrual,
    Basket,
    Compensate,
    LapseLots,
    MemberOrder,
    Purchase,
)
from schemas.values.rate import Rate
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import (
    Adjust,
    ArrangePair,
    CloseCycle,
    Command,
    Deposit,
    Discharge,
    End,
    Entry,
    ExpireHolds,
    Join,
    MakeArrangement,
    Order,
    PayOut,
    Pin,
    Reverse,
    SetCap,
    SetCollateral,
    SettleCycle,
    Transfer,
    Unwind,
)
from tests.simulation.ground import DAY_US, HOUR_US, START_US, terms
from tests.simulation.oracle import Oracle, floor

KIND_NAMES = {
    1: "accepted", 2: "refused", 3: "cleared", 4: "voided", 5: "expired", 6: "adjusted", 7: "accrued", 8: "lapsed",
    9: "pinned", 10: "joined", 11: "cap_set", 12: "collateral_set", 13: "cycle_opened", 14: "cycle_closed",
    15: "cycle_settled", 20: "reversed", 23: "deposited", 24: "paid_out", 25: "transferred", 26: "discharged",
    29: "arrangement_made", 30: "pair_arranged",
}  # fmt: skip
FEE_BPS = 50
UNKNOWN = 99
MERCHANTS = (
    # code, hosted, CU for one unit, units for one fen, days, cap
    ("A", True, (100, 1), (1, 100), 10, 4_000),
    ("B", True, (7, 3), (3, 20), 5, 900),
    ("C", True, (5, 2), (1, 5), 40, 2_500),
    ("D", False, (100, 1), (0, 1), 365, 3_000),
    ("E", False, (31, 7), (0, 1), 365, 700),
)
"""Numbered from 1 in this order; D and E keep their points in systems of their own."""
HOSTED = (1, 2, 3)
OWN = (4, 5)


PARTIES = (1, 2, 3, 4, 5, 0, -1, -2, -4, UNKNOWN)
"""Whose money it may be: merchants, the house in the default fund, its fees, its rounding, the way to the bank."""
POTS = (0, 0, 0, 0, 1, 1, 2, 2, 0, 0)

RULES = {
    # merchant: proof that is asked for, CU and orders of one member in a day
    2: ("none", 0, 3),
    3: ("code", 0, 0),
    5: ("none", 200, 0),
}
"""Rules for members, in those histories that have any."""


def merchant_terms():
    """What the merchants join the product with."""
    return [
        terms(
            code,
            hosted=hosted,
            spend=Rate(num=num, den=den),
            issue=Rate(num=num, den=den),
            earn=earn,
            valid_days=days,
            cap_cu=cap,
        )
        for code, hosted, (num, den), earn, days, cap in MERCHANTS
    ]


def member_rules() -> dict[str, tuple[str, int, int]]:
    """The rules by the code of their merchant."""
    return {MERCHANTS[number - 1][0]: rules for number, rules in RULES.items()}


def new_oracle(*, caller_clock: bool, ruled: bool = False) -> Oracle:
    """An oracle that knows the same merchants, with the first cycle open."""
    oracle = Oracle(
        {
            number: {
                "hosted": hosted,
                "rate": Fraction(*rate),
                "earn": Fraction(*earn),
                "valid_days": days,
                "rules": dict(
                    zip(("authority", "daily_cu", "daily_orders"), RULES[number], strict=True)
                )
                if ruled and number in RULES
                else None,
            }
            for number, (_, hosted, rate, earn, days, _) in enumerate(MERCHANTS, start=1)
        },
        fee_bps=FEE_BPS,
        caller_clock=caller_clock,
    )
    oracle.tick(START_US)
    for number, (*_, cap) in enumerate(MERCHANTS, start=1):
        wish = {"what": "join", "caller": 0, "key": -number, "body": 0}
        oracle.decide(wish | {"merchant": number, "cap": cap})
    wish = {"what": "close", "caller": 0, "key": -90, "body": 0}
    oracle.decide(wish | {"cycle": 0, "next_id": "first"})
    return oracle


# Commands and answers --------------------------------------------------------------------------------


def key_bytes_of(number: int) -> bytes:
    """A key: even numbers tell no time, odd ones are UUIDv7 of a client whose clock runs a minute ahead."""
    if number % 2 == 0:
        return bytes(6) + b"\x80\x00" + (number + 2**32).to_bytes(8, "big")
    milliseconds = START_US // 1000 + 60_000
    return milliseconds.to_bytes(6, "big") + b"\x70\x00" + (2**63 + number).to_bytes(8, "big")


def _terms_of(w: dict[str, Any], same: dict[str, Any]) -> dict[str, Any]:
    """What every command for an order says."""
    return dict(
        **same,
        issuer=w["issuer"],
        acceptor=w["acceptor"],
        member_no=w["member"],
        units=w["units"],
        debit_cu=w["debit"],
        value_cu=w["value"],
        fee_cu=w["fee"],
        rate_no=1,
        occurred_at_us=w.get("occurred_at", 0),
        hold_us=w.get("hold", 0),
        credited_units=w.get("credited", 0),
        hosted=w.get("hosted", False),
        reason=Reason[w["reason"].upper()].number if w.get("reason") else 0,
        reference=f"till {w['member']}",
    )


def _member_order_of(w: dict[str, Any], same: dict[str, Any]) -> MemberOrder:
    """The command for an order under its issuer's rules for members."""
    code = w.get("code")
    return MemberOrder(
        **_terms_of(w, same),
        code=code.to_bytes(16, "big") if code else b"",
        code_until_us=w.get("until", 0),
    )


def command_of(wish: dict[str, Any]) -> Command:
    """The product's command for a wish."""
    w = dict(wish)
    what = w.pop("what")
    if what == "end":
        return End(
            caller=w["caller"],
            key=bytes(16),
            body=bytes(16),
            order_seq=w["order"],
            kind={"cleared": 3, "voided": 4}[w["how"]],
            proven=w.get("proven", False),
        )
    if what == "pin":
        return Pin(caller=w["caller"], key=bytes(16), body=bytes(16), order_seq=w["order"])
    same = {
        "caller": w["caller"],
        "key": key_bytes_of(w["key"]),
        "body": w["body"].to_bytes(16, "big"),
    }
    if what == "order":
        return _member_order_of(w, same) if "code" in w else Order(**_terms_of(w, same))
    if what == "basket":
        return Basket(
            **same,
            orders=tuple(_member_order_of(part, same) for part in w["parts"]),
            accepted=tuple(w["accepted"]),
            then={"pinned": 9, "cleared": 3}[w["then"]],
            partial=w["partial"],
        )
    if what == "reverse":
        return Reverse(**same, order_seq=w["order"], units=w["units"])
    if what == "adjust":
        return Adjust(
            **same,
            order_seq=w["order"],
            issuer=w["issuer"],
            acceptor=w["acceptor"],
            debit_cu=w["debit"],
            value_cu=w["value"],
            fee_cu=w["fee"],
            reference=f"case {w['key']}",
        )
    if what == "purchase":
        return Purchase(
            **same,
            member_no=w["member"],
            merchant_no=w["merchant"],
            amount_fen=w["amount_fen"],
            discount_fen=w["discount_fen"],
            occurred_at_us=w["occurred_at"],
        )
    if what == "accrue":
        return Accrual(
            **same,
            member_no=w["member"],
            merchant_no=w["merchant"],
            units=w["units"],
            occurred_at_us=w["occurred_at"],
        )
    if what == "compensate":
        return Compensate(
            **same,
            member_no=w["member"],
            merchant_no=w["merchant"],
            units=w["units"],
            at_fault=w["caller"],
        )
    if what == "lapse":
        return LapseLots(**same, as_of_us=w["as_of"])
    if what == "expire":
        return ExpireHolds(**same, limit=w["limit"], at_us=w["at"])
    if what == "join":
        return Join(**same, merchant_no=w["merchant"], cap_cu=w["cap"])
    if what == "set_cap":
        return SetCap(**same, merchant_no=w["merchant"], cap_cu=w["cap"])
    if what == "set_collateral":
        return SetCollateral(**same, merchant_no=w["merchant"], collateral_cu=w["collateral"])
    if what == "close":
        return CloseCycle(
            **same,
            cycle_no=w["cycle"],
            next_id=w["next_id"],
            at_us=w["at"],
            arrangement_no=w.get("arrangement", 0),
        )
    if what in ("deposit", "pay_out"):
        kind = Deposit if what == "deposit" else PayOut
        return kind(
            **same, party=w["party"], pot=w["pot"], cu=w["cu"], reference="statement 1, entry 2"
        )
    if what == "transfer":
        moved = {name: w[name] for name in ("giver", "giver_pot", "taker", "taker_pot", "cu")}
        return Transfer(**same, **moved, cycle_no=w["cycle"])
    if what == "discharge":
        return Discharge(**same, cycle_no=w["cycle"], pairs=tuple(w["pairs"]))
    if what == "unwind":
        return Unwind(**same, cycle_no=w["cycle"], debtor=w["debtor"], shares=tuple(w["shares"]))
    if what == "make":
        return MakeArrangement(**same, code=w["code"], model=w["model"])
    if what == "arrange":
        return ArrangePair(**same, one=w["one"], other=w["other"], arrangement_no=w["arrangement"])
    assert what == "settle"
    return SettleCycle(**same, cycle_no=w["cycle"], funded=w.get("funded", False))


def plain(entry: Entry) -> dict[str, Any]:
    """One entry of the product's answer in the oracle's words."""
    return {
        "seq": entry.seq,
        "order": entry.order_seq,
        "kind": KIND_NAMES[int(entry.kind)],
        "reason": (REASON_BY_NUMBER[entry.reason].code if entry.reason else "") or "",
        "at": entry.at_us,
        "due": entry.due_at_us,
        "cycle": entry.cycle_no,
        "issuer": entry.issuer,
        "acceptor": entry.acceptor,
        "units": entry.units,
        "debit": entry.debit_cu,
        "value": entry.value_cu,
        "fee": entry.fee_cu,
        "credited": entry.credited_units,
        "lot": entry.lot_no,
    }


# Drawn steps ------------------------------------------------------------------------------------------

_small = st.integers(0, 9)
_units = st.integers(1, 40)
ORDER = st.tuples(st.just("order"), _small, _small, _small, _units, _small)
PURCHASE = st.tuples(
    st.just("purchase"), _small, _small, st.integers(0, 3_000), st.integers(0, 40), _small
)
STEPS = {
    "order": ORDER,
    "hold": st.tuples(st.just("hold"), _small, _small, _small, _units, _small),
    "purchase": PURCHASE,
    "accrue": st.tuples(st.just("accrue"), _small, _small, _units, _small),
    "compensate": st.tuples(st.just("compensate"), _small, _small, _small, _units),
    "again": st.tuples(st.just("again"), st.integers(0, 30), _small),
    "end": st.tuples(st.just("end"), st.integers(0, 30), st.booleans(), _small),
    "pin": st.tuples(st.just("pin"), st.integers(0, 30), _small),
    "basket": st.tuples(
        st.just("basket"),
        _small,
        _small,
        st.lists(st.tuples(_small, _units, _small), min_size=1, max_size=4),
        st.lists(st.integers(0, 30), max_size=2),
        st.booleans(),
        st.booleans(),
    ),
    "reverse": st.tuples(st.just("reverse"), st.integers(0, 30), _small, _small),
    "adjust": st.tuples(st.just("adjust"), st.integers(0, 30), st.integers(0, 13), st.booleans()),
    "expire": st.tuples(st.just("expire"), _small),
    "lapse": st.tuples(st.just("lapse"), _small),
    "cap": st.tuples(st.just("cap"), _small, st.integers(0, 5_000)),
    "collateral": st.tuples(st.just("collateral"), _small, st.integers(0, 2_000)),
    "close": st.tuples(st.just("close"), _small, _small, _small),
    "make": st.tuples(st.just("make"), _small),
    "arrange": st.tuples(st.just("arrange"), _small, _small, _small),
    "settle": st.tuples(st.just("settle"), _small, st.booleans()),
    "deposit": st.tuples(st.just("deposit"), _small, _small, st.integers(1, 2_000)),
    "pay_out": st.tuples(st.just("pay_out"), _small, _small, st.integers(1, 2_000)),
    "fund": st.tuples(st.just("fund"), _small, _small),
    "transfer": st.tuples(st.just("transfer"), _small, _small, _small, st.integers(1, 1_500)),
    "help": st.tuples(st.just("help"), _small, _small, _small),
    "discharge": st.tuples(st.just("discharge"), _small, st.integers(1, 63)),
    "unwind": st.tuples(st.just("unwind"), _small, _small),
    "wait": st.tuples(
        st.just("wait"), st.sampled_from([1, HOUR_US // 2, DAY_US, 3 * DAY_US, 8 * DAY_US])
    ),
    "send": st.tuples(st.just("send")),
    "takeover": st.tuples(st.just("takeover")),
    "restart": st.tuples(st.just("restart")),
}
WEIGHTS = {
    "order": 5,
    "hold": 5,
    "purchase": 6,
    "accrue": 2,
    "again": 3,
    "end": 6,
    "pin": 3,
    "reverse": 5,
    "adjust": 4,
    "basket": 4,
    "arrange": 2,
    "send": 4,
    "wait": 2,
    "close": 2,
}
MONEY_STEPS = ("deposit", "pay_out", "fund", "transfer", "help", "discharge", "unwind")
"""Steps that move money alone."""
PRELUDE: list[tuple] = [
    ("accrue", member, merchant, 20, 9) for member in range(3) for merchant in range(3)
]
"""Everybody has points of every hosted merchant to begin with."""


BESIDE: list[tuple] = [
    *(("make", 0), ("make", 1), ("arrange", 0, 1, 1), ("arrange", 3, 4, 2), ("arrange", 3, 0, 1)),
    ("close", 9, 9, 0),
    ("send",),
]
"""A third of the histories go on with three pairs in two arrangements beside the main one."""
AT_ONCE: list[tuple] = [
    *(("make", 2), ("make", 1), ("arrange", 0, 1, 1), ("arrange", 3, 4, 1), ("arrange", 3, 0, 1)),
    *(("arrange", 4, 2, 2), ("close", 9, 9, 0)),
    *(("deposit", party, 0, 700 - 100 * party) for party in range(5)),
    ("send",),
]
"""Another third with three pairs that are paid at once, from money that is there."""


def steps(
    *, without: tuple[str, ...] = (), sizes: tuple[int, ...] = (0, 20, 50)
) -> st.SearchStrategy[list[tuple]]:
    """Lists of steps, of about these sizes; shrinking finds its way to the short ones."""
    bag = [
        strategy
        for name, strategy in STEPS.items()
        if name not in without
        for _ in range(WEIGHTS.get(name, 1))
    ]
    one = st.one_of(bag)
    drawn = st.one_of([st.lists(one, min_size=size, max_size=2 * size + 10) for size in sizes])
    return st.tuples(st.sampled_from([[], BESIDE, AT_ONCE]), drawn).map(
        lambda parts: [*parts[0], *parts[1]]
    )


@dataclass(slots=True)
class Stretch:
    """Groups that are sent while time stands still, and what the oracle says to each wish."""

    groups: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])
    expected: list[list[list[dict[str, Any]]]] = field(default_factory=lambda: [[]])


class Script:
    """Turns steps into wishes that refer to what happened before, asking the oracle on the way."""

    def __init__(self, *, caller_clock: bool, ruled: bool = False) -> None:
        """Start where merchants have joined and the first cycle is open."""
        self.caller_clock = caller_clock
        self.ruled = ruled
        self.codes: dict[int, int] = {}
        self.oracle = new_oracle(caller_clock=caller_clock, ruled=ruled)
        self.clock_us = START_US
        self.keyed: list[dict[str, Any]] = []
        self.numbers = 0
        self.landed = 0
        self.stretch = Stretch()

    def take(self) -> Stretch:
        """What is to be sent now."""
        stretch, self.stretch = self.stretch, Stretch()
        self.landed = len(self.oracle.log)
        return stretch

    def step(self, step: tuple) -> str:
        """Add one step; returns what to do once everything is sent: nothing, or the step's own name."""
        name, *rest = step
        if name in ("wait", "takeover", "restart", "lapse"):
            return name
        if name == "send":
            self.cut()
            return ""
        getattr(self, f"_{name}")(*rest)
        return ""

    def wait(self, us: int) -> None:
        """Let time pass."""
        self.clock_us += us
        self.oracle.tick(self.clock_us)

    def cut(self) -> None:
        """End the group."""
        self.stretch.groups.append([])
        self.stretch.expected.append([])

    def _wish(self, what: str, **rest: Any) -> None:
        wish = {"what": what, **rest}
        self.stretch.groups[-1].append(wish)
        self.stretch.expected[-1].append([dict(entry) for entry in self.oracle.decide(wish)])

    def _keyed(self, what: str, *, caller: int = 0, **rest: Any) -> None:
        self.numbers += 1
        wish = {"what": what, "caller": caller, "key": self.numbers, "body": self.numbers, **rest}
        if what not in ("expire", "lapse") and not wish.get("accepted"):
            # What became of accepted orders in a basket is no part of what its key remembers.
            self.keyed.append(wish)
        self._wish(**wish)

    def _till(self, pick: int) -> int:
        """Till time of an order: now for most, sometimes late, too late or from the future."""
        if self.caller_clock:
            return {0: 0, 1: self.clock_us - HOUR_US, 2: self.clock_us + 1}.get(pick, self.clock_us)
        late = {
            0: HOUR_US,
            1: 6 * DAY_US,
            2: 7 * DAY_US - 1,
            3: 7 * DAY_US,
            4: -1,
        }
        return self.clock_us - late[pick] if pick in late else 0

    @staticmethod
    def _pair(issuers: tuple[int, ...], one: int, other: int) -> tuple[int, int]:
        issuer = issuers[one % len(issuers)]
        others = [n for n in (*HOSTED, *OWN, UNKNOWN) if n != issuer]
        return issuer, others[other % len(others)]

    def _figures(self, issuer: int, units: int, pick: int) -> dict[str, int]:
        rate = (
            self.oracle.programmes[issuer]["rate"]
            if issuer in self.oracle.programmes
            else Fraction(1)
        )
        debit = max(1, floor(units * rate))
        value = max(0, debit - pick % 3)
        return {"units": units, "debit": debit, "value": value, "fee": min(value, pick)}

    def _order(self, one: int, other: int, member: int, units: int, pick: int) -> None:
        issuer, acceptor = self._pair((*HOSTED, *OWN, UNKNOWN), one, other)
        hosted = issuer in HOSTED
        extra: dict[str, Any] = {"occurred_at": self._till(pick)}
        if hosted and pick in (5, 6):
            extra["credited"] = units + 1
        if pick == 9:
            extra["reason"] = "quote_expired"
        extra |= self._proof(issuer, member + pick)
        self._keyed(
            "order",
            caller=acceptor,
            issuer=issuer,
            acceptor=acceptor,
            member=member % 3 + 1,
            hosted=hosted,
            **self._figures(issuer, units, pick),
            **extra,
        )

    def _hold(self, one: int, other: int, member: int, units: int, pick: int) -> None:
        issuer, acceptor = self._pair(OWN, one, other)
        self._keyed(
            "order",
            caller=acceptor,
            issuer=issuer,
            acceptor=acceptor,
            member=member % 3 + 1,
            hold=[HOUR_US, 2 * DAY_US, 30 * DAY_US][pick % 3],
            occurred_at=self._till(pick + 3 if pick < 7 else pick - 7),
            # What a hosted programme gives for such an order is a call of its own, which is not drawn here.
            credited=units if pick == 4 and acceptor not in HOSTED else 0,
            **self._figures(issuer, units, pick),
            **self._proof(issuer, member + pick),
        )

    def _proof(self, issuer: int, pick: int) -> dict[str, int]:
        """What an order says of its member's agreement: a code that may be new, used or too old."""
        if not self.ruled or (issuer not in RULES and pick % 4):
            return {}
        code = len(self.codes) + 1 if pick % 3 == 0 else pick % 5
        if code:
            late = -1 if code % 7 == 6 else HOUR_US
            self.codes.setdefault(code, self.clock_us + late)
        return {"code": code, "until": self.codes.get(code, 0)}

    def _basket(
        self,
        acceptor_pick: int,
        member: int,
        parts: list[tuple[int, int, int]],
        accepted: list[int],
        clear: bool,
        partial: bool,
    ) -> None:
        acceptor = [*HOSTED, *OWN, *OWN, 1, 4, UNKNOWN][acceptor_pick]
        issuers = [number for number in HOSTED if number != acceptor]
        wanted = []
        for one, units, pick in parts:
            issuer = issuers[one % len(issuers)]
            part: dict[str, Any] = {
                "issuer": issuer,
                "acceptor": acceptor,
                "member": (member + pick // 5) % 3 + 1,
                "hosted": True,
                **self._figures(issuer, units, pick),
                **self._proof(issuer, member + pick),
            }
            if pick == 6:
                part["credited"] = units + 1
            if pick == 9:
                part["reason"] = "quote_expired"
            wanted.append(part)
        further = {order["seq"] for pick in accepted if (order := self._an_order(pick))}
        self._keyed(
            "basket",
            caller=0 if further else acceptor,
            parts=wanted,
            accepted=sorted(further),
            then="cleared" if clear else "pinned",
            partial=partial,
        )

    def _purchase(self, member: int, merchant: int, amount: int, discount: int, pick: int) -> None:
        self._keyed(
            "purchase",
            member=member % 3 + 1,
            merchant=[*HOSTED, *HOSTED, 1, 2, 4, UNKNOWN][merchant],
            amount_fen=amount,
            discount_fen=discount,
            occurred_at=self._till(pick),
        )

    def _accrue(self, member: int, merchant: int, units: int, pick: int) -> None:
        self._keyed(
            "accrue",
            member=member % 3 + 1,
            merchant=[*HOSTED, *HOSTED, 4, UNKNOWN, 1, 2][merchant],
            units=units * 10,
            occurred_at=self._till(pick),
        )

    def _compensate(self, member: int, merchant: int, at_fault: int, units: int) -> None:
        self._keyed(
            "compensate",
            caller=[*HOSTED, *OWN, *HOSTED, 4, UNKNOWN][at_fault],
            member=member % 3 + 1,
            merchant=[*HOSTED, *HOSTED, 4, UNKNOWN, 1, 2][merchant],
            units=units,
        )

    def _again(self, pick: int, change: int) -> None:
        """The same wish once more, sometimes under the same key with another body."""
        if not self.keyed:
            return
        wish = dict(self.keyed[-1 - pick % len(self.keyed)])
        if change == 0:
            wish["body"] += 1_000_000
        if change == 1 and "units" in wish:
            wish |= {"body": wish["body"] + 2_000_000, "units": wish["units"] + 1}
        self._wish(**wish)

    def _an_order(self, pick: int) -> dict[str, Any] | None:
        """An order that was asked for: an accepted one for most picks."""
        orders = [e for e in self.oracle.log if e["order"] == e["seq"]]
        accepted = [e for e in orders if e["kind"] == "accepted"]
        # Nobody knows the id of an order before its first answer, which comes after the commit.
        orders = [e for e in orders if e["seq"] <= self.landed]
        choice = accepted if accepted and pick < 27 else orders
        return choice[-1 - pick % len(choice)] if choice else None

    def _end(self, pick: int, clear: bool, who: int) -> None:
        if order := self._an_order(pick):
            caller = {0: 0, 1: order["issuer"]}.get(who, order["caller"])
            how = "cleared" if clear else "voided"
            self._wish("end", caller=caller, order=order["seq"], how=how, proven=who % 3 == 2)

    def _pin(self, pick: int, who: int) -> None:
        if order := self._an_order(pick):
            caller = {0: 0, 1: order["issuer"]}.get(who, order["caller"])
            self._wish("pin", caller=caller, order=order["seq"])

    def _reverse(self, pick: int, part: int, who: int) -> None:
        """Take back some of an order that cleared, for most picks; all of it, some of it, or too much."""
        orders = [e for e in self.oracle.log if e["order"] == e["seq"] and e["seq"] <= self.landed]
        cleared = {e["order"] for e in self.oracle.events("cleared")}
        wanted = [e for e in orders if e["seq"] in cleared]
        choice = wanted if wanted and pick < 26 else orders
        if not choice:
            return
        order = choice[-1 - pick % len(choice)]
        units = {0: 0, 1: order["units"] + 1}.get(part, order["units"] * part // 12)
        self._keyed(
            "reverse",
            caller={0: 0, 1: order["issuer"]}.get(who, order["acceptor"]),
            order=order["seq"],
            units=units,
        )

    def _adjust(self, pick: int, part: int, back: bool) -> None:
        """Correct an order that cleared, for most picks, or what one merchant owes another without one."""
        orders = [e for e in self.oracle.log if e["order"] == e["seq"] and e["seq"] <= self.landed]
        cleared = {e["order"] for e in self.oracle.events("cleared")}
        wanted = [e for e in orders if e["seq"] in cleared]
        choice = wanted if wanted and pick < 22 else orders
        if choice and pick < 26:
            order = choice[-1 - pick % len(choice)]
            number, issuer, acceptor = order["seq"], order["issuer"], order["acceptor"]
            if pick == 0:
                acceptor = next(n for n in (*HOSTED, *OWN) if n not in (issuer, acceptor))
            debit, value, fee = (order[name] * part // 12 for name in ("debit", "value", "fee"))
            if back and part % 3 == 0:
                value = fee = 0  # only the remainder, or more than it, goes back
        else:
            number = 0
            issuer, acceptor = self._pair((*HOSTED, *OWN, UNKNOWN), pick, part)
            debit, value, fee = part + 2, part + 1, part // 2
        if not debit or (not back and not value):
            return
        sign = -1 if back else 1
        self._keyed(
            "adjust",
            order=number,
            issuer=issuer,
            acceptor=acceptor,
            debit=sign * debit,
            value=sign * value,
            fee=sign * fee,
        )

    def _at(self) -> int:
        return self.clock_us if self.caller_clock else 0

    def _expire(self, limit: int) -> None:
        self._keyed("expire", limit=limit + 1, at=self._at())

    def lapse(self, days: int) -> None:
        """An expiry run.

        It begins a flush: what the same flush earned late and let expire at once, the next run finds.
        """
        self._keyed("lapse", as_of=self.oracle.now - days * DAY_US // 3)

    def _cap(self, merchant: int, cap: int) -> None:
        self._keyed("set_cap", merchant=[*HOSTED, *OWN, *OWN, 1, 2, UNKNOWN][merchant], cap=cap)

    def _collateral(self, merchant: int, collateral: int) -> None:
        merchants = [*HOSTED, *OWN, *OWN, 1, 2, UNKNOWN]
        self._keyed("set_collateral", merchant=merchants[merchant], collateral=collateral)

    def _close(self, wrong: int, used: int, which: int = 0) -> None:
        """Close the main cycle, or one of an arrangement that may not be there."""
        arrangement = max(0, which - 5)
        cycle = self.oracle.cycle(arrangement)
        self._keyed(
            "close",
            cycle=cycle + (wrong == 0),
            next_id="first" if used == 0 else f"cycle {self.numbers}",
            at=self._at(),
            arrangement=arrangement,
        )

    def _make(self, pick: int) -> None:
        """Make an arrangement, mostly with its first cycle."""
        self._keyed("make", code=f"beside-{pick % 4}", model=pick % 3)
        number = len(self.oracle.events("arrangement_made"))
        if pick < 8 and number and not self.oracle.cycle(number):
            next_id = f"cycle {self.numbers} of {number}"
            self._keyed("close", cycle=0, next_id=next_id, at=self._at(), arrangement=number)

    def _arrange(self, one: int, other: int, which: int) -> None:
        """Give a pair an arrangement; now and then one that is not there, or the pair of one with itself."""
        merchants = [*HOSTED, *OWN]
        self._keyed(
            "arrange",
            one=merchants[one % 5],
            other=UNKNOWN if other == 9 and one == 9 else merchants[other % 5],
            arrangement=which % 4,
        )

    def _a_cycle(self, pick: int) -> int:
        """A closed cycle that is not settled; the open one where there is none."""
        cycles = self.oracle.unsettled_cycles() or [self.oracle.cycle()]
        return cycles[pick % len(cycles)]

    def _settle(self, pick: int, funded: bool) -> None:
        self._keyed("settle", cycle=self._a_cycle(pick), funded=funded)

    def _deposit(self, party: int, pot: int, cu: int) -> None:
        self._keyed("deposit", party=PARTIES[party], pot=POTS[pot], cu=cu)

    def _pay_out(self, party: int, pot: int, cu: int) -> None:
        self._keyed("pay_out", party=PARTIES[party], pot=POTS[pot], cu=cu)

    def _fund(self, pick: int, short: int) -> None:
        """Somebody pays in what it lacks for a cycle, in most cases to the last CU that counts."""
        cycle = self._a_cycle(pick)
        lacking = self.oracle.lacking(cycle) if cycle in self.oracle.unsettled_cycles() else {}
        for merchant, cu in lacking.items():
            less = {0: 99, 1: 100, 2: cu // 2}.get(short, 0)
            self._keyed("deposit", party=merchant, pot=0, cu=max(1, cu - less))

    def _transfer(self, giver: int, taker: int, pots: int, cu: int) -> None:
        debts = sorted(self.oracle.debts().items())
        if debts and pots == 9:  # somebody pays back
            (debtor, creditor), owed = debts[giver % len(debts)]
            moved = {
                "giver": debtor,
                "giver_pot": 0,
                "taker": creditor,
                "taker_pot": 2 if creditor == 0 else 0,
            }
            self._keyed("transfer", **moved, cu=min(cu, owed + 1), cycle=0)
            return
        rich = self._rich((party, pot) for party in PARTIES for pot in range(3))
        whose, pot = rich[giver % len(rich)] if rich and pots < 8 else (PARTIES[giver], POTS[pots])
        moved = {
            "giver": whose,
            "giver_pot": pot,
            "taker": {0: PARTIES[giver], 1: PARTIES[pots]}.get(taker, whose if taker < 6 else -4),
            "taker_pot": 0 if taker >= 6 else (pot + 1 + cu % 2) % 3,
        }
        if pots < 4:
            cu = max(1, min(cu, self.oracle.in_pot(whose, pot)))
        self._keyed("transfer", **moved, cu=cu, cycle=0)

    def _rich(self, pots: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those pots that there is something in."""
        return [(party, pot) for party, pot in pots if self.oracle.in_pot(party, pot) > 0]

    def _help(self, pick: int, giver: int, less: int) -> None:
        """Collateral or the default fund pays what somebody lacks for a cycle."""
        cycle = self._a_cycle(pick)
        lacking = self.oracle.lacking(cycle) if cycle in self.oracle.unsettled_cycles() else {}
        for debtor, cu in [*lacking.items(), (1 + pick % 5, 7)][:1]:
            rich = self._rich([(debtor, 1), *((party, 2) for party in range(6))])
            whose, pot = rich[giver % len(rich)] if rich else (0, 2)
            has = self.oracle.in_pot(whose, pot)
            wanted = max(1, min(cu, has) if less else cu + 1)
            self._keyed(
                "transfer",
                giver=whose,
                giver_pot=pot,
                taker=debtor,
                taker_pot=0,
                cu=wanted,
                cycle=cycle,
            )

    def _discharge(self, pick: int, which: int) -> None:
        cycle = self._a_cycle(pick)
        pairs = [(*pair, *sums) for pair, sums in sorted(self.oracle.pairs(cycle).items())]
        chosen = [pair for place, pair in enumerate(pairs) if which >> place % 6 & 1]
        if chosen:
            self._keyed("discharge", cycle=cycle, pairs=chosen)

    def _unwind(self, pick: int, more: int) -> None:
        """The creditors of a cycle wait, the first of them for as much as it can."""
        cycle = self._a_cycle(pick)
        closed = cycle in self.oracle.unsettled_cycles()
        lacking = self.oracle.lacking(cycle) if closed else {}
        debtor, cu = [*lacking.items(), (1 + pick % 5, 5)][0]
        cu += more == 0
        shares = []
        for creditor in self.oracle.parties():
            part = min(cu, max(0, self.oracle.residual(cycle, creditor)))
            if part and creditor != debtor:
                shares.append((creditor, part))
                cu -= part
        self._keyed("unwind", cycle=cycle, debtor=debtor, shares=shares)
