"""Reports over HTTP: finance people get all of them in every form, a merchant its own alone."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import pytest

from exchange.service.house_watch import read_figures
from schemas.values.ids import key_bytes
from schemas.wire.reports import ReportAnswer
from settlement.core.command import Deposit, Pot
from settlement.core.trail import PROGRAM
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.cycles import list_cycles
from settlement.service.funding import set_level
from tests.documents.text import ROOT
from tests.gateway.conftest import AIR, House, fresh_key, shared
from tests.gateway.test_people import bearer
from tests.golden.packages import golden_keyring
from tests.objections import object_to

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


@shared
async def test_a_merchant_sees_its_money_and_the_house_everybodys(shared_house: House, tmp_path):
    """Rules U4 to U6 and U12: what open and closed cycles need, payments due and what blocks releases, by name.

    It stands last here: it closes the cycle.
    """
    house = shared_house
    caller = await auditor(house)
    before = (await house.call("GET", "/v1/funds", caller="AIR")).body
    [open_cycle] = before["cycles"]
    assert (open_cycle["state"], open_cycle["figure_cu"], open_cycle["due_at"]) == (
        "open", "-3330", None,
    )  # fmt: skip
    assert (before["funds"]["needs_cu"], before["funds"]["alert"]) == ("0", "")
    closed = (await house.call("POST", "/v1/cycles/close")).body
    assert (await house.order(AIR | {"units": "1"})).status == 201
    number = next(
        row["cycle_no"]
        for row in await list_cycles(house.pool)
        if row["cycle_id"] == closed["closed"]
    )
    now = house.services.now()
    keyring = golden_keyring(tmp_path / "keys")
    made = await cut_batch(house.pool, cycle_no=number, keyring=keyring, out=tmp_path, now=now)
    assert isinstance(made, CutBatch)
    air = (await house.services.shelf.offer()).catalogue.by_code["AIR"]
    await object_to(house.pool, cycle_no=number, merchant_no=air)
    refused = await house.call("POST", f"/v1/cycles/{closed['closed']}/settle")
    assert (refused.status, refused.reason) == (409, "objection_open")
    key = key_bytes("a deposit")
    await house.writer.submit([Deposit(0, key, bytes(16), air, Pot.FUNDS, 5_000)])
    await set_level(house.pool, merchant_no=air, code="AIR", level_cu=9_000, by=PROGRAM, at=now)
    pages = []
    path, answer = "/v1/funds?limit=1", before
    while path:
        answer = (await house.call("GET", path, caller="AIR")).body
        pages += answer["cycles"]
        path = answer["next"] and f"/v1/funds?limit=1&after={answer['next']}"
    shown, still_open = pages
    assert (shown["cycle"], shown["state"], shown["figure_cu"]) == (
        closed["closed"],
        "closed",
        "-3330",
    )
    [due] = shown["instructions"]
    assert (due["pay_fen"], due["counterparty"], due["due_at"]) == ("-33", None, shown["due_at"])
    assert due["payment"].endswith(f"-{air}")
    assert (still_open["figure_cu"], still_open["instructions"]) == ("-333", [])
    own = answer["funds"]
    assert own == before["funds"] | {
        "funds_cu": "5000", "needs_cu": "3330", "level_cu": "9000", "alert": "below_level",
    }  # fmt: skip
    told = (await house.call("GET", "/v1/admin/funds", caller=caller)).body
    assert own in told["merchants"]
    assert [one["code"] for one in told["merchants"]] == ["AIR", "EYE", "LATE", "OWN", "SMALL"]
    assert (told["books_cu"], told["bank_fen"]) == ("5000", "0")
    assert told["blocked"] == "the bank holds 0.00 yuan, the books say 0.5000"
    first = (await house.call("GET", "/v1/admin/funds?limit=2", caller=caller)).body
    rest = f"/v1/admin/funds?after={first['next']}"
    assert [one["code"] for one in (await house.call("GET", rest, caller=caller)).body["merchants"]] == [
        "LATE", "OWN", "SMALL",
    ]  # fmt: skip
    for path, stranger in (("/v1/admin/funds", "AIR"), ("/v1/funds", "house")):
        assert (await house.call("GET", path, caller=stranger)).status == 403
    await told_to_operators(house, tmp_path)


async def told_to_operators(house: House, packages: Path) -> None:
    """Counts for Prometheus, without a name in them: read when somebody looks, and not again within the minute."""
    order = await house.order(AIR | {"units": "1"})
    case = {"order_id": order.body["order_id"], "text": "charged twice"}
    opened = await house.call("POST", "/v1/disputes", case, key=fresh_key(), caller="AIR")
    assert opened.status == 201, opened.raw
    text = (await house.call("GET", "/metrics", caller=None)).raw.decode()
    for line in (
        'tongdui_funds_alerts{alert="below_level"} 1.0',
        'tongdui_breaks_open{days="0-7",kind="missing"} 3.0',
        "tongdui_bank_movements_unbooked 0.0",
        "tongdui_releases_blocked 1.0",
        "tongdui_disputes_overdue 0.0",
        "tongdui_packages_unsigned 1.0",
        "tongdui_batches_unanswered 0.0",
    ):
        assert f"\n{line}\n" in text
    rules = (ROOT / "deploy/alerts.yaml").read_text("utf-8")
    assert set(re.findall("tongdui_[a-z_]+", rules)) <= set(re.findall("tongdui_[a-z_]+", text))
    read = house.services.house_watch.figures
    await house.call("GET", "/metrics", caller=None)
    assert house.services.house_watch.figures is read
    later = house.services.now() + timedelta(days=9)
    figures = await read_figures(house.pool, keys=packages / "keys", packages=packages, now=later)
    assert (figures.disputes, figures.unsigned, figures.unanswered, figures.objected) == (
        1,
        0,
        1,
        1,
    )
    assert set(figures.breaks) == {("missing", "8-30")}
