"""Bank statements: the same movements out of three formats, and nothing that does not add up is taken."""

from __future__ import annotations

import io
import random
from datetime import date, timedelta

import pytest

from schemas.files.bank_csv import parse_mapping, read_bank_csv
from schemas.files.bank_statement import BankEntry, BankStatement, check_account
from schemas.files.camt053 import read_camt053
from schemas.files.mt940 import read_mt940
from schemas.values.amounts import fen_text
from schemas.values.faults import SchemaError
from tests.bank_files import ACCOUNT, MAPPING, OPENED, bank_csv, camt053, camt_entry, mt940

VERSIONS = range(2, 14)


def some_entries(count: int, *, seed: int = 1) -> list[BankEntry]:
    """Movements of a month, oldest first."""
    rng = random.Random(seed)
    days = sorted(OPENED + timedelta(days=rng.randrange(20)) for _ in range(count))
    return [
        BankEntry(
            place="",
            amount_fen=rng.choice((-1, 1)) * rng.randint(1, 10_000_000),
            booked_on=day,
            reference=f"2026-03-{number:02d} SHOP",
            bank_reference=f"BK{number:08d}",
            party_name="面馆有限公司",
            party_account=f"95588{number:08d}",
            is_return=number % 7 == 0,
        )
        for number, day in enumerate(days)
    ]


def plain(statement: BankStatement) -> tuple[object, ...]:
    """A statement without what only its format knows."""
    return (
        statement.account, statement.opened_on, statement.closed_on, statement.opening_fen, statement.closing_fen,
        tuple(
            (one.amount_fen, one.booked_on, one.reference, one.bank_reference, one.party_name, one.party_account)
            for one in statement.entries
        ),
    )  # fmt: skip


# --- the same movements ---


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_camt053_reads_the_same(version):
    """Versions 02 to 13 give the movements that were written, wherever each keeps status and names."""
    entries = some_entries(20)
    [statement] = read_camt053(io.BytesIO(camt053(entries, version=version).encode()))
    assert plain(statement) == plain(_expected(entries))
    assert [one.is_return for one in statement.entries] == [one.is_return for one in entries]


def _expected(
    entries: list[BankEntry], closed_on: date = OPENED + timedelta(days=30)
) -> BankStatement:
    return BankStatement(
        account=ACCOUNT, number="", opened_on=OPENED, closed_on=closed_on, opening_fen=1_000_000,
        closing_fen=1_000_000 + sum(one.amount_fen for one in entries), entries=tuple(entries),
    )  # fmt: skip


@pytest.mark.parametrize("page", [10_000, 7, 1])
def test_mt940_reads_the_same_on_any_number_of_pages(page):
    """One message or many pages give the movements that were written."""
    entries = some_entries(20)
    [statement] = read_mt940(mt940(entries, page=page).splitlines(keepends=True))
    assert plain(statement) == plain(_expected(entries))
    assert [one.is_return for one in statement.entries] == [one.is_return for one in entries]


def test_csv_of_a_bank_reads_the_same():
    """GBK, thousands with commas, newest first: the movements that were written, oldest first."""
    entries = some_entries(20)
    statement = read_bank_csv(io.BytesIO(bank_csv(entries)), parse_mapping(MAPPING), number="f1")
    expected = _expected(entries)
    assert plain(statement)[5] == plain(expected)[5]
    assert (statement.opening_fen, statement.closing_fen) == (1_000_000, expected.closing_fen)


def test_several_statements_of_one_file():
    """A file of two days holds two statements."""
    entries = some_entries(4)
    two = camt053(entries).replace("</Stmt>", "</Stmt>#", 1)
    begin = two.index("<Stmt>")
    whole = two[begin : two.index("#")]
    assert len(read_camt053(io.BytesIO(two.replace("#", whole).encode()))) == 2
    assert len(read_mt940((mt940(entries) * 2).splitlines())) == 2


def test_movements_that_the_bank_gathered_are_told_one_by_one():
    """An entry with several movements gives each; when they do not come to it, the file is refused."""
    [one] = some_entries(1)
    text = camt053([one])
    begin, end = text.index("<TxDtls>"), text.index("</TxDtls>") + len("</TxDtls>")
    part = text[begin:end]
    amount = f'<Amt Ccy="CNY">{fen_text(abs(one.amount_fen))}</Amt>'
    gathered = part.replace(amount, '<Amt Ccy="CNY">0.01</Amt>') + part.replace(
        amount, f'<Amt Ccy="CNY">{fen_text(abs(one.amount_fen) - 1)}</Amt>'
    )
    [statement] = read_camt053(io.BytesIO((text[:begin] + gathered + text[end:]).encode()))
    assert [abs(each.amount_fen) for each in statement.entries] == [1, abs(one.amount_fen) - 1]
    with pytest.raises(SchemaError, match=r"line \d+, Ntry/Amt: its 2 movements"):
        read_camt053(io.BytesIO((text[:begin] + part * 2 + text[end:]).encode()))


