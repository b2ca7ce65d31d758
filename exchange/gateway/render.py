"""Entries of the books as answers."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from exchange.service.access import Forbidden
from schemas.values.amounts import yuan_text
from schemas.values.faults import SchemaError
from schemas.values.ids import order_text
from schemas.values.reason import REASON_BY_NUMBER
from schemas.wire.baskets import BasketAnswer, BasketPartAnswer
from schemas.wire.fields import AmountT, instant_text
from schemas.wire.orders import BulkOrderAnswer, OrderAnswer
from schemas.wire.problems import ElementProblem, reason_problem
from schemas.wire.purchases import BulkPurchaseAnswer, PurchaseOrder
from schemas.wire.quotes import OrderKind, QuoteAnswer, QuoteOffer
from schemas.wire.reversals import ReversalAnswer
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exchange.service.bulk import Decided
    from exchange.service.orders import Quoted
    from settlement.core.columns import Int64s
    from settlement.core.command import Answer, Entry

_PROBLEMS: Final = {number: reason_problem(reason) for number, reason in REASON_BY_NUMBER.items()}
_BULK_STATUS: Final[Mapping[int, Literal["cleared", "accepted"]]] = {
    Kind.CLEARED: "cleared",
    Kind.ACCEPTED: "accepted",
}
_END_STATUS: Final[Mapping[int, Literal["cleared", "accepted", "voided"]]] = {
    Kind.CLEARED: "cleared",
    Kind.ACCEPTED: "accepted",
    Kind.VOIDED: "voided",
}


def quote_answer(quoted: Quoted, *, issuer: str, acceptor: str, kind: OrderKind) -> QuoteAnswer:
    """A quote with its offers, itemised."""
    rate = quoted.terms.spend.rate
    return QuoteAnswer(
        issuer=issuer,
        acceptor=acceptor,
        kind=kind,
        rate_cu=str(rate.num),
        rate_units=str(rate.den),
        deadline=instant_text(quoted.deadline_us),
        offers=[
            QuoteOffer(
                units=str(priced.units),
                debit_cu=str(priced.debit_cu),
                value_cu=str(priced.value_cu),
                value_yuan=yuan_text(priced.value_cu),
                fee_cu=str(priced.fee_cu),
                remainder_cu=str(priced.remainder_cu),
                remainder_yuan=yuan_text(priced.remainder_cu),
                credited_units=str(priced.credited_units),
                token=token,
            )
            for priced, token in quoted.offers
        ],
    )


def order_answer(
    entry: Entry, order_id: str, *, cycle: str, codes: Mapping[int, str]
) -> OrderAnswer:
    """One order that was accepted, cleared or voided."""
    return OrderAnswer(
        order_id=order_id,
        status=_END_STATUS[entry.kind],
        cycle=cycle,
        at=instant_text(entry.at_us),
        issuer=codes.get(entry.issuer, ""),
        acceptor=codes.get(entry.acceptor, ""),
        units=str(entry.units),
        debit_cu=str(entry.debit_cu),
        value_cu=str(entry.value_cu),
        fee_cu=str(entry.fee_cu),
        remainder_cu=str(entry.debit_cu - entry.value_cu),
        credited_units=str(entry.credited_units) if entry.credited_units else None,
        hold_until=instant_text(entry.due_at_us) if entry.kind == Kind.ACCEPTED else None,
    )


def reversal_answer(
    entry: Entry, order_id: str, *, cycle: str, codes: Mapping[int, str]
) -> ReversalAnswer:
    """One reversal; its event's figures are below 0."""
    return ReversalAnswer(
        reversal_id=order_text(entry.at_us, PART, entry.seq),
        order_id=order_id,
        cycle=cycle,
        at=instant_text(entry.at_us),
        issuer=codes.get(entry.issuer, ""),
        acceptor=codes.get(entry.acceptor, ""),
        units=str(-entry.units),
        debit_cu=str(-entry.debit_cu),
        value_cu=str(-entry.value_cu),
        fee_cu=str(-entry.fee_cu),
        remainder_cu=str(entry.value_cu - entry.debit_cu),
        credited_units=str(-entry.credited_units) if entry.credited_units else None,
        new_lot_until=instant_text(entry.due_at_us) if entry.lot_no else None,
    )


