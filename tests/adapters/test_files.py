import contextlib
import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.kit.files import Layout, Table, check_line, read_table, write_table
from schemas.values.faults import SchemaError

ZONE = "Asia/Shanghai"
AT_US = 1_772_413_200_000_000  # 2026-03-02 09:00 in Shanghai


def layout(**changed: Any) -> Layout:
    """A layout of fixed width with every kind of field."""
    fixed = {
        "shape": "fixed",
        "encoding": "gbk",
        "line_end": "\r\n",
        "header": [
            {"name": "mark", "kind": "constant", "value": "H", "start": 1, "width": 1},
            {"name": "day", "kind": "day", "start": 2, "width": 8},
            {"name": "number", "kind": "digits", "start": 10, "width": 4},
        ],
        "line": [
            {
                "name": "step",
                "start": 1,
                "width": 2,
                "codes": {"hold": "10", "release": "12"},
            },
            {"name": "member", "start": 3, "width": 10},
            {"name": "units", "kind": "digits", "start": 13, "width": 9},
            {"name": "price", "kind": "decimal", "scale": 2, "start": 23, "width": 8, "pad": " "},
            {"name": "at", "kind": "instant", "start": 31, "width": 14},
            {"name": "remark", "start": 45, "width": 6, "required": False},
        ],
        "trailer": [
            {"name": "mark", "kind": "constant", "value": "T", "start": 1, "width": 1},
            {"name": "count", "kind": "digits", "start": 2, "width": 6},
            {"name": "units", "kind": "digits", "start": 8, "width": 12},
        ],
    }
    return msgspec.convert(fixed | changed, Layout)


def delimited(**changed: Any) -> Layout:
    """The same with delimiters."""
    whole: dict[str, Any] = msgspec.to_builtins(layout())
    for part in ("header", "line", "trailer"):
        whole[part] = [field | {"start": 0, "width": 0, "pad": ""} for field in whole[part]]
    return msgspec.convert(whole | {"shape": "delimited", "delimiter": "|"} | changed, Layout)


def line(**changed: Any) -> dict[str, Any]:
    """One line that fits."""
    usual = {"step": "hold", "member": "王小明", "units": 300, "price": 1234, "at": AT_US}
    return usual | {"remark": ""} | changed


def table(*lines: dict[str, Any]) -> Table:
    """A file's content."""
    return Table(header={"day": dt.date(2026, 3, 2), "number": 7}, lines=list(lines or [line()]))


def written(kind: Layout, *lines: dict[str, Any]) -> bytes:
    """A file's bytes."""
    return write_table(kind, table(*lines), zone=ZONE, name="F.DAT")


def read(kind: Layout, data: bytes) -> Table:
    """Read them."""
    return read_table(kind, data, zone=ZONE, name="F.DAT")


def test_fixed_width_counts_bytes_of_gbk():
    """A fixed-width line in GBK has its fields at their bytes, two for each Chinese character."""
    data = written(layout())
    assert data == (
        b"H202603020007\r\n"
        b"10" + "王小明".encode("gbk") + b"    000000300    12.3420260302090000      \r\n"
        b"T000001000000000300\r\n"
    )
    assert read(layout(), data) == table()


def test_delimited_lines_are_cut_after_decoding():
    """A character whose second byte looks like the delimiter is no delimiter."""
    name = b"\x81|".decode("gbk")
    data = written(delimited(), line(member=name))
    assert data.count(b"|") == 2 + 5 + 2 + 1
    assert read(delimited(), data).lines[0]["member"] == name


_texts = st.text(
    st.characters(codec="gbk", exclude_characters="\r\n|\x7f", min_codepoint=32),
    min_size=1,
    max_size=5,
).filter(lambda text: text == text.strip(" "))
_lines = st.builds(
    line,
    step=st.sampled_from(["hold", "release"]),
    member=_texts,
    units=st.integers(0, 999_999_999),
    price=st.integers(0, 9_999_999),
    at=st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1_000_000),
    remark=st.sampled_from(["", "备注", "x"]),
)
_layouts = pytest.mark.parametrize("kind", [layout(), delimited()], ids=["fixed", "delimited"])


@_layouts
@settings(max_examples=30)
@given(lines=st.lists(_lines, max_size=4))
def test_what_was_written_is_read(kind, lines):
    """Any lines that fit are read as they were written."""
    assert read(kind, written(kind, *lines) if lines else _empty(kind)).lines == lines


def _empty(kind: Layout) -> bytes:
    return write_table(kind, Table(header=table().header, lines=[]), zone=ZONE, name="F.DAT")


@_layouts
@settings(max_examples=30)
@given(lines=st.lists(_lines, min_size=1, max_size=2), data=st.data())
def test_no_part_of_a_file_is_a_file(kind, lines, data):
    """A file that ends early anywhere is refused; only the last line end may be missing."""
    whole = written(kind, *lines)
    end = data.draw(st.integers(0, len(whole) - 3))
    with pytest.raises(SchemaError):
        read(kind, whole[:end])
    assert read(kind, whole[:-2]) == read(kind, whole)


