"""Answers that say no: problem details (RFC 9457), and their short form inside a bulk answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from schemas.values.reason import Reason


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An `application/problem+json` body.

    Attributes:
        type: Address where the problem is explained; ends in the reason's permanent code.
        title: The reason in words.
        status: HTTP status.
        detail: What a person needs to understand this case.
        detail_zh: The same in Chinese.
        instance: Path of the request.
        reason: Permanent code of the reason.
        retryable: Whether the same wish may succeed later, under a new key.
        field: Path of the bad field of a malformed request, for example `$.units`.
        order_id: The order that was refused; a refusal is a durable event. None where the books have not answered:
            such an order is told of under the same key.
        request_id: Names this exchange in the logs.
    """

    type: str
    title: str
    status: int
    detail: str
    detail_zh: str
    instance: str
    reason: str
    retryable: bool
    field: str | None = None
    order_id: str | None = None
    request_id: str | None = None


class ElementProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one element of a bulk request was not done; attributes as in `Problem`."""

    reason: str
    detail: str
    detail_zh: str
    retryable: bool
    field: str | None = None


def reason_problem(reason: Reason, detail: str | None = None) -> ElementProblem:
    """The short form of a business refusal."""
    return ElementProblem(
        reason=reason.code,
        detail=detail or reason.english,
        detail_zh=reason.chinese,
        retryable=reason.retryable,
    )


class ProblemPage(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at a problem's address.

    Attributes:
        type: The address.
        reason: Permanent code of the reason.
        status: HTTP status that it usually has.
        retryable: Whether the same wish may succeed later, under a new key.
        meaning: What it means.
        meaning_zh: The same in Chinese.
        advice: What a caller does about it.
        advice_zh: The same in Chinese.
    """

    type: str
    reason: str
    status: int
    retryable: bool
    meaning: str
    meaning_zh: str
    advice: str
    advice_zh: str
