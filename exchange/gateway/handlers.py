"""Handlers: each parses, asks a service, renders. They decide nothing."""

from __future__ import annotations

import asyncio
import re
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import web

from adapters.kit.simulator.faults import FAULT_HEADER
from exchange.gateway.advice import problem_page, render_page
from exchange.gateway.archive import zip_stream
from exchange.gateway.formats import JSON_TYPE, MSGPACK
from exchange.gateway.metrics import CONTENT_TYPE as METRICS_TYPE
from exchange.gateway.paging import Listing, query_choice
from exchange.gateway.render import (
    basket_answer,
    bulk_orders,
    bulk_purchases,
    entry_order_id,
    line_id,
    order_answer,
    quote_answer,
    reversal_answer,
)
from exchange.service import turning
from exchange.service.access import issue_api_key
from exchange.service.baskets import WHOLE_REFUSALS
from exchange.service.onboarding import register_merchant
from exchange.service.packages import package_files
from exchange.service.sandbox import parse_wishes
from exchange.service.terms import merchant_terms
from exchange.signing.digest import digest_of_stream
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.ids import HOUSE
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire import fields
from schemas.wire.baskets import BasketRequest
from schemas.wire.codes import CodeAnswer, CodeRequest
from schemas.wire.compensations import CompensationAnswer, CompensationRequest
from schemas.wire.cycles import CloseRequest, CyclesAnswer
from schemas.wire.decoding import BulkDecoder
from schemas.wire.fields import instant_text
from schemas.wire.health import HealthAnswer, ReadyAnswer
from schemas.wire.members import (
    ConsentRequest,
    ConsentsAnswer,
    EnrolAnswer,
    EnrolRequest,
    HistoryAnswer,
    LinkAnswer,
    LinkRequest,
)
from schemas.wire.merchants import MerchantAnswer, MerchantRequest, MerchantsAnswer
from schemas.wire.orders import BulkOrder, OrderTerms, UncheckedOrder, texts_are_sound
from schemas.wire.purchases import AccrualAnswer, AccrualRequest, BulkPurchase
from schemas.wire.quotes import QuoteRequest
from schemas.wire.reversals import ReversalRequest
from settlement.core.command import End
from settlement.core.event import Kind
from settlement.service import cycles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.gateway.gate import Call
    from schemas.wire.members import ConsentView
    from settlement.core.command import Entry

log = structlog.get_logger()

_KEY = re.compile(r"[!#-\[\]-~]{1,64}\Z")
KEY_FIELD: Final = r'^([!#-\[\]-~]{1,64}|"[!#-\[\]-~]{1,64}")$'
"""The field `Idempotency-Key`: a string of RFC 9651 (draft-ietf-httpapi-idempotency-key-header-07 §2.1), or its
content alone. Either spelling is the same key; what would have to be escaped in a string has no place in one."""
HTML_TYPE: Final = "text/html"
_READY_SECONDS: Final = 2.0

ORDER: type[OrderTerms[str]] = OrderTerms[fields.UnitDigits]
_JSON_ORDERS: BulkDecoder[Any] = BulkDecoder(BulkOrder[fields.UnitDigits], packed=False)
_PACKED_ORDERS: BulkDecoder[Any] = BulkDecoder(
    BulkOrder[fields.Units],
    packed=True,
    unchecked=UncheckedOrder[fields.Units],
    sound=texts_are_sound,
)
_JSON_PURCHASES: BulkDecoder[Any] = BulkDecoder(BulkPurchase[fields.FenDigits], packed=False)
_PACKED_PURCHASES: BulkDecoder[Any] = BulkDecoder(BulkPurchase[fields.Fen], packed=True)


CONSENTS: Final = Listing("consents", int)
HISTORY: Final = Listing("history", int, usual=50)
MERCHANTS: Final = Listing("merchants", str)
POSITIONS: Final = Listing("positions", str, usual=500)
CYCLES: Final = Listing("cycles", int)
CYCLE_STATES: Final = ("open", "closed", "settled")