@_layouts
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(kind, data):
    """Any bytes are a file or a `SchemaError`."""
    for bytes_ in (data, b"H202603020007\r\n" + data + b"\r\nT000001000000000300\r\n"):
        with contextlib.suppress(SchemaError):
            read(kind, bytes_)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b"T000001", b"T000002", "line 4, count"),
        (b"T000002000000000600", b"T000002000000000601", "line 4, units"),
        (b"T0", b"X0", "line 4, mark"),
        (b"H2026", b"H2O26", "line 1, day"),
        (b"H20260302", b"H20260231", "line 1, day"),
        (b"\r\n10", b"\r\n11", "line 2, step"),
        (b"000000300", b"00000030O", "line 2, units"),
        (b"000000300", b"-00000300", "line 2, units"),
        (b"000000300", b"0000003.0", "line 2, units"),
        (b"   12.34", b"   1.234", "line 2, price"),
        (b"   12.34", b"    1234", "line 2, price"),
        (b"   12.34", "  １２.3".encode("gbk"), "line 2, price"),
        (b"20260302090000", b"20260302250000", "line 2, at"),
        (b"20260302090000", b"2026030209000 ", "line 2, at"),
        (b"\xcd\xf5\xd0\xa1\xc3\xf7", b"\xcd\xf5\xd0\xa1\xc3\xff", "line 2, member"),
        (b"\xcd\xf5\xd0\xa1\xc3\xf7", b"      ", "line 2, member"),
        (b"\xcd\xf5\xd0\xa1\xc3\xf7", b"\xcd\xf5\xd0\xa1\xc3\xf7 ", "line 2"),
        (b"\r\n10", b"\n10", "line 1"),
    ],
)
def test_the_first_fault_is_named(old, new, where):
    """A file with one thing wrong is refused whole, by file, line and field, and quotes no value."""
    data = written(layout(), line(), line())
    spoilt = data.replace(old, new, 1)
    if old == b"T000001":
        spoilt = data.replace(b"T000002", b"T000001")
    assert spoilt != data
    with pytest.raises(SchemaError) as refused:
        read(layout(), spoilt)
    assert refused.value.path == f"F.DAT, {where}"
    assert "王小明" not in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"member": ""}, "member"),
        ({"member": "一二三四五六"}, "member"),
        ({"member": "\U0001f600"}, "member"),
        ({"member": "a\nb"}, "member"),
        ({"member": "abc "}, "member"),
        ({"units": 10**9}, "units"),
        ({"units": -1}, "units"),
        ({"step": "credit"}, "step"),
        ({"at": "2026"}, "at"),
    ],
)
def test_what_does_not_fit_is_not_written(changed, where):
    """A value is never cut or replaced to fit its field."""
    with pytest.raises(SchemaError) as refused:
        written(layout(), line(), line(**changed))
    assert refused.value.path == f"F.DAT, line 3, {where}"
    with pytest.raises(SchemaError) as refused:
        check_line(layout(), line(**changed), zone=ZONE, name="call")
    assert refused.value.path == f"call, {where}"


def test_a_value_that_holds_the_delimiter_is_not_written():
    """A delimiter inside a value would shift the fields after it, so it is refused."""
    with pytest.raises(SchemaError) as refused:
        written(delimited(), line(member="a|b"))
    assert refused.value.path == "F.DAT, line 2, member"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"trailer": []}, "count"),
        ({"delimiter": "|"}, "delimiter"),
        ({"shape": "delimited"}, "start"),
        ({"line": [{"name": "a", "start": 1}]}, "no width"),
        (
            {"line": [{"name": n, "start": s, "width": 2} for n, s in (("a", 1), ("b", 2))]},
            "begins inside",
        ),
        ({"line": [{"name": "a", "start": s, "width": 1} for s in (1, 2)]}, "stands twice"),
        ({"line": [{"name": "a", "start": 1, "width": 1, "kind": "constant"}]}, "value"),
        ({"line": [{"name": "a", "start": 1, "width": 1, "scale": 2}]}, "scale"),
        ({"line": [{"name": "a", "start": 1, "width": 1, "codes": {"x": "1", "y": "1"}}]}, "code"),
        ({"encoding": "big5"}, "big5"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(changed, why):
    """Overlaps, doubled names, codes or delimiters, and files without control totals are refused."""
    with pytest.raises(msgspec.ValidationError, match=why):
        layout(**changed)


def test_totals_may_stand_in_the_header():
    """Some merchants announce the totals before the lines; they are checked there."""
    kind = delimited(
        header=[{"name": "count", "kind": "digits"}, {"name": "units", "kind": "digits"}],
        trailer=[],
    )
    data = written(kind, line(), line())
    assert data.startswith(b"2|600\r\n")
    with pytest.raises(SchemaError, match="line 1, units"):
        read(kind, data.replace(b"2|600", b"2|601"))
