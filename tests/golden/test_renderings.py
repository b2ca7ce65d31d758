"""Files for people and banks, made of the committed packages: the set, its list, and what is refused."""

import hashlib
import io
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from schemas.files.parties import parse_parties
from schemas.files.programmes import parse_programmes
from schemas.files.renderings import RENDERINGS, write_renderings
from schemas.files.tables import (
    InstructionRow,
)
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed
from settlement.service.renderings import (
    RenderingRefused,
    Wanted,
    plan_renderings,
)
from tests.golden.packages import FIRST, FOLDER, SECOND, edit, files_of
from tests.golden.renderings import (
    PARTIES,
    RENDERINGS_FOLDER,
    SMALL,
    make,
    opened,
)


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_every_file_names_the_manifest(made: SimpleNamespace, cycle: str):
    """Rule F9: each file holds the digest of its package's manifest, or (a bank's form) the batch's id."""
    digest = hashlib.sha256((FOLDER / cycle / "manifest.json").read_bytes()).hexdigest()
    assert made.listed[cycle].manifest_sha256 == digest
    for one in made.listed[cycle].files:
        data = (made.folder / cycle / one.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one.bytes, one.sha256)
        if one.path.endswith(".xlsx"):
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                data = parts.read("docProps/core.xml")
        if one.path.endswith(("bank.csv", "dictionary.csv")):
            continue  # a bank's form has a test of its own; the dictionary is the same for all
        assert digest.encode() in data, one.path


def test_files_are_made_again_byte_for_byte(made: SimpleNamespace, tmp_path: Path):
    """Rule F10: whoever has the package and the parties' file makes the same bytes."""
    again = make(
        FOLDER / FIRST,
        tmp_path / "again",
        merchants=("NOODLES",),
        kinds=("xlsx", "vouchers", "payments"),
    )
    first = {one.path: one for one in made.listed[FIRST].files}
    assert {one.path for one in again.files} == {
        path for path in first if path.startswith("NOODLES/")
    } | {"dictionary.csv"}
    assert all(first[one.path] == one for one in again.files)
    assert (tmp_path / "again" / RENDERINGS).read_bytes() == write_renderings(again)


def test_small_files_are_the_committed_bytes(tmp_path: Path):
    """Vouchers, invoices, messages, forms, dictionary and list are byte for byte what is committed."""
    make(FOLDER / FIRST, tmp_path / "made", kinds=SMALL)
    assert files_of(tmp_path / "made") == files_of(RENDERINGS_FOLDER / FIRST)