def entry_order_id(entry: Entry) -> str | None:
    """Id of the order whose first event this is; None for an answer that is not stored."""
    return _order_id(entry) if entry.order_seq else None


def line_id(entry: Entry) -> str:
    """Id of a line that is no order's first event: a reversal's or an adjustment's own."""
    return order_text(entry.at_us, PART, entry.seq)


_VARIANT: Final = 2 << 62
_ID_LENGTH: Final = 36


def _order_id(entry: Entry) -> str:
    """Id of an order, from the half that all orders of a millisecond share and its own half."""
    tail = f"{_VARIANT | entry.order_seq:016x}"
    return f"{_id_head(entry.at_us // 1000)}{tail[:4]}-{tail[4:]}"


@lru_cache(maxsize=256)
def _id_head(milliseconds: int) -> str:
    return order_text(milliseconds * 1000, PART, 0)[:19]


def _order_ids(order_seq: Int64s, at_us: Int64s) -> list[str]:
    """`_order_id` of many orders: all their characters in one table."""
    count = len(order_seq)
    tails = (order_seq.astype(np.uint64) | np.uint64(_VARIANT)).astype(">u8").tobytes().hex()
    digits = np.frombuffer(tails.encode(), np.uint8).reshape(count, 16)
    texts = np.empty((count, _ID_LENGTH), np.uint8)
    milliseconds = at_us // 1000
    for each in set(milliseconds.tolist()):
        head = np.frombuffer(_id_head(each).encode(), np.uint8)
        texts[milliseconds == each, : len(head)] = head
    texts[:, 19:23], texts[:, 23], texts[:, 24:] = digits[:, :4], ord("-"), digits[:, 4:]
    whole = texts.tobytes().decode()
    return [whole[at : at + _ID_LENGTH] for at in range(0, count * _ID_LENGTH, _ID_LENGTH)]


def bulk_orders(
    decided: Decided, *, packed: bool, refused: Callable[[str, int], None]
) -> list[BulkOrderAnswer[int] | BulkOrderAnswer[str]]:
    """Answers to a bulk request, in order.

    Args:
        decided: What the desk said.
        packed: Whether amounts are msgpack integers instead of digits.
        refused: Told the reasons of refusals, and how many had each.
    """
    order_seq, kind, reason, at_us, *figures = decided.entries.table()
    amounts: list[list[Any]] = [
        column.tolist() if packed else list(map(str, column.tolist())) for column in figures
    ]
    if (no_credit := figures[-1] == 0).any():
        amounts[-1] = [
            None if none else each
            for none, each in zip(no_credit.tolist(), amounts[-1], strict=True)
        ]
    ids = _order_ids(order_seq, at_us)
    statuses = list(map(_BULK_STATUS.get, kind.tolist()))
    rendered = list(map(BulkOrderAnswer, statuses, ids, *amounts))
    for row in np.flatnonzero(kind == Kind.REFUSED).tolist():
        problem = _PROBLEMS[int(reason[row])]
        order_id = ids[row] if order_seq[row] else None
        rendered[row] = BulkOrderAnswer("refused", order_id, None, None, None, None, problem)
    for number, count in Counter(reason[kind == Kind.REFUSED].tolist()).items():
        refused(_PROBLEMS[number].reason, count)
    for place in sorted(decided.faults):
        rendered.insert(place, BulkOrderAnswer(*_not_taken(decided.faults[place])))
    return rendered


