"""Reversals in packages: lines, rows, totals, verification and proofs, over two cycles."""

from __future__ import annotations

import csv
import io
import json

from schemas.values.ids import order_id
from settlement.core.command import Reverse
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


async def test_packages_show_what_was_taken_back(dsn, tmp_path):
    """Rules V3 and N11: a reversal stands in the cycle in which it was written, beside the pair's orders.

    A cycle that only takes back is paid the other way round. Both packages verify and give files for people and
    banks, the reversal has a proof, and a forged row is found.
    """
    keyring = golden_keyring(tmp_path / "keys")
    async with open_house(dsn, terms("air", hosted=False), terms("eye")) as house:
        eye = house.numbers["eye"]

        def part(order_seq: int, units: int) -> Reverse:
            return Reverse(
                caller=eye,
                key=new_key(),
                body=BODY,
                order_seq=order_seq,
                units=units,
                reference="r",
            )

        order = await house.one(
            order_of(house, "air", "eye", 1_001, units=10, value_cu=999, fee_cu=5, reference="till")
        )
        taken = [await house.one(part(order.seq, units)) for units in (1, 2)]
        await house.close_cycle(1, "second")
        taken.append(await house.one(part(order.seq, 0)))
        await house.close_cycle(2, "third")
        packages = [
            await cut_batch(house.pool, cycle_no=no, keyring=keyring, out=tmp_path / "out")
            for no in (1, 2)
        ]
        late = order_id(taken[2].at_us, 1, taken[2].seq)
        proof = await prove_order(house.pool, order_id=late, keyring=keyring)
        await assert_audits_clean(house.pool)
    first, second = (each.folder for each in packages if isinstance(each, CutBatch))
    for folder, previous in ((first, None), (second, first)):
        report = verify_package(folder, trusted=TRUSTED, previous=previous)
        assert isinstance(report, Report)
        assert report.failed == []
        package = open_package(folder, trusted=TRUSTED, parties=None)
        files = write_files(plan_renderings(package, Wanted(kinds=SMALL)), tmp_path / "files")
        assert {one.path for one in files.files} >= {"air/vouchers.csv", "eye/vouchers.csv"}
    assert [
        (row["orders"], row["debit_cu"], row["value_cu"], row["fee_cu"])
        for row in rows(first / "obligations.csv")[:-1]
    ] == [("1", "1001", "999", "5"), ("-2", "-300", "-299", "-1")]
    assert [int(row["debit_cu"]) for row in rows(second / "obligations.csv")[:-1]] == [-701]
    assert {row["party"]: int(row["net_cu"]) for row in rows(second / "positions.csv")[:-1]} == {
        "air": 701, "eye": -696, "HOUSE:fees": -4, "HOUSE:rounding": -1,
    }  # fmt: skip
    name = str(order_id(order.at_us, 1, order.seq))
    lines = rows(first / "statements/eye.csv")[:-3] + rows(second / "statements/eye.csv")[:-3]
    assert {row["order"] for row in lines} == {name}
    assert [row["kind"] for row in lines] == ["cleared", *["reversed"] * 3]
    assert sum(int(row["net_cu"]) for row in lines) == 0
    manifest = json.loads((second / "manifest.json").read_bytes())
    assert manifest["totals"]["gross_cu"] == "0"
    assert manifest["totals"]["reversed"] == {
        "reversals": 1, "gross_cu": "701", "value_cu": "700", "fee_cu": "4", "rounding_cu": "1",
    }  # fmt: skip
    assert manifest["netting"]["saved_bilateral_cu"] == "0"
    assert isinstance(proof, bytes)
    assert json.loads(proof)["event"]["reverses_seq"] == order.seq
    assert verify_proof(proof, trusted=TRUSTED).exit_status == 0
    edit(first / "obligations.csv", "-2,", "-3,")
    resign(first)
    report = verify_package(first, trusted=TRUSTED)
    assert isinstance(report, Report)
    assert "statements" in report.failed or "control_totals" in report.failed
