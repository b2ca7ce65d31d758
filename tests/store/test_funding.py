"""Money at the bank and cycles that it settles, on real PostgreSQL with a running writer."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from exchange.service.controlled import ACTIONS
from schemas.files.bank_statement import BankEntry, BankStatement
from schemas.values.reason import Reason, Refusal
from schemas.wire.proposals import SettleTerms
from settlement.core.command import Deposit, PayOut, Pot
from settlement.core.event import Kind
from settlement.core.trail import By
from settlement.core.waterfall import StepKind
from settlement.service import reports, trail
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.cycles import settle_cycle, why_not_on_word
from settlement.service.default_records import verify_records
from settlement.service.funding import (
    BankBooked,
    Moved,
    book_bank,
    booking_key,
    custody,
    move_asked,
    purses,
    set_level,
)
from settlement.service.objections import Objections
from settlement.service.reconciliation import import_statements, list_breaks
from settlement.service.settling import (
    default,
    default_change,
    plan_default,
    settle_funded,
    standing,
    why_not,
)
from settlement.signing.keyring import Keyring
from settlement.store.funds import load_funds
from tests.golden.packages import golden_keyring
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import BODY, House, make_writer, new_key, open_house, order_of, terms

ACCOUNT = "1001000000000000001"
HOLDERS = {"2002A": "A", "2002B": "B", "2002C": "C"}
TINA = By(who="person:tina", why="seen at the bank")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CODES = {1: "A", 2: "B", 3: "C"}


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[House]:
    """A owes B 50 yuan and C 30, B owes C 10; the cycle `first` is closed."""
    async with open_house(dsn, *(terms(code, hosted=False) for code in CODES.values())) as house:
        await house.submit(
            order_of(house, "A", "B", 500_000),
            order_of(house, "A", "C", 300_000),
            order_of(house, "B", "C", 100_000),
        )
        await house.close_cycle(1, "second")
        yield house


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """The operator's keys."""
    return golden_keyring(tmp_path / "keys")


def moved(fen: int, *, reference: str = "", account: str = "", day: int = 1) -> BankEntry:
    """One movement."""
    return BankEntry(
        place="line", amount_fen=fen, booked_on=date(2026, 3, day), reference=reference,
        party_name="somebody", party_account=account,
    )  # fmt: skip


async def shown(
    house: House, entries: Sequence[BankEntry], *, opening_fen: int = 0, account: str = ACCOUNT
) -> None:
    """The bank's next statement arrives."""
    day = entries[0].booked_on
    statement = BankStatement(
        account=account, number=f"S{day}", opened_on=day, closed_on=day, opening_fen=opening_fen,
        closing_fen=opening_fen + sum(one.amount_fen for one in entries), entries=tuple(entries),
    )  # fmt: skip
    await import_statements(
        house.pool, [statement], account=account, holders=HOLDERS, by=TINA, at=NOW, days_max=31
    )


async def booked(house: House, **rest: Any) -> BankBooked:
    """Book what the bank shows."""
    given: dict[str, Any] = {
        "account": ACCOUNT,
        "holders": HOLDERS,
        "by": TINA,
        "at": NOW,
        "said": {},
    }
    return await book_bank(house.pool, house.writer, **(given | rest))


async def settled(house: House) -> Refusal | None:
    """Try to settle the cycle."""
    state = await standing(house.pool, cycle_id="first")
    assert state is not None
    return await settle_funded(house.pool, house.writer, state, codes=CODES, by=TINA, now=NOW)


async def whole(house: House) -> None:
    """The audit is clean: funds, collateral, shares, debts and pairs are what the journal says."""
    await assert_audits_clean(house.pool)


async def untold(house: House) -> set[int]:
    """Kinds of events that the trail does not tell of as they are."""
    async with house.pool.acquire() as conn:
        report, _, _ = await trail.audit_trail(conn)
    seqs = [int(each.key.removeprefix("event ")) for each in report.differences]
    rows = await house.pool.fetch("SELECT kind FROM settlement.event WHERE seq = ANY($1)", seqs)
    return {row["kind"] for row in rows}


async def told_of_the_bank(house: House) -> str:
    """What the trial balance says of the bank's last statement; its sums hold, and the journal's are the same."""
    now = datetime(3000, 1, 1, tzinfo=UTC)
    head = await reports.standing(house.pool, reports.Moment(), now=now, with_bank=True)
    summed = await reports.standing(house.pool, reports.Moment(journal=True), now=now)
    assert head.ledger.same_as(summed.ledger)
    made = reports.trial_balance(head)
    assert made.ok
    return made.facts[-1].text


