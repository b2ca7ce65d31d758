"""Lines read out of the binary stream, and the two forms in which a statement shows them."""

from __future__ import annotations

import csv
import io
import struct
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.files.csv_text import plain_text, text_field
from schemas.files.statement import (
    CSV_HEAD,
    STATEMENT_COLUMNS,
    csv_line,
    csv_totals,
    read_line,
    read_totals,
)
from schemas.values.ids import order_text
from settlement.core.event import EPOCH_2000_US, Event, repack_event
from settlement.core.line import LineReader, event_bytes_of
from settlement.render.statements import StatementsHead, StatementsWriter
from settlement.signing.merkle import leaf_hash

AT = 1_483_315_200_000_000
LONG = st.integers(-(2**60), 2**60)
INT = st.integers(1, 2**31 - 1)
INSTANT = st.integers(0, 4_000_000_000_000_000)


TEXT = st.text().map(lambda text: text.replace("\0", ""))
DIGEST = st.binary(min_size=16, max_size=16)
COLUMN = {
    "member_no": LONG, "units": LONG, "debit_cu": LONG, "value_cu": LONG, "fee_cu": LONG,
    "credited_units": LONG, "lot_no": LONG, "key": DIGEST, "body": DIGEST, "cycle_no": INT,
    "caller": INT, "issuer": st.integers(1, 3), "acceptor": st.integers(4, 6),
    "rate_no": st.integers(0, 1), "part": st.integers(0, 4095), "kind": st.sampled_from([3, 6]),
    "step": st.integers(0, 9), "reason": st.integers(0, 99), "reference": TEXT,
    "at_us": INSTANT, "occurred_at_us": INSTANT, "due_at_us": INSTANT,
}  # fmt: skip
PLAIN: dict[str, Any] = dict.fromkeys(Event.__struct_fields__, 1) | {
    "key": bytes(16), "body": bytes(16), "reference": "",
}  # fmt: skip


@st.composite
def events(draw) -> tuple[int, Event]:
    """An event that is a line, and the instant of its order's first event."""
    seq = draw(st.integers(1, 2**61))
    columns: dict[str, Any] = draw(st.fixed_dictionaries(COLUMN))
    order_seq = draw(st.sampled_from([0, seq, 1]))
    return draw(INSTANT), Event(seq=seq, order_seq=order_seq, **columns)


def stream_of(rows: list[tuple[int, Event]]) -> bytes:
    """The binary COPY of these rows."""
    return (
        b"PGCOPY\n\xff\r\n\0" + bytes(8)
        + b"".join(
            struct.pack(">hiq", 25, 8, first - EPOCH_2000_US) + repack_event(event)[2:]
            for first, event in rows
        )
        + b"\xff\xff"
    )  # fmt: skip


@given(st.lists(events(), max_size=5), st.integers(1, 400))
def test_a_line_is_its_event_wherever_the_pieces_end(rows, step: int) -> None:
    """Leaf, id and figures are those of the event, however the stream was cut."""
    stream = stream_of(rows)
    reader = LineReader()
    lines = [
        line
        for start in range(0, len(stream), step)
        for line in reader.feed(stream[start : start + step])
    ]
    reader.close()
    assert lines == [
        (
            leaf_hash(repack_event(event)),
            order_text(first, event.part, event.order_seq or event.seq),
            event.seq, event.at_us, event.occurred_at_us, event.units, event.debit_cu,
            event.value_cu, event.fee_cu, event.cycle_no, event.issuer, event.acceptor,
            event.rate_no, event.kind, event.reference,
        )
        for first, event in rows
    ]  # fmt: skip
    if len(rows) == 1:
        assert event_bytes_of(stream) == repack_event(rows[0][1])
    else:
        assert event_bytes_of(stream) is None


def test_a_stream_that_is_cut_short_or_foreign_is_a_fault() -> None:
    """A connection that broke must not look like a cycle that ended."""
    event = Event(**PLAIN)
    stream = stream_of([(AT, event)])
    for end in (0, 5, len(stream) - 1, len(stream) - 2, len(stream) - 40):
        reader = LineReader()
        reader.feed(stream[:end])
        with pytest.raises(ValueError, match="cut short"):
            reader.close()
    with pytest.raises(ValueError, match="not a binary COPY"):
        LineReader().feed(b"x" * 40)
    with pytest.raises(ValueError, match="24 columns"):
        LineReader().feed(stream[:19] + struct.pack(">hiq", 24, 8, 0) + repack_event(event)[2:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows=st.lists(events(), min_size=1, max_size=6))
def test_both_forms_show_the_line(tmp_path_factory, rows) -> None:
    """The CSV is the function `csv_line` of the msgpack, for every figure and every text."""
    folder: Path = tmp_path_factory.mktemp("statements")
    codes = {number: f"M{number}" for number in range(1, 7)}
    writer = StatementsWriter(
        folder,
        head=StatementsHead(cycle_id="c", cycle_no=1, sequence=1),
        codes=codes,
        rates={1: (37, 10)},
    )
    reader = LineReader()
    writer.write(reader.feed(stream_of(rows)))
    facts = {one.path: one for one in writer.finish()}
    for path in folder.glob("*.msgpack"):
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(path.read_bytes())
        head, *objects, totals = unpacker
        assert head["merchant"] == path.stem
        lines = [read_line(one, number) for number, one in enumerate(objects, 1)]
        text = CSV_HEAD + "".join(map(csv_line, lines)) + csv_totals(read_totals(totals, 0))
        data = path.with_suffix(".csv").read_bytes()
        assert data.decode() == text
        assert facts[f"statements/{path.stem}.csv"].bytes == len(data)
        table = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert table[0] == list(STATEMENT_COLUMNS)
        assert [plain_text(row[1]) for row in table[1:-3]] == [line.reference for line in lines]
        assert [int(row[13]) for row in table[1:-3]] == [line.net_cu for line in lines]
        assert int(table[-1][13]) == sum(line.net_cu for line in lines) == totals["net_cu"]


@given(TEXT)
def test_no_text_becomes_a_formula_and_every_text_comes_back(text: str) -> None:
    """A field never begins as a formula does, and reading takes back what was added."""
    (row,) = csv.reader(io.StringIO(f"{text_field(text)},end\r\n", newline=""), strict=True)
    assert row[1] == "end"
    assert not row[0].startswith(tuple("=+-@\t\r\n＝＋－＠"))
    assert plain_text(row[0]) == text


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("bon-1", "bon-1"),
        ("=1+1", "'=1+1"),
        ("-1", "'-1"),
        ("'x", "''x"),
        ('a"b', '"a""b"'),
        ("a,b", '"a,b"'),
        ("a\nb", '"a\nb"'),
        ("@x,y", '"\'@x,y"'),
        ("＝1", "'＝1"),
        ("面,食", '"面,食"'),
    ],
)
def test_fields_by_example(text: str, field: str) -> None:
    """Formulas, quotes and apostrophes, example by example."""
    assert text_field(text) == field
