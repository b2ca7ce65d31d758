"""Problem details (RFC 9457): the only place that knows which HTTP status a refusal has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from exchange.gateway.formats import JSON, Format
from schemas.values.reason import Reason
from schemas.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM_BASE: Final = "/problems/"
"""A relative reference (RFC 9457 §3.1.1): it leads to the page of the very gateway that answered."""

SIGNATURE_REASONS: Final = (
    Reason.SIGNATURE_MISSING,
    Reason.SIGNATURE_MALFORMED,
    Reason.SIGNATURE_DOWNGRADED,
    Reason.SIGNATURE_FROM_FUTURE,
    Reason.SIGNATURE_LATE,
    Reason.SIGNATURE_REPLAYED,
    Reason.SIGNATURE_MISDIRECTED,
    Reason.SIGNATURE_FORGED,
    Reason.SIGNING_KEY_UNKNOWN,
    Reason.SIGNING_KEY_REVOKED,
    Reason.DIGEST_MISMATCH,
)
"""Why a signed request is not taken; any route that is not public may answer them."""

_NAME_IN_PATH: Final = re.compile(r"^/v1/members/(?!mt_[a-z2-7]{26}(?:/|$))[^/]*")

STATUS: Final[Mapping[Reason, HTTPStatus]] = {
    Reason.NET_DEBIT_CAP_EXCEEDED: HTTPStatus.CONFLICT,
    Reason.INSUFFICIENT_POINTS: HTTPStatus.CONFLICT,
    # draft-ietf-httpapi-idempotency-key-header §2.7: another body under a used key is 422.
    Reason.IDEMPOTENCY_CONFLICT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.UNKNOWN_MERCHANT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.MERCHANT_SUSPENDED: HTTPStatus.CONFLICT,
    Reason.UNKNOWN_MEMBER: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.RATE_NOT_OFFERED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.AMOUNT_BELOW_MINIMUM: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.AMOUNT_ABOVE_MAXIMUM: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.CONVERTS_TO_NOTHING: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.SAME_MERCHANT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.QUOTE_EXPIRED: HTTPStatus.CONFLICT,
    Reason.QUOTE_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.ORDER_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.ORDER_ALREADY_CLEARED: HTTPStatus.CONFLICT,
    Reason.ORDER_ALREADY_VOIDED: HTTPStatus.CONFLICT,
    Reason.HOLD_EXPIRED: HTTPStatus.CONFLICT,
    Reason.ORDER_REFUSED: HTTPStatus.CONFLICT,
    Reason.NOT_HOSTED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.CYCLE_NOT_OPEN: HTTPStatus.CONFLICT,
    Reason.CYCLE_NOT_CLOSED: HTTPStatus.CONFLICT,
    Reason.FUNDS_INSUFFICIENT: HTTPStatus.CONFLICT,
    Reason.FUNDS_MOVED: HTTPStatus.CONFLICT,
    Reason.MOVEMENT_UNMATCHED: HTTPStatus.CONFLICT,
    Reason.SETTLE_FROM_FUNDS: HTTPStatus.CONFLICT,
    Reason.PACKAGE_NOT_SIGNED: HTTPStatus.CONFLICT,
    Reason.OBJECTION_OPEN: HTTPStatus.CONFLICT,
    Reason.CONFIRMATION_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.FILE_REFUSED: HTTPStatus.CONFLICT,
    Reason.MATCH_REFUSED: HTTPStatus.CONFLICT,
    Reason.CLOCK_RUNS_BACK: HTTPStatus.CONFLICT,
    Reason.MERCHANT_EXISTS: HTTPStatus.CONFLICT,
    Reason.BUSINESS_TIME_NOT_ACCEPTED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.TILL_TIME_OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.CANNOT_BE_BOOKED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.HOLD_NOT_OFFERED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.CYCLE_EXISTS: HTTPStatus.CONFLICT,
    Reason.ARRANGEMENT_EXISTS: HTTPStatus.CONFLICT,
    Reason.MEMBER_NOT_AUTHORISED: HTTPStatus.FORBIDDEN,
    Reason.CODE_SPENT: HTTPStatus.CONFLICT,
    Reason.MEMBER_LIMIT_EXCEEDED: HTTPStatus.CONFLICT,
    Reason.MERCHANT_UNAVAILABLE: HTTPStatus.CONFLICT,
    Reason.DECIDED_TOO_LATE: HTTPStatus.CONFLICT,
    Reason.CREDIT_UNDER_WAY: HTTPStatus.CONFLICT,
    Reason.CALL_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.MERCHANT_REFUSED: HTTPStatus.CONFLICT,
    Reason.BASKET_NOT_COVERED: HTTPStatus.CONFLICT,
    Reason.MERCHANT_NOT_CERTIFIED: HTTPStatus.CONFLICT,
    Reason.ORDER_UNDER_WAY: HTTPStatus.CONFLICT,
    Reason.SIGN_IN_REFUSED: HTTPStatus.UNAUTHORIZED,
    Reason.INVITATION_INVALID: HTTPStatus.CONFLICT,
    Reason.PERSON_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.PERSON_EXISTS: HTTPStatus.CONFLICT,
    Reason.SECOND_PERSON_NEEDED: HTTPStatus.FORBIDDEN,
    Reason.PROPOSAL_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.PROPOSAL_DECIDED: HTTPStatus.CONFLICT,
    Reason.PROPOSAL_EXPIRED: HTTPStatus.CONFLICT,
    Reason.PROPOSAL_OUTDATED: HTTPStatus.CONFLICT,
    Reason.OWN_PROPOSAL: HTTPStatus.FORBIDDEN,
    Reason.ORDER_NOT_CLEARED: HTTPStatus.CONFLICT,
    Reason.REVERSAL_EXCEEDS_ORDER: HTTPStatus.CONFLICT,
    Reason.ADJUSTMENT_EXCEEDS_ORDER: HTTPStatus.CONFLICT,
    Reason.REMAINDERS_NOT_DUE: HTTPStatus.CONFLICT,
    Reason.DISPUTE_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.DISPUTE_EXISTS: HTTPStatus.CONFLICT,
    Reason.DISPUTE_ENDED: HTTPStatus.CONFLICT,
    Reason.DISPUTE_NOT_HEARD: HTTPStatus.CONFLICT,
    Reason.DISPUTE_STEP_NOT_YOURS: HTTPStatus.CONFLICT,
    Reason.DISPUTE_FULL: HTTPStatus.CONFLICT,
    Reason.DISPUTE_GRANT_EXCEEDS_CLAIM: HTTPStatus.CONFLICT,
    Reason.POINTS_SPENT: HTTPStatus.CONFLICT,
    Reason.REVERSAL_NOT_OFFERED: HTTPStatus.CONFLICT,
    Reason.SIGNING_KEY_NOT_TAKEN: HTTPStatus.CONFLICT,
    **dict.fromkeys(SIGNATURE_REASONS, HTTPStatus.UNAUTHORIZED),
    Reason.ENDPOINT_LIMIT_REACHED: HTTPStatus.CONFLICT,
    Reason.UNKNOWN_CONSENT: HTTPStatus.NOT_FOUND,
    Reason.MEMBER_HAS_POINTS: HTTPStatus.CONFLICT,
    Reason.HOUSEHOLD_NOT_OFFERED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.HOUSEHOLD_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.HOUSEHOLD_FULL: HTTPStatus.CONFLICT,
    Reason.ALREADY_IN_HOUSEHOLD: HTTPStatus.CONFLICT,
    Reason.HOUSEHOLD_COOLING: HTTPStatus.CONFLICT,
    Reason.NOT_INVITED: HTTPStatus.CONFLICT,
    Reason.NOT_IN_HOUSEHOLD: HTTPStatus.CONFLICT,
    Reason.HEAD_ONLY: HTTPStatus.FORBIDDEN,
    Reason.TRANSFER_LIMIT_EXCEEDED: HTTPStatus.CONFLICT,
    Reason.SAME_MEMBER: HTTPStatus.UNPROCESSABLE_ENTITY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a request before any business is done: code, status, and both sentences."""

    code: str
    status: HTTPStatus
    detail: str
    detail_zh: str
    retryable: bool = False


