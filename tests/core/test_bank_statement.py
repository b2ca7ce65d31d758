"""Bank statements: the same movements out of three formats, and nothing that does not add up is taken."""

from __future__ import annotations

import io
import random
from datetime import date, timedelta

import pytest

from schemas.files.bank_csv import parse_mapping, read_bank_csv
from schemas.files.bank_statement import BankEntry, BankStatement, in_order, of_account
from schemas.files.camt053 import read_camt053
from schemas.files.mt940 import read_mt940
from schemas.values.amounts import fen_text
from schemas.values.faults import SchemaError
from settlement.core.payment_id import read_payment_name
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
    statement = read_bank_csv(io.BytesIO(bank_csv(entries)), parse_mapping(MAPPING))
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
            io.BytesIO(text.replace(old, new, 1).encode("gb18030")), parse_mapping(MAPPING)
        )
    assert refused.value.path.startswith(path if path != "line 7, 币种" else "line ")
    assert why in str(refused.value)


def test_a_csv_of_another_encoding_or_without_lines_is_refused():
    """Bytes that are not of the encoding name the line; so does a file without movements."""
    with pytest.raises(SchemaError, match=r"line \d+: not gb18030"):
        read_bank_csv(io.BytesIO(b"x\r\n\xff\xff\xff"), parse_mapping(MAPPING))
    with pytest.raises(SchemaError, match="no movement"):
        read_bank_csv(io.BytesIO(bank_csv([])), parse_mapping(MAPPING))


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
    of_account([statement], account="6222 0202-0011 2233")
    with pytest.raises(
        SchemaError, match="statement 00007, account: expected 1, found 6222020200112233"
    ):
        of_account([statement], account="1")


def test_a_comma_is_never_taken_for_a_decimal_point():
    """`1,000` of a CSV is a thousand yuan, not one."""
    entries = [BankEntry(place="", amount_fen=100_000, booked_on=OPENED)]
    text = bank_csv(entries).decode("gb18030").replace('"1,000.00"', '"1,000"')
    statement = read_bank_csv(io.BytesIO(text.encode("gb18030")), parse_mapping(MAPPING))
    assert statement.entries[0].amount_fen == 100_000
    with pytest.raises(SchemaError, match="贷方发生额: expected an amount"):
        read_bank_csv(
            io.BytesIO(text.replace('"1,000"', '"1,00"').encode("gb18030")), parse_mapping(MAPPING)
        )


# --- as banks write them ---


def camt_with(ntries: str, *, moved: str = "5.00", balances: str = "", pages: str = "") -> str:
    """A statement around such entries, or around such balances."""
    opening, closing = camt_balance("OPBD", "0.00"), camt_balance("CLBD", moved)
    return (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>'
        f"<Stmt><Id>S</Id>{pages}<Acct><Id><Othr><Id>{ACCOUNT}</Id></Othr></Id></Acct>{balances or opening + closing}"
        f"{ntries}</Stmt></BkToCstmrStmt></Document>"
    )


def camt_balance(kind: str, amount: str) -> str:
    """A balance; `kind` as a code."""
    return (
        f'<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">{amount}</Amt>'
        "<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-03-01</Dt></Dt></Bal>"
    )


def ntry(inside: str, *, day: str = "BookgDt") -> str:
    """An entry of 5 yuan that came in."""
    return (
        '<Ntry><Amt Ccy="CNY">5.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
        f"<{day}><Dt>2026-03-01</Dt></{day}>{inside}</Ntry>"
    )


def only_entry(text: str) -> BankEntry:
    """The one entry of the one statement."""
    [statement] = read_camt053(io.BytesIO(text.encode()))
    [entry] = statement.entries
    return entry


@pytest.mark.parametrize(
    ("details", "reference"),
    [
        ("<Refs><EndToEndId>ERP-7</EndToEndId></Refs><RmtInf><Ustrd>TD1</Ustrd></RmtInf>", "ERP-7 | TD1"),
        ("<RmtInf><Strd><CdtrRefInf><Ref>TD2</Ref></CdtrRefInf></Strd></RmtInf>", "TD2"),
        ("<Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs><AddtlTxInf>TD3</AddtlTxInf>", "TD3"),
        ("<Refs><EndToEndId>TD4</EndToEndId></Refs><RmtInf><Ustrd>TD4 x</Ustrd></RmtInf>", "TD4 x"),
        ("</TxDtls><TxDtls><Refs><EndToEndId>TD5</EndToEndId></Refs>", "TD5"),
    ],
)  # fmt: skip
def test_a_payers_words_are_read_wherever_the_bank_puts_them(details, reference):
    """The name of a payment is found beside a payer's own number, and where a batch tells no amounts."""
    entry = ntry(f"<NtryDtls><TxDtls>{details}</TxDtls></NtryDtls>")
    assert only_entry(camt_with(entry)).reference == reference