# --- what several handlers need ---


def check_key(key: str | None) -> str:
    """The idempotency key of a single request.

    Raises:
        SchemaError: It is missing or malformed.
    """
    if key is None:
        raise SchemaError("Idempotency-Key", "Expected the header `Idempotency-Key`")
    if key[:1] == '"':
        # The draft's own form, a string of RFC 9651; what it holds is the key.
        key = key[1:-1] if len(key) > 1 and key[-1] == '"' else ""
    if not _KEY.match(key):
        raise SchemaError(
            "Idempotency-Key",
            'Expected 1 to 64 visible ASCII characters but " and \\, bare or in quotes',
        )
    return key


def _order_id(call: Call) -> uuid.UUID | None:
    """The order that the path names, in the one spelling that ids are given out in."""
    text: str = call.request.match_info["order_id"]
    try:
        order = uuid.UUID(text)
    except ValueError:
        return None
    return order if str(order) == text else None


def member_token(call: Call) -> str:
    """The token in the path; a reference is nobody here, since URLs are logged wherever they pass."""
    text: str = call.request.match_info["token"]
    return text if re.match(fields.MEMBER_TOKEN_PATTERN, text) else "?"


# --- quotes and orders ---


async def post_quotes(call: Call) -> web.StreamResponse:
    """Price points at an acceptor."""
    wanted = await call.read(QuoteRequest)
    wanted.check()
    outcome = await call.services.orders.quote(wanted, caller=call.caller)
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    answer = quote_answer(outcome, issuer=wanted.issuer, acceptor=wanted.acceptor, kind=wanted.kind)
    return call.answer(answer, 201)


async def post_orders(call: Call) -> web.StreamResponse:
    """Have one order decided."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    fault = _wished_fault(call)
    wish = await call.read(ORDER)
    entry = await call.services.orders.accept(wish, caller=call.caller, key=key, fault=fault)
    call.gate.metrics.commands("post_orders")
    return await _order_response(call, entry, entry_order_id(entry), status=201)


def _wished_fault(call: Call) -> str:
    """What a till in a sandbox wishes to go wrong with its order.

    Raises:
        SchemaError: The wish cannot be read, or this is no sandbox.
    """
    text: str = call.request.headers.get(FAULT_HEADER, "")
    if text and not call.services.simulators:
        raise SchemaError(FAULT_HEADER, "Only a sandbox of simulators takes this header")
    parse_wishes(text)
    return text


async def _order_response(
    call: Call, entry: Entry, order_id: str | None, *, status: int
) -> web.StreamResponse:
    if entry.kind == Kind.REFUSED:
        return call.refuse(REASON_BY_NUMBER[entry.reason], order_id=order_id)
    offer = await call.services.shelf.offer()
    cycle = await call.services.reports.cycle_name(entry.cycle_no)
    answer = order_answer(entry, order_id or "", cycle=cycle, codes=offer.codes)
    return call.answer(answer, status)


async def post_orders_bulk(call: Call) -> web.StreamResponse:
    """Have up to 10,000 orders decided in their order."""
    decoder = _PACKED_ORDERS if call.reading is MSGPACK else _JSON_ORDERS
    wishes = decoder.decode(await call.body())
    call.count(len(wishes))
    decided = await call.services.bulk.accept(wishes, caller=call.caller)
    call.gate.metrics.commands("post_orders_bulk", len(wishes))
    rendered = bulk_orders(
        decided, packed=call.writing is MSGPACK, refused=call.gate.metrics.refused
    )
    return call.answer(rendered)


async def post_order_clear(call: Call) -> web.StreamResponse:
    """Turn an accepted order's hold into an obligation."""
    return await _end(call, Kind.CLEARED)


async def post_order_void(call: Call) -> web.StreamResponse:
    """Release an accepted order's hold."""
    return await _end(call, Kind.VOIDED)


