"""Forgeries by somebody who holds the key: signed anew, and found out by the figures themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from settlement.core.report import Status
from settlement.service.verification import verify_package
from settlement.signing.merkle import MerkleTree
from settlement.signing.signature import sign
from tests.golden.packages import (
    FIRST,
    FOLDER,
    KEY,
    SECOND,
    TRUSTED,
    edit,
    failed,
    lines_of,
    manifest_of,
    resign,
    write_lines,
)


def test_a_signed_manifest_that_is_not_canonical_fails(package: Path) -> None:
    """The same JSON in other bytes is not what is agreed to be signed."""
    data = json.dumps(manifest_of(package)).encode()
    (package / "manifest.json").write_bytes(data)
    (package / "manifest.sig").write_bytes(sign(KEY, data))
    assert "manifest" in failed(package)


def test_an_unknown_format_fails(package: Path) -> None:
    """A version that is not known is refused, not guessed at."""
    resign(package, format="tongdui-package/2")
    assert "manifest" in failed(package)


def test_a_broken_chain_fails(packages: Path) -> None:
    """The package before must be the one that is named: another one, or a changed one, is not."""
    second = packages / SECOND
    before = manifest_of(second)["previous"]
    resign(packages / FIRST, cycle=manifest_of(packages / FIRST)["cycle"] | {"cut_off_at": None})
    assert failed(second) == ["chain"]
    shutil.rmtree(packages / FIRST)
    report = verify_package(second, trusted=TRUSTED)
    assert report.ok
    chain = next(check for check in report.checks if check.name == "chain")
    assert chain.status is Status.NOT_CHECKED
    assert failed(second, previous=FOLDER / FIRST) == []
    assert failed(second, previous=FOLDER / SECOND) == ["chain"]
    assert failed(second, previous=packages / "nowhere") == ["chain"]
    shutil.copytree(FOLDER / FIRST, packages / FIRST)
    resign(second, sequence=3)
    assert failed(second)[0] == "chain"
    resign(second, sequence=2, previous=before | {"manifest_sha256": "11" * 32})
    assert failed(second) == ["chain"]
    resign(second, sequence=1, previous=before)
    assert failed(second)[0] == "chain"


def test_a_head_that_goes_back_breaks_the_chain(packages: Path) -> None:
    """The journal's own chain never gets shorter from one package to the next."""
    second = packages / SECOND
    old = manifest_of(packages / FIRST)["chain_heads"][0]
    for head in (old | {"flush_no": 1}, old | {"last_seq": 1}, old | {"digest": "22" * 32}):
        resign(second, chain_heads=[head])
        assert failed(second) == ["chain"], head
    resign(second, chain_heads=[])
    assert failed(second) == ["chain"]


def test_positions_that_do_not_sum_to_zero_fail(package: Path) -> None:
    """One CU more for one party, with the row of totals set right and everything signed."""
    edit(
        package / "positions.csv", "0.8459,8459,2,3780,1,12300,61", "0.8460,8460,2,3780,1,12301,61"
    )
    edit(
        package / "positions.csv",
        "1.1821,1.1821,0,4,16575,4,16656",
        "1.1821,1.1822,1,4,16575,4,16657",
    )
    resign(package)
    names = failed(package)
    assert "positions_sum_to_zero" in names
    assert "positions_follow_obligations" in names
    assert not {"signature", "jws", "files", "manifest"} & set(names)


def test_a_table_whose_totals_are_wrong_fails(package: Path) -> None:
    """The row of totals, and every derived column, is part of what is checked."""
    edit(package / "obligations.csv", ",16575,16526,81,49", ",16575,16526,81,50")
    resign(package)
    assert "positions_follow_obligations" in failed(package)