def basket_answer(
    entries: Sequence[Entry], issuers: Sequence[str], *, refused: Callable[[str], None]
) -> BasketAnswer:
    """A bill as it was decided.

    Args:
        entries: The events of its parts.
        issuers: Code of each part's issuer, as the request names it.
        refused: Told the reason of every refusal.
    """
    parts: list[BasketPartAnswer] = []
    for entry, issuer in zip(entries, issuers, strict=True):
        problem = None
        if entry.kind != Kind.CLEARED:
            problem = _PROBLEMS[entry.reason]
            refused(problem.reason)
        parts.append(
            BasketPartAnswer(
                issuer=issuer,
                status="refused" if problem else "cleared",
                order_id=entry_order_id(entry),
                units=str(entry.units),
                debit_cu=str(entry.debit_cu),
                value_cu=str(entry.value_cu),
                fee_cu=str(entry.fee_cu),
                remainder_cu=str(entry.debit_cu - entry.value_cu),
                problem=problem,
            )
        )
    value_cu = sum(entry.value_cu for entry in entries if entry.kind == Kind.CLEARED)
    done = sum(part.problem is None for part in parts)
    return BasketAnswer(
        status="cleared" if done == len(parts) else "partial" if done else "refused",
        value_cu=str(value_cu),
        value_yuan=yuan_text(value_cu),
        parts=parts,
    )


def bulk_purchases(
    answers: Iterable[Answer | SchemaError | Forbidden],
    *,
    packed: bool,
    codes: Mapping[int, str],
    refused: Callable[[str], None],
) -> list[BulkPurchaseAnswer[int] | BulkPurchaseAnswer[str]]:
    """Answers to purchases, in order; arguments as for `bulk_orders`, and the codes of all parties."""
    rendered: list[BulkPurchaseAnswer[int] | BulkPurchaseAnswer[str]] = []
    for answer in answers:
        if isinstance(answer, SchemaError | Forbidden):
            status, *_, problem = _not_taken(answer)
            rendered.append(BulkPurchaseAnswer(status, None, None, None, (), problem))
            continue
        accrual = answer[-1]
        if accrual.kind != Kind.ACCRUED:
            problem = _PROBLEMS[accrual.reason]
            refused(problem.reason)
            rendered.append(BulkPurchaseAnswer("refused", None, None, None, (), problem))
        elif packed:
            rendered.append(
                BulkPurchaseAnswer(
                    "booked",
                    accrual.units,
                    accrual.value_cu,
                    accrual.lot_no or None,
                    _purchase_orders(answer[:-1], int, codes, refused),
                )
            )
        else:
            rendered.append(
                BulkPurchaseAnswer(
                    "booked",
                    str(accrual.units),
                    str(accrual.value_cu),
                    str(accrual.lot_no) if accrual.lot_no else None,
                    _purchase_orders(answer[:-1], str, codes, refused),
                )
            )
    return rendered


def _purchase_orders(
    entries: Sequence[Entry],
    amount: Callable[[int], AmountT],
    codes: Mapping[int, str],
    refused: Callable[[str], None],
) -> tuple[PurchaseOrder[AmountT], ...]:
    """The orders of one purchase; `amount` writes an amount as the body's format has it."""
    orders: list[PurchaseOrder[AmountT]] = []
    for entry in entries:
        reason = None
        if entry.kind != Kind.CLEARED:
            reason = _PROBLEMS[entry.reason].reason
            refused(reason)
        orders.append(
            PurchaseOrder(
                _order_id(entry),
                codes.get(entry.issuer, ""),
                "refused" if reason else "cleared",
                amount(entry.units),
                amount(entry.debit_cu),
                amount(entry.value_cu),
                amount(entry.fee_cu),
                reason,
            )
        )
    return tuple(orders)


def _not_taken(
    answer: SchemaError | Forbidden,
) -> tuple[Literal["refused", "malformed"], None, None, None, None, None, ElementProblem]:
    """An element that never reached the writer; nothing of it is stored, so its key stays free."""
    if isinstance(answer, SchemaError):
        problem = ElementProblem(
            reason="malformed_request",
            detail=answer.detail,
            detail_zh="请求格式有误。",
            retryable=False,
            field=answer.path,
        )
        return ("malformed", None, None, None, None, None, problem)
    problem = ElementProblem(
        reason="forbidden", detail=str(answer), detail_zh="调用方无权进行此操作。", retryable=False
    )
    return ("refused", None, None, None, None, None, problem)