def test_the_other_side_of_a_reversal_is_not_ourselves():
    """What is taken back names the parties as in the first movement: the account is never its own other side."""
    parties = (
        "<RltdPties><Dbtr><Pty><Nm>us</Nm></Pty></Dbtr>"
        f"<DbtrAcct><Id><Othr><Id>{ACCOUNT}</Id></Othr></Id></DbtrAcct>"
        "<Cdtr><Pty><Nm>AIR</Nm></Pty></Cdtr><CdtrAcct><Id><Othr><Id>2002</Id></Othr></Id></CdtrAcct></RltdPties>"
    )
    details = f"<RvslInd>true</RvslInd><NtryDtls><TxDtls>{parties}</TxDtls></NtryDtls>"
    entry = only_entry(camt_with(ntry(details)))
    assert (entry.party_name, entry.party_account, entry.is_return) == ("AIR", "2002", True)


def test_balances_of_a_banks_own_and_a_value_day_alone_are_read():
    """A balance without a code is passed over; an entry without a day of booking is of its value day."""
    own = camt_balance("OPBD", "9.00").replace("Cd>OPBD</Cd", "Prtry>OWN</Prtry")
    whole = camt_with(ntry("", day="ValDt")).replace("<Bal>", own + "<Bal>", 1)
    assert only_entry(whole).booked_on == date(2026, 3, 1)
    twice = whole.replace("<Bal>", camt_balance("CLBD", "1.00") + "<Bal>", 1)
    with pytest.raises(SchemaError, match="the balance CLBD stands here twice"):
        read_camt053(io.BytesIO(twice.encode()))


def test_pages_of_camt053_follow_one_another():
    """Each page of a statement is one of its own, between the balances that stand on it."""
    ends = [
        ("OPBD", "1.00", "ITBD", "6.00"),
        ("ITBD", "6.00", "ITBD", "11.00"),
        ("ITBD", "11.00", "CLBD", "16.00"),
    ]
    read = []
    for number, (first, opening, last, closing) in enumerate(ends, 1):
        page = f"<StmtPgntn><PgNb>{number}</PgNb><LastPgInd>{str(number == 3).lower()}</LastPgInd></StmtPgntn>"
        balances = camt_balance(first, opening) + camt_balance(last, closing)
        read += read_camt053(
            io.BytesIO(camt_with(ntry(""), balances=balances, pages=page).encode())
        )
    assert [(one.number, one.opening_fen, one.closing_fen) for one in read] == [
        ("S/1", 100, 600), ("S/2", 600, 1100), ("S/3", 1100, 1600),
    ]  # fmt: skip
    assert list(in_order(reversed(read), 100)) == list(in_order(reversed(read), None)) == read


def test_a_name_that_is_none_is_no_fault_of_ours():
    """An element with a broken name is passed over or refused like any other."""
    broken = camt_with(ntry("<C:9:d>x</C:9:d>"), moved="6.00")
    with pytest.raises(SchemaError):
        read_camt053(io.BytesIO(broken.encode()))


def test_a_remark_without_a_movement_is_nobodys():
    """Fields 86 before the first field 61 belong to none."""
    [statement] = read_mt940(swift(":86:a\r\n:86:b\r\n", closing="100,00").splitlines())
    assert statement.entries == ()


def swift(fields: str, *, account: str = ACCOUNT, closing: str = "105,00", tag: str = "28C") -> str:
    """An MT940 that begins with 100 yuan."""
    return (
        f"BANKCNBJ\r\n940\r\n:20:REF\r\n:25:{account}\r\n:{tag}:7/1\r\n:60F:C260301CNY100,00\r\n"
        f"{fields}:62F:C260301CNY{closing}\r\n-}}{{5:}}\r\n"
    )


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        (":61:260301C5,NTRFTD000001-78d84abd//B\r\n:86:166?20EREF+TD000001-78d84abde0?21a4-1?22KREF+9\r\n",
         "EREF+TD000001-78d84abde0a4-1 KREF+9"),
        (":61:260301C5,NTRFNONREF\r\n:86:batch TD000001\r\n-78d84abde0a4-1 at\r\n:12:30\r\n",
         "batch TD000001 -78d84abde0a4-1 at :12:30"),
        (":61:260301C5,NTRFNONREF\r\nTD000001\r\n:86:one\r\n:86:two\r\n", "TD000001 | one | two"),
        (":61:260301C5,NOVBNL47INGB9999999999\r\n:NS:09own\r\n:86:x\r\n", "NL47INGB9999999999 | x"),
    ],
)  # fmt: skip
def test_nothing_that_an_mt940_says_of_a_movement_is_left_out(fields, reference):
    """Field 61 is too short for a payment's name: it is read behind it, also where its line begins with a dash."""
    [statement] = read_mt940(io.StringIO(swift(fields) + "between messages\n", newline=None))
    assert [one.reference for one in statement.entries] == [reference]


