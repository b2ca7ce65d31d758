"""Parties as a TOML file: names, bank accounts, outlets and ledger accounts that a package does not hold.

A package says what is paid, by codes alone. Who the parties are for banks, tax offices and ledgers
stands in a file of its own, which the house or a merchant keeps; what is made with it names its digest.

Source: schemas/FORMAT.md, "Parties".
"""

from __future__ import annotations

import hashlib
import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

_WORDS = (
    r"\A(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufeff\ud800-\udfff\ufffe\uffff]{1,%d}(?<!\s)\Z"
)
Name = Annotated[str, Meta(pattern=_WORDS % 70)]
"""What XML, a bank's form and a ledger all take: 70 at most, and nothing that nobody sees.

A blank at an end, or a character that has no width or turns the direction of reading, makes a holder's
name another one for the bank, which sends the payment back.
"""
_CREDIT_CODE = r"\A[0-9A-HJ-NPQRTUWXY]{18}\Z"
CreditCode = Annotated[str, Meta(pattern=_CREDIT_CODE)]
"""Unified social credit code (GB 32100-2015), which is also the number for taxes."""
_ACCOUNT_NO = r"\A[0-9A-Za-z][0-9A-Za-z-]{4,33}\Z"
AccountNo = Annotated[str, Meta(pattern=_ACCOUNT_NO)]
_CNAPS = r"\A[0-9]{12}\Z"
Cnaps = Annotated[str, Meta(pattern=_CNAPS)]
"""Number of a bank's branch in the People's Bank's payment system (联行号)."""
_OUTLET_CODE = r"\A[0-9A-Za-z._]{1,20}\Z"
OutletCode = Annotated[str, Meta(pattern=_OUTLET_CODE)]
_SAID = {
    _WORDS % 70: "1 to 70 characters, no blank at an end, and none that nobody sees",
    _CREDIT_CODE: "a unified social credit code (统一社会信用代码): 18 digits and capitals, never I, O, S, V or Z",
    _ACCOUNT_NO: "an account's number (账号) in quotes: 5 to 34 digits, letters or hyphens",
    _CNAPS: "a branch's number (联行号) in quotes: 12 digits",
    _OUTLET_CODE: "an outlet's code: 1 to 20 digits, letters, dots or underscores",
}
"""What those who keep the file are told in place of a pattern."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: what is not named here may not stand there."""


class BankAccount(_Record, frozen=True, kw_only=True):
    """An account at a bank: holder (户名), number (账号), branch (开户行) and its number (联行号)."""

    holder: Name
    number: AccountNo
    bank: Name
    cnaps: Cnaps


class InvoiceTerms(_Record, frozen=True, kw_only=True):
    """How the house invoices its fee: item, code of its kind of goods (税收分类编码), and rate of the tax.

    `rate_bps` are basis points; the fee holds the tax.
    """

    item: Name
    tax_code: Annotated[str, Meta(pattern=r"\A[0-9]{19}\Z")]
    rate_bps: Annotated[int, Meta(ge=0, le=10_000)]


class HouseParty(_Record, frozen=True, kw_only=True):
    """The house: its settlement account, through which all payments go, and its own for fees."""

    name: Name
    credit_code: CreditCode
    account: BankAccount
    own_account: BankAccount
    invoice: InvoiceTerms | None = None


class Outlet(_Record, frozen=True, kw_only=True):
    """A merchant's outlet (门店), and the legal entity (法人主体) that runs it; by default the merchant's."""

    code: OutletCode
    name: Name
    entity: Name | None = None
    credit_code: CreditCode | None = None


class MerchantParty(_Record, frozen=True, kw_only=True):
    """A merchant, and how its own references tell outlet and campaign.

    `reference_fields` names the parts of a reference, cut at each `reference_separator`; a part that
    says neither is "". An order whose reference has fewer parts has no outlet.
    """

    code: Annotated[str, Meta(pattern=MERCHANT_CODE_PATTERN)]
    name: Name
    credit_code: CreditCode
    account: BankAccount
    reference_fields: Annotated[list[Literal["outlet", "campaign", ""]], Meta(max_length=8)] = []
    reference_separator: Annotated[str, Meta(pattern=r"\A[-/_:|]\Z")] = "-"
    outlet: Annotated[list[Outlet], Meta(max_length=100_000)] = []


