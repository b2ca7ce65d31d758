"""The examples of FORMAT.md run, and its tables name what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.files import tables
from schemas.files.manifest import Manifest
from schemas.files.proof import Proof, ProvenEvent
from schemas.files.statement import LINE_FIELDS, STATEMENT_COLUMNS
from schemas.files.trail import read_trail, write_trail
from settlement.core.chain import chain_digest
from settlement.core.event import COLUMNS, Kind

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "schemas" / "FORMAT.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Text of one section."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def namespace() -> dict:
    """What the examples leave behind, run from the project's root."""
    import os

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        names: dict = {}
        for number, block in enumerate(BLOCKS, 1):
            exec(compile(block, f"FORMAT.md, block {number}", "exec"), names)
    finally:
        os.chdir(before)
    return names


def test_every_example_runs(namespace) -> None:
    """They hold their own assertions; none of them imports this project."""
    assert len(BLOCKS) >= 10
    assert not re.search(
        r"^\s*(?:from|import) (?:schemas|settlement|exchange)", "".join(BLOCKS), re.MULTILINE
    )
    assert namespace["flush_2"]


def test_the_flush_chain_is_the_one_that_is_written(namespace) -> None:
    """The described digest is that of the code."""
    event, at_us = namespace["EVENT"], namespace["event"]["at"]
    one = chain_digest(
        bytes(32), event, part=1, flush_no=1, epoch=1, first_seq=2, count=1, at_us=at_us
    )
    assert one == namespace["flush_1"]


def test_the_columns_of_an_event_are_described() -> None:
    """Read down, then right, with the widths of the bytes."""
    cells = [
        re.findall(r"`(\w+)` \| (\w[\w-]*)", row)
        for row in section("Event").splitlines()
        if row.startswith("| `")
    ]
    described = [row[column] for column in range(3) for row in cells]
    assert [name for name, _ in described] == list(COLUMNS)
    widths = [int(width) for _, width in described[:-1]]
    assert widths == [8] * 12 + [16] * 2 + [4] * 5 + [2] * 4


def test_the_kinds_of_events_are_described() -> None:
    """Each with its permanent number."""
    text = " ".join(section("Event").split())
    for kind in Kind:
        assert f"{kind.value} {kind.name.lower().replace('_', ' ')}" in text


@pytest.mark.parametrize(
    ("title", "columns"),
    [
        ("positions.csv", tables.POSITION_COLUMNS),
        ("obligations.csv", tables.OBLIGATION_COLUMNS),
        ("instructions.csv", tables.INSTRUCTION_COLUMNS),
        ("Statements", STATEMENT_COLUMNS),
    ],
)
def test_the_columns_of_each_csv_are_described(title: str, columns: tuple[str, ...]) -> None:
    """All of them, in their order."""
    names = [column.split(" ")[0] for column in columns]
    text = section(title).partition("**msgpack**")[0]
    found = [name for name in re.findall(r"`(\w+)`", text) if name in names]
    assert [name for place, name in enumerate(found) if name not in found[:place]] == names or (
        title == "Statements" and all(f"`{name}`" in text for name in names)
    )


def test_the_fields_of_lines_manifest_and_proof_are_described() -> None:
    """No field of the wire records goes without a word."""
    for title, names in (
        ("Statements", LINE_FIELDS),
        ("manifest.json", Manifest.__struct_fields__),
        ("Proof file", (*Proof.__struct_fields__, *ProvenEvent.__struct_fields__)),
    ):
        for name in names:
            assert f"`{name}`" in section(title), (title, name)


def test_the_trail_is_the_one_that_is_written(namespace) -> None:
    """The described lines are those of the code, and reading them gives the chain that the example recomputes."""
    lines = namespace["TRAIL"].encode().splitlines(keepends=True)
    read = list(read_trail(lines))
    assert list(write_trail(read)) == lines
    assert read[-1][1] == namespace["previous"]