def test_figures_moved_between_two_parties_fail(package: Path) -> None:
    """Positions that sum to zero but are not what the obligations come to."""
    edit(
        package / "positions.csv", "0.8459,8459,2,3780,1,12300,61", "0.8460,8460,2,3780,1,12301,61"
    )
    edit(package / "positions.csv", "0.3232,3232,1,450,1,3700,18", "0.3231,3231,1,450,1,3699,18")
    resign(package)
    assert set(failed(package)) == {"positions_follow_obligations", "instructions", "statements"}


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("totals", "gross_cu", "16576"),
        ("totals", "bilateral_net_cu", "1"),
        ("totals", "multilateral_net_cu", "11820"),
        ("totals", "fee_cu", "80"),
        ("totals", "rounding_cu", "50"),
        ("counts", "orders", 5),
        ("counts", "statements", 2),
        ("netting", "saved_bilateral_cu", "155"),
        ("netting", "saved_multilateral_cu", "0"),
    ],
)
def test_control_totals_that_do_not_add_up_fail(package: Path, table, key, value) -> None:
    """Every total of the manifest is made anew from the tables."""
    resign(package, **{table: manifest_of(package)[table] | {key: value}})
    assert "control_totals" in failed(package)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.84,84,8459,0,59", "0.85,85,8459,0,-41"),
        ("0.84,84,8459,0,59", "0.84,84,8459,1,60"),
        ("0.84,84,8459,0,59", "0.83,83,8459,0,159"),
    ],
)
def test_instructions_against_the_fen_rule_fail(package: Path, old: str, new: str) -> None:
    """Truncation toward zero, and the rest carried: nothing else is accepted."""
    path = package / "instructions.csv"
    edit(path, old, new)
    rows = path.read_text("utf-8-sig").splitlines()
    paid = sum(int(row.split(",")[3]) for row in rows[1:-2])
    before = sum(int(row.split(",")[5]) for row in rows[1:-2])
    after = sum(int(row.split(",")[6]) for row in rows[1:-2])
    house = f"HOUSE:settlement,0.00,0.0{-paid},{-paid},130,{-before},{-after}"
    inward = sum(max(0, -int(row.split(",")[3])) for row in [*rows[1:-2], house])
    total = f"TOTAL 合计,{inward / 100:.2f},{inward / 100:.2f},0,0,0,0"
    path.write_bytes(("\ufeff" + "\r\n".join([*rows[:-2], house, total, ""])).encode())
    resign(package)
    assert failed(package) == ["instructions"]


def test_carries_that_do_not_go_on_from_the_package_before_fail(packages: Path) -> None:
    """What the package before left over is what this one begins with."""
    second = packages / SECOND
    edit(second / "instructions.csv", "0,20,59,79", "0,20,58,78")
    edit(second / "instructions.csv", "0,7,-70,-63", "0,7,-69,-62")
    resign(second)
    assert failed(second) == ["instructions"]


def test_a_statement_whose_two_forms_differ_fails(package: Path) -> None:
    """CSV and msgpack say the same, to the last character."""
    edit(package / "statements/AIR.csv", "bon-1", "bon-2")
    resign(package)
    assert failed(package) == ["statement_forms"]


@pytest.mark.parametrize("tail", [b"x", b"TOTAL\r\n"])
def test_a_statement_with_more_text_fails(package: Path, tail: bytes) -> None:
    """Nothing may stand after the totals."""
    path = package / "statements/AIR.csv"
    path.write_bytes(path.read_bytes() + tail)
    resign(package)
    assert failed(package) == ["statement_forms"]


def test_a_line_with_another_figure_fails(package: Path) -> None:
    """A line that was changed together with its totals does not sum to the obligation."""
    path = package / "statements/AIR.msgpack"
    objects = lines_of(path)
    objects[1][12] -= 1
    objects[1][15] -= 1
    objects[-1]["issuer"]["gross_cu"] -= 1
    objects[-1]["issuer"]["net_cu"] -= 1
    objects[-1]["net_cu"] -= 1
    write_lines(path, objects)
    resign(package)
    assert {"statements", "statement_forms"} <= set(failed(package))


