"""A slow and obvious clearing house: everything that happened in one list, every figure a sum over it.

Shares no code with the product, not even names of numbers: what it knows stands in this file. It is
told wishes as plain dicts and answers with lists of plain dicts, so a difference can be read.
"""

import copy
from fractions import Fraction

from tests.simulation.purse import Purse

DAY = 24 * 3600 * 10**6
LATE = 7 * DAY
LIMIT = 10**15
ANSWER_FIELDS = (
    "seq", "order", "kind", "reason", "at", "due", "cycle", "issuer", "acceptor", "units", "debit",
    "value", "fee", "credited", "lot",
)  # fmt: skip


def floor(number):
    """Whole part of a ratio, downwards."""
    return Fraction(number).__floor__()


def ceil(number):
    """Whole part of a ratio, upwards."""
    return Fraction(number).__ceil__()


class Oracle(Purse):
    """The house as a list of what happened.

    `programmes` is merchant -> dict(hosted, rate, earn, valid_days): CU for one unit, units for one
    fen, days of 24 hours; merchants are numbers from 1, and 0 is the house. Some have rules for their
    members too: dict(authority, daily_cu, daily_orders), where 0 is no limit.
    """

    def __init__(self, programmes, *, fee_bps, caller_clock):
        """Start before anything happened."""
        self.programmes = programmes
        self.fee_bps = fee_bps
        self.caller_clock = caller_clock
        self.now = 0
        self.caller = 0
        self.log = []
        self.keys = {}
        self.lots = []

    # What the list says -------------------------------------------------------------------------

    def events(self, *kinds):
        """Everything of some kinds, in order."""
        return [event for event in self.log if event["kind"] in kinds]

    def merchants(self):
        """Everybody who joined."""
        return [event["issuer"] for event in self.events("joined")]

    def cap(self, merchant):
        """The last cap that was set."""
        return [e["value"] for e in self.events("joined", "cap_set") if e["issuer"] == merchant][-1]

    def collateral(self, merchant):
        """What a bank holds for the merchant."""
        return self.in_pot(merchant, 1)

    def open_holds(self):
        """Accepted orders without an end."""
        ended = {e["order"] for e in self.events("cleared", "voided", "expired")}
        return [event for event in self.events("accepted") if event["order"] not in ended]

    def held(self, merchant):
        """Value of a merchant's open holds."""
        return sum(e["debit"] for e in self.open_holds() if e["issuer"] == merchant)

    def is_gross(self, arrangement):
        """Whether money moves with each line of an arrangement."""
        return any(
            (e["value"], e["fee"]) == (arrangement, 2) for e in self.events("arrangement_made")
        )

    def gross_cycles(self):
        """Cycles of such arrangements."""
        opened = self.events("cycle_opened")
        return [e["cycle"] for e in opened if self.is_gross(e["arrangement"])]

    def owed_cycles(self, cycles):
        """Those in which something can be owed."""
        gross = self.gross_cycles()
        return [cycle for cycle in cycles if cycle not in gross]

    def reserved(self, merchant):
        """Value of the open holds whose pair is paid at once now: their money is kept for them."""
        return sum(
            e["debit"]
            for e in self.open_holds()
            if e["issuer"] == merchant
            and self.is_gross(self.arrangement(e["issuer"], e["acceptor"])[0])
        )

    def uncovered(self, issuer, cycle, debit, *, hold=False):
        """Why an order of a cycle is not covered, if it is not."""
        if cycle in self.gross_cycles():
            free = self.in_pot(issuer, 0) - self.reserved(issuer)
            return "" if free >= debit else "funds_insufficient"
        room = self.strict_room(issuer) if hold else self.room(issuer, cycle)
        return "" if room >= debit else "net_debit_cap_exceeded"

    def cycle(self, arrangement=0):
        """Number of the open cycle of an arrangement (0 is the main one), 0 before the first."""
        opened = [e for e in self.events("cycle_opened") if e["arrangement"] == arrangement]
        return opened[-1]["cycle"] if opened else 0

    def open_cycles(self):
        """Numbers of all open cycles."""
        closed = {event["cycle"] for event in self.events("cycle_closed")}
        return [e["cycle"] for e in self.events("cycle_opened") if e["cycle"] not in closed]

    def arrangement(self, one, other):
        """The arrangement of a pair now, and the one that it gets when its cycle turns."""
        of_cycle = {e["cycle"]: e["arrangement"] for e in self.events("cycle_opened")}
        seen = set()
        present = coming = 0
        for event in self.events("cycle_opened", "cycle_closed", "pair_arranged"):
            if event["kind"] == "cycle_opened":
                seen.add(event["arrangement"])
            elif event["kind"] == "cycle_closed":
                if of_cycle[event["cycle"]] == present:
                    present = coming
            elif {event["issuer"], event["acceptor"]} == {one, other}:
                coming = event["value"]
                if present not in seen:
                    present = coming
        return present, coming

    def cycle_of(self, one, other):
        """Number of the cycle that is open for a pair."""
        return self.cycle(self.arrangement(one, other)[0])

    def room(self, merchant, cycle):
        """Headroom for an order of one cycle: the other open ones count only where they are owed."""
        others = [other for other in self.owed_cycles(self.open_cycles()) if other != cycle]
        owed = sum(min(0, self.position(other, merchant)) for other in others)
        return self.base(merchant) + owed + self.position(cycle, merchant)

    def strict_room(self, merchant):
        """Headroom without any credit of an open cycle."""
        cycles = self.owed_cycles(self.open_cycles())
        owed = sum(min(0, self.position(cycle, merchant)) for cycle in cycles)
        return self.base(merchant) + owed

    def unsettled_cycles(self):
        """Closed cycles that nobody paid yet."""
        closed = [event["cycle"] for event in self.events("cycle_closed")]
        settled = {event["cycle"] for event in self.events("cycle_settled")}
        return [cycle for cycle in closed if cycle not in settled]

    def postings(self):
        """Every leg of every cleared order: cycle, party, CU. -1 is the house's fees, -2 its rounding."""
        legs = []
        for event in self.events("cleared", "reversed", "adjusted"):
            cycle = event["cycle"]
            legs.append((cycle, event["issuer"], -event["debit"]))
            legs.append((cycle, event["acceptor"], event["value"] - event["fee"]))
            legs.append((cycle, -1, event["fee"]))
            legs.append((cycle, -2, event["debit"] - event["value"]))
        return legs

    def position(self, cycle, party):
        """What a party is to receive (positive) or to pay in a cycle."""
        return sum(cu for in_cycle, who, cu in self.postings() if (in_cycle, who) == (cycle, party))

    def base(self, merchant):
        """Headroom before the open position counts."""
        cycles = self.owed_cycles(self.unsettled_cycles())
        debts = sum(min(0, self.position(cycle, merchant)) for cycle in cycles)
        held = self.held(merchant) - self.reserved(merchant)
        return self.cap(merchant) + self.collateral(merchant) + debts - held

    def live_lots(self, member, issuer, at):
        """A member's lots of one programme that can be spent, first to expire first."""
        live = [
            lot
            for lot in self.lots
            if (lot["member"], lot["merchant"]) == (member, issuer)
            and lot["left"] > 0
            and lot["expires"] > at
        ]
        return sorted(live, key=lambda lot: (lot["expires"], lot["lot"]))

    # Writing ------------------------------------------------------------------------------------

    def write(self, kind, *, reason="", order="own", **figures):
        """Add one thing that happened; `order` is its order's number, `own` for a new order."""
        seq = len(self.log) + 1
        event = {
            "seq": seq,
            "order": seq if order == "own" else order,
            "kind": kind,
            "caller": self.caller,
            "reason": reason,
            "at": self.now,
            "due": self.now,
            "cycle": self.cycle(),
            "issuer": 0,
            "acceptor": 0,
            "units": 0,
            "debit": 0,
            "value": 0,
            "fee": 0,
            "credited": 0,
            "lot": 0,
        }
        event.update(figures)
        self.log.append(event)
        return {field: event[field] for field in ANSWER_FIELDS}

    @staticmethod
    def unwritten(reason, order=0):
        """A refusal that leaves no trace."""
        answer = dict.fromkeys(ANSWER_FIELDS, 0)
        return answer | {"kind": "refused", "reason": reason, "order": order}

    def tick(self, now):
        """Time goes on, never back; a ledger of its callers' time ignores it."""
        if not self.caller_clock:
            self.now = max(self.now, now)

    # Deciding -----------------------------------------------------------------------------------

    def decide(self, wish):
        """Answer one wish: a list of what it did."""
        wish = dict(wish)
        what = wish.pop("what")
        if what in ("end", "pin"):
            return [getattr(self, what)(**wish)]
        key = wish.pop("caller"), wish.pop("key")
        body = wish.pop("body")
        if key in self.keys:
            first_body, answer = self.keys[key]
            return answer if body == first_body else [self.unwritten("idempotency_conflict")]
        self.caller = key[0]
        answer = getattr(self, what)(**wish)
        if answer and answer[0]["seq"]:
            self.keys[key] = body, answer
        return answer

    def late_or_early(self, occurred_at):
        """Why a till time is refused, if it is."""
        if not occurred_at:
            return ""
        if self.caller_clock:
            if occurred_at < self.now:
                return "clock_runs_back"
            self.now = occurred_at
            return ""
        if not self.now - LATE < occurred_at <= self.now:
            return "till_time_out_of_range"
        return ""

    def released(self, event):
        """Whether an accepted order was voided or expired."""
        return any(e["order"] == event["order"] for e in self.events("voided", "expired"))

    def unprotected(self, issuer, member, debit, code=0, until=0):
        """Why a member's rules forbid a spend, if they do."""
        if code and self.now > until:
            return "member_not_authorised"
        if code and any(event.get("code") == code for event in self.events("accepted", "cleared")):
            return "code_spent"
        rules = self.programmes.get(issuer, {}).get("rules")
        if not rules:
            return ""
        proven = {
            "none": True,
            "code": bool(code) or self.caller == issuer,
            "issuer": self.caller == issuer,
        }
        if not proven[rules["authority"]]:
            return "member_not_authorised"
        lately = [
            event["debit"]
            for event in self.events("accepted", "cleared")
            if event["seq"] == event["order"]
            and (event["issuer"], event["member"]) == (issuer, member)
            and event["at"] > self.now - DAY
            and not self.released(event)
        ]
        if rules["daily_orders"] and len(lately) + 1 > rules["daily_orders"]:
            return "member_limit_exceeded"
        if rules["daily_cu"] and sum(lately) + debit > rules["daily_cu"]:
            return "member_limit_exceeded"
        return ""

    def order(self, *, issuer, acceptor, member, units, debit, value, fee, occurred_at=0,
              hold=0, credited=0, hosted=False, reason="", code=0, until=0):  # fmt: skip
        """Spend points of an issuer for value at an acceptor."""
        figures = {
            "issuer": issuer, "acceptor": acceptor, "units": units, "debit": debit, "value": value,
            "fee": fee, "member": member, "code": code,
        }  # fmt: skip

        def refused(why):
            return [self.write("refused", reason=why, **figures)]

        if reason:
            return refused(reason)
        if why := self.late_or_early(occurred_at):
            return refused(why)
        if why := self.unprotected(issuer, member, debit, code, until):
            return refused(why)
        at = occurred_at or self.now
        live = self.live_lots(member, issuer, at)
        if hosted and sum(lot["left"] for lot in live) < units:
            return refused("insufficient_points")
        if hosted and credited and not self.programmes.get(acceptor, {}).get("hosted"):
            return refused("not_hosted")
        if issuer not in self.merchants() or acceptor not in self.merchants():
            return refused("unknown_merchant")
        cycle = self.cycle_of(issuer, acceptor)
        if not cycle:
            return refused("cycle_not_open")
        if why := self.uncovered(issuer, cycle, debit, hold=bool(hold)):
            return refused(why)
        if hold:
            due = self.now + hold
            return [self.write("accepted", due=due, cycle=cycle, credited=credited, **figures)]
        extra = {"cycle": cycle}
        if hosted and credited:
            ends = min(live[0]["expires"], at + self.programmes[acceptor]["valid_days"] * DAY)
            extra |= {"lot": len(self.lots) + 1, "due": ends}
        if hosted:
            extra["from"] = self.spend(live, units)
        answer = self.write("cleared", credited=credited, **figures, **extra)
        if "lot" in extra:
            self.make_lot(member, acceptor, credited, extra["due"])
        return [answer]

    def pins(self, order):
        """What pinned an order: once, or never."""
        return [event for event in self.events("pinned") if event["order"] == order]

    def end(self, *, caller, order, how, proven=False):
        """Clear or void an accepted order; `pinned` only says that its credit may be sent."""
        first = [e for e in self.log if e["order"] == order and e["seq"] == order]
        if not first or caller not in (0, first[0]["caller"]):
            return self.unwritten("order_not_found", order)
        ends = [e for e in self.events("cleared", "voided", "expired") if e["order"] == order]
        if first[0]["kind"] == "refused":
            return self.unwritten("order_refused", order)
        if ends:
            if ends[0]["kind"] == how:
                return {field: ends[0][field] for field in ANSWER_FIELDS}
            why = {
                "cleared": "order_already_cleared",
                "voided": "order_already_voided",
                "expired": "hold_expired",
            }
            return self.unwritten(why[ends[0]["kind"]], order)
        if self.pins(order):
            if how == "pinned":
                return {field: self.pins(order)[0][field] for field in ANSWER_FIELDS}
            if how == "voided" and not proven:
                return self.unwritten("credit_under_way", order)
        elif first[0]["due"] <= self.now:
            self.finish(first[0], "expired")
            return self.unwritten("hold_expired", order)
        return self.finish(first[0], how)

    def pin(self, *, caller, order):
        """Keep a hold, because its credit may be sent now."""
        return self.end(caller=caller, order=order, how="pinned")

    def basket(self, *, parts, accepted, then, partial):
        """Orders for one bill: each that fits, or all or none of them."""
        before = copy.deepcopy((self.log, self.lots))
        caller = self.caller
        answers = [self.order(**part)[0] for part in parts]
        for order in accepted:
            if order not in [hold["order"] for hold in self.open_holds()]:
                answers.append(self.unwritten("order_not_found", order))
            else:
                answers.append(self.end(caller=caller, order=order, how=then))
        if partial or all(answer["kind"] != "refused" for answer in answers):
            return answers
        self.log, self.lots = before
        whys = [answer["reason"] or "basket_not_covered" for answer in answers]
        figures = ("issuer", "acceptor", "units", "debit", "value", "fee")
        return [
            self.write("refused", reason=why, **{name: part[name] for name in figures})
            for part, why in zip(parts, whys, strict=False)
        ] + [
            self.unwritten(why, order)
            for order, why in zip(accepted, whys[len(parts) :], strict=True)
        ]

    def finish(self, accepted, how):
        """Write what becomes of an open hold."""
        same = ("caller", "issuer", "acceptor", "units", "debit", "value", "fee", "credited")
        cycle = self.cycle_of(accepted["issuer"], accepted["acceptor"])
        figures = {name: accepted[name] for name in same}
        return self.write(how, order=accepted["order"], cycle=cycle, **figures)

    def expire(self, *, limit=10_000, at=0):
        """End every hold whose time has come."""
        before = self.now
        if at and (why := self.administrative_time(at)):
            return [self.unwritten(why)]
        due = sorted(
            (
                hold
                for hold in self.open_holds()
                if hold["due"] <= self.now and not self.pins(hold["order"])
            ),
            key=lambda hold: (hold["due"], hold["order"]),
        )
        if not due:
            self.now = before
        return [self.finish(hold, "expired") for hold in due[:limit]]

    def administrative_time(self, at):
        """Why a business time is refused, if it is."""
        if not at:
            return ""
        if not self.caller_clock:
            return "business_time_not_accepted"
        if at < self.now:
            return "clock_runs_back"
        self.now = at
        return ""

    def refuse_plainly(self, why, merchant=0):
        """Refuse what is no order."""
        return [self.write("refused", reason=why, order=0, issuer=merchant)]

    def join(self, *, merchant, cap):
        """Open an account."""
        if merchant in self.merchants():
            return self.refuse_plainly("merchant_exists", merchant)
        return [self.write("joined", order=0, issuer=merchant, value=cap)]

    def set_cap(self, *, merchant, cap):
        """Change a cap; never refused."""
        if merchant not in self.merchants():
            return self.refuse_plainly("unknown_merchant", merchant)
        return [self.write("cap_set", order=0, issuer=merchant, value=cap)]

    def set_collateral(self, *, merchant, collateral):
        """Change the collateral; a withdrawal must leave what is owed covered."""
        if merchant not in self.merchants():
            return self.refuse_plainly("unknown_merchant", merchant)
        withdrawn = self.collateral(merchant) - collateral
        if withdrawn > 0 and self.strict_room(merchant) - withdrawn < 0:
            return self.refuse_plainly("net_debit_cap_exceeded", merchant)
        return [self.write("collateral_set", order=0, issuer=merchant, value=collateral)]

    def close(self, *, cycle, next_id, at=0, arrangement=0):
        """Close the open cycle of an arrangement and open its next."""
        if why := self.administrative_time(at):
            return self.refuse_plainly(why)
        made = [event["value"] for event in self.events("arrangement_made")]
        if cycle != self.cycle(arrangement) or arrangement not in (0, *made):
            return self.refuse_plainly("cycle_not_open")
        if next_id in [event["id"] for event in self.events("cycle_opened")]:
            return self.refuse_plainly("cycle_exists")
        answers = []
        if cycle:
            answers.append(self.write("cycle_closed", order=0, cycle=cycle))
        number = len(self.events("cycle_opened")) + 1
        answers.append(
            self.write(
                "cycle_opened", order=0, cycle=number, value=arrangement, id=next_id,
                arrangement=arrangement,
            )
        )  # fmt: skip
        return answers

    def make(self, *, code, model):
        """Make an arrangement."""
        if code in [event["id"] for event in self.events("arrangement_made")]:
            return self.refuse_plainly("arrangement_exists")
        number = len(self.events("arrangement_made")) + 1
        return [self.write("arrangement_made", order=0, value=number, fee=model, id=code)]

    def arrange(self, *, one, other, arrangement):
        """Give a pair an arrangement, once the cycle that is open for it has closed."""
        for merchant in sorted((one, other)):
            if merchant not in self.merchants():
                return self.refuse_plainly("unknown_merchant", merchant)
        if one == other:
            return self.refuse_plainly("same_merchant", one)
        if arrangement and not self.cycle(arrangement):
            return self.refuse_plainly("cycle_not_open")
        return [
            self.write(
                "pair_arranged", order=0, value=arrangement,
                issuer=min(one, other), acceptor=max(one, other),
            )
        ]  # fmt: skip

    # Reversals ----------------------------------------------------------------------------------

    def reverse(self, *, order, units):
        """Take an order back, in part or whole; `units` 0 for all that is left."""
        first = [e for e in self.log if e["order"] == order and e["seq"] == order]
        if not first or self.caller not in (0, first[0]["acceptor"]):
            return self.refuse_plainly("order_not_found")
        ends = [e for e in self.events("cleared", "voided", "expired") if e["order"] == order]
        if not ends:
            refused = first[0]["kind"] == "refused"
            return self.refuse_plainly("order_refused" if refused else "order_not_cleared")
        cleared = ends[0]
        if cleared["kind"] != "cleared":
            voided = cleared["kind"] == "voided"
            return self.refuse_plainly("order_already_voided" if voided else "hold_expired")
        before = [e for e in self.events("reversed") if e["order"] == order]
        taken = -sum(e["units"] for e in before)
        units = units or cleared["units"] - taken
        if not 0 < units <= cleared["units"] - taken:
            return self.refuse_plainly("reversal_exceeds_order")
        part = {
            name: floor(Fraction(cleared[name] * (taken + units), cleared["units"]))
            + sum(e[name] for e in before)
            for name in ("debit", "value", "fee", "credited")
        }
        if self.adjustments(order):
            part |= {
                name: floor(Fraction(self.stands(order, name) * units, cleared["units"] - taken))
                for name in ("debit", "value", "fee")
            }
        given = next((lot for lot in self.lots if lot["lot"] == cleared["lot"]), None)
        if given and part["credited"]:
            gone = given["expires"] <= (self.now if self.caller_clock else self.now - LATE)
            if gone or given["left"] < part["credited"]:
                return self.refuse_plainly("points_spent")
            given["left"] -= part["credited"]
        until = self.now + 30 * DAY
        fresh = self.give_back(cleared, taken, units, until)
        extra = {"lot": len(self.lots) + 1, "due": until} if fresh else {}
        answer = self.write(
            "reversed", order=order, cycle=self.cycle_of(cleared["issuer"], cleared["acceptor"]),
            issuer=cleared["issuer"], acceptor=cleared["acceptor"],
            units=-units, **{name: -figure for name, figure in part.items()}, **extra,
        )  # fmt: skip
        if fresh:
            self.make_lot(cleared["member"], cleared["issuer"], fresh, until)
        return [answer]

    def adjustments(self, order):
        """What corrected an order."""
        return [event for event in self.events("adjusted") if event["order"] == order]

    def stands(self, order, name):
        """One figure of an order after everything that was taken back of it and added to it."""
        kinds = "cleared", "reversed", "adjusted"
        return sum(event[name] for event in self.events(*kinds) if event["order"] == order)

    def adjust(self, *, order, issuer, acceptor, debit, value, fee):
        """Correct what one merchant owes another; of an order, what it leaves must be an order's figures."""
        cycle = self.cycle_of(issuer, acceptor)
        figures = {
            "issuer": issuer,
            "acceptor": acceptor,
            "debit": debit,
            "value": value,
            "fee": fee,
        }
        if not order:
            if issuer not in self.merchants() or acceptor not in self.merchants():
                return self.refuse_plainly("unknown_merchant", issuer)
            return [self.write("adjusted", order=0, cycle=cycle, **figures)]
        first = [e for e in self.log if e["order"] == order and e["seq"] == order]
        if not first:
            return self.refuse_plainly("order_not_found", issuer)
        ends = [e for e in self.events("cleared", "voided", "expired") if e["order"] == order]
        if not ends or ends[0]["kind"] != "cleared":
            how = ends[0]["kind"] if ends else first[0]["kind"]
            why = {
                "accepted": "order_not_cleared", "refused": "order_refused",
                "voided": "order_already_voided", "expired": "hold_expired",
            }[how]  # fmt: skip
            return self.refuse_plainly(why, issuer)
        if (ends[0]["issuer"], ends[0]["acceptor"]) != (issuer, acceptor):
            return self.refuse_plainly("order_not_found", issuer)
        left = {
            name: self.stands(order, name) + figures[name] for name in ("debit", "value", "fee")
        }
        if not 0 <= left["fee"] <= left["value"] <= left["debit"]:
            return self.refuse_plainly("adjustment_exceeds_order", issuer)
        return [self.write("adjusted", order=order, cycle=cycle, **figures)]

    def compensate(self, *, member, merchant, units):
        """Points given at the cost of whoever asks, which owes their merchant for them if that is another."""
        if merchant not in self.programmes or merchant not in self.merchants():
            return self.refuse_plainly("unknown_merchant", merchant)
        programme = self.programmes[merchant]
        if not programme["hosted"]:
            return self.refuse_plainly("not_hosted", merchant)
        answers = []
        if self.caller != merchant:
            if self.caller not in self.merchants():
                return self.refuse_plainly("unknown_merchant", self.caller)
            cost = ceil(units * programme["rate"])
            answers.append(
                self.write(
                    "adjusted",
                    order=0,
                    cycle=self.cycle_of(self.caller, merchant),
                    issuer=self.caller,
                    acceptor=merchant,
                    debit=cost,
                    value=cost,
                )
            )
        days = max(30, programme["valid_days"])
        return [*answers, *self.accrue(member=member, merchant=merchant, units=units, days=days)]

    def give_back(self, cleared, skip, units, ends):
        """Units go back to their lots, the last taken first; how many found too little life there."""
        one_by_one = [lot for lot, given in cleared.get("from", []) for _ in range(given)]
        fresh = 0
        for lot in one_by_one[::-1][skip : skip + units]:
            if lot["expires"] >= ends:
                lot["left"] += 1
            else:
                fresh += 1
        return fresh

    # Points -------------------------------------------------------------------------------------

    def make_lot(self, member, merchant, units, expires):
        """Points that expire together."""
        self.lots.append(
            {
                "lot": len(self.lots) + 1,
                "member": member,
                "merchant": merchant,
                "earned": units,
                "left": units,
                "expires": expires,
            }
        )

    @staticmethod
    def spend(live, units):
        """Take units from lots in their order; which lot gave how many."""
        gave = []
        for lot in live:
            given = min(units, lot["left"])
            lot["left"] -= given
            units -= given
            gave.append((lot, given))
        return gave

    def purchase(self, *, member, merchant, amount_fen, discount_fen, occurred_at=0):
        """A discount paid with points of other programmes, then the points that the purchase earns."""
        programme = self.programmes.get(merchant)
        if why := self.late_or_early(occurred_at):
            return self.refuse_plainly(why, merchant)
        if programme is None or merchant not in self.merchants():
            return self.refuse_plainly("unknown_merchant", merchant)
        if not programme["hosted"]:
            return self.refuse_plainly("not_hosted", merchant)
        at = occurred_at or self.now
        answers = []
        need = 100 * discount_fen
        firsts = []
        for issuer in self.programmes:
            live = self.live_lots(member, issuer, at)
            if issuer != merchant and live:
                firsts.append((live[0]["expires"], live[0]["lot"], issuer))
        for _, _, issuer in sorted(firsts):
            if need == 0:
                break
            live = self.live_lots(member, issuer, at)
            rate = self.programmes[issuer]["rate"]
            units = min(sum(lot["left"] for lot in live), ceil(need / rate))
            debit = floor(units * rate)
            value = min(need, debit)
            if value == 0:
                continue
            fee = floor(Fraction(value * self.fee_bps, 10_000))
            figures = {
                "issuer": issuer, "acceptor": merchant, "units": units, "debit": debit,
                "value": value, "fee": fee, "member": member,
            }  # fmt: skip
            cycle = self.cycle_of(issuer, merchant)
            why = self.unprotected(issuer, member, debit)
            if not why and not cycle:
                why = "cycle_not_open"
            why = why or self.uncovered(issuer, cycle, debit)
            if why:
                answers.append(self.write("refused", reason=why, **figures))
                continue
            gave = self.spend(live, units)
            answers.append(self.write("cleared", cycle=cycle, **figures, **{"from": gave}))
            need -= value
        units = floor(amount_fen * programme["earn"])
        expires = at + programme["valid_days"] * DAY
        answers.append(
            self.write(
                "accrued",
                order=0,
                due=expires,
                units=units,
                value=need,
                issuer=merchant,
                acceptor=merchant,
                lot=len(self.lots) + 1 if units else 0,
            )
        )
        if units:
            self.make_lot(member, merchant, units, expires)
        return answers

    def accrue(self, *, member, merchant, units, occurred_at=0, days=0):
        """Give points."""
        if why := self.late_or_early(occurred_at):
            return self.refuse_plainly(why, merchant)
        if merchant not in self.programmes or merchant not in self.merchants():
            return self.refuse_plainly("unknown_merchant", merchant)
        programme = self.programmes[merchant]
        if not programme["hosted"]:
            return self.refuse_plainly("not_hosted", merchant)
        expires = (occurred_at or self.now) + (days or programme["valid_days"]) * DAY
        answer = self.write(
            "accrued", order=0, due=expires, units=units, issuer=merchant, acceptor=merchant,
            lot=len(self.lots) + 1,
        )  # fmt: skip
        self.make_lot(member, merchant, units, expires)
        return [answer]

    def lapse(self, *, as_of, limit=10_000):
        """Points of lots that expired unused are worth nothing now."""
        until = min(as_of, self.now if self.caller_clock else self.now - LATE)
        due = sorted(
            (lot for lot in self.lots if lot["left"] > 0 and lot["expires"] <= until),
            key=lambda lot: (lot["expires"], lot["lot"]),
        )
        answers = []
        for lot in due[:limit]:
            worth = floor(lot["left"] * self.programmes[lot["merchant"]]["rate"])
            answers.append(
                self.write(
                    "lapsed",
                    order=0,
                    due=lot["expires"],
                    units=lot["left"],
                    value=worth,
                    issuer=lot["merchant"],
                    lot=lot["lot"],
                )
            )
            lot["left"] = 0
        return answers
