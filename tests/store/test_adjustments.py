"""Adjustments in packages: the closed one stays, and the next one holds the correction with its link."""

from __future__ import annotations

import csv
import io
import json

from schemas.values.ids import order_id
from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.adjustment import Link, read_link
from settlement.core.command import Adjust, Reverse
from settlement.core.event import Kind
from settlement.core.report import Report
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.package_reading import open_package
from settlement.service.proofs import prove_order
from settlement.service.renderings import Wanted, plan_renderings, write_files
from settlement.service.verification import verify_package, verify_proof
from tests.golden.packages import TRUSTED, edit, golden_keyring, resign
from tests.golden.renderings import SMALL
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import BODY, new_key, open_house, order_of, terms


def rows(path) -> list[dict[str, str]]:
    """A table of a package, by the English names of its columns."""
    table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
    return [{name.split(" ")[0]: value for name, value in row.items()} for row in table]


async def test_a_closed_package_never_changes_and_the_next_one_names_what_it_corrects(
    dsn, tmp_path
):
    """Rules J1 to J4: a correction is a line of the next package, linked to the line in the one before.

    Both packages verify and give files; the books stay whole; the correction has a proof of its own that names the
    line; a reversal afterwards takes what is left and no more; what takes more back than there is, is refused.
    """
    keyring = golden_keyring(tmp_path / "keys")
    async with open_house(dsn, terms("air", hosted=False), terms("eye")) as house:
        air, eye = house.numbers["air"], house.numbers["eye"]

        def adjust(
            order_seq: int, debit: int, value: int, fee: int, reference: str = "D1"
        ) -> Adjust:
            return Adjust(0, new_key(), BODY, order_seq, air, eye, debit, value, fee, reference)

        order = await house.one(
            order_of(house, "air", "eye", 1_001, units=10, value_cu=999, fee_cu=5, reference="till")
        )
        await house.close_cycle(1, "second")
        cut = await cut_batch(house.pool, cycle_no=1, keyring=keyring, out=tmp_path / "out")
        assert isinstance(cut, CutBatch)
        before = {path: path.read_bytes() for path in cut.folder.rglob("*") if path.is_file()}
        back = await house.one(adjust(order.seq, -98, -99, -1))
        more = await house.one(adjust(0, 50, 40, 2, reference="fine"))
        refused = await house.one(adjust(order.seq, -904, -900, -4))
        await house.one(adjust(order.seq, -3, 0, 0))
        share = await house.one(Reverse(eye, new_key(), BODY, order.seq, 3))
        rest = await house.one(Reverse(eye, new_key(), BODY, order.seq, 0))
        await house.close_cycle(2, "third")
        second = await cut_batch(house.pool, cycle_no=2, keyring=keyring, out=tmp_path / "out")
        assert isinstance(second, CutBatch)
        proof = await prove_order(
            house.pool, order_id=order_id(back.at_us, 1, back.seq), keyring=keyring
        )
        await assert_audits_clean(house.pool)
        postings = await house.pool.fetchval("SELECT sum(cu) FROM settlement.posting")
    assert postings == 0
    assert REASON_BY_NUMBER[refused.reason].code == "adjustment_exceeds_order"
    assert (share.debit_cu, share.value_cu, share.fee_cu) == (-270, -270, -1)
    assert (share.debit_cu + rest.debit_cu, share.value_cu + rest.value_cu) == (-900, -900)
    assert share.fee_cu + rest.fee_cu == -4
    for folder, previous in ((cut.folder, None), (second.folder, cut.folder)):
        report = verify_package(folder, trusted=TRUSTED, previous=previous)
        assert isinstance(report, Report)
        assert report.failed == []
        package = open_package(folder, trusted=TRUSTED, parties=None)
        files = write_files(plan_renderings(package, Wanted(kinds=SMALL)), tmp_path / "files")
        assert {one.path for one in files.files} >= {"air/vouchers.csv", "eye/vouchers.csv"}
    assert {path: path.read_bytes() for path in before} == before
    [line] = rows(cut.folder / "statements/eye.csv")[:-3]
    lines = rows(second.folder / "statements/eye.csv")[:-3]
    name = str(order_id(order.at_us, 1, order.seq))
    assert [row["kind"] for row in lines] == [*["adjusted"] * 3, *["reversed"] * 2]
    assert [row["order"] == name for row in lines] == [True, False, True, True, True]
    assert [row["reference"] for row in lines[:3]] == [
        f"#1/{order.seq} D1", "fine", f"#1/{order.seq} D1",
    ]  # fmt: skip
    assert read_link(lines[0]["reference"]) == Link(1, order.seq)
    assert line["order"] == name
    assert int(line["net_cu"]) + sum(int(row["net_cu"]) for row in lines) == 40 - 2
    assert [int(row["debit_cu"]) for row in rows(second.folder / "obligations.csv")[:-1]] == [
        50, -1001,
    ]  # fmt: skip
    assert isinstance(proof, bytes)
    told = json.loads(proof)["event"]
    assert (told["corrects_cycle_no"], told["corrects_seq"]) == (1, order.seq)
    assert verify_proof(proof, trusted=TRUSTED).exit_status == 0
    forged = proof.replace(b'"corrects_cycle_no": 1', b'"corrects_cycle_no": 2')
    assert verify_proof(forged, trusted=TRUSTED).exit_status == 1
    edit(second.folder / "obligations.csv", "-5,", "-4,")
    resign(second.folder)
    report = verify_package(second.folder, trusted=TRUSTED)
    assert isinstance(report, Report)
    assert report.failed
    assert more.kind == Kind.ADJUSTED