def test_a_line_that_is_left_out_fails(package: Path) -> None:
    """A statement that hides a line, with its totals set right, is found out."""
    path = package / "statements/AIR.msgpack"
    objects = lines_of(path)
    line = objects.pop(3)
    objects[-1]["issuer"]["lines"] -= 1
    for key, place in (("gross_cu", 12), ("net_cu", 15)):
        objects[-1]["issuer"][key] -= line[place]
    objects[-1]["net_cu"] -= line[15]
    write_lines(path, objects)
    resign(package)
    assert "statements" in failed(package)


def test_a_leaf_hash_that_was_changed_fails(package: Path) -> None:
    """Both sides of a line show the same hash, and the hashes lead to the signed root."""
    for name, number in (("AIR", 1), ("NOODLES", 1)):
        path = package / f"statements/{name}.msgpack"
        objects = lines_of(path)
        objects[number][1] = bytes(32)
        write_lines(path, objects)
        resign(package)
        assert failed(package) == (["leaf_count"] if name == "AIR" else ["merkle_root"])


def test_lines_out_of_order_or_doubled_fail(package: Path) -> None:
    """Lines stand in the journal's order, each once."""
    path = package / "statements/AIR.msgpack"
    objects = lines_of(path)
    write_lines(path, [objects[0], objects[2], objects[1], *objects[3:]])
    resign(package)
    assert "statements" in failed(package)


@pytest.mark.parametrize("claim", [3, 5, 100, 2**40])
def test_a_wrong_leaf_count_fails(package: Path, claim: int) -> None:
    """A tree of another size is refused, and none is built that the files could not fill."""
    resign(package, merkle=manifest_of(package)["merkle"] | {"leaf_count": claim})
    assert "leaf_count" in failed(package)


def test_another_root_fails(package: Path) -> None:
    """The root is made anew from the lines."""
    root = MerkleTree().root().hex()
    resign(package, merkle=manifest_of(package)["merkle"] | {"root": root})
    assert failed(package) == ["merkle_root"]


def test_a_statement_of_another_merchant_fails(package: Path) -> None:
    """A statement says whose it is, and of which package."""
    shutil.copy(package / "statements/AIR.msgpack", package / "statements/NOODLES.msgpack")
    resign(package)
    assert "statements" in failed(package)


def test_a_merchant_without_a_statement_fails(package: Path) -> None:
    """Everybody who has an obligation has a statement."""
    for form in ("csv", "msgpack"):
        (package / f"statements/AIR.{form}").unlink()
    resign(package)
    assert "statements" in failed(package)


def test_a_party_may_not_change_its_number(package: Path) -> None:
    """Numbers tie the journal's bytes to the parties' names, so they are signed and unique."""
    netting = manifest_of(package)["netting"]
    netting["parties"][0]["no"] = netting["parties"][1]["no"]
    resign(package, netting=netting)
    assert "control_totals" in failed(package)


def test_a_line_moved_to_another_counterparty_fails(package: Path) -> None:
    """Totals and figure of the merchant are the same; only the pairs tell."""
    path = package / "statements/AIR.msgpack"
    objects = lines_of(path)
    objects[1][8] = "SPECTACLES"
    write_lines(path, objects)
    edit(package / "statements/AIR.csv", "issuer,NOODLES,1001", "issuer,SPECTACLES,1001")
    resign(package)
    assert failed(package) == ["statements"]


@pytest.mark.parametrize("tail", [b"\xd9", b"\xc0", b"\x81\xa1"])
def test_bytes_after_the_totals_fail(package: Path, tail: bytes) -> None:
    """Nothing may follow, neither a whole object nor the beginning of one."""
    path = package / "statements/AIR.msgpack"
    path.write_bytes(path.read_bytes() + tail)
    resign(package)
    assert "statements" in failed(package)
