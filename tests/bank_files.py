"""Bank files as banks write them, by the documents of each format."""

from __future__ import annotations

from datetime import date, timedelta

from schemas.files.bank_statement import BankEntry
from schemas.values.amounts import fen_text

ACCOUNT = "6222020200112233"
OPENED = date(2026, 3, 1)


def camt053(
    entries: list[BankEntry],
    *,
    version: int = 8,
    opening_fen: int = 1_000_000,
    account: str = ACCOUNT,
) -> str:
    """A file of one statement; `version` as ISO 20022 numbers them."""
    closing_fen = opening_fen + sum(one.amount_fen for one in entries)
    credit = sum(one.amount_fen for one in entries if one.amount_fen > 0)
    debit = sum(-one.amount_fen for one in entries if one.amount_fen < 0)
    balances = "".join(
        f"<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp>{_camt_amount(fen)}<Dt><Dt>{day}</Dt></Dt></Bal>"
        for kind, fen, day in (
            ("OPBD", opening_fen, OPENED),
            ("CLBD", closing_fen, OPENED + timedelta(days=30)),
        )
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version:02d}"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-04-01T00:00:00</CreDtTm></GrpHdr>\n<Stmt><Id>S-1</Id>"
        f"<CreDtTm>2026-04-01T00:00:00</CreDtTm><Acct><Id><Othr><Id>{account}</Id></Othr></Id><Ccy>CNY</Ccy></Acct>"
        f"{balances}<TxsSummry><TtlNtries><NbOfNtries>{len(entries)}</NbOfNtries><Sum>{fen_text(credit + debit)}</Sum>"
        f"</TtlNtries><TtlCdtNtries><Sum>{fen_text(credit)}</Sum></TtlCdtNtries></TxsSummry>\n"
        + "\n".join(camt_entry(one, version) for one in entries)
        + "\n</Stmt></BkToCstmrStmt></Document>\n"
    )


def _camt_amount(fen: int) -> str:
    return (
        f'<Amt Ccy="CNY">{fen_text(abs(fen))}</Amt>'
        f"<CdtDbtInd>{'CRDT' if fen >= 0 else 'DBIT'}</CdtDbtInd>"
    )


def camt_entry(one: BankEntry, version: int) -> str:
    """An entry of such a file."""
    status = "<Sts>BOOK</Sts>" if version < 8 else "<Sts><Cd>BOOK</Cd></Sts>"
    name = f"<Nm>{one.party_name}</Nm>"
    party = name if version < 8 else f"<Pty>{name}</Pty>"
    side = "Dbtr" if one.amount_fen > 0 else "Cdtr"
    account = f"<{side}Acct><Id><Othr><Id>{one.party_account}</Id></Othr></Id></{side}Acct>"
    return (
        f"<Ntry>{_camt_amount(one.amount_fen)}<RvslInd>{'true' if one.is_return else 'false'}</RvslInd>{status}"
        f"<BookgDt><Dt>{one.booked_on}</Dt></BookgDt><AcctSvcrRef>{one.bank_reference}</AcctSvcrRef>"
        f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>DMCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f"<NtryDtls><TxDtls><Refs><EndToEndId>{one.reference}</EndToEndId></Refs>"
        f"{_camt_amount(one.amount_fen) if version > 2 else ''}"
        f"<RltdPties><{side}>{party}</{side}>{account}</RltdPties></TxDtls></NtryDtls></Ntry>"
    )


def mt940(entries: list[BankEntry], *, opening_fen: int = 1_000_000, page: int = 10_000) -> str:
    """A file of one statement, on pages of so many entries."""
    lines: list[str] = []
    balance_fen, last = opening_fen, max(0, (len(entries) - 1) // page)
    for number in range(last + 1):
        lines += [
            "{1:F01BANKCNBJAXXX0000000000}{4:", ":20:STARTUMS", f":25:{ACCOUNT}", f":28C:00007/{number + 1:05d}",
            f":60{'M' if number else 'F'}:{_swift_balance(balance_fen, OPENED)}",
        ]  # fmt: skip
        for one in entries[number * page : (number + 1) * page]:
            mark = {(1, False): "C", (-1, False): "D", (1, True): "RD", (-1, True): "RC"}
            sign = mark[1 if one.amount_fen > 0 else -1, one.is_return]
            balance_fen += one.amount_fen
            days = f"{one.booked_on:%y%m%d}{one.booked_on:%m%d}"
            names = f"{one.reference}//{one.bank_reference}"
            lines += [
                f":61:{days}{sign}{_swift(one.amount_fen)}NTRF{names}",
                f":86:020?20{one.reference}?31{one.party_account}?32{one.party_name[:2]}",
                f"?33{one.party_name[2:]}",
            ]
        lines += [
            f":62{'F' if number == last else 'M'}:{_swift_balance(balance_fen, OPENED + timedelta(days=30))}",
            "-}",
        ]
    return "\r\n".join([*lines, ""])


def _swift(fen: int) -> str:
    return fen_text(abs(fen)).replace(".", ",")


def _swift_balance(fen: int, day: date) -> str:
    return f"{'C' if fen >= 0 else 'D'}{day:%y%m%d}CNY{_swift(fen)}"


MAPPING = """
account = "6222 0202 0011 2233"
encoding = "gb18030"
skip_lines = 1
day_format = "%Y%m%d"
order = "newest-first"
[columns]
booked_on = "交易日期"
credit = "贷方发生额"
debit = "借方发生额"
balance = "余额"
reference = "附言"
bank_reference = "流水号"
party_name = "对方户名"
party_account = "对方账号"
currency = "币种"
"""


def bank_csv(entries: list[BankEntry], *, opening_fen: int = 1_000_000) -> bytes:
    """A file as a Chinese bank's site writes it: GBK, newest first, a line above the headings."""
    balance_fen, lines = opening_fen, list[str]()
    for one in entries:
        balance_fen += one.amount_fen
        credit, debit = (
            (f'"{abs(one.amount_fen) / 100:,.2f}"', "") if one.amount_fen > 0
            else ("", f'"{abs(one.amount_fen) / 100:,.2f}"')
        )  # fmt: skip
        lines.append(
            f"{one.booked_on:%Y%m%d},{credit},{debit},{fen_text(balance_fen)},人民币,"
            f"{one.reference},{one.bank_reference},{one.party_name},{one.party_account}"
        )
    head = ["账户明细", "交易日期,贷方发生额,借方发生额,余额,币种,附言,流水号,对方户名,对方账号"]
    return "\r\n".join([*head, *reversed(lines), ""]).encode("gb18030")