async def _end(call: Call, kind: Kind) -> web.StreamResponse:
    order = _order_id(call)
    if order is None:
        return call.refuse(Reason.ORDER_NOT_FOUND)
    entry = await call.services.orders.end(order, kind=kind, caller=call.caller)
    call.gate.metrics.commands("post_order_clear" if kind is Kind.CLEARED else "post_order_void")
    return await _order_response(call, entry, str(order), status=200)


async def post_order_reverse(call: Call) -> web.StreamResponse:
    """Take back an order that cleared, in part or whole."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wish = await call.read(ReversalRequest, optional=True)
    order = _order_id(call)
    if order is None:
        return call.refuse(Reason.ORDER_NOT_FOUND)
    entry = await call.services.reversals.reverse(order, wish, caller=call.caller, key=key)
    call.gate.metrics.commands("post_order_reverse")
    if entry.kind == Kind.REFUSED:
        return call.refuse(REASON_BY_NUMBER[entry.reason], order_id=str(order))
    offer = await call.services.shelf.offer()
    cycle = await call.services.reports.cycle_name(entry.cycle_no)
    answer = reversal_answer(entry, str(order), cycle=cycle, codes=offer.codes)
    return call.answer(answer, 201)


async def get_order(call: Call) -> web.StreamResponse:
    """Show one order."""
    order = _order_id(call)
    if order is None:
        return call.refuse(Reason.ORDER_NOT_FOUND)
    outcome = await call.services.reports.order(order, caller=call.caller)
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    return call.answer(outcome)


async def post_baskets(call: Call) -> web.StreamResponse:
    """Have a bill over several issuers decided."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wanted = await call.read(BasketRequest)
    wanted.check()
    call.count(len(wanted.parts))
    fault = _wished_fault(call)
    answer = await call.services.baskets.decide(wanted, caller=call.caller, key=key, fault=fault)
    call.gate.metrics.commands("post_baskets")
    if not answer[0].seq and answer[0].reason in WHOLE_REFUSALS:
        return call.refuse(REASON_BY_NUMBER[answer[0].reason])
    issuers = [part.issuer for part in wanted.parts]
    rendered = basket_answer(answer, issuers, refused=call.gate.metrics.refused)
    return call.answer(rendered)


# --- purchases, members, points ---


async def post_purchases_bulk(call: Call) -> web.StreamResponse:
    """Book up to 10,000 purchases strictly in their order."""
    decoder = _PACKED_PURCHASES if call.reading is MSGPACK else _JSON_PURCHASES
    wishes = decoder.decode(await call.body())
    call.count(len(wishes))
    answers = await call.services.purchases.accept_purchases(wishes, caller=call.caller)
    call.gate.metrics.commands("post_purchases_bulk", len(wishes))
    offer = await call.services.shelf.offer()
    rendered = bulk_purchases(
        answers,
        packed=call.writing is MSGPACK,
        codes=offer.codes,
        refused=call.gate.metrics.refused,
    )
    return call.answer(rendered)