async def test_a_cycle_is_paid_in_settled_and_paid_out_as_the_bank_shows(house, keyring, tmp_path):
    """Rules U5, U6, U12, U13: matched payments are booked once; a cycle settles when all is there; then money goes out.

    From the first payment on a word settles nothing, also of books that are loaded again.
    Whoever pays exactly what it is told has its carry left, and books and bank agree at the end.
    """
    made = await cut_batch(
        house.pool, cycle_no=1, keyring=keyring, out=tmp_path / "packages", now=NOW
    )
    assert isinstance(made, CutBatch)
    breaks = await list_breaks(house.pool, account=ACCOUNT, holders=HOLDERS, at=NOW)
    due = {one.payments[0].party_no: one.payments[0] for one in breaks}
    assert await why_not_on_word(house.pool) is None
    assert {party: one.amount_fen for party, one in due.items()} == {1: 8_000, 2: -4_000, 3: -4_000}
    refused = await settled(house)
    assert refused is not None
    assert refused.reason is Reason.FUNDS_INSUFFICIENT
    assert "A 800000 CU" in refused.detail
    await shown(house, [moved(8_000, reference=due[1].payment_id)])
    refused = await settled(house)
    assert refused is not None
    assert refused.reason is Reason.MOVEMENT_UNMATCHED
    assert "1/1" in refused.detail
    rehearsed = await booked(house, rehearse=True)
    assert rehearsed == await booked(house)
    assert [one.parts for one in rehearsed.booked] == [((1, Pot.FUNDS, 800_000),)]
    assert (await booked(house)).booked == ()
    on_word = await settle_cycle(house.writer, cycle_no=1)
    assert isinstance(on_word, Refusal)
    assert on_word.reason is Reason.SETTLE_FROM_FUNDS
    told = await why_not_on_word(house.pool)
    assert told is not None
    assert told.reason is Reason.SETTLE_FROM_FUNDS
    assert (await load_funds(house.pool, part=1)).kept
    approved = await ACTIONS["cycle.settle"].carry_out(
        house.pool,
        house.writer,
        SettleTerms(cycle="first"),
        proposal_no=1,
        body=BODY,
        keys=tmp_path,
    )
    assert approved is None
    still = await standing(house.pool, cycle_id="first")
    assert still is not None
    assert still.state == "closed"
    assert await settled(house) is None
    again = await settled(house)
    assert again is not None
    assert again.reason is Reason.CYCLE_NOT_CLOSED
    paid_out = [
        moved(due[party].amount_fen, reference=due[party].payment_id, day=2) for party in (2, 3)
    ]
    await shown(house, paid_out, opening_fen=8_000)
    assert "is in no account of the books" in await told_of_the_bank(house)
    assert len((await booked(house)).booked) == 2
    assert await told_of_the_bank(house) == f"{ACCOUNT}: 0.00; the books say the same 与账簿一致"
    found = await purses(house.pool, at=NOW)
    assert [one.funds_cu for one in found.merchants] == [0, 0, 0]
    assert (await custody(house.pool)).why_not() == ""
    assert await untold(house) == set()
    await whole(house)


async def test_a_movement_that_nobody_claims_blocks_every_release(house):
    """Rule U12: the movement is named; a person says whose it is, once; known accounts prefund without asking."""
    await shown(house, [moved(10_000, account="2002A"), moved(700, reference="for something")])
    done = await booked(house)
    assert [one.parts for one in done.booked] == [((1, 0, 1_000_000),)]
    assert [one.name for one in done.open] == ["1/2"]
    refused = await settled(house)
    assert refused is not None
    assert refused.reason is Reason.MOVEMENT_UNMATCHED
    assert "1/2 of statement S2026-03-01, 7.00 yuan (somebody)" in refused.detail
    with pytest.raises(ValueError, match="9/9"):
        await booked(house, said={(9, 9): (1, 0)})
    with pytest.raises(ValueError, match="no such account"):
        await booked(house, said={(1, 2): (77, 0)})
    out = Moved(1, Pot.FUNDS, -4, Pot.FUNDS, 100)
    blocked = await move_asked(house.pool, house.writer, out, names={}, by=TINA, now=NOW)
    assert blocked == refused
    assert (await booked(house, said={(1, 2): (2, Pot.COLLATERAL)})).open == ()
    assert await settled(house) is None
    await whole(house)


