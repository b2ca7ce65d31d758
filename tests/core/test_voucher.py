"""Vouchers, whatever the figures: they balance in whole fen and end at the payments."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.files.manifest import read_manifest
from schemas.files.parties import Chart
from schemas.files.statement import ACCEPTOR, ISSUER
from schemas.files.tables import InstructionRow
from settlement.core.instruction import HOUSE_LEG, HOUSE_LEG_CODE, instruct
from settlement.render.batch import Batch
from settlement.render.rows import Cell, Sums, Survey
from settlement.render.vouchers import (
    Entry,
    beancount,
    house_entries,
    merchant_entries,
    vouchers_csv,
)
from tests.golden.packages import FIRST, FOLDER

MANIFEST = read_manifest((FOLDER / FIRST / "manifest.json").read_bytes())
CODES = {1: "AIR", 2: "NOODLES", 3: "SPECTACLES", HOUSE_LEG: HOUSE_LEG_CODE}

orders = st.tuples(
    st.sampled_from([(1, 2), (2, 1), (1, 3), (3, 2), (2, 3)]),
    st.integers(-(10**7), 10**7),
    st.integers(0, 99),
    st.integers(0, 50_000),
    st.sampled_from(["", "01", "02"]),
)
carries = st.dictionaries(st.integers(1, 3), st.integers(-99, 99))


def cell(surveys: dict[int, Survey], party: int, role: int, other: int, outlet: str) -> Sums:
    """Sums of one party's lines of a kind."""
    key = Cell(role, CODES[other], "" if role == ISSUER else f"entity {outlet}", outlet)
    return surveys[party].cells.setdefault(key, Sums())


@settings(max_examples=40)  # each writes four vouchers
@given(st.lists(orders, max_size=8), carries)
def test_vouchers_balance_and_meet_in_the_middle(cleared: list, carry: dict[int, int]):
    """Rules F4 and F5: every voucher balances, a merchant's ends at its payment, and the house's names all payments."""
    surveys = {party: Survey() for party in (1, 2, 3)}
    nets = dict.fromkeys((1, 2, 3, -1, -2), 0)
    for (issuer, acceptor), value, remainder, fee, outlet in cleared:
        issued = cell(surveys, issuer, ISSUER, acceptor, "")
        issued.gross_cu -= value + remainder
        accepted = cell(surveys, acceptor, ACCEPTOR, issuer, outlet)
        accepted.gross_cu += value
        accepted.fee_cu -= fee
        nets[issuer] -= value + remainder
        nets[acceptor] += value - fee
        nets[-1] += fee
        nets[-2] += remainder
    legs = {
        CODES[leg.party]: InstructionRow(
            party=CODES[leg.party],
            pay_fen=leg.pay_fen,
            net_cu=leg.net_cu,
            carry_before_cu=leg.carry_before_cu,
            carry_after_cu=leg.carry_after_cu,
        )
        for leg in instruct(nets=nets, carries=carry)
    }
    parties = [
        msgspec.structs.replace(one, net_cu=str(nets.get(one.no, 0)))
        for one in MANIFEST.netting.parties
    ]
    manifest = msgspec.structs.replace(
        MANIFEST, netting=msgspec.structs.replace(MANIFEST.netting, parties=parties)
    )
    batch = Batch(manifest=manifest, manifest_sha256="ab" * 32, instructions=legs, parties=None)
    for party, survey in surveys.items():
        entries = merchant_entries(batch, CODES[party], survey)
        assert sum(entry.fen for entry in entries) == 0
        settled = [entry.fen for entry in entries if entry.account.code == "1221.01"]
        assert sum(settled) == legs[CODES[party]].pay_fen
        assert vouchers_csv(batch, entries).count(b"\r\n") == len(entries) + 1
        assert beancount(batch, CODES[party], entries).count(b" CNY\n") == len(entries)
    entries = house_entries(batch)
    assert sum(entry.fen for entry in entries) == 0
    assert {entry.counterparty: -entry.fen for entry in entries if entry.counterparty} == {
        code: leg.pay_fen for code, leg in legs.items() if leg.pay_fen and code != HOUSE_LEG_CODE
    }


@pytest.mark.parametrize(
    ("closed_at", "day"),
    [
        ("2017-01-31T16:00:00.000000Z", "2017-01-31"),
        ("2017-01-31T16:00:00.000001Z", "2017-02-01"),
        ("2017-01-31T15:59:59.999999Z", "2017-01-31"),
    ],
)
def test_a_cycle_that_closes_at_midnight_belongs_to_the_day_before(closed_at: str, day: str):
    """Rule F4: a voucher is dated on the day of the cycle's last instant, in Beijing."""
    cycle = msgspec.structs.replace(MANIFEST.cycle, closed_at=closed_at)
    manifest = msgspec.structs.replace(MANIFEST, cycle=cycle)
    batch = Batch(manifest=manifest, manifest_sha256="ab" * 32, instructions={}, parties=None)
    entry = Entry(account=Chart().fees, fen=1, summary="", counterparty="")
    assert f"\n{day} * ".encode() in beancount(batch, "AIR", [entry])
    assert vouchers_csv(batch, [entry]).splitlines()[1].startswith(day.encode())