async def post_accruals(call: Call) -> web.StreamResponse:
    """Give a member points."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wish = await call.read(AccrualRequest)
    entry = await call.services.purchases.accrue(wish, caller=call.caller, key=key)
    call.gate.metrics.commands("post_accruals")
    if entry.kind == Kind.REFUSED:
        return call.refuse(REASON_BY_NUMBER[entry.reason])
    answer = AccrualAnswer(
        merchant=wish.merchant,
        units=str(entry.units),
        lot_no=str(entry.lot_no),
        at=instant_text(entry.at_us),
        expires_at=instant_text(entry.due_at_us),
    )
    return call.answer(answer, 201)


async def post_compensations(call: Call) -> web.StreamResponse:
    """Give a member points at the cost of the merchant that was at fault."""
    key = check_key(call.request.headers.get("Idempotency-Key"))
    wish = await call.read(CompensationRequest)
    answer = await call.services.purchases.compensate(wish, caller=call.caller, key=key)
    call.gate.metrics.commands("post_compensations")
    *owed, given = answer
    if given.kind == Kind.REFUSED:
        return call.refuse(REASON_BY_NUMBER[given.reason])
    return call.answer(
        CompensationAnswer(
            merchant=wish.merchant,
            units=str(given.units),
            lot_no=str(given.lot_no),
            at=instant_text(given.at_us),
            expires_at=instant_text(given.due_at_us),
            cost_cu=str(owed[0].debit_cu) if owed else "0",
            adjustment_id=line_id(owed[0]) if owed else None,
            cycle=await call.services.reports.cycle_name(owed[0].cycle_no) if owed else None,
        ),
        201,
    )


async def post_members(call: Call) -> web.StreamResponse:
    """Enrol members."""
    wanted = await call.read(EnrolRequest)
    references = set(wanted.members)
    await call.services.members.enrol(references, caller=call.caller)
    tokens = await call.services.members.tokens(references, caller=call.caller)
    log.info("members.enrolled", request_id=call.request_id, members=len(references))
    answer = EnrolAnswer(
        enrolled=len(references), tokens=[tokens[reference] for reference in wanted.members]
    )
    return call.answer(answer)


async def post_codes(call: Call) -> web.StreamResponse:
    """Make a spending code."""
    wanted = await call.read(CodeRequest)
    wanted.check()
    made = await call.services.codes.make(wanted, member=member_token(call), caller=call.caller)
    if isinstance(made, Refusal):
        return call.refuse(made.reason, made.detail)
    answer = CodeAnswer(
        code=made.code,
        issuer=made.issuer,
        acceptor=wanted.acceptor,
        deadline=instant_text(made.deadline_us),
        units_max=wanted.units_max,
        value_fen_max=wanted.value_fen_max,
    )
    return call.answer(answer, 201)


async def post_links(call: Call) -> web.StreamResponse:
    """Link a member's account at a merchant's own system."""
    wanted = await call.read(LinkRequest)
    member = member_token(call)
    linked = await call.services.links.link_member(
        member,
        caller=call.caller,
        merchant=wanted.merchant,
        merchant_member=wanted.merchant_member,
        proof=wanted.proof,
    )
    if isinstance(linked, Refusal):
        return call.refuse(linked.reason, linked.detail)
    log.info("member.linked", request_id=call.request_id, merchant=wanted.merchant)
    answer = LinkAnswer(member=member, merchant=wanted.merchant, merchant_member=linked)
    return call.answer(answer, 201)


async def post_consents(call: Call) -> web.StreamResponse:
    """Record a member's consent."""
    wanted = await call.read(ConsentRequest)
    given = await call.services.consents.give(member_token(call), wanted, caller=call.caller)
    if isinstance(given, Refusal):
        return call.refuse(given.reason, given.detail)
    log.info("consent.given", request_id=call.request_id, consent_no=given.consent_no)
    return call.answer(given, 201)


async def get_consents(call: Call) -> web.StreamResponse:
    """Show a page of a member's consents."""
    below, limit = CONSENTS.window(call)
    found = await call.services.consents.consents(
        member_token(call), caller=call.caller, below=below, limit=limit + 1
    )
    return _consents(call, found)


def _consents(call: Call, found: Sequence[ConsentView] | Refusal) -> web.Response:
    if isinstance(found, Refusal):
        return call.refuse(found.reason, found.detail, status=HTTPStatus.NOT_FOUND)
    return CONSENTS.answer(
        call,
        found,
        lambda view: int(view.consent_no),
        lambda views, cursor: ConsentsAnswer(consents=views, next=cursor),
    )


