"""Positions, cycles, packages, batches, reconciliation, disputes and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.gateway import (
    batch_handlers,
    dispute_handlers,
    fund_handlers,
    handlers,
    matching_handlers,
    report_handlers,
    trail_handlers,
)
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.gate import BULK_BYTES_MAX, Who
from exchange.gateway.routes.route import CODE, PAGED, Parameter, Route, choice
from exchange.service.report_desk import OF_ONE, TAKES
from schemas.values.reason import Reason
from schemas.wire import batches, cycles, disputes, funds, own_files, reports

if TYPE_CHECKING:
    from collections.abc import Sequence

_CYCLE = Parameter(
    name="cycle",
    example="2026-11-22",
    text="The cycle's id.",
    pattern=r"^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$",
)

_DISPUTE = Parameter(
    name="dispute",
    example="D12",
    text="What the dispute is called.",
    pattern=r"^D[1-9][0-9]{0,8}$",
)

_MATCH = Parameter(
    name="match_no", example="12", text="The match's number.", pattern=r"^[1-9][0-9]{0,8}$"
)

_REPORT_FORMS: dict[str, object] = {
    JSON_TYPE: reports.ReportAnswer,
    trail_handlers.CSV_TYPE: None,
    report_handlers.BOOK_TYPE: None,
}


def _instant(name: str, text: str) -> Parameter:
    """An instant in the query."""
    return Parameter(
        name=name,
        text=text,
        pattern=trail_handlers.INSTANT_PATTERN,
        query=True,
        example="2026-11-01T00:00:00Z",
    )


_REPORT_OF = (
    _instant("at", "As it stood at this instant; now where left out."),
    _instant("from", "Where the period begins; cycles that closed then or later."),
    Parameter(
        name="cycle",
        text="As it stood when this cycle closed; fees and savings of this cycle alone.",
        pattern=_CYCLE.pattern,
        query=True,
        example="2026-11-22",
    ),
    Parameter(
        name="price",
        text="The rate at which points are valued: `spend` (usual) or `issue`.",
        pattern=f"^({'|'.join(report_handlers.PRICES)})$",
        query=True,
        example="spend",
    ),
    Parameter(
        name=report_handlers.TABLE,
        text="The one table of a CSV; the first where left out, `facts` for what was checked.",
        pattern=report_handlers.TABLE_PATTERN,
        query=True,
    ),
)


def _report(names: Sequence[str]) -> Parameter:
    """The report in the path."""
    return Parameter(
        name="report",
        text="The report; parameters that mean nothing to it are refused.",
        pattern=f"^({'|'.join(names)})$",
        example=names[0],
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/v1/positions",
        summary="Where the caller stands in a cycle; the house sees everybody.",
        who=Who.MERCHANT,
        handler=handlers.get_positions,
        request={},
        response={JSON_TYPE: cycles.PositionsAnswer},
        parameters=(
            Parameter(
                name="cycle",
                text="The cycle's id; the open one where left out.",
                pattern=_CYCLE.pattern,
                query=True,
            ),
            *PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/cycles",
        summary="Settlement cycles, oldest first.",
        who=Who.MERCHANT,
        handler=handlers.get_cycles,
        request={},
        response={JSON_TYPE: cycles.CyclesAnswer},
        parameters=(
            choice("state", "Cycles in this state alone.", handlers.CYCLE_STATES),
            *PAGED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/cycles/close",
        summary="Close the open cycle and open the next.",
        who=Who.OPERATOR,
        handler=handlers.post_cycles_close,
        repeat="name the cycle, and a repeat is refused with `cycle_not_open`.",
        request={JSON_TYPE: cycles.CloseRequest},
        response={JSON_TYPE: cycles.CloseAnswer},
        optional=True,
        refusals=(
            Reason.CYCLE_NOT_OPEN,
            Reason.CYCLE_EXISTS,
            Reason.BUSINESS_TIME_NOT_ACCEPTED,
            Reason.CLOCK_RUNS_BACK,
        ),
    ),
    Route(
        method="GET",
        path="/v1/cycles/{cycle}",
        summary="One settlement cycle.",
        who=Who.MERCHANT,
        handler=handlers.get_cycle,
        request={},
        response={JSON_TYPE: cycles.CycleView},
        parameters=(_CYCLE,),
    ),
    Route(
        method="POST",
        path="/v1/cycles/{cycle}/settle",
        summary="Count a closed cycle as funded and paid, where merchants pay each other outside this ledger's funds.",
        who=Who.OPERATOR,
        handler=handlers.post_cycle_settle,
        repeat="a cycle settles once; a repeat is refused with `cycle_not_closed`.",
        request={},
        response={JSON_TYPE: cycles.SettleAnswer},
        parameters=(_CYCLE,),
        refusals=(
            Reason.CYCLE_NOT_CLOSED,
            Reason.SETTLE_FROM_FUNDS,
            Reason.OBJECTION_OPEN,
            Reason.SECOND_PERSON_NEEDED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/funds",
        summary="The caller's own money, what cycles need of it, and payments that are due with their dates.",
        who=Who.MERCHANT,
        handler=fund_handlers.get_funds,
        request={},
        response={JSON_TYPE: funds.FundsAnswer},
        parameters=PAGED,
    ),
    Route(
        method="GET",
        path="/v1/reports/{report}",
        summary="The caller's own balances, or points liability and breakage, now or at an instant.",
        who=Who.MERCHANT,
        handler=report_handlers.get_report,
        request={},
        response=_REPORT_FORMS,
        parameters=(_report(OF_ONE), *_REPORT_OF),
    ),
    Route(
        method="GET",
        path="/v1/packages/{cycle}",
        summary="A cycle's signed settlement package as a ZIP stream; a merchant gets its own part.",
        who=Who.MERCHANT,
        handler=handlers.get_package,
        request={},
        response={"application/zip": None},
        parameters=(_CYCLE,),
    ),
    Route(
        method="GET",
        path="/v1/batches",
        summary="Signed batches, newest first, and where each stands: confirmed, objected to, waiting or silent.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batches,
        request={},
        response={JSON_TYPE: batches.BatchesAnswer},
        parameters=PAGED,
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}",
        summary="One batch, and the files that the caller may fetch of it.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batch,
        request={},
        response={JSON_TYPE: batches.BatchAnswer},
        parameters=(_CYCLE,),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/files/{file}",
        summary="One file of a batch as a stream; a merchant gets what is for all, its own, and what was made of it.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_batch_file,
        request={},
        response={batch_handlers.FILE_TYPE: None},
        parameters=(
            _CYCLE,
            Parameter(
                name="file",
                example="manifest.json",
                text="Name of the file, as the batch lists it.",
                pattern=batch_handlers.FILE_PATTERN,
            ),
        ),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/confirmations",
        summary="What merchants said about a batch, with the documents that they signed; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=batch_handlers.get_confirmations,
        request={},
        response={JSON_TYPE: batches.ConfirmationsAnswer},
        parameters=(_CYCLE, *PAGED),
    ),
    Route(
        method="POST",
        path="/v1/batches/{cycle}/confirmations",
        summary="Confirm a batch, or object to it, in a document that the merchant signed.",
        who=Who.MERCHANT,
        handler=batch_handlers.post_confirmations,
        repeat="the same document is entered once, and a repeat gets its entry.",
        request={JSON_TYPE: batches.ConfirmationRequest},
        response={JSON_TYPE: batches.ConfirmationView},
        status=201,
        parameters=(_CYCLE,),
        refusals=(Reason.CONFIRMATION_INVALID,),
    ),
    Route(
        method="POST",
        path="/v1/batches/{cycle}/lines",
        summary="Match the lines of a merchant's own books with its signed statement, or show what would come of it.",
        who=Who.MERCHANT,
        handler=matching_handlers.post_own_lines,
        repeat="the same lines are recognised, and change nothing.",
        body_bytes_max=BULK_BYTES_MAX,
        request={JSON_TYPE: own_files.OwnFileRequest},
        response={JSON_TYPE: own_files.OwnFileAnswer},
        status=201,
        parameters=(_CYCLE,),
        refusals=(Reason.FILE_REFUSED,),
    ),
    Route(
        method="GET",
        path="/v1/batches/{cycle}/breaks/{code}",
        summary="What differs between a merchant's own lines and its signed statement.",
        who=Who.MERCHANT,
        handler=matching_handlers.get_line_breaks,
        request={},
        response={JSON_TYPE: own_files.LineBreaksAnswer},
        parameters=(_CYCLE, CODE, *PAGED),
    ),
    Route(
        method="POST",
        path="/v1/admin/matches/{match_no}/accept",
        summary="Let the difference in a match stand, of payments or of lines.",
        who=Who.PERSON,
        handler=matching_handlers.post_match_accept,
        repeat="a difference is accepted once; a repeat is refused with `match_refused`.",
        request={JSON_TYPE: own_files.DecisionRequest},
        response={JSON_TYPE: own_files.DecisionAnswer},
        parameters=(_MATCH,),
        refusals=(Reason.MATCH_REFUSED,),
    ),
    Route(
        method="POST",
        path="/v1/admin/matches/{match_no}/undo",
        summary="Take a match apart; what it held is open again.",
        who=Who.PERSON,
        handler=matching_handlers.post_match_undo,
        repeat="a match is taken apart once; a repeat is refused with `match_refused`.",
        request={JSON_TYPE: own_files.DecisionRequest},
        response={JSON_TYPE: own_files.DecisionAnswer},
        parameters=(_MATCH,),
        refusals=(Reason.MATCH_REFUSED,),
    ),
    Route(
        method="POST",
        path="/v1/disputes",
        summary="Say that an order's line is wrong, and what is to be booked instead.",
        who=Who.MERCHANT,
        handler=dispute_handlers.post_disputes,
        request={JSON_TYPE: disputes.DisputeRequest},
        response={JSON_TYPE: disputes.DisputeView},
        status=201,
        keyed=True,
        policy="orders",
        refusals=(
            *(Reason.ORDER_NOT_FOUND, Reason.ORDER_NOT_CLEARED, Reason.ORDER_ALREADY_VOIDED),
            *(Reason.HOLD_EXPIRED, Reason.ORDER_REFUSED, Reason.ADJUSTMENT_EXCEEDS_ORDER),
            *(Reason.DISPUTE_EXISTS, Reason.IDEMPOTENCY_CONFLICT),
        ),
    ),
    Route(
        method="GET",
        path="/v1/disputes",
        summary="Disputes about lines, newest first; a merchant sees those about its own lines.",
        who=Who.MERCHANT,
        handler=dispute_handlers.get_disputes,
        request={},
        response={JSON_TYPE: disputes.DisputesAnswer},
        parameters=PAGED,
    ),
    Route(
        method="GET",
        path="/v1/disputes/{dispute}",
        summary="One dispute, with what happened in it and what was booked.",
        who=Who.MERCHANT,
        handler=dispute_handlers.get_dispute,
        request={},
        response={JSON_TYPE: disputes.DisputeView},
        parameters=(_DISPUTE,),
        refusals=(Reason.DISPUTE_NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/v1/disputes/{dispute}/steps",
        summary="Answer a dispute, bring evidence to it, or withdraw it.",
        who=Who.MERCHANT,
        handler=dispute_handlers.post_dispute_steps,
        request={JSON_TYPE: disputes.DisputeStepRequest},
        response={JSON_TYPE: disputes.DisputeView},
        status=201,
        keyed=True,
        policy="orders",
        parameters=(_DISPUTE,),
        refusals=(
            *(Reason.DISPUTE_NOT_FOUND, Reason.DISPUTE_ENDED, Reason.DISPUTE_STEP_NOT_YOURS),
            *(Reason.DISPUTE_FULL, Reason.IDEMPOTENCY_CONFLICT),
        ),
    ),
    Route(
        method="GET",
        path="/v1/admin/funds",
        summary="Everybody's money, what the bank shows beside it, and the movements that block releases.",
        who=Who.PERSON,
        handler=fund_handlers.get_admin_funds,
        request={},
        response={JSON_TYPE: funds.HouseFundsAnswer},
        parameters=PAGED,
    ),
    Route(
        method="GET",
        path="/v1/admin/reports/{report}",
        summary="A report for finance: tables with the facts and checks to read them by; as CSV or workbook too.",
        who=Who.PERSON,
        handler=report_handlers.get_admin_report,
        request={},
        response=_REPORT_FORMS,
        parameters=(
            _report(tuple(TAKES)),
            *_REPORT_OF,
            _instant("to", "Cycles that closed before this instant."),
        ),
    ),
)
