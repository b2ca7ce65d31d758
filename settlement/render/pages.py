"""A merchant's statement as pages (PDF), with an embedded Chinese font.

Each page of lines ends with its own totals and those so far. A statement with many lines goes on in
further files, since a PDF is kept in memory until it ends, and nobody opens one of ten thousand pages.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from fpdf import FPDF

from schemas.files.instant import instant_text
from schemas.files.statement import ACCEPTOR, ISSUER
from schemas.values.amounts import fen_text, yuan_text
from settlement.render.batch import BEIJING_US
from settlement.render.columns import KIND_NAMES, LINE_COLUMNS, ROLE_NAMES, SUM_COLUMNS
from settlement.render.facts import beside_name, facts, threshold
from settlement.render.rows import Sums

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from fpdf.fonts import TTFFont

    from settlement.render.batch import Batch
    from settlement.render.rows import Row, Survey

LINES_A_FILE: Final = 10_000
_LINES_A_PAGE: Final = 24
_SUMS_A_PAGE: Final = 30
_FONT: Final = "noto"
_SIZE: Final = 6.5
_TITLE_SIZE: Final = 11.0
_PAYMENT_SIZE: Final = 9.0
_LEFT: Final = 8.0
_RIGHT: Final = 289.0
_HEAD: Final = 15.0
_TOP: Final = 22.0
_STEP: Final = 3.4
_BOTTOM: Final = 202.0
_FACT: Final = 46.0
"""Where what stands beside a label begins, mm."""
_SHADE: Final = 243
"""Grey behind every second line, of 255: a line has two rows, which the eye must keep together."""
_SUFFIX_SHARE: Final = 0.6
"""How much of a subtotal's label its end may take: what a long name shares with its neighbours is cut first."""

# Two rows of text for each line: where each column ends or begins, mm, and whether it is a figure.
_UPPER: Final = (
    ("order", 8.0, 55.0, False),
    ("cleared_time", 56.5, 82.5, False),
    ("kind", 84.0, 101.5, False),
    ("outlet", 102.5, 122.0, False),
    ("counterparty", 123.0, 150.0, False),
    ("units", 150.0, 170.0, True),
    ("gross_yuan", 172.0, 196.0, True),
    ("fee_yuan", 198.0, 218.0, True),
    ("net_yuan", 220.0, 244.0, True),
    ("payable_yuan", 246.0, 266.0, True),
    ("receivable_yuan", 268.0, 289.0, True),
)
_LOWER: Final = (
    ("reference", 8.0, 55.0, False),
    ("till_time", 56.5, 82.5, False),
    ("role", 84.0, 101.5, False),
    ("entity", 102.5, 132.0, False),
    ("campaign", 133.0, 150.0, False),
    ("rate", 150.0, 170.0, True),
    ("tax_code", 171.0, 196.0, True),
    ("remainder_yuan", 197.0, 218.0, True),
    ("leaf", 220.0, 244.0, True),
)
_HEADINGS: Final = {
    column.name: (
        column.name.removesuffix("_yuan").removesuffix("_time").replace("_", " ")
        + f" {column.chinese}"
    )
    for column in LINE_COLUMNS
}
"""Shorter than in the workbook: a page has no wider columns."""
_SUM_PLACES: Final = (110.0, 140.0, 170.0, 196.0, 226.0, 258.0, 289.0)
_PAIR_HEADINGS: Final = (
    "", "", "carry before 上期结转", "net 净额", "payable 应付", "receivable 应收", "carry after 结转下期",
)  # fmt: skip
"""Headings of what is paid by counterparty; the first two places stay empty."""

_VERIFY: Final = (
    "Verify 核验: tongdui verify PACKAGE --threshold {threshold} --key ROLE=KEY.pub.pem",
    (
        "or of Ed25519 或用 OpenSSL: sha256sum manifest.json; openssl pkeyutl -verify -rawin -pubin -inkey KEY.pub.pem "
        "-sigfile manifest.sig -in manifest.json"
    ),
    "The digest above must be that of manifest.json, and the lines here those of the signed statement.",
    "上方摘要须与 manifest.json 的摘要一致，本表明细须与已签名对账单一致。",
)