async def post_withdraw(call: Call) -> web.StreamResponse:
    """End a member's consent, and show the newest."""
    text: str = call.request.match_info["consent_no"]
    consent_no = int(text) if re.match(r"\A[0-9]{1,18}\Z", text) else 0
    found = await call.services.consents.withdraw(
        member_token(call), consent_no, caller=call.caller, limit=CONSENTS.usual + 1
    )
    if not isinstance(found, Refusal):
        log.info("consent.withdrawn", request_id=call.request_id, consent_no=consent_no)
    return _consents(call, found)


async def get_balances(call: Call) -> web.StreamResponse:
    """Show a member's live points."""
    outcome = await call.services.reports.balances(member_token(call), caller=call.caller)
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail, status=HTTPStatus.NOT_FOUND)
    return call.answer(outcome)


async def get_history(call: Call) -> web.StreamResponse:
    """Show a page of what happened to a member's points."""
    before, limit = HISTORY.window(call)
    member = member_token(call)
    found = await call.services.reports.history(
        member, caller=call.caller, before=before, limit=limit + 1
    )
    if isinstance(found, Refusal):
        return call.refuse(found.reason, found.detail, status=HTTPStatus.NOT_FOUND)
    return HISTORY.answer(
        call,
        found,
        lambda line: int(line.seq),
        lambda lines, cursor: HistoryAnswer(member=member, lines=lines, next=cursor),
    )


# --- merchants ---


async def post_merchants(call: Call) -> web.StreamResponse:
    """Register a merchant."""
    wanted = await call.read(MerchantRequest)
    terms = merchant_terms(wanted)
    now = call.services.now()
    outcome = await register_merchant(
        call.services.pool,
        call.services.clearing,
        terms,
        by=call.principal.by(),
        now=now,
        effective_at=wanted.effective_at or now,
    )
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    call.services.shelf.expire()
    api_key = await issue_api_key(
        call.services.pool,
        merchant_no=outcome,
        code=wanted.code,
        label="first",
        by=call.principal.by(),
        now=now,
    )
    log.info(
        "merchant.registered", request_id=call.request_id, merchant=wanted.code, number=outcome
    )
    answer = MerchantAnswer(code=wanted.code, merchant_no=outcome, api_key=api_key)
    return call.answer(answer, 201)


async def get_merchants(call: Call) -> web.StreamResponse:
    """Show a page of merchants."""
    after, limit = MERCHANTS.window(call)
    wanted = query_choice(call, "hosted", ("true", "false"))
    views = await call.services.reports.merchants(
        caller=call.caller,
        after=after or "",
        hosted=None if wanted is None else wanted == "true",
        limit=limit + 1,
    )
    return MERCHANTS.answer(
        call,
        views,
        lambda view: view.code,
        lambda page, cursor: MerchantsAnswer(merchants=page, next=cursor),
    )


# --- cycles ---


async def get_positions(call: Call) -> web.StreamResponse:
    """Show where the caller (or everybody, to the house) stands, page by page."""
    after, limit = POSITIONS.window(call)
    found = await call.services.reports.positions(
        call.request.query.get("cycle"), caller=call.caller, after=after, limit=limit + 1
    )
    if found is None:
        return call.not_found()
    return POSITIONS.answer(
        call,
        found.positions,
        lambda view: view.party,
        lambda page, cursor: msgspec.structs.replace(found, positions=page, next=cursor),
    )


async def get_cycles(call: Call) -> web.StreamResponse:
    """Show a page of cycles."""
    after, limit = CYCLES.window(call)
    views = await call.services.reports.cycles(
        caller=call.caller,
        after=-1 if after is None else after,
        state=query_choice(call, "state", CYCLE_STATES),
        limit=limit + 1,
    )
    return CYCLES.answer(
        call,
        views,
        lambda view: view.number,
        lambda page, cursor: CyclesAnswer(cycles=page, next=cursor),
    )


async def get_cycle(call: Call) -> web.StreamResponse:
    """Show one cycle."""
    view = await call.services.reports.cycle(call.request.match_info["cycle"], caller=call.caller)
    return call.not_found() if view is None else call.answer(view)