@pytest.mark.parametrize(
    "account", ["BANKCNBJ/1001.000-1CNY", "10010001/CNY", "1001 0001", "1001/0001"]
)
def test_an_account_of_an_mt940_may_stand_between_bank_and_currency(account):
    """Field 25 as banks write it, and the older field 28."""
    statements = read_mt940(swift("", account=account, closing="100,00", tag="28").splitlines())
    assert of_account(statements, account="1001-0001")[0].account == "10010001"
    with pytest.raises(SchemaError, match="statement 7, account: expected 10010002"):
        of_account(statements, account="10010002")


OWN_COLUMNS = """
account = "1001"
[columns]
booked_on = "日期"
amount = "金额"
sign = "借贷"
balance = "余额"
account = "账号"
reference = "摘要"
[totals]
mark = "合计"
count = "账号"
credit = "金额"
"""


def own_csv(*rows: str, totals: str = "合计:,5.00,,,3,") -> io.BytesIO:
    """A file in these columns."""
    return io.BytesIO(
        "\ufeff日期,金额,借贷,余额,账号,摘要\n".encode() + "\n".join([*rows, totals]).encode()
    )


LINES = (
    "2026-3-1 09:00,5.00,贷,105.00,\t1001,a\u2028b",
    '2026-03-02,5.00,借,100.00,="1001",',
    "2026-03-02,-5.00,借,105.00,'1001,",
)


def test_a_word_says_which_way_money_went_and_red_takes_it_back():
    """借 and 贷 beside an amount; below zero it takes an earlier one back; the totals are those of the lines."""
    statement = read_bank_csv(own_csv(*LINES), parse_mapping(OWN_COLUMNS))
    assert [(one.amount_fen, one.is_return) for one in statement.entries] == [
        (500, False), (-500, False), (500, True),
    ]  # fmt: skip
    assert (statement.opening_fen, statement.entries[0].reference) == (10_000, "a\u2028b")
    again = read_bank_csv(own_csv("", *LINES), parse_mapping(OWN_COLUMNS))
    assert again.number == statement.number


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",贷", ",入", "line 2, 借贷: expected one of 贷, C, CR"),
        ("\t1001", "1002", "line 2, 账号: expected 1001, found 1002"),
        (",5.00,贷", ",--5.00,贷", "line 2, 金额: expected an amount"),
        ("a\u2028b", "a\0b", "line 2, 摘要: holds a character that is none"),
        ("合计:,5.00", "合计:,5.01", "line 5, 金额: is '5.01', but the lines come to 5.00"),
        (",3,", ",4,", "line 5, 账号: is '4', but there are 3 lines"),
        ("合计", "总计", "line 5: the file ends without its totals ('合计')"),
    ],
)
def test_what_such_a_csv_gets_wrong_names_line_and_column(old, new, says):
    """Words, accounts, amounts, texts, totals."""
    text = own_csv(*LINES).getvalue().decode()
    assert old in text
    with pytest.raises(SchemaError) as refused:
        read_bank_csv(io.BytesIO(text.replace(old, new, 1).encode()), parse_mapping(OWN_COLUMNS))
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('encoding = "rot13"', "$.encoding"),
        ("delimiter = '\"'", "$.delimiter"),
        ("skip_lines = -1", "$.skip_lines"),
        ('day_format = "%d/%m"', "$.day_format"),
        ('day_format = ""', "$.day_format"),
        ('signs = { credit = ["x"], debit = ["x"] }', "$.signs"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(line, path):
    """No encoding of texts, no delimiter, a day without its year, a word that says both ways."""
    with pytest.raises(SchemaError) as refused:
        parse_mapping(line + "\n" + OWN_COLUMNS)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("remark", "named"),
    [
        ("TD000001-78d84abde0a4-1 20260302", 1),
        ("TD000001-78d84abde0a4-1 / TD000001-78d84abde0a4 manifest 78d84", 1),
        ("付ＴＤ０００００１－７８Ｄ８４ＡＢＤＥ０Ａ４－１２ 货款", 12),
        ("td 000001 – 78d8 4abd e0a4 – 7, thanks", 7),
        ("TD000001-78d84abde0a4-1KREF", None),
    ],
)
def test_a_payments_name_is_read_out_of_what_people_type(remark, named):
    """Dates behind it, its batch beside it, full width, blanks and long dashes make no difference (X11)."""
    assert read_payment_name(remark) == ("TD000001-78d84abde0a4", named, None)