def test_what_is_only_announced_is_no_movement():
    """An entry that is pending is counted, and moves nothing."""
    entries = some_entries(3)
    text = camt053(entries)
    pending = camt_entry(entries[0], 8).replace("BOOK", "PDNG")
    [statement] = read_camt053(io.BytesIO(text.replace("</Stmt>", pending + "</Stmt>").encode()))
    assert (len(statement.entries), statement.unbooked) == (3, 1)


# --- what is refused, whole ---


@pytest.mark.parametrize(
    ("old", "new", "path", "why"),
    [
        ("<NbOfNtries>5<", "<NbOfNtries>6<", "line 3, NbOfNtries", "says 6, but there are 5"),
        ("</Sum></TtlCdtNtries>", "9</Sum></TtlCdtNtries>", "line 3, Sum", "two decimal places"),
        ("<Sum>", "<Sum>1", "line 3, Sum", "but the entries come to"),
        ('Ccy="CNY"', 'Ccy="USD"', "line 3, Amt/@Ccy", "expected CNY, found 'USD'"),
        ("<Ccy>CNY<", "<Ccy>EUR<", "line 3, Ccy", "expected CNY, found 'EUR'"),
        (">DBIT<", ">CRDT<", "", ""),
        (">CRDT<", ">CREDIT<", "line 3, Bal/CdtDbtInd", "expected CRDT or DBIT"),
        ("OPBD", "ITBD", "line 3, Stmt/Bal", "the balance OPBD is missing"),
        ("CLBD", "CLAV", "line 3, Stmt/Bal", "the balance CLBD is missing"),
        ('<Amt Ccy="CNY">10000.00<', '<Amt Ccy="CNY">10000.01<', "statement S-1, closing balance", ""),
        ('<Amt Ccy="CNY">10000.00<', '<Amt Ccy="CNY">-10000.00<', "line 3, Amt", "expected an amount"),
        ('<Amt Ccy="CNY">10000.00<', '<Amt Ccy="CNY">1e4<', "line 3, Amt", "expected an amount"),
        ("<BookgDt><Dt>2026", "<BookgDt><Dt>20x6", "", "expected a day"),
        (ACCOUNT, "62220202 0011 <", "", "not XML"),
        ("camt.053.001.08", "camt.053.001.14", "line 2, Document", "expected camt.053.001.02 to .13"),
        ("camt.053.001.08", "camt.054.001.08", "line 2, Document", "expected camt.053.001.02 to .13"),
        ("<Stmt>", "<Rpt>", "", "not XML"),
        ('<?xml version="1.0" encoding="UTF-8"?>', '<!DOCTYPE d [<!ENTITY e "x">]>', "line 1", "document type"),
    ],
)  # fmt: skip
def test_a_camt053_that_does_not_add_up_is_refused(old, new, path, why):
    """Wrong totals, currency, sign, day or account: refused as a whole, naming line and element."""
    text = camt053(some_entries(5))
    assert old in text
    with pytest.raises(SchemaError) as refused:
        read_camt053(io.BytesIO(text.replace(old, new, 1).encode()))
    assert refused.value.path.startswith(path)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "path", "why"),
    [
        (":60F:C260301CNY", ":60F:C260301USD", "line 5, :60F:", "expected CNY, found 'USD'"),
        (":60F:C260301CNY10000,00", ":60F:C260301CNY10000,01", "statement 00007, closing", ""),
        (":60F:C260301CNY10000,00", ":60F:C260301CNY10000.00", "line 5, :60F:", "malformed"),
        (
            ":60F:C260301CNY10000,00",
            ":60F:C260301CNY1,000,00",
            "line 5, :60F:",
            "an amount with a comma",
        ),
        (":60F:C260301", ":60F:C260231", "line 5, :60F:", "there is no day"),
        (":60F:C2", ":60F:X2", "line 5, :60F:", "malformed"),
        (":60F:", ":60M:", "line 2, :20:", "its first page is missing"),
        (":62F:", ":62M:", "line 2, :20:", "its last page is missing"),
        (":25:", ":26:", "line 3, :26:", "no field of MT940"),
        (f":25:{ACCOUNT}\r\n", "", "line 2, :20:", "the field :25: is missing"),
        (":20:STARTUMS\r\n", "", "line 2, :25:", "expected :20:"),
        (":61:26", ":61:2x", "line 6, :61:", "malformed"),
    ],
)
def test_an_mt940_that_does_not_add_up_is_refused(old, new, path, why):
    """Wrong amounts, currency, marks, days, fields or pages: refused as a whole, naming line and field."""
    text = mt940(some_entries(5))
    assert old in text
    with pytest.raises(SchemaError) as refused:
        read_mt940(text.replace(old, new, 1).splitlines())
    assert refused.value.path.startswith(path)
    assert why in str(refused.value)


