"""What the house invoices of a batch (开票数据): its fee, by merchant and legal entity.

Source: settlement/RULES.md, rule F6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.values.amounts import CU_PER_FEN, fen_text
from settlement.core.fen import FenRun
from settlement.render.rows import Sums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.files.parties import InvoiceTerms, MerchantParty
    from settlement.render.batch import Batch
    from settlement.render.rows import Survey

INVOICE_COLUMNS: Final = (
    "party 商户", "buyer_name 购方名称", "buyer_tax_no 购方税号", "item 项目名称", "tax_code 税收分类编码",
    "amount_yuan 价税合计(元)", "rate_percent 税率(%)", "net_yuan 不含税金额(元)", "tax_yuan 税额(元)",
    "fee_cu 手续费(CU)", "rest_cu 不足一分(CU)", "batch 结算批次", "manifest 清单摘要",
)  # fmt: skip
_BPS: Final = 10_000


def tax_in(gross_fen: int, *, rate_bps: int) -> int:
    """Tax that an amount holds.

    Args:
        gross_fen: Amount with the tax, signed.
        rate_bps: Rate of the tax, basis points of the amount without it.

    Returns:
        Fen, rounded half away from zero, as the tax office's forms are.
    """
    whole = _BPS + rate_bps
    tax = (2 * abs(gross_fen) * rate_bps + whole) // (2 * whole)
    return tax if gross_fen >= 0 else -tax


def invoice_rows(
    batch: Batch, terms: InvoiceTerms, merchant: MerchantParty, survey: Survey
) -> list[tuple[str, ...]]:
    """Rows of one merchant: one for each legal entity that bore a fee; below 0 (红字) where more was given back.

    Whole fen are invoiced, as steps of the running sum of the merchant's fees; the last row tells what is left.
    """
    tax_numbers = {merchant.name: merchant.credit_code} | {
        one.entity: one.credit_code for one in merchant.outlet if one.entity and one.credit_code
    }
    run = FenRun()
    rows: list[tuple[str, ...]] = []
    for entity, places in survey.entities().items():
        sums = Sums()
        for one in places.values():
            sums.merge(one)
        before_cu = run.carry_cu
        gross_fen = run.take(-sums.fee_cu)
        if not sums.fee_cu:
            continue
        tax_fen = tax_in(gross_fen, rate_bps=terms.rate_bps)
        rows.append(
            (
                merchant.code, text_field(entity), tax_numbers[entity], text_field(terms.item), terms.tax_code,
                fen_text(gross_fen), _percent(terms.rate_bps), fen_text(gross_fen - tax_fen),
                fen_text(tax_fen), str(-sums.fee_cu),
                str(before_cu - sums.fee_cu - CU_PER_FEN * gross_fen), batch.batch_id,
                batch.manifest_sha256,
            )
        )  # fmt: skip
    return rows


def invoices_csv(rows: list[tuple[str, ...]]) -> bytes:
    """Write the rows of one merchant or of many."""
    lines = [",".join(INVOICE_COLUMNS), *map(",".join, rows), ""]
    return (BOM + LINE_END.join(lines)).encode()


def all_invoices(batch: Batch, surveys: Mapping[str, Survey]) -> dict[str, list[tuple[str, ...]]]:
    """Rows by merchant; empty where no terms or parties were given."""
    parties = batch.parties
    if parties is None or parties.house.invoice is None:
        return {}
    terms = parties.house.invoice
    return {
        code: invoice_rows(batch, terms, merchant, surveys[code])
        for code in surveys
        if (merchant := parties.find(code)) is not None
    }


def _percent(bps: int) -> str:
    """Write basis points as percent."""
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".")
