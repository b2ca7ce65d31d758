"""Reports as tables: totals, forms of figures, and accounts that do not come to zero."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.files.csv_text import plain_text
from schemas.files.report import Fact, Form, Report, ReportCheck, ReportColumn, ReportTable
from schemas.wire.reports import report_answer
from settlement.core.ageing import age_disputes
from settlement.core.balances import Administered, Moved, fold_journal
from settlement.core.breaks import Break, Movement, Payment, name_break
from settlement.core.dispute import Case, Figures, Step, Taken
from settlement.core.event import Kind
from settlement.core.matching import BreakKind
from settlement.core.netting import Obligation, net
from settlement.core.savings import moved
from settlement.render.ledger_tables import ledger_checks, trial_balance_table
from settlement.render.netting_tables import NettedCycle
from settlement.service.ageing_report import ageing_of
from settlement.service.netting_reports import Netted, savings
from settlement.service.reports import report_csv

COLUMNS = (
    ReportColumn(name="party", chinese="参与方"),
    ReportColumn(name="owed", chinese="应付", form=Form.YUAN, summed=True),
    ReportColumn(name="paid", chinese="已付", form=Form.FEN, summed=True),
    ReportColumn(name="at", chinese="时间", form=Form.INSTANT),
)


def report(rows) -> Report:
    """A report of one table."""
    return Report(
        name="r", title="R", chinese="报表", as_of_us=0,
        facts=(Fact(name="method", chinese="方法", text="=1+1"),),
        checks=(ReportCheck(name="sum", chinese="合计", detail="off by 1"),),
        tables=(ReportTable(name="t", chinese="表", columns=COLUMNS, rows=rows),),
    )  # fmt: skip


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text("=+-@＝'\t\r\n,\" a合", max_size=4),
            st.integers(-(10**15), 10**15),
            st.integers(-(10**15), 10**15),
            st.none(),
        ),
        max_size=4,
    )
)
def test_a_report_as_csv_holds_every_figure_and_no_formula(rows):
    """Rules K31 and Y4: no text is a formula, figures are exact, the last line is their sum."""
    data = report_csv(report(rows), None) or b""
    _, *lines, total = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert not line[0].startswith(tuple("=+-@＝\t\r\n"))
        assert plain_text(line[0]) == row[0]
        assert int(line[1].replace(".", "")) == row[1]
        assert int(line[2].replace(".", "")) == row[2]
    assert [total[0], *(int(text.replace(".", "")) for text in total[1:3])] == [
        "TOTAL 合计", sum(row[1] for row in rows), sum(row[2] for row in rows),
    ]  # fmt: skip


def test_a_report_for_programs_says_the_same():
    """JSON carries amounts as digits under names with their unit, and says which checks failed."""
    made = report([("A", 12_345, -7, 1_000_000)])
    answer = report_answer(made)
    assert answer.tables[0].rows == [
        {"party": "A", "owed_cu": "12345", "paid_fen": "-7", "at": "1970-01-01T00:00:01.000000Z"}
    ]
    assert answer.tables[0].totals == {"owed_cu": "12345", "paid_fen": "-7"}
    assert (answer.holds, made.ok) == (False, False)
    assert report_csv(made, "nothing") is None
    facts = (report_csv(made, "facts") or b"").decode()
    assert "method 方法,'=1+1" in facts
    assert "sum 合计,off by 1" in facts


def administered(kind, **figures) -> Administered:
    """One administrative event."""
    told = dict.fromkeys(Administered._fields, 0) | {"cycle_no": 1, "reference": ""}
    return Administered(**(told | {"kind": kind} | figures))  # type: ignore[arg-type]


BEGUN = [
    administered(Kind.JOINED, issuer=1, value_cu=500),
    administered(Kind.JOINED, issuer=2, value_cu=500),
    administered(Kind.CYCLE_OPENED, reference="c1"),
]


def test_books_that_do_not_come_to_zero_are_told():
    """Rule Y1: a posting that is missing, also in a settled cycle, is named with its cycle and its figure."""
    lines = [Moved(True, 1, 1, 2, 100, 90, 5, 0)]
    ledger = fold_journal(lines, BEGUN)
    assert all(check.ok for check in ledger_checks(ledger))
    totals = trial_balance_table(ledger, {1: "A", 2: "B"}).totals()
    assert totals is not None
    assert totals[-2:] == (100, 100)
    ledger.positions[1, 2] -= 3
    by_cycle, whole = ledger_checks(ledger)
    assert (by_cycle.detail, whole.detail) == ("c1 -0.0003", "ledger -0.0003")
    ledger = fold_journal([], [*BEGUN, administered(Kind.CYCLE_SETTLED)])
    ledger.settled["c1"] += 4
    assert ledger_checks(ledger)[0].detail == "c1 0.0004"


def test_collateral_stands_against_the_bank():
    """Rule Y1: what a bank holds is owed to the merchant and lies at the bank; a lower total takes both down."""
    events = [
        *BEGUN,
        administered(Kind.COLLATERAL_SET, issuer=1, value_cu=900),
        administered(Kind.COLLATERAL_SET, issuer=1, value_cu=300),
    ]
    ledger = fold_journal([Moved(False, 0, 2, 0, 70, 70, 0, 70)], events)
    assert (ledger.collateral[1], ledger.bank_cu, ledger.held[2]) == (300, -300, 70)
    assert all(check.ok for check in ledger_checks(ledger))


def test_settled_positions_are_funds_and_the_bank_holds_them():
    """Rules Y1 and U5: what is paid in, settled and paid out leaves the ledger at zero at every step."""
    events = [
        *BEGUN,
        administered(Kind.CYCLE_CLOSED),
        administered(Kind.DEPOSITED, issuer=1, value_cu=100),
        administered(Kind.DISCHARGED, issuer=1, acceptor=2, debit_cu=-60, value_cu=55, fee_cu=5),
        administered(Kind.CYCLE_SETTLED),
        administered(Kind.TRANSFERRED, issuer=2, acceptor=-4, value_cu=80),
        administered(Kind.PAID_OUT, issuer=-4, value_cu=80),
        administered(Kind.DEPOSITED, issuer=0, units=2, value_cu=7),
    ]
    lines = [Moved(True, 1, 1, 2, 100, 90, 5, 0)]
    for count in range(len(BEGUN), len(events) + 1):
        ledger = fold_journal(lines, events[:count])
        assert all(check.ok for check in ledger_checks(ledger)), events[count - 1]
    ledger = fold_journal(lines, events)
    assert {party: cu for party, cu in ledger.funds.items() if cu} == {2: 5, -1: 5, -2: 10}
    assert (ledger.shares[0], ledger.bank_cu) == (7, -27)


def break_of(age_days: int, kind: BreakKind, paid_fen: int, moved_fen: int) -> Break:
    """A break of one payment and one movement, where they are not 0."""
    day = date(2026, 1, 1)
    payment = Payment(
        cycle_no=1, party_no=1, code="A", payment_id="TD000001-000000000000-1",
        amount_fen=paid_fen, due_on=day,
    )  # fmt: skip
    seen = Movement(
        statement_no=3, entry_no=4, statement="1", place="", amount_fen=moved_fen, booked_on=day,
        reference="", party_name="", party_account="",
    )  # fmt: skip
    return name_break(
        kind,
        [payment] if paid_fen else [],
        [seen] if moved_fen else [],
        day + timedelta(days=age_days),
    )


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(
            break_of,
            st.integers(0, 200) | st.sampled_from([7, 8, 30, 31, 90, 91]),
            st.sampled_from(BreakKind),
            st.integers(1, 10**9),
            st.integers(-(10**9), 10**9),
        ),
        max_size=8,
    )
)
def test_every_break_is_in_one_bucket_of_its_age(breaks):
    """Rule Y7: each break is counted once, where its days say, under its kind and owner, with its figures."""
    limits = {"0-7": (0, 7), "8-30": (8, 30), "31-90": (31, 90), ">90": (91, 10**9)}
    made = ageing_of(breaks, now=datetime(2026, 8, 1, tzinfo=UTC), parties=True)
    assert made.ok
    for bucket, kind, owner, count, *figures in made.tables[0].rows:
        low, high = limits[str(bucket)]
        inside = [
            one
            for one in breaks
            if low <= one.age_days <= high and (one.kind.value, one.owner) == (kind, owner)
        ]
        assert count == len(inside) > 0
        expected = sum(payment.amount_fen for one in inside for payment in one.payments)
        came = sum(each.amount_fen for one in inside for each in one.movements)
        assert figures == [expected, came, came - expected]
    totals = made.tables[0].totals()
    assert totals is not None
    assert totals[3] == len(breaks) == len(made.tables[-1].rows)


def test_open_disputes_are_aged_by_who_must_act():
    """Rule Y7: whoever has not answered and still may, then the house; what has ended is not told."""
    opened = datetime(2026, 1, 1, tzinfo=UTC)
    week, month = timedelta(days=7), timedelta(days=30)

    def case(*steps: Step, opener: int = 1) -> tuple[datetime, Case]:
        taken = [Taken(step=step, party=2, at=opened) for step in steps]
        return opened, Case(
            opener=opener, issuer=1, acceptor=2, claim=Figures(100, 100, 0),
            answer_due_at=opened + week, deadline=opened + month, steps=taken,
        )  # fmt: skip

    cases = [case(), case(opener=2), case(Step.ANSWER), case(opener=0), case(Step.REJECT)]
    assert age_disputes(cases, opened + timedelta(days=3)) == [
        ("0-7", "answered", 0, 1, 100),
        ("0-7", "opened", 1, 2, 200),
        ("0-7", "opened", 2, 1, 100),
    ]
    assert age_disputes(cases, opened + timedelta(days=8)) == [
        ("8-30", "answered", 0, 1, 100),
        ("8-30", "opened", 0, 3, 300),
    ]
    assert age_disputes(cases, opened + month) == []


@pytest.mark.parametrize(("model", "moves"), [("multilateral", 3), ("bilateral", 5), ("gross", 9)])
def test_what_is_saved_is_by_the_cycles_model(model, moves):
    """Rule Y6: a cycle that is paid pair by pair, or gross, saves less than one in which all is netted."""
    assert moved(model, 9, 5, 3) == moves
    owed = [
        Obligation(issuer=one, acceptor=other, orders=1, debit_cu=cu, value_cu=cu, fee_cu=0)
        for one, other, cu in ((1, 2, 50), (2, 3, 40), (2, 1, 20))
    ]
    found = Netted(
        cycles=(NettedCycle("c1", "closed", model, owed, net(owed)),),
        codes={1: "A", 2: "B", 3: "C"},
        as_of_us=0,
    )
    made = savings(found)
    assert made.ok
    by_name = dict(
        zip((column.name for column in made.tables[0].columns), made.tables[0].rows[0], strict=True)
    )
    assert by_name["gross"] == 110
    assert by_name["moved"] == {"multilateral": 40, "bilateral": 70, "gross": 110}[model]