def test_a_merchant_makes_its_files_of_its_own_part(package: Path, tmp_path: Path):
    """Rule F9: manifest, signatures, instructions and the own statement are enough."""
    for path in [*(package / "statements").glob("*.csv"), *package.glob("[op]*.csv")]:
        path.unlink()
    for merchant in ("AIR", "SPECTACLES"):
        (package / f"statements/{merchant}.msgpack").unlink()
    listed = make(package, tmp_path / "own", merchants=("NOODLES",), kinds=("vouchers",))
    assert {one.path.split("/")[0] for one in listed.files} == {"NOODLES", "dictionary.csv"}
    with pytest.raises(CheckFailed, match=r"AIR\.msgpack is missing"):
        plan_renderings(opened(package), Wanted())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda package: edit(package / "instructions.csv", "0.84", "0.85"), "instructions.csv is not"),
        (lambda package: edit(package / "manifest.json", '"sequence":1', '"sequence":2'), "manifest.sig is not"),
        (lambda package: (package / "statements/AIR.msgpack").write_bytes(b"\x80"), "AIR.msgpack is not"),
        (lambda package: shutil.rmtree(package / "statements"), "AIR.msgpack is missing"),
    ],
    ids=["instructions", "manifest", "statement", "gone"],
)  # fmt: skip
def test_what_was_not_signed_is_not_shown(
    package: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
):
    """Rule F9: of a package that is not what was signed no file is made."""
    spoil(package)
    with pytest.raises(CheckFailed, match=said):
        make(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_stays(tmp_path: Path):
    """Files made earlier are replaced; a folder that holds anything else is not touched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(RenderingRefused, match="holds something else"):
        make(FOLDER / FIRST, tmp_path / "out", kinds=("vouchers",))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    for _ in range(2):
        make(FOLDER / FIRST, tmp_path / "own", kinds=("vouchers",))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "own"}


def test_merchants_must_be_there(package: Path):
    """A merchant without a statement, or without a place in the parties' file, is named."""
    with pytest.raises(RenderingRefused, match="HOTEL has no statement"):
        plan_renderings(opened(package), Wanted(merchants=("HOTEL",)))
    parties = parse_parties(PARTIES.replace(b'code = "AIR"', b'code = "AIRLINE"'))
    with pytest.raises(RenderingRefused, match="does not name AIR"):
        plan_renderings(opened(package, parties=parties), Wanted())


def test_nobody_pays_before_the_cycle_ended():
    """A day of payment before the cycle's last is a slip: it is refused, and the day of the end is told."""
    package = opened(FOLDER / FIRST, parties=parse_parties(PARTIES))
    plan_renderings(package, Wanted(kinds=("payments",), pay_on=date(2017, 1, 2)))
    with pytest.raises(RenderingRefused, match="the cycle ended on 2017-01-02"):
        plan_renderings(package, Wanted(kinds=("payments",), pay_on=date(2017, 1, 1)))


def test_without_parties_it_says_what_is_left_out():
    """Nothing is asked for that a package does not hold; what needs bank accounts is left out, and that is said."""
    plan = plan_renderings(opened(FOLDER / FIRST), Wanted())
    assert len(plan.left_out) == 2
    assert not [
        path for path in plan.files if "pain" in path or "bank" in path or "invoice" in path
    ]


def test_a_cycle_without_lines_has_the_dictionary_alone():
    """Rule K33: a package without statements and payments gives files, too: none that pays nothing."""
    package = opened(FOLDER / FIRST, parties=parse_parties(PARTIES))
    manifest = package.batch.manifest
    nothing = InstructionRow(
        party="HOUSE:settlement", pay_fen=0, net_cu=0, carry_before_cu=-70, carry_after_cu=-70
    )
    batch = replace(
        package.batch,
        manifest=msgspec.structs.replace(
            manifest,
            files=[],
            netting=msgspec.structs.replace(manifest.netting, parties=[]),
        ),
        instructions={nothing.party: nothing},
    )
    plan = plan_renderings(replace(package, batch=batch), Wanted())
    assert list(plan.files) == ["dictionary.csv"]


def test_the_demo_has_parties():
    """The demo's file of parties names every merchant of the demo's programmes."""
    demo = Path(__file__).parents[2] / "deploy/demo"
    programmes = parse_programmes((demo / "programmes.toml").read_text(encoding="utf-8"))
    parties = parse_parties((demo / "parties.toml").read_bytes())
    assert {one.code for one in parties.merchant} == {one.code for one in programmes.programme}


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('cnaps = "102290000011"', 'cnaps = "10229000001"', "$.house.account.cnaps"),
        ('cnaps = "102290000011"', "cnaps = 102290000011", "$.house.account.cnaps"),
        ('code = "NOODLES"', 'code = "AIR"', "$.merchant[1].code"),
        ('entity = "老街面馆一号店有限公司"', "", "$.merchant[1].outlet[0]"),
        ("rate_bps = 600", "rate_bps = 600\ncolour = 1", "$.house.invoice"),
        ("[house]", "[house", "$"),
        ('name = "老街面馆有限公司"', 'name = "老街面馆有限公司 "', "$.merchant[1].name"),
        ('name = "老街面馆有限公司"', 'name = "老街\u202e面馆"', "$.merchant[1].name"),
    ],
)
def test_parties_are_refused_with_the_place(old: str, new: str, place: str):
    """A malformed file of parties is refused with the path of the field."""
    with pytest.raises(SchemaError) as refused:
        parse_parties(PARTIES.decode().replace(old, new, 1).encode())
    assert refused.value.path == place
    assert not re.search("regex|`str`", str(refused.value))