class LedgerAccount(_Record, frozen=True, kw_only=True):
    """An account of a ledger: code and name (科目), and its name in Beancount."""

    code: Annotated[str, Meta(pattern=r"\A[0-9][0-9.]{2,19}\Z")]
    name: Name
    beancount: Annotated[
        str,
        Meta(
            pattern=r"\A(?:Assets|Liabilities|Equity|Income|Expenses)(?::[A-Z0-9][A-Za-z0-9-]*)+\Z"
        ),
    ]


class Chart(_Record, frozen=True, kw_only=True):
    """The accounts that vouchers name. Those of a merchant, then those of the house alone."""

    settlement: LedgerAccount = LedgerAccount(
        code="1221.01", name="其他应收款-通兑清算", beancount="Assets:Tongdui:Settlement"
    )
    points: LedgerAccount = LedgerAccount(
        code="2205.01", name="合同负债-会员积分", beancount="Liabilities:Points"
    )
    redemptions: LedgerAccount = LedgerAccount(
        code="1122.01", name="应收账款-积分兑付", beancount="Assets:Receivable:Points"
    )
    fees: LedgerAccount = LedgerAccount(
        code="6601.01", name="销售费用-清算手续费", beancount="Expenses:Tongdui:Fees"
    )
    merchants: LedgerAccount = LedgerAccount(
        code="2241.01", name="其他应付款-商户清算", beancount="Liabilities:Merchants"
    )
    income: LedgerAccount = LedgerAccount(
        code="6051.01", name="其他业务收入-清算手续费", beancount="Income:Fees"
    )
    remainders: LedgerAccount = LedgerAccount(
        code="2241.02", name="其他应付款-兑换尾差", beancount="Liabilities:Remainders"
    )
    carries: LedgerAccount = LedgerAccount(
        code="2241.03", name="其他应付款-结转尾数", beancount="Liabilities:Carries"
    )


class Parties(_Record, frozen=True, kw_only=True):
    """The whole file."""

    house: HouseParty
    merchant: list[MerchantParty]
    ledger: Chart = Chart()

    def find(self, code: str) -> MerchantParty | None:
        """The merchant with a code."""
        return next((one for one in self.merchant if one.code == code), None)


def parse_parties(data: bytes) -> Parties:
    """Read a file of parties.

    Raises:
        SchemaError: It is no TOML in UTF-8, a field is missing, unknown or malformed, or a code stands twice.
    """
    try:
        parsed = msgspec.convert(tomllib.loads(data.decode()), Parties)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError("$", f"not TOML: {error}") from error
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        for pattern, said in _SAID.items():
            detail = detail.replace(f"`str` matching regex {pattern!r}", said)
        detail = detail.replace("Expected `str`, got `int`", "it must stand in quotes, as text")
        raise SchemaError(path.rstrip("`") or "$", detail) from error
    _once([one.code for one in parsed.merchant], "$.merchant")
    for place, one in enumerate(parsed.merchant):
        _once([outlet.code for outlet in one.outlet], f"$.merchant[{place}].outlet")
        for number, outlet in enumerate(one.outlet):
            if (outlet.entity is None) != (outlet.credit_code is None):
                raise SchemaError(
                    f"$.merchant[{place}].outlet[{number}]",
                    "entity and credit_code go together",
                )
    return parsed


def parties_digest(data: bytes) -> str:
    """SHA-256 of the file, in hex: what is made with it names this."""
    return hashlib.sha256(data).hexdigest()


def _once(codes: list[str], place: str) -> None:
    """Refuse a code that stands twice."""
    seen: set[str] = set()
    for number, code in enumerate(codes):
        if code in seen:
            raise SchemaError(f"{place}[{number}].code", f"{code} stands there twice")
        seen.add(code)