async def test_what_lies_in_several_accounts_is_held_against_the_books_together(house):
    """Rule U12: money between the house's accounts is in transit and blocks; where both banks show it, all agree."""
    transit = (-4, Pot.FUNDS)
    await shown(house, [moved(10_000, account="2002A")])
    await booked(house)
    await shown(house, [moved(-700, day=2)], opening_fen=10_000)
    await booked(house, said={(2, 1): transit})
    refused = await settled(house)
    assert refused is not None
    assert "7.0000 yuan are announced" in refused.detail
    await shown(house, [moved(700, day=2)], account="1001000000000000009")
    refused = await settled(house)
    assert refused is not None
    assert "movement 3/1 of statement" in refused.detail
    await booked(house, account="1001000000000000009", said={(3, 1): transit})
    held = await custody(house.pool)
    assert (held.why_not(), held.bank_fen, held.books_cu) == ("", 10_000, 1_000_000)
    assert held.accounts == (ACCOUNT, "1001000000000000009")
    assert await settled(house) is None
    await whole(house)


async def test_a_movement_that_a_person_books_wrongly_can_be_booked_rightly(house):
    """Rule U3: more than a pot holds is not taken out of it, which is said; the movement stays open."""
    await shown(house, [moved(10_000, account="2002A"), moved(-700, reference="whose?")])
    await booked(house)
    for pot in (Pot.COLLATERAL, Pot.DEFAULT_FUND):
        with pytest.raises(ValueError, match=r"1/2: .* holds 0\.0000 yuan, and 7\.0000 went out"):
            await booked(house, said={(1, 2): (1, pot)})
    assert [one.name for one in (await booked(house)).open] == ["1/2"]
    # Somebody took the money meanwhile: the books refuse it, and it can be booked all the same.
    key = booking_key(1, 2)
    assert (await house.one(PayOut(0, key, BODY, 1, Pot.COLLATERAL, 70_000))).kind == Kind.REFUSED
    done = await booked(house, said={(1, 2): (1, Pot.FUNDS)})
    assert [one.parts for one in done.booked] == [((1, 0, -70_000),)]
    assert (await booked(house)).booked == ()
    assert (await custody(house.pool)).why_not() == ""
    await whole(house)


async def test_a_withdrawal_is_in_transit_until_the_bank_shows_it(house):
    """Rules U4 and U12: what is taken out is booked against the bank's movement; what cycles need stays."""
    await shown(house, [moved(10_000, account="2002A")])
    await booked(house)
    too_much = Moved(1, Pot.FUNDS, -4, Pot.FUNDS, 200_001)
    names = {1: "A", -4: "BANK"}
    refused = await move_asked(house.pool, house.writer, too_much, names=names, by=TINA, now=NOW)
    assert refused is not None
    assert refused.reason is Reason.FUNDS_INSUFFICIENT
    right = too_much._replace(cu=200_000)
    assert await move_asked(house.pool, house.writer, right, names=names, by=TINA, now=NOW) is None
    assert (await custody(house.pool)).why_not() == ""
    await shown(house, [moved(-2_000, account="2002A", day=2)], opening_fen=10_000)
    assert [one.parts for one in (await booked(house)).booked] == [((-4, 0, -200_000),)]
    assert (await purses(house.pool, at=NOW)).house == {-4: 0, 0: 0}
    await set_level(house.pool, merchant_no=1, code="A", level_cu=900_000, by=TINA, at=NOW)
    found = {one.code: one for one in (await purses(house.pool, at=NOW)).merchants}
    assert (found["A"].alert, found["A"].needs_cu, found["B"].alert) == ("below_level", 800_000, "")
    assert await settled(house) is None
    await whole(house)


async def test_money_that_was_only_announced_settles_nothing(house):
    """Rule U12: what a person counts before the bank shows it blocks the release, which says so."""
    announced = Moved(-4, Pot.FUNDS, 1, Pot.FUNDS, 800_000)
    assert await move_asked(house.pool, house.writer, announced, names={}, by=TINA, now=NOW) is None
    refused = await settled(house)
    assert refused is not None
    assert "80.0000 yuan are announced" in refused.detail


POTS = ((1, Pot.FUNDS, 100_000), (1, Pot.COLLATERAL, 70_000), (1, Pot.DEFAULT_FUND, 30_000),
        (0, Pot.DEFAULT_FUND, 20_000), (2, Pot.DEFAULT_FUND, 20_000), (3, Pot.DEFAULT_FUND, 10_000),
        (2, Pot.FUNDS, 100_000))  # fmt: skip
ORDER = ["collateral", "liquidity_saving_run", "defaulters_contribution", "house_contribution",
         "others_contributions", "unwind"]  # fmt: skip