MALFORMED: Final = Fault(
    code="malformed_request",
    status=HTTPStatus.BAD_REQUEST,
    detail="The request is malformed.",
    detail_zh="请求格式有误。",
)
UNAUTHENTICATED: Final = Fault(
    code="unauthenticated",
    status=HTTPStatus.UNAUTHORIZED,
    detail="Nobody knows who calls.",
    detail_zh="无法识别调用方。",
)
FORBIDDEN: Final = Fault(
    code="forbidden",
    status=HTTPStatus.FORBIDDEN,
    detail="The caller may not do this.",
    detail_zh="调用方无权进行此操作。",
)
NOT_FOUND: Final = Fault(
    code="not_found",
    status=HTTPStatus.NOT_FOUND,
    detail="There is nothing here.",
    detail_zh="资源不存在。",
)
METHOD_NOT_ALLOWED: Final = Fault(
    code="method_not_allowed",
    status=HTTPStatus.METHOD_NOT_ALLOWED,
    detail="This resource takes other methods.",
    detail_zh="不支持该请求方法。",
)
TIMED_OUT: Final = Fault(
    code="request_timed_out",
    status=HTTPStatus.REQUEST_TIMEOUT,
    detail="The body did not arrive in time.",
    detail_zh="请求体未及时送达。",
    retryable=True,
)
TOO_LARGE: Final = Fault(
    code="request_too_large",
    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    detail="The body is larger than this resource takes.",
    detail_zh="请求体过大。",
)
MEDIA_TYPE: Final = Fault(
    code="unsupported_media_type",
    status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    detail="The body's content type is not taken here.",
    detail_zh="不支持该内容类型。",
)
QUOTA_EXCEEDED: Final = Fault(
    code="quota_exceeded",
    status=HTTPStatus.TOO_MANY_REQUESTS,
    detail="The caller's quota is used up; nothing was decided.",
    detail_zh="调用次数已达上限，未作任何处理。",
    retryable=True,
)
NOT_ACCEPTABLE: Final = Fault(
    code="not_acceptable",
    status=HTTPStatus.NOT_ACCEPTABLE,
    detail="The answer has none of the forms that the caller takes.",
    detail_zh="无法以所要求的格式应答。",
)
UNAVAILABLE: Final = Fault(
    code="unavailable",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    detail="Nothing was decided; send it again under the same key.",
    detail_zh="服务暂不可用，未作任何处理，请用同一幂等键重试。",
    retryable=True,
)
INTERNAL: Final = Fault(
    code="internal_error",
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    detail="Something is wrong here; it was noted under the request's id.",
    detail_zh="内部错误，已按请求编号记录。",
)
FAULTS: Final = (
    MALFORMED,
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TIMED_OUT,
    TOO_LARGE,
    MEDIA_TYPE,
    QUOTA_EXCEEDED,
    NOT_ACCEPTABLE,
    UNAVAILABLE,
    INTERNAL,
)


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()


