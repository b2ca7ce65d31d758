"""The oracle's money: who put in how much, who took it out, and what cycles moved; each figure a sum over the list."""

from typing import Any

FEES, ROUNDING, FUND, TRANSIT = -1, -2, -3, -4
LIMIT = 10**15
BELOW = -99


class Purse:
    """What the oracle knows of funds (pot 0), collateral (1) and shares of the default fund (2)."""

    log: Any
    events: Any
    merchants: Any
    cycle: Any
    unsettled_cycles: Any
    gross_cycles: Any
    owed_cycles: Any
    reserved: Any
    position: Any
    base: Any
    strict_room: Any
    write: Any
    refuse_plainly: Any

    def in_pot(self, party, pot):
        """What a party has in a pot."""
        total = 0
        for event in self.log:
            kind, cu = event["kind"], event["value"]
            if kind == "collateral_set" and pot == 1 and event["issuer"] == party:
                total = cu
            elif kind == "deposited" and (event["issuer"], event["units"]) == (party, pot):
                total += cu
            elif kind == "paid_out" and (event["issuer"], event["units"]) == (party, pot):
                total -= cu
            elif kind == "transferred":
                total -= cu * ((event["issuer"], event["units"]) == (party, pot))
                total += cu * ((event["acceptor"], event["credited"]) == (party, pot))
        if pot == 0:
            moved = {*self.settled_cycles(), *self.gross_cycles()}
            total += sum(self.position(cycle, party) for cycle in moved)
            total += sum(
                dict(self.legs(event)).get(party, 0)
                for event in self.events("discharged")
                if event["cycle"] in self.unsettled_cycles()
            )
        return total

    def settled_cycles(self):
        """Cycles whose positions are in the funds."""
        return [event["cycle"] for event in self.events("cycle_settled")]

    @staticmethod
    def legs(event):
        """Party and CU of a pair that was settled before the rest."""
        figures = event["debit"], event["value"], event["fee"]
        parties = event["issuer"], event["acceptor"], FEES, ROUNDING
        return list(zip(parties, (*figures, -sum(figures)), strict=True))

    def parties(self):
        """Everybody who may have money."""
        return [*self.merchants(), FEES, ROUNDING, TRANSIT]

    def balances(self):
        """All funds that are not zero; of the default fund the total."""
        found = {party: self.in_pot(party, 0) for party in self.parties()}
        found[FUND] = sum(self.shares().values())
        return {party: cu for party, cu in found.items() if cu}

    def shares(self):
        """Whose the default fund is."""
        found = {party: self.in_pot(party, 2) for party in (0, *self.merchants())}
        return {party: cu for party, cu in found.items() if cu}

    def debts(self):
        """Who owes whom after a default."""
        found: dict[Any, Any] = {}
        for event in self.events("transferred"):
            giver, taker = event["issuer"], event["acceptor"]
            if TRANSIT in (giver, taker) or max(0, giver) == max(0, taker):
                continue
            debtor, creditor, cu = taker, giver, event["value"]
            if not event["helps"]:
                debtor, creditor, cu = giver, taker, -cu
            found[debtor, creditor] = found.get((debtor, creditor), 0) + cu
        return {pair: cu for pair, cu in found.items() if cu}

    def pairs(self, cycle):
        """What each pair of merchants comes to in a cycle: the one, the other, fees, rounding."""
        found: dict[Any, Any] = {}
        for event in self.events("cleared", "reversed", "adjusted"):
            if event["cycle"] != cycle:
                continue
            one, other = sorted((event["issuer"], event["acceptor"]))
            legs = {
                event["issuer"]: -event["debit"],
                event["acceptor"]: event["value"] - event["fee"],
            }
            more = legs[one], legs[other], event["fee"], event["debit"] - event["value"]
            before = found.get((one, other), (0, 0, 0, 0))
            found[one, other] = tuple(a + b for a, b in zip(before, more, strict=True))
        return found

    def discharged(self):
        """Pairs that were settled before the rest of their cycle."""
        return {
            (event["cycle"], event["issuer"], event["acceptor"]): tuple(
                cu for _, cu in self.legs(event)
            )
            for event in self.events("discharged")
        }

    def residual(self, cycle, party):
        """What of a position no pair has settled; nothing where money moved with each line."""
        if cycle in self.gross_cycles():
            return 0
        gone = sum(
            dict(self.legs(event)).get(party, 0)
            for event in self.events("discharged")
            if event["cycle"] == cycle
        )
        return self.position(cycle, party) - gone

    def lacking(self, cycle):
        """Which merchants lack money to settle a cycle, and how much."""
        found = {}
        for merchant in sorted(self.merchants()):
            left = self.residual(cycle, merchant)
            after = self.in_pot(merchant, 0) + left
            if left < 0 and after < BELOW:
                found[merchant] = min(-after, -left)
        return found

    # Wishes -------------------------------------------------------------------------------------

    def has_pot(self, party, pot):
        """Whether there is such a pot."""
        if party in self.merchants():
            return pot in (0, 1, 2)
        return (party, pot) in ((0, 2), (FEES, 0), (ROUNDING, 0), (TRANSIT, 0))

    def deposit(self, *, party, pot, cu):
        """The bank says that money came in."""
        if not self.has_pot(party, pot):
            return self.refuse_plainly("unknown_merchant", max(0, party))
        if pot == 1 and self.in_pot(party, 1) + cu >= LIMIT:
            return self.refuse_plainly("amount_above_maximum", max(0, party))
        return [self.write("deposited", order=0, issuer=party, units=pot, value=cu)]

    def pay_out(self, *, party, pot, cu):
        """The bank says that money went out."""
        if not self.has_pot(party, pot):
            return self.refuse_plainly("unknown_merchant", max(0, party))
        if pot and self.in_pot(party, pot) < cu:
            return self.refuse_plainly("funds_insufficient", max(0, party))
        return [self.write("paid_out", order=0, issuer=party, units=pot, value=cu)]

    def transfer(self, *, giver, giver_pot, taker, taker_pot, cu, cycle=0):
        """Money is counted for somebody else, or in another pot."""
        why = self.why_no_transfer(giver, giver_pot, taker, taker_pot, cu, cycle)
        if why:
            return self.refuse_plainly(why, max(0, giver))
        named = {"cycle": cycle} if cycle else {}
        return [
            self.write(
                "transferred", order=0, issuer=giver, units=giver_pot, acceptor=taker,
                credited=taker_pot, value=cu, helps=bool(cycle), **named,
            )
        ]  # fmt: skip

    def why_no_transfer(self, giver, giver_pot, taker, taker_pot, cu, cycle):
        """What is wrong with it, if anything is."""
        if not (self.has_pot(giver, giver_pot) and self.has_pot(taker, taker_pot)):
            return "unknown_merchant"
        if (giver, giver_pot) == (taker, taker_pot):
            return "same_merchant"
        inside = self.in_pot(giver, giver_pot)
        if cycle:
            if cycle not in self.unsettled_cycles():
                return "cycle_not_closed"
            if inside < cu:
                return "funds_insufficient"
            left = self.residual(cycle, taker)
            needed = min(-left - self.in_pot(taker, 0), -left)
            return "" if needed >= cu else "funds_moved"
        own = max(0, giver) == max(0, taker) or TRANSIT in (giver, taker)
        if not own and self.debts().get((giver, taker), 0) < cu:
            return "amount_above_maximum"
        if giver == TRANSIT:
            return ""
        spare = inside
        if giver > 0 and giver_pot == 0:
            closed = self.owed_cycles(self.unsettled_cycles())
            spare += sum(min(0, self.position(c, giver)) for c in closed) - self.reserved(giver)
        if spare < cu:
            return "funds_insufficient"
        if giver_pot == 1 and self.strict_room(giver) < cu:
            return "net_debit_cap_exceeded"
        if taker == TRANSIT and giver_pot == 0:
            there = sum(self.in_pot(party, 0) for party in self.parties())
            if there < cu:
                return "funds_insufficient"
        return ""

    def discharge(self, *, cycle, pairs):
        """Some pairs are settled before the rest."""
        if cycle not in self.unsettled_cycles():
            return self.refuse_plainly("cycle_not_closed")
        if cycle in self.gross_cycles() or any(
            (cycle, pair[0], pair[1]) in self.discharged() for pair in pairs
        ):
            return self.refuse_plainly("funds_moved")
        change: dict[int, int] = {}
        for pair in pairs:
            for party, cu in zip((pair[0], pair[1]), pair[2:4], strict=True):
                change[party] = change.get(party, 0) + cu
        for party in sorted(change):
            if change[party] < 0 and self.in_pot(party, 0) + change[party] < BELOW:
                return self.refuse_plainly("funds_insufficient", party)
        return [
            self.write(
                "discharged", order=0, issuer=pair[0], acceptor=pair[1], debit=pair[2], value=pair[3],
                fee=pair[4], cycle=cycle,
            )
            for pair in pairs
        ]  # fmt: skip

    def unwind(self, *, cycle, debtor, shares):
        """A cycle is settled though its debtor lacks money: the creditors wait for their shares."""
        if cycle not in self.unsettled_cycles():
            return self.refuse_plainly("cycle_not_closed")
        lacking = self.lacking(cycle)
        if list(lacking) != [debtor]:
            return self.refuse_plainly("funds_insufficient", debtor)
        if sum(cu for _, cu in shares) != lacking[debtor] or any(
            cu > self.residual(cycle, creditor) for creditor, cu in shares
        ):
            return self.refuse_plainly("funds_moved", debtor)
        paid = self.paid(cycle)
        answers = [
            self.write(
                "transferred", order=0, issuer=creditor, acceptor=debtor, value=cu, cycle=cycle, helps=True
            )
            for creditor, cu in sorted(shares)
        ]  # fmt: skip
        return [*answers, self.write("cycle_settled", order=0, cycle=cycle, value=paid)]

    def paid(self, cycle):
        """What is to receive in the rest of a cycle."""
        return sum(max(0, self.residual(cycle, party)) for party in self.parties())

    def settle(self, *, cycle, funded=False):
        """A closed cycle moves into the funds."""
        if cycle not in self.unsettled_cycles():
            return self.refuse_plainly("cycle_not_closed")
        if not funded and (self.events("deposited") or self.events("paid_out")):
            return self.refuse_plainly("settle_from_funds")
        lacking = self.lacking(cycle) if funded else {}
        if lacking:
            return self.refuse_plainly("funds_insufficient", min(lacking))
        paid = self.paid(cycle) if funded else 0
        return [self.write("cycle_settled", order=0, cycle=cycle, value=paid)]