async def test_the_waterfall_pays_what_it_can_and_names_the_rest(house, keyring, tmp_path):
    """Rules U8 to U11: the published steps, in order, each a signed record that follows the one before.

    The plan changes nothing; records are checked without a database, and each tampering is found.
    """
    await deposits(house)
    state = await standing(house.pool, cycle_id="first")
    assert state is not None
    planned = await plan_default(house.pool, state, debtor=1, codes=CODES)
    assert not isinstance(planned, Refusal)
    assert [step.kind.value for step in planned] == ["prefunded", *ORDER]
    assert await standing(house.pool, cycle_id="first") == state
    body = await trail.ask(house.pool, TINA, default_change(Objections("first", ()), "A"), at=NOW)
    taken: list[StepKind] = []
    assert (
        await default(
            house.pool, house.writer, cycle_id="first", debtor=1, codes=CODES, body=body,
            keyring=keyring, out=tmp_path, told=lambda step: taken.append(step.kind),
        )
        is None
    )  # fmt: skip
    assert taken == [step.kind for step in planned[1:]]
    folder = tmp_path / "first"
    assert verify_records(folder, keyring.trusted()) == len(ORDER)
    found = await purses(house.pool, at=NOW)
    assert found.merchants[0].owes_cu == sum(
        step.cu for step in planned if step.kind.value in ("house_contribution", "others_contributions", "unwind")
    )  # fmt: skip
    assert all(one.funds_cu >= -99 for one in found.merchants)
    assert found.house[-3] == found.house[0] == 0
    # The deposits above were asked for by nobody; every step of the default was.
    assert await untold(house) == {Kind.DEPOSITED}
    await whole(house)
    third = folder / "003.json"
    good = third.read_bytes()
    for bad in (good.replace(b"30000", b"30001"), good[:-1], good + b" "):
        third.write_bytes(bad)
        with pytest.raises(ValueError, match=r"003\.json"):
            verify_records(folder, keyring.trusted())
    third.unlink()
    with pytest.raises(ValueError, match=r"004\.json"):
        verify_records(folder, keyring.trusted())
    third.write_bytes(good)
    with pytest.raises(ValueError, match=r"001\.json: no trusted key"):
        verify_records(folder, {})


async def deposits(house: House) -> None:
    """Everybody has something, and the bank shows as much."""
    for party, pot, cu in POTS:
        await house.one(Deposit(0, new_key(), BODY, party, pot, cu))
    await house.pool.execute(
        """
        INSERT INTO settlement.bank_statement
               (statement_no, account, number, opened_on, closed_on, opening_fen, closing_fen, entries,
                content_sha256, imported_at)
        VALUES (1, $1, 'S', '2026-03-01', '2026-03-01', 0, $2, 0, sha256('S'), now())
        """,
        ACCOUNT,
        sum(cu for *_, cu in POTS) // 100,
    )


async def test_others_who_lack_money_too_stop_a_default(house):
    """Rule U9: a default is one merchant's; whoever else lacks money is named, and nothing moves."""
    state = await standing(house.pool, cycle_id="first")
    assert state is not None
    refused = await plan_default(house.pool, state, debtor=2, codes=CODES)
    assert isinstance(refused, Refusal)
    assert refused.detail == "A lack money for first too"
    told = await why_not(house.pool, state, CODES)
    assert told is not None
    assert told.reason is Reason.FUNDS_INSUFFICIENT


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from deploy.database.connection import open_pool
from settlement.service.settling import default
from settlement.signing.keyring import Keyring
from tests.simulation.ground import Clock, make_writer

async def main(dsn, folder):
    pool = await open_pool(dsn)
    writer = make_writer(dsn, Clock())
    await writer.start()
    await default(pool, writer, cycle_id="first", debtor=1, codes={1: "A", 2: "B", 3: "C"}, body=bytes(16),
                  keyring=Keyring.open(Path(folder) / "keys"), out=Path(folder),
                  told=lambda step: step.kind.value == "liquidity_saving_run" and os.kill(os.getpid(), signal.SIGKILL))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_default_that_was_killed_between_two_steps_goes_on(house, keyring, tmp_path):
    """Rule U9: after kill -9 behind the second step the rest follows once, and its record is written all the same."""
    await deposits(house)
    await house.writer.stop()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, house.dsn, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "first"
    assert verify_records(folder, keyring.trusted()) == 1
    house.writer = make_writer(house.dsn, house.clock)
    await house.writer.start()
    taken: list[str] = []
    assert (
        await default(
            house.pool, house.writer, cycle_id="first", debtor=1, codes=CODES, body=BODY,
            keyring=keyring, out=tmp_path, told=lambda step: taken.append(step.kind.value),
        )
        is None
    )  # fmt: skip
    assert taken == ORDER[2:]
    assert verify_records(folder, keyring.trusted()) == len(ORDER)
    await whole(house)
