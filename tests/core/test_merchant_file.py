"""Merchants' own files: both forms give the same lines, and what is wrong anywhere is named and refused."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import msgspec
import pytest

from schemas.files.line_breaks import LINE_BREAK_COLUMNS, LineBreakRow, write_line_breaks
from schemas.files.merchant_file import (
    Basis,
    FileLine,
    parse_merchant_mapping,
    read_merchant_csv,
)
from schemas.files.merchant_msgpack import FILE_FIELDS, read_merchant_header
from schemas.values.faults import SchemaError
from settlement.core.own_lines import Names, OurLine, TheirLine, round_cu

ORDER = "01595c79-ac18-7001-8000-000000000002"
COLUMNS = '[columns]\ntime = "at"\n'


def read(mapping: str, text: str, merchant: str = "AIR") -> list[FileLine]:
    """The lines of a file."""
    columns = parse_merchant_mapping(mapping)
    file = io.BytesIO(text.encode(columns.encoding))
    return list(read_merchant_csv(file, columns, merchant=merchant))


@pytest.mark.parametrize(
    ("mapping", "row", "amount_cu"),
    [
        (f'unit = "yuan"\n{COLUMNS}amount = "a"', "-1.2345", -12_345),
        (f'unit = "yuan"\n{COLUMNS}amount = "a"', '"¥1,234.50"', 12_345_000),
        (f'unit = "fen"\n{COLUMNS}amount = "a"', "-37", -3_700),
        (f'unit = "cu"\n{COLUMNS}amount = "a"', "+37", 37),
        (f'unit = "fen"\n{COLUMNS}received = "a"\npaid = "b"', ",5", -500),
        (f'unit = "fen"\n{COLUMNS}received = "a"\npaid = "b"', "5,0", 500),
        (f'unit = "fen"\n{COLUMNS}amount = "a"\nsign = "b"', "5,付", -500),
        (f'unit = "fen"\n{COLUMNS}amount = "a"\nsign = "b"\n[signs]\nreceive = ["IN"]\npay = ["OUT"]', "5,IN", 500),
    ],
)  # fmt: skip
def test_amounts_are_exact_in_every_unit_and_way(mapping, row, amount_cu):
    """Yuan, fen or CU; one column, one beside signs, or two: whole CU, positive to receive."""
    head = "at,a,b" if "b" in mapping.partition("[columns]")[2].split('"') else "at,a"
    [line] = read(mapping, f"{head}\n2017-01-02 23:59:59,{row}\n")
    assert line == FileLine(
        place="line 2", order="", reference="", day=date(2017, 1, 2), amount_cu=amount_cu, units=None,
        counterparty="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "time", "day"),
    [
        ("", "2017-01-02 00:30:00", date(2017, 1, 2)),
        ('time_zone = "UTC"', "2017-01-02 16:30:00", date(2017, 1, 3)),
        ('time_format = "%Y-%m-%dT%H:%M:%S%z"', "2017-01-02T23:30:00+0700", date(2017, 1, 3)),
        ('time_format = "%Y%m%d"\ntime_zone = "America/New_York"', "20170102", date(2017, 1, 2)),
    ],
)
def test_days_are_days_in_beijing(settings, time, day):
    """A time with its zone, in the zone of the mapping, or a day as it stands (X16)."""
    mapping = f'unit = "fen"\n{settings}\n{COLUMNS}amount = "a"'
    assert read(mapping, f"at,a\n{time},1\n")[0].day == day


FULL = """
unit = "fen"
[columns]
order = "order"
reference = "ref"
time = "at"
amount = "amount"
units = "points"
currency = "cur"
merchant = "who"
counterparty = "other"
[totals]
mark = "total"
count = "ref"
amount = "amount"
"""
GOOD = (
    "order,ref,at,amount,points,cur,who,other\n"
    f"{ORDER.upper()},bon-1,2017-01-02 08:00:01,-37,1001,CNY,AIR,NOODLES\n"
    ",bon-2,2017-01-02 08:00:05,122,,RMB,AIR,\n"
    "total,2,,85,,,,\n"
)


def test_a_file_with_everything_is_read():
    """Every column, ids in any letters, and totals that agree."""
    one, other = read(FULL, GOOD)
    assert (one.order, one.reference, one.units, one.counterparty) == (
        ORDER,
        "bon-1",
        1001,
        "NOODLES",
    )
    assert (other.order, other.place, other.units, other.amount_cu) == ("", "line 3", None, 12_200)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("total,2,", "total,3,", "line 4, ref: is '3', but there are 2 lines"),
        (",85,", ",86,", "line 4, amount: is 0.8600, but 2 lines come to 0.8500 yuan"),
        ("CNY", "EUR", "line 2, cur: expected CNY, found 'EUR'"),
        (",AIR,NOODLES", ",OIL,NOODLES", "line 2, who: expected AIR, found 'OIL'"),
        ("-37", "--37", "line 2, amount: expected a whole number of fen and no sign, found '-37'"),
        ("-37", "-37.5", "line 2, amount: expected a whole number of fen and no sign, found '37.5'"),
        ("-37", "1e3", "line 2, amount: expected a whole number of fen"),
        ("-37", "-9999999999999999", "line 2, amount: more than any account here may hold"),
        ("1001", "10o1", "line 2, points: expected a whole number of points"),
        ("02 08:00:05", "32 08:00:05", "line 3, at: expected a time as %Y-%m-%d %H:%M:%S"),
        ("bon-2", "b\0n", "line 3, ref: more than 1000 characters, or NUL"),
        ("who,", "whose,", "line 1, who: expected one column of this heading, found 0"),
        ("total,2,,85,,,,\n", "", "line 3: the file ends without its totals ('total')"),
        ("85,,,,\n", "85,,,,\ntotal,2,,85,,,,\n", "line 5: stands behind the totals of line 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_anywhere_names_line_and_field(old, new, says):
    """Totals, counts, currency, merchant, amount, sign, points, time: refused whole, in one sentence (X15)."""
    assert old in GOOD
    with pytest.raises(SchemaError) as refused:
        read(FULL, GOOD.replace(old, new, 1))
    assert str(refused.value).startswith(says)


def test_a_file_without_lines_is_refused():
    """Nothing at all is no file of a cycle in which there were orders."""
    with pytest.raises(SchemaError, match="line 2: there is no line"):
        read(f'unit = "fen"\n{COLUMNS}amount = "a"', "at,a\n")


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ('unit = "fen"\n[columns]\ntime = "t"', r"\$\.columns: name either received and paid, or amount"),
        ('unit = "fen"\n[columns]\ntime = "t"\nreceived = "a"\npaid = "b"\nsign = "s"', r"\$\.columns\.sign: stands"),
        ('unit = "jiao"\n[columns]\ntime = "t"\namount = "a"', r"\$\.unit"),
        ('unit = "fen"\ntime_zone = "Mars"\n[columns]\ntime = "t"\namount = "a"', r"\$\.time_zone: no time zone"),
        ('unit = "fen"\n[columns]\ntime = "t"\namount = "a"\n[signs]\npay = ["C"]', r"\$\.signs: one word says both"),
        ('unit = "fen"\n[columns]\ntime = "t"\namount = "a"\n[totals]\nmark = "x"', r"\$\.totals: name at least one"),
        ('unit = "fen"\ncolour = 1\n[columns]\ntime = "t"\namount = "a"', "colour"),
    ],
)  # fmt: skip
def test_a_mapping_that_says_too_little_or_too_much_is_refused(mapping, says):
    """The field of the mapping is named."""
    with pytest.raises(SchemaError, match=says):
        parse_merchant_mapping(mapping)


def packed(
    *, header: dict[str, Any] | None = None, lines: list[Any] | None = None, totals: Any = None
) -> bytes:
    """A file in msgpack."""
    head = {
        "format": "tongdui-merchant-file/1", "merchant": "AIR", "cycle_id": "c1", "currency": "CNY",
        "fields": list(FILE_FIELDS),
    }  # fmt: skip
    rows = (
        lines
        if lines is not None
        else [[ORDER, "bon-1", 1_483_315_201_000_000, -3703, 1001, "NOODLES"]]
    )
    end = totals if totals is not None else {"lines": len(rows), "amount_cu": -3703}
    return b"".join(msgspec.msgpack.encode(each) for each in (head | (header or {}), *rows, end))


def read_packed(data: bytes) -> tuple[Basis, list[FileLine]]:
    """Head and lines of a file in msgpack."""
    basis, lines = read_merchant_header(io.BytesIO(data), len(data), merchant="AIR", cycle_id="c1")
    return basis, list(lines)


def test_msgpack_gives_the_same_lines():
    """The same line, with its place among the objects; the head says what it is held against."""
    basis, [line] = read_packed(packed(header={"figure": "gross", "rounding": "half_away"}))
    assert basis == Basis(figure="gross", clock="till", rounding="half_away")
    assert line == FileLine(
        place="$[1]", order=ORDER, reference="bon-1", day=date(2017, 1, 2), amount_cu=-3703, units=1001,
        counterparty="NOODLES",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"header": {"merchant": "OIL"}}, r"\$\[0\]\.merchant: expected AIR, found 'OIL'"),
        ({"header": {"cycle_id": "c2"}}, r"\$\[0\]\.cycle_id: expected c1"),
        ({"header": {"currency": "EUR"}}, r"\$\[0\]\.currency"),
        ({"header": {"fields": ["order"]}}, r"\$\[0\]\.fields"),
        ({"lines": [["", "", 1, 1.5, None, ""]]}, r"\$\[1\]\[3\]: Expected `int`, got `float`"),
        ({"lines": [["", "", 1, 1, None]]}, r"\$\[1\]"),
        ({"totals": {"lines": 2, "amount_cu": -3703}}, r"\$\[2\]\.lines: is 2, but lines come to 1"),
        ({"totals": {"lines": 1, "amount_cu": 3703}}, r"\$\[2\]\.amount_cu: is 3703, but lines come to -3703"),
        ({"totals": ["", "", 1, 1, None, ""]}, r"\$\[3\]: the totals are missing"),
        ({"lines": [], "totals": {"lines": 0, "amount_cu": 0}}, r"\$\[1\]: there is no line"),
    ],
)  # fmt: skip
def test_msgpack_that_is_wrong_names_object_and_field(change, says):
    """Another merchant, cycle or currency, a line or totals that are wrong: refused whole."""
    with pytest.raises(SchemaError, match=says):
        read_packed(packed(**change))


@pytest.mark.parametrize(
    ("rounding", "rounded"),
    [("none", [149, 150, -150, 49]), ("toward_zero", [100, 100, -100, 0]), ("half_away", [100, 200, -200, 0])],
)  # fmt: skip
def test_figures_are_rounded_as_the_merchants_books_do(rounding, rounded):
    """Toward zero or half away from it, both signs alike (X16)."""
    assert [round_cu(cu, rounding) for cu in (149, 150, -150, 49)] == rounded


def test_unmatched_rows_can_be_exported():
    """Each row of a break is a line of the CSV, in yuan, and no text of a merchant's is a formula."""
    row = LineBreakRow(
        kind="extra", owner="HOUSE", age_days=3, entry="1/7", their_place="line 8", their_reference="=1+1",
        their_amount_cu=-12_345,
    )  # fmt: skip
    head, line = b"".join(write_line_breaks([row])).decode("utf-8-sig").splitlines()
    assert tuple(head.split(",")) == LINE_BREAK_COLUMNS
    told = dict(zip(LINE_BREAK_COLUMNS, line.split(","), strict=True))
    assert (told["their_yuan"], told["their_reference"], told["yuan"]) == ("-1.2345", "'=1+1", "")


def test_a_line_keeps_its_orders_name_where_another_shares_its_reference():
    """Two orders of one bill, one told by its order, one by the bill's reference alone: each finds its own (X17)."""
    ours = [
        OurLine(leaf, order, "bill", 1, amount, 5, "EYE")
        for leaf, order, amount in ((0, "a", 7), (1, "b", 9))
    ]
    theirs = [
        TheirLine(1, 1, "line 2", "a", "bill", 1, 7, None, ""),
        TheirLine(1, 2, "line 3", "", "'bill", 1, 9, None, ""),
    ]
    names = Names(ours, theirs)
    assert (
        [names.ours(line) for line in ours]
        == [names.theirs(line) for line in theirs]
        == ["o:a", "r:bill"]
    )