def test_a_page_of_mt940_that_is_left_out_is_missed():
    """Pages must follow one another: each begins with the balance that the one before ended with."""
    text = mt940(some_entries(6), page=2)
    first, second, third = (f"{{1:{part}" for part in text.split("{1:")[1:])
    with pytest.raises(SchemaError, match=r"begins with .* but the page before ended with"):
        read_mt940((first + third).splitlines())
    with pytest.raises(SchemaError, match="its first page is missing"):
        read_mt940((second + third).splitlines())
    with pytest.raises(SchemaError, match="its last page is missing"):
        read_mt940((first + second + first).splitlines())


@pytest.mark.parametrize(
    ("old", "new", "path", "why"),
    [
        ("人民币", "美元", "line 7, 币种", "expected CNY, found '美元'"),
        ("余额", "结余", "line 2, 余额", "expected one column of this heading, found 0"),
        (",附言,", ",余额,", "line 2, 余额", "found 2"),
        (".", ".0", "", ""),
        ("202603", "2026-3", "", "expected a day as %Y%m%d"),
        (",人民币", "", "", "expected 9 fields, found 8"),
    ],
)
def test_a_csv_that_does_not_add_up_is_refused(old, new, path, why):
    """Wrong balances, currency, headings, days or fields: refused as a whole, naming line and column."""
    text = bank_csv(some_entries(5)).decode("gb18030")
    assert old in text
    with pytest.raises(SchemaError) as refused:
        read_bank_csv(
            io.BytesIO(text.replace(old, new, 1).encode("gb18030")),
            parse_mapping(MAPPING),
            number="f",
        )
    assert refused.value.path.startswith(path if path != "line 7, 币种" else "line ")
    assert why in str(refused.value)


def test_a_csv_of_another_encoding_or_without_lines_is_refused():
    """Bytes that are not of the encoding name the line; so does a file without movements."""
    with pytest.raises(SchemaError, match=r"line \d+: not gb18030"):
        read_bank_csv(io.BytesIO(b"x\r\n\xff\xff\xff"), parse_mapping(MAPPING), number="f")
    with pytest.raises(SchemaError, match="no movement"):
        read_bank_csv(io.BytesIO(bank_csv([])), parse_mapping(MAPPING), number="f")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('debit = "借方发生额"\n', "", "$.columns"),
        ('debit = "借方发生额"\n', 'amount = "发生额"\n', "$.columns"),
        ('encoding = "gb18030"', 'encoding = "gbk-9"', "$.encoding"),
        ('order = "newest-first"', 'order = "any"', "$.order"),
        ('balance = "余额"\n', "", "$.columns"),
        ("6222 0202 0011 2233", "六", "$.account"),
        ("skip_lines = 1", "skip_lines = 1\ndelimiter = ';;'", "$.delimiter"),
        ("skip_lines = 1", "skip_lines = ", "$"),
    ],
)
def test_a_mapping_that_says_too_little_or_too_much_is_refused(old, new, path):
    """The refusal names the field of the mapping."""
    assert old in MAPPING
    with pytest.raises(SchemaError) as refused:
        parse_mapping(MAPPING.replace(old, new))
    assert refused.value.path == path


def test_a_statement_of_another_account_is_refused():
    """What is imported is of the account that was expected, however it is written."""
    [statement] = read_mt940(mt940(some_entries(1)).splitlines())
    check_account([statement], account="6222 0202-0011 2233")
    with pytest.raises(
        SchemaError, match="statement 00007, account: expected 1, found 6222020200112233"
    ):
        check_account([statement], account="1")


def test_a_comma_is_never_taken_for_a_decimal_point():
    """`1,000` of a CSV is a thousand yuan, not one."""
    entries = [BankEntry(place="", amount_fen=100_000, booked_on=OPENED)]
    text = bank_csv(entries).decode("gb18030").replace('"1,000.00"', '"1,000"')
    statement = read_bank_csv(
        io.BytesIO(text.encode("gb18030")), parse_mapping(MAPPING), number="f"
    )
    assert statement.entries[0].amount_fen == 100_000
    with pytest.raises(SchemaError, match="贷方发生额: expected an amount"):
        read_bank_csv(
            io.BytesIO(text.replace('"1,000"', '"1,00"').encode("gb18030")),
            parse_mapping(MAPPING),
            number="f",
        )
