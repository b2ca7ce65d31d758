"""The audit trail over HTTP: pages, filters, and forms that can be kept and verified."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from exchange.gateway import trail_handlers
from schemas.files.trail import COLUMNS, read_trail
from settlement.service.trail import PROGRAM, By, Change, entries, record
from tests.gateway.conftest import Answer, House, shared
from tests.gateway.test_people import bearer

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/v1/admin/trail"


async def reader(house: House) -> str:
    """An auditor who signed in, and a trail with entries of two people at two instants."""
    if "auditor" not in house.keys:
        made = await bearer(house, "auditor", "auditor")
        house.keys["auditor"] = (await made.sign_in()).body["token"]
        by = By(who="person:anna", second="person:ben", why="contract 12, 合同")
        async with house.pool.acquire() as conn, conn.transaction():
            for days, who, action in ((0, by, "test.early"), (3, PROGRAM, "test.late")):
                at = house.services.now() + timedelta(days=days)
                change = Change(action=action, subject="EYE", before={"n": "1"}, after={"n": "2"})
                await record(conn, who, change, at=at)
    return "auditor"


async def pages(house: House, query: str, accept: str) -> list[Answer]:
    """All pages from the first one on, by their links."""
    url: str | None = f"{PATH}?{query}"
    got = []
    while url is not None:
        answer = await house.call(
            "GET", url, caller=await reader(house), headers={"Accept": accept}
        )
        assert answer.status == 200, answer.raw
        assert answer.headers["Content-Type"].partition(";")[0] == accept
        got.append(answer)
        link = answer.headers.get("Link")
        url = link[1:].partition(">")[0] if link else None
    return got


@shared
async def test_pages_are_the_whole_trail_in_every_form(shared_house: House):
    """Pages of JSON Lines together verify as an exported trail; those of CSV have one head; JSON says the same."""
    house = shared_house
    await reader(house)
    whole = [each async for each in entries(house.pool)]
    assert len(whole) > 7
    lines = await pages(house, "limit=5", "application/jsonl")
    assert len(lines) > 1
    assert list(read_trail(b"".join(each.raw for each in lines).splitlines(keepends=True))) == whole
    rows = b"".join(each.raw for each in await pages(house, "limit=5", "text/csv")).decode()
    assert rows.count(COLUMNS[0] + ",") == 1
    assert rows.count("\r\n") == len(whole) + 1
    told = [
        each
        for page in await pages(house, "limit=5", "application/json")
        for each in page.body["entries"]
    ]
    assert [(each["entry_no"], each["digest"]) for each in told] == [
        (str(entry.entry_no), digest.hex()) for entry, digest in whole
    ]


@shared
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"who": "person:anna"}, ["test.early"]),
        ({"who": "person:ben"}, ["test.early"]),
        ({"action": "test.late"}, ["test.late"]),
        ({"subject": "EYE", "action": "test.early"}, ["test.early"]),
        ({"subject": "AIR", "action": "test.early"}, []),
        ({"since": "LATER"}, ["test.late"]),
        ({"until": "LATER", "action": "test.late"}, []),
        ({"until": "LATER", "who": "person:anna"}, ["test.early"]),
    ],
)
async def test_filters_show_what_they_name(
    shared_house: House, query: Mapping[str, str], found: list[str]
):
    """Entries are found by who made or approved them, action, subject and time."""
    house = shared_house
    await reader(house)
    [late] = await house.pool.fetch(
        "SELECT at - interval '1 day' AS at FROM settlement.trail WHERE action = 'test.late'"
    )
    asked = "&".join(
        f"{name}={text.replace('LATER', late['at'].strftime('%Y-%m-%dT%H:%M:%SZ'))}"
        for name, text in query.items()
    )
    answer = await house.call("GET", f"{PATH}?{asked}", caller="auditor")
    assert [each["action"] for each in answer.body["entries"]] == found


@shared
async def test_who_reads_is_logged_and_changes_nothing(shared_house: House):
    """A reading is a line of the log with the person, and no entry; what no entry can say is refused by its name."""
    house = shared_house
    await reader(house)
    before = await house.pool.fetchval("SELECT count(*) FROM settlement.trail")
    with mock.patch.object(trail_handlers, "log") as log:
        assert (await house.call("GET", f"{PATH}?limit=2", caller="auditor")).status == 200
    [told] = log.info.call_args_list
    assert told.args == ("trail.read",)
    assert (told.kwargs["person"], told.kwargs["entries"]) == ("person:auditor", 2)
    assert await house.pool.fetchval("SELECT count(*) FROM settlement.trail") == before
    for query in ("who=%00", "who=", "action=cap", "subject=a%20b", "since=2026-11-22", "until=x"):
        refused = await house.call("GET", f"{PATH}?{query}", caller="auditor")
        assert refused.reason == "malformed_request"
        assert f"?{query.partition('=')[0]}" in refused.raw.decode()