async def post_cycles_close(call: Call) -> web.StreamResponse:
    """Close the open cycle."""
    wanted = await call.read(CloseRequest, optional=True)
    services = call.services
    outcome = await turning.close_cycle(
        services.pool,
        services.clearing,
        wanted,
        by=call.principal.by(),
        now_us=services.now_us(),
    )
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    log.info(
        "cycle.closed", request_id=call.request_id, cycle=outcome.closed, opened=outcome.opened
    )
    return call.answer(outcome)


async def post_cycle_settle(call: Call) -> web.StreamResponse:
    """Count a closed cycle as settled."""
    services = call.services
    outcome = await turning.settle_cycle(
        services.pool,
        services.clearing,
        call.request.match_info["cycle"],
        by=call.principal.by(),
        now=services.now(),
    )
    if outcome is None:
        return call.not_found()
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    log.info("cycle.settled", request_id=call.request_id, cycle=outcome.cycle)
    return call.answer(outcome)


async def get_package(call: Call) -> web.StreamResponse:
    """Stream a cycle's settlement package."""
    merchant = None
    if call.caller != HOUSE:
        offer = await call.services.shelf.offer()
        merchant = offer.codes.get(call.caller, "")
    cycle = call.request.match_info["cycle"]
    files = await asyncio.to_thread(
        package_files, call.services.packages, cycle=cycle, merchant=merchant
    )
    if not files:
        return call.not_found()
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="{cycle}.zip"',
        "X-Request-Id": call.request_id,
    }
    if call.bound:
        # The head, which is signed, comes first; the archive is the same bytes each time.
        headers["Content-Digest"] = await digest_of_stream(zip_stream(files))
    response = web.StreamResponse(headers=headers)
    await response.prepare(call.request)
    async for piece in zip_stream(files):
        await response.write(piece)
    await response.write_eof()
    return response


# --- about the gateway itself ---


async def get_healthz(call: Call) -> web.StreamResponse:
    """Say that the process lives."""
    return call.answer(HealthAnswer())


async def get_readyz(call: Call) -> web.StreamResponse:
    """Say whether orders can be taken."""
    writer, database = await asyncio.gather(_writer_decides(call), _database_answers(call))
    stopping = call.gate.stopping
    answer = ReadyAnswer(
        ready=writer and database and not stopping,
        writer=writer,
        database=database,
        stopping=stopping,
    )
    return call.answer(answer, 200 if answer.ready else 503)


_PROBE = (End(caller=HOUSE, key=bytes(16), body=bytes(16), order_seq=0, kind=int(Kind.VOIDED)),)
"""Ends an order that cannot exist: it goes all the way through the queue and writes nothing."""


async def _writer_decides(call: Call) -> bool:
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await call.services.clearing.submit(_PROBE)
    except (Unavailable, TimeoutError, OSError):
        return False
    return True


async def _database_answers(call: Call) -> bool:
    try:
        async with asyncio.timeout(_READY_SECONDS):
            return await cycles.ledger_head(call.services.pool) is not None
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
        log.warning("database.missed", request_id=call.request_id, detail=type(error).__name__)
        return False


async def get_metrics(call: Call) -> web.StreamResponse:
    """Figures of this process, and of the house as they were read within a minute."""
    await call.services.house_watch.look()
    return web.Response(body=call.gate.metrics.render(), headers={"Content-Type": METRICS_TYPE})


async def get_problem(call: Call) -> web.StreamResponse:
    """Explain a problem: as a page for browsers, else as a record."""
    page = problem_page(call.request.match_info["code"])
    if page is None:
        return call.not_found()
    if call.chosen != HTML_TYPE:
        return call.answer(page)
    response = call.send(render_page(page), f"{HTML_TYPE}; charset=utf-8")
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return response


async def get_openapi(call: Call) -> web.StreamResponse:
    """The document that describes all this."""
    return call.send(call.gate.openapi, JSON_TYPE)