def refusal_problem(
    reason: Reason,
    *,
    instance: str,
    request_id: str,
    detail: str | None = None,
    order_id: str | None = None,
    status: HTTPStatus | None = None,
) -> Problem:
    """Describe a business refusal.

    Args:
        reason: Why.
        instance: Path of the request; who is named in it by anything but a token is left out.
        request_id: Names the exchange.
        detail: Sentence about this case; the reason's own by default.
        order_id: The order that was refused.
        status: Where the resource itself decides it: a path that names nothing is 404.
    """
    return Problem(
        type=PROBLEM_BASE + reason.code,
        title=_title(reason.code),
        status=int(status or STATUS[reason]),
        detail=detail or reason.english,
        detail_zh=reason.chinese,
        instance=_NAME_IN_PATH.sub("/v1/members/-", instance),
        reason=reason.code,
        retryable=reason.retryable,
        order_id=order_id,
        request_id=request_id,
    )


def fault_problem(
    fault: Fault,
    *,
    instance: str,
    request_id: str,
    detail: str | None = None,
    field: str | None = None,
) -> Problem:
    """Describe a request with which no business could be done.

    Args:
        fault: What is wrong.
        instance: Path of the request; who is named in it by anything but a token is left out.
        request_id: Names the exchange.
        detail: Sentence about this case; the fault's own by default.
        field: Path of the bad field.
    """
    return Problem(
        type=PROBLEM_BASE + fault.code,
        title=_title(fault.code),
        status=int(fault.status),
        detail=detail or fault.detail,
        detail_zh=fault.detail_zh,
        instance=_NAME_IN_PATH.sub("/v1/members/-", instance),
        reason=fault.code,
        retryable=fault.retryable,
        field=field,
        request_id=request_id,
    )


def respond(
    problem: Problem, headers: Mapping[str, str] | None = None, *, writing: Format = JSON
) -> web.Response:
    """Answer with a problem and, where it needs them, more headers (for example `Retry-After`).

    Args:
        problem: The problem.
        headers: More headers.
        writing: Its format.
    """
    return web.Response(
        status=problem.status,
        body=writing.encode(problem),
        headers={
            "Content-Type": writing.problem_type,
            "X-Request-Id": problem.request_id or "",
            **(headers or {}),
        },
    )
