"""Reports over HTTP: finance people get all of them in every form, a merchant its own alone."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import openpyxl
import pytest

from schemas.wire.reports import ReportAnswer
from tests.gateway.conftest import AIR, House, shared
from tests.gateway.test_people import bearer

ADMIN = "/v1/admin/reports"
BOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def auditor(house: House) -> str:
    """An auditor who signed in, in a house in which Anna spent ten miles."""
    if "auditor" not in house.keys:
        made = await bearer(house, "auditor", "auditor")
        house.keys["auditor"] = (await made.sign_in()).body["token"]
        assert (await house.order(AIR | {"units": "10"})).status == 201
    return "auditor"


def table(answer: Any, name: str) -> list[dict[str, Any]]:
    """Rows of one table of a report."""
    (found,) = [each for each in answer.body["tables"] if each["name"] == name]
    rows: list[dict[str, Any]] = found["rows"]
    return rows


@shared
async def test_an_auditor_gets_every_report_in_every_form(shared_house: House):
    """Rules Y4 and Y5: JSON, msgpack, CSV and workbook say the same, and every sum holds."""
    house = shared_house
    caller = await auditor(house)
    for name in ("trial-balance", "balances", "liability", "ageing", "fees", "savings"):
        told = await house.call("GET", f"{ADMIN}/{name}", caller=caller)
        assert (told.status, told.body["report"], told.body["holds"]) == (200, name, True), told.raw
        packed = await house.call(
            "GET", f"{ADMIN}/{name}", caller=caller, headers={"Accept": "application/msgpack"}
        )
        assert msgspec.convert(packed.body, ReportAnswer).tables == (
            msgspec.convert(told.body, ReportAnswer).tables
        )
        main = told.body["tables"][0]
        rows = await house.call(
            "GET", f"{ADMIN}/{name}", caller=caller, headers={"Accept": "text/csv"}
        )
        head, *lines = csv.reader(io.StringIO(rows.raw.decode("utf-8-sig")))
        assert len(head) == len(main["columns"])
        assert len(lines) == len(main["rows"]) + (main["totals"] is not None)
        assert rows.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
        book = await house.call("GET", f"{ADMIN}/{name}", caller=caller, headers={"Accept": BOOK})
        sheets = openpyxl.load_workbook(io.BytesIO(book.raw)).sheetnames
        assert len(sheets) == len(told.body["tables"]) + 1
    facts = await house.call(
        "GET", f"{ADMIN}/fees?table=facts", caller=caller, headers={"Accept": "text/csv"}
    )
    assert "holds 成立" in facts.raw.decode()


@shared
async def test_a_merchant_sees_its_own_alone(shared_house: House):
    """Rule Y5: its own accounts and its own programme, and no report of the whole house, under any name."""
    house = shared_house
    await auditor(house)
    own = await house.call("GET", "/v1/reports/balances", caller="AIR")
    assert {row["party"] for row in table(own, "balances")} == {"AIR"}
    assert {row["party"] for row in table(own, "memo")} == {"AIR"}
    open_position = [row for row in table(own, "balances") if row["cycle"]]
    assert [row["payable_cu"] for row in open_position] == ["3330"]
    assert own.body["checks"] == []
    points = await house.call("GET", "/v1/reports/liability", caller="AIR")
    (row,) = table(points, "roll-forward")
    assert (row["programme"], row["issued"], row["redeemed"], row["closing"]) == (
        "AIR", "10000", "10", "9990",
    )  # fmt: skip
    (owed,) = table(points, "liability")
    assert owed["liability_cu"] == str(9990 * 333)
    assert [row["ratio"] for row in table(points, "breakage")] == ["0/1"]
    whole = await house.call("GET", "/v1/reports/balances")
    assert {"AIR", "EYE", "HOUSE:fees"} <= {row["party"] for row in table(whole, "balances")}
    for path in ("/v1/reports/trial-balance", "/v1/reports/fees", f"{ADMIN}/nothing"):
        caller = "AIR" if path.startswith("/v1/reports") else "auditor"
        assert (await house.call("GET", path, caller=caller)).status == 404
    assert (await house.call("GET", f"{ADMIN}/fees", caller="AIR")).status == 403


@shared
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("balances?at=2999-01-01T00:00:00Z", "?at"),
        ("balances?at=yesterday", "?at"),
        ("balances?cycle=never", "?cycle"),
        ("balances?cycle=c1&at=2026-01-01T00:00:00Z", "?cycle"),
        ("balances?from=2026-01-01T00:00:00Z", "?from"),
        ("liability?from=2999-01-01T00:00:00Z", "?from"),
        ("liability?price=free", "?price"),
        ("ageing?at=2026-01-01T00:00:00Z", "?at"),
        ("fees?table=fees", "?table"),
    ],
)
async def test_what_a_report_cannot_be_of_is_named(shared_house: House, query: str, field: str):
    """Rule Y3: an instant ahead, a cycle that there is not, and what means nothing are refused by their names."""
    caller = await auditor(shared_house)
    refused = await shared_house.call("GET", f"{ADMIN}/{query}", caller=caller)
    assert (refused.status, refused.body["field"]) == (400, field), refused.raw
