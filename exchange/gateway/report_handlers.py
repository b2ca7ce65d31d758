"""Handlers of reports: to people of the house all of them, to a merchant its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from exchange.gateway.paging import query_choice
from exchange.gateway.trail_handlers import CSV_TYPE, query_instant
from exchange.service.report_desk import OF_ONE, TAKES, Wanted
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE
from schemas.wire.reports import report_answer
from settlement.service.reports import ReportRefused, report_book, report_csv

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

    from exchange.gateway.gate import Call
    from schemas.files.report import Report

log = structlog.get_logger()

BOOK_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PRICES: Final = ("spend", "issue")
TABLE: Final = "table"
TABLE_PATTERN: Final = r"^[a-z][a-z-]{0,39}$"
_ENDINGS: Final = {CSV_TYPE: "csv", BOOK_TYPE: "xlsx"}


async def get_admin_report(call: Call) -> web.StreamResponse:
    """Make a report of the whole house."""
    return await _report(call, tuple(TAKES), merchant_no=None)


async def get_report(call: Call) -> web.StreamResponse:
    """Make a report of the caller alone; the house gets it of everybody."""
    return await _report(call, OF_ONE, merchant_no=None if call.caller == HOUSE else call.caller)


async def _report(
    call: Call, names: Collection[str], *, merchant_no: int | None
) -> web.StreamResponse:
    """Make one of some reports, and answer in the form that the caller takes."""
    name = call.request.match_info["report"]
    if name not in names:
        return call.not_found()
    for each in call.request.query:
        if each not in (*TAKES[name], TABLE):
            raise SchemaError(
                f"?{each}", f"Expected nothing here: the report {name} does not take it"
            )
    wanted = Wanted(
        at=query_instant(call, "at"),
        cycle=call.request.query.get("cycle"),
        since=query_instant(call, "from"),
        until=query_instant(call, "to"),
        price="issue" if query_choice(call, "price", PRICES) == "issue" else "spend",
    )
    if wanted.cycle is not None and (wanted.at or wanted.since or wanted.until):
        raise SchemaError("?cycle", "Expected a cycle or instants, not both")
    try:
        made = await call.services.report_desk.make(name, wanted, merchant_no=merchant_no)
    except ReportRefused as error:
        if wanted.cycle is not None:
            raise SchemaError("?cycle", "Expected the id of a cycle that there is") from error
        raise SchemaError("?at" if wanted.at else "?from", f"Expected another: {error}") from error
    if not made.ok:
        failed = [check.name for check in made.checks if not check.ok]
        log.error("report.not_balanced", request_id=call.request_id, report=name, checks=failed)
    log.info("report.made", request_id=call.request_id, who=call.principal.name, report=name)
    return await _answer(call, made)


async def _answer(call: Call, made: Report) -> web.StreamResponse:
    """Write a report; a table is named for CSV alone, which holds one."""
    table = call.request.query.get(TABLE)
    chosen: Any = call.chosen
    if table is not None and chosen != CSV_TYPE:
        raise SchemaError(f"?{TABLE}", "Expected nothing here: only CSV holds one table")
    if chosen not in _ENDINGS:
        return call.answer(report_answer(made))
    if chosen == BOOK_TYPE:
        data = await asyncio.to_thread(report_book, made)
    else:
        found = report_csv(made, table)
        if found is None:
            names = ", ".join((*(each.name for each in made.tables), "facts"))
            raise SchemaError(f"?{TABLE}", f"Expected one of {names}")
        data = found
    response = call.send(data, chosen)
    response.headers["Content-Disposition"] = (
        f'attachment; filename="{made.name}.{_ENDINGS[chosen]}"'
    )
    return response
