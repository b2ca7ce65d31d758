"""Columns of the statements for people: what each is called, and how it is shown.

What each means stands in `dictionary.csv`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.files.report import Form
from schemas.files.statement import ACCEPTOR, ADJUSTED, CLEARED, ISSUER, REVERSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its English and Chinese names, its form, and its width in characters."""

    name: str
    chinese: str
    form: Form
    width: int

    @property
    def heading(self) -> str:
        """Both names, as every file writes them."""
        return f"{self.name} {self.chinese}"


LINE_COLUMNS: Final = tuple(
    Column(name=name, chinese=chinese, form=form, width=width)
    for name, chinese, form, width in (
        ("order", "订单号", Form.TEXT, 38),
        ("reference", "商户参考号", Form.TEXT, 24),
        ("till_time", "交易时间(北京)", Form.INSTANT, 20),
        ("cleared_time", "清算时间(北京)", Form.INSTANT, 20),
        ("kind", "类型", Form.TEXT, 14),
        ("role", "角色", Form.TEXT, 14),
        ("outlet", "门店", Form.TEXT, 12),
        ("entity", "法人主体", Form.TEXT, 24),
        ("counterparty", "对方", Form.TEXT, 18),
        ("units", "积分数", Form.COUNT, 12),
        ("rate", "汇率(CU/单位)", Form.TEXT, 14),
        ("gross_yuan", "总额(元)", Form.YUAN, 16),
        ("fee_yuan", "手续费(元)", Form.YUAN, 14),
        ("remainder_yuan", "尾差(元)", Form.YUAN, 16),
        ("net_yuan", "净额(元)", Form.YUAN, 16),
        ("payable_yuan", "应付(元)", Form.FEN, 14),
        ("receivable_yuan", "应收(元)", Form.FEN, 16),
        ("campaign", "活动", Form.TEXT, 14),
        ("tax_code", "税收分类编码", Form.TEXT, 22),
        ("leaf", "叶序号", Form.COUNT, 10),
    )
)
"""Columns of a line."""

SUM_COLUMNS: Final = (
    ("lines 笔数", Form.COUNT),
    ("gross_yuan 总额(元)", Form.YUAN),
    ("fee_yuan 手续费(元)", Form.YUAN),
    ("remainder_yuan 尾差(元)", Form.YUAN),
    ("net_yuan 净额(元)", Form.YUAN),
    ("payable_yuan 应付(元)", Form.FEN),
    ("receivable_yuan 应收(元)", Form.FEN),
)
"""Columns of a sum of lines, in the order of `settlement.render.rows.Sums`."""

KIND_NAMES: Final = {
    CLEARED: "cleared 清算",
    ADJUSTED: "adjusted 调整",
    REVERSED: "reversed 冲正",
}
ROLE_NAMES: Final = {ISSUER: "issuer 发行方", ACCEPTOR: "acceptor 受理方"}