def write_pages(
    path: Path,
    *,
    batch: Batch,
    merchant: str,
    survey: Survey,
    rows: Iterable[Row],
    lines_a_file: int = LINES_A_FILE,
) -> None:
    """Write a statement: `NAME.pdf`, and `NAME-2.pdf` and so on where it goes on.

    Args:
        path: The first file; its folder exists.
        batch: The signed batch.
        merchant: Whose statement it is.
        survey: Its sums.
        rows: Its lines, streamed.
        lines_a_file: Where the lines go on in another file.
    """
    left = iter(rows)
    so_far = Sums()
    count = survey.total().lines
    files = max(1, -(-count // lines_a_file))
    for number in range(1, files + 1):
        pages = _Pages(batch, merchant, number, files)
        if number == 1:
            pages.summary(survey)
        pages.lines(islice(left, lines_a_file), so_far)
        pages.save(path if number == 1 else path.with_stem(f"{path.stem}-{number}"))


class _Shown(dict[int, int]):
    """What stands for a character in pages: itself, if it can be printed and the font has it, else a box."""

    def __init__(self, known: Container[int]) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, code: int) -> int:
        shown = code if code in self._known and chr(code).isprintable() else ord("□")
        self[code] = shown
        return shown


class _Pages:
    """One file under way."""

    def __init__(self, batch: Batch, merchant: str, number: int, files: int) -> None:
        self._batch = batch
        self._merchant = merchant
        self._part = f"{number}/{files}"
        self._y = 0.0
        self._widths: dict[str, float] = {}
        self._pdf = FPDF(orientation="landscape", format="A4")
        self._pdf.set_auto_page_break(auto=False)
        self._pdf.set_creation_date(batch.closed_at)
        self._pdf.set_title(f"{merchant} {batch.manifest.cycle.id}")
        self._pdf.set_subject(batch.source)
        self._pdf.add_font(_FONT, fname=_font_file())
        self._pdf.set_font(_FONT, size=_SIZE)
        self._shown = _Shown(cast("TTFFont", self._pdf.current_font).cmap)

    def save(self, path: Path) -> None:
        """Write the file, now that it is known on how many pages."""
        count = self._pdf.page
        for number in range(1, count + 1):
            self._pdf.page = number
            self._y = _HEAD
            text = f"file 文件 {self._part}   page 页 {number}/{count}"
            self._text(_LEFT, _RIGHT, text, figure=True)
        self._pdf.output(str(path))

    def summary(self, survey: Survey) -> None:
        """Begin with totals, payment, how to verify, and subtotals."""
        batch = self._batch
        self._page()
        leg = batch.instructions[self._merchant]
        told = [(label, str(value)) for label, value in facts(batch)]
        beside = beside_name(batch)
        told += [
            ("Net 净额", f"{yuan_text(batch.figure(self._merchant))} yuan 元"),
            (
                "Carry 结转",
                f"before 上期 {yuan_text(leg.carry_before_cu)}   after 下期 {yuan_text(leg.carry_after_cu)} yuan 元",
            ),
            *([(beside, f"{fen_text(batch.beside_lines(self._merchant))} yuan 元")] if beside else []),
        ]  # fmt: skip
        for label, value in told:
            self._text(_LEFT, _FACT - 1, label)
            self._text(_FACT, _RIGHT, value)
            self._y += _STEP * 1.3
        self._y += _STEP
        payable, receivable = fen_text(max(0, -leg.pay_fen)), fen_text(max(0, leg.pay_fen))
        self._sized(
            _PAYMENT_SIZE, f"Payable 应付 {payable}   Receivable 应收 {receivable}   yuan 元"
        )
        self._y += _STEP * 2
        for text in _VERIFY:
            self._text(_LEFT, _RIGHT, text.format(threshold=threshold(batch)))
            self._y += _STEP * 1.3
        self._y += _STEP * 1.3
        totals: list[tuple[str, str, Sums]] = [
            (ROLE_NAMES[role], "", survey.roles()[role]) for role in (ISSUER, ACCEPTOR)
        ]
        totals.append(("TOTAL 合计", "", survey.total()))
        self._sums("Totals 合计", totals)
        self._sums(
            "Subtotals by legal entity and outlet 按法人主体与门店小计", self._places(survey)
        )
        if batch.bilateral:
            self._table("Payments by counterparty 逐对收付", _PAIR_HEADINGS, self._pairs())

    def _pairs(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """What is paid to and by each counterparty, under `_PAIR_HEADINGS`."""
        for leg in self._batch.legs_of(self._merchant):
            figures = (
                yuan_text(leg.carry_before_cu),
                yuan_text(leg.net_cu),
                fen_text(max(0, -leg.pay_fen)),
                fen_text(max(0, leg.pay_fen)),
                yuan_text(leg.carry_after_cu),
            )
            yield leg.counterparty, "", ("", "", *figures)

    def lines(self, rows: Iterator[Row], so_far: Sums) -> None:
        """Write lines, page by page; `so_far` goes on over all files."""
        while chunk := list(islice(rows, _LINES_A_PAGE)):
            self._page()
            self._row(_UPPER, _HEADINGS)
            self._row(_LOWER, _HEADINGS)
            self._rule()
            page = Sums()
            for number, row in enumerate(chunk):
                if number % 2:
                    self._shade()
                values = _values(row)
                self._row(_UPPER, values)
                self._row(_LOWER, values)
                page.add(row)
            so_far.merge(page)
            self._rule()
            for label, sums in (("Page total 本页合计", page), ("So far 累计", so_far)):
                self._row(_UPPER, _sum_values(label, sums))

    def _places(self, survey: Survey) -> Iterator[tuple[str, str, Sums]]:
        """Subtotals of outlets, each legal entity's after its own: name, what tells it from others, and sums."""
        party = self._batch.party(self._merchant)
        outlets = {} if party is None else {one.code: one.name for one in party.outlet}
        for entity, places in survey.entities().items():
            of_entity = Sums()
            name = entity or self._merchant
            for outlet, sums in places.items():
                of_entity.merge(sums)
                yield name, f" {outlet} {outlets.get(outlet, '')}".rstrip() or " –", sums
            yield name, " TOTAL 合计", of_entity

    def _sums(self, title: str, sums: Iterable[tuple[str, str, Sums]]) -> None:
        """Write a table of sums."""
        headings = [heading.replace("_yuan", "") for heading, _ in SUM_COLUMNS]
        self._table(
            title, headings, ((name, suffix, _figure_texts(one)) for name, suffix, one in sums)
        )

    def _table(
        self, title: str, headings: Sequence[str], rows: Iterable[tuple[str, str, Sequence[str]]]
    ) -> None:
        """Write a table of figures, over as many pages as it needs; of a label the name is cut before its end."""
        room = _SUM_PLACES[0] - 22 - _LEFT
        left = iter(rows)
        while chunk := list(islice(left, _SUMS_A_PAGE)):
            if self._y + (len(chunk) + 3) * _STEP * 1.3 > _BOTTOM:
                self._page()
            self._text(_LEFT, _LEFT + room, title)
            self._figures(headings)
            self._rule()
            for name, suffix, texts in chunk:
                end = self._cut(suffix, room * _SUFFIX_SHARE)
                self._text(_LEFT, _RIGHT, self._cut(name, room - self._width(end)) + end)
                self._figures(texts)
            self._y += _STEP

    def _figures(self, texts: Sequence[str]) -> None:
        """Write one row of figures that end at their places."""
        begin = _SUM_PLACES[0] - 20
        for end, text in zip(_SUM_PLACES, texts, strict=True):
            self._text(begin, end, text, figure=True)
            begin = end + 1
        self._y += _STEP * 1.3

    def _page(self) -> None:
        """Begin a page with what it belongs to."""
        batch, pdf = self._batch, self._pdf
        pdf.add_page()
        party = batch.party(self._merchant)
        name = self._merchant if party is None else f"{self._merchant} {party.name}"
        self._y = 10.0
        self._sized(_TITLE_SIZE, f"Settlement statement 结算对账单  {name}")
        self._y = _HEAD
        self._text(
            _LEFT,
            _RIGHT,
            f"{batch.manifest.cycle.id}   Manifest SHA-256 清单摘要 {batch.manifest_sha256}",
        )
        self._y = _TOP

    def _sized(self, size: float, text: str) -> None:
        """Write text in another size; what does not fit on the page is cut."""
        # Widths are those of the usual size: they are asked for before the size changes.
        shown = self._cut(text, (_RIGHT - _LEFT) * _SIZE / size)
        self._pdf.set_font_size(size)
        self._pdf.text(_LEFT, self._y, shown)
        self._pdf.set_font_size(_SIZE)

    def _shade(self) -> None:
        """Lay grey behind the two rows of the line that comes next."""
        self._pdf.set_fill_color(_SHADE)
        self._pdf.rect(_LEFT, self._y - _STEP + 0.8, _RIGHT - _LEFT, 2 * _STEP, style="F")

    def _rule(self) -> None:
        """Draw a line across."""
        self._pdf.line(_LEFT, self._y - _STEP + 0.9, _RIGHT, self._y - _STEP + 0.9)
        self._y += 0.9

    def _row(
        self, columns: Sequence[tuple[str, float, float, bool]], values: dict[str, str]
    ) -> None:
        """Write one row of a line."""
        for name, begin, end, figure in columns:
            text = values.get(name)
            if text:
                self._text(begin, end, text, figure=figure)
        self._y += _STEP

    def _text(self, begin: float, end: float, text: str, *, figure: bool = False) -> None:
        """Write text that begins at its place, or a figure that ends there; text that is too long is cut."""
        text = text.translate(self._shown) if figure else self._cut(text, end - begin)
        if text:
            self._pdf.text(end - self._width(text) if figure else begin, self._y, text)

    def _cut(self, text: str, room: float) -> str:
        """Leave out what the font lacks, and the end of what is wider than the room, mm."""
        text = text.translate(self._shown)
        width = self._width(text)
        if width <= room:
            return text
        while text and width > room - self._width("…"):
            width -= self._width(text[-1])
            text = text[:-1]
        return f"{text}…"

    def _width(self, text: str) -> float:
        """Width of text in the font, mm; asked once for each character."""
        widths = self._widths
        try:
            return sum(map(widths.__getitem__, text))
        except KeyError:
            for each in set(text) - widths.keys():
                widths[each] = self._pdf.get_string_width(each)
            return sum(map(widths.__getitem__, text))


def _values(row: Row) -> dict[str, str]:
    """Write a line's columns as text."""
    line = row.line
    return {
        "order": line.order,
        "reference": line.reference[:200],
        "till_time": _beijing(line.till_us),
        "cleared_time": _beijing(line.cleared_us),
        "kind": KIND_NAMES[line.kind],
        "role": ROLE_NAMES[line.role],
        "outlet": row.outlet,
        "entity": row.entity,
        "counterparty": line.counterparty,
        "units": str(line.units),
        "rate": f"{line.rate_num}/{line.rate_den}" if line.rate_den else "",
        "gross_yuan": yuan_text(line.gross_cu),
        "fee_yuan": yuan_text(line.fee_cu),
        "remainder_yuan": yuan_text(line.remainder_cu),
        "net_yuan": yuan_text(line.net_cu),
        "payable_yuan": fen_text(row.payable_fen),
        "receivable_yuan": fen_text(row.receivable_fen),
        "campaign": row.campaign,
        "tax_code": row.tax_code,
        "leaf": str(line.leaf_index),
    }


def _sum_values(label: str, sums: Sums) -> dict[str, str]:
    """Write sums under the columns of the lines."""
    return {
        "order": f"{label}: {sums.lines} lines 笔",
        "gross_yuan": yuan_text(sums.gross_cu),
        "fee_yuan": yuan_text(sums.fee_cu),
        "net_yuan": yuan_text(sums.net_cu),
        "payable_yuan": fen_text(sums.payable_fen),
        "receivable_yuan": fen_text(sums.receivable_fen),
    }


def _figure_texts(sums: Sums) -> list[str]:
    """Write sums in the order of their columns."""
    lines, *amounts, payable, receivable = sums.figures()
    return [str(lines), *map(yuan_text, amounts), fen_text(payable), fen_text(receivable)]


def _beijing(at_us: int) -> str:
    """Write an instant to the second, in Beijing time."""
    return instant_text(at_us + BEIJING_US)[:19].replace("T", " ")


def _font_file() -> Path:
    """The font: Noto Sans SC, as its package ships it."""
    spec = find_spec("pylopdf_fonts_zh_cn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package pylopdf-fonts-zh-cn is not installed")
    return Path(spec.origin).parent / "NotoSansSC-Regular.otf"
