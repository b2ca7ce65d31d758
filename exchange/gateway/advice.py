"""What a caller does about each problem, in English and Chinese: what its address, `/problems/<code>`, says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from exchange.gateway import problems
from schemas.values.reason import Reason
from schemas.wire.problems import ProblemPage

if TYPE_CHECKING:
    from collections.abc import Mapping

ADVICE: Final[Mapping[str, tuple[str, str]]] = {
    # Orders, points and members.
    "net_debit_cap_exceeded": (
        "Take another issuer's points, or try again under a new key once the cycle was settled or the cap raised.",
        "请改用其他商户的积分；待周期结算或额度提高后，用新的幂等键重试。",
    ),
    "insufficient_points": (
        "Show the member the balance and offer fewer points.",
        "请向会员展示余额并减少积分数量。",
    ),
    "idempotency_conflict": (
        "A key stands for one request, for 35 days at least: repeat the first body for its answer, or take a new key.",
        "一个幂等键至少 35 天内只对应一个请求：请重发原请求体获取原结果，或换用新键。",
    ),
    "unknown_merchant": (
        "Look the code up in GET /v1/merchants.",
        "请在 GET /v1/merchants 中核对商户代码。",
    ),
    "merchant_suspended": (
        "Ask the house; until then take another merchant's points.",
        "请联系清算所，期间请改用其他商户。",
    ),
    "unknown_member": (
        "Enrol the member first, or mend the reference.",
        "请先登记会员，或更正会员标识。",
    ),
    "rate_not_offered": (
        "Try again once a rate is in force, or take another issuer.",
        "请待汇率生效后重试，或改用其他商户积分。",
    ),
    "amount_below_minimum": ("Ask for more points.", "请提高积分数量。"),
    "amount_above_maximum": (
        "Ask for fewer points, or split the amount.",
        "请减少积分数量或拆分金额。",
    ),
    "converts_to_nothing": ("Ask for more points.", "请提高积分数量。"),
    "same_merchant": (
        "Name two different merchants; a merchant's own points need no clearing.",
        "请填写两个不同的商户；本商户积分无需清算。",
    ),
    "quote_expired": ("Get a new quote and order by it.", "请重新询价后下单。"),
    "quote_invalid": (
        "Send the token exactly as it was quoted, or get a new quote.",
        "请原样提交报价凭证，或重新询价。",
    ),
    "order_not_found": (
        "Check the id, and that the caller had a part in the order.",
        "请核对订单编号，并确认调用方与该订单有关。",
    ),
    "order_already_cleared": (
        "Nothing is left to do; to take it back, reverse it.",
        "无需处理；如需退回请发起冲正。",
    ),
    "order_already_voided": ("Nothing is left to do.", "无需处理。"),
    "hold_expired": (
        "Order again under a new key, and end orders before `hold_until`.",
        "请用新键重新下单，并在 hold_until 之前完成。",
    ),
    "order_refused": (
        "Look the order up for its reason, and order again under a new key where that helps.",
        "请查询订单的拒绝原因，必要时用新键重新下单。",
    ),
    "not_hosted": (
        "Use the merchant's own system: its points are not kept here.",
        "该商户积分不由本所托管，请使用商户自有系统。",
    ),
    "till_time_out_of_range": (
        "Set the till's clock, or leave `occurred_at` out.",
        "请校准终端时钟，或省略 occurred_at。",
    ),
    "business_time_not_accepted": (
        "Leave the time out: this ledger takes its own.",
        "请省略时间字段，本账本使用自身时钟。",
    ),
    "clock_runs_back": (
        "Send what happened in its order of time.",
        "请按时间先后顺序提交。",
    ),
    "cannot_be_booked": (
        "Tell the house, with `request_id`; nothing was changed.",
        "请将 request_id 告知清算所；未产生任何变更。",
    ),
    "hold_not_offered": (
        "Leave `hold` out: such orders clear at once.",
        "请省略 hold，该类订单即时清算。",
    ),
    "member_not_authorised": (
        "Ask the member for a new spending code, or for the issuer's confirmation.",
        "请会员提供新的付款码，或由发行方确认。",
    ),
    "code_spent": ("Ask the member for a new code.", "请会员重新出示付款码。"),
    "member_limit_exceeded": (
        "Try again tomorrow, or with a smaller amount.",
        "请次日再试，或减小金额。",
    ),
    "merchant_unavailable": (
        "Try again under a new key in a minute, or take another issuer.",
        "请稍后用新键重试，或改用其他商户。",
    ),
    "decided_too_late": (
        "Tell the member no; a new key may succeed. Points that were held come back by themselves.",
        "请告知会员未成功；可用新键重试，已预留积分会自动退回。",
    ),
    "credit_under_way": (
        "Wait and look the order up: it ends by itself.",
        "请稍候并查询订单，将自动完成。",
    ),
    "call_not_found": (
        "Nothing is known of this call there; order again under a new key.",
        "商户系统无此请求，请用新键重新下单。",
    ),
    "merchant_refused": (
        "Tell the member: the merchant's own system said no.",
        "请告知会员：商户系统已拒绝。",
    ),
    "basket_not_covered": (
        "Offer other points, or take each part that fits.",
        "请调整积分组合，或允许部分支付。",
    ),
    "merchant_not_certified": (
        "Ask the house to certify the merchant's adapter.",
        "请清算所完成商户适配器认证。",
    ),
    "order_under_way": (
        "Wait and look the order up: it ends by itself.",
        "请稍候并查询订单，将自动完成。",
    ),
    "unknown_consent": (
        "List the member's consents; each has its number.",
        "请先查询会员的授权记录，其中列有编号。",
    ),
    "member_has_points": (
        "Tell the member what would be lost, and ask again with their word for it.",
        "请告知会员将丧失的积分，征得同意后再提交。",
    ),
    "household_not_offered": (
        "Set rules first (PUT /v1/merchants/{code}/household-rules); a programme that is not hosted here has none.",
        "请先设置家庭共享规则（PUT /v1/merchants/{code}/household-rules）；非托管积分计划不提供家庭共享。",
    ),
    "household_not_found": (
        "Look the id up; a household that was dissolved is made anew.",
        "请核对家庭编号；已解散的家庭需重新创建。",
    ),
    "household_full": (
        "Take an open invitation back or remove a member first.",
        "请先撤回未接受的邀请或移除成员。",
    ),
    "already_in_household": (
        "The member leaves the other household first.",
        "会员须先退出原家庭。",
    ),
    "household_cooling": (
        "Wait until the programme's cooling days are over.",
        "请待该积分计划规定的冷静期结束后再试。",
    ),
    "not_invited": (
        "Have the household's head invite the member anew.",
        "请由户主重新发出邀请。",
    ),
    "not_in_household": (
        "Show the household's members; both sides must have joined and not left.",
        "请查看家庭成员，赠出与接收双方均须为现有成员。",
    ),
    "head_only": (
        "Ask the household's head to do it.",
        "请由户主操作。",
    ),
    "transfer_limit_exceeded": (
        "Offer fewer points, or wait until earlier transfers are a day or a month old.",
        "请减少数量，或待此前转赠满一日或一月后再试。",
    ),
    "same_member": (
        "Name another member of the household as receiver.",
        "请选择家庭中的其他会员作为接收方。",
    ),
    "order_not_cleared": (
        "Void an accepted order; only a cleared one is reversed.",
        "已受理的订单请撤销；仅已清算订单可冲正。",
    ),
    "reversal_exceeds_order": (
        "Look the order up and reverse no more than is left.",
        "请查询订单，冲正数量不得超过剩余部分。",
    ),
    "adjustment_exceeds_order": (
        "Look up what is left of the order and correct no more than that.",
        "请查询订单余额，更正不得超过剩余金额。",
    ),
    "remainders_not_due": (
        "Wait for the quarter's end, and return quarters in their order.",
        "请等待季度结束，并按季度先后顺序退还。",
    ),
    "dispute_not_found": (
        "Check the number; list your disputes.",
        "请核对编号，或查询争议列表。",
    ),
    "dispute_exists": (
        "Bring evidence to the open dispute instead.",
        "请向已有争议补充证据。",
    ),
    "dispute_ended": (
        "Look at its outcome; another fact needs a new dispute.",
        "请查看结果；新的事实请另行提出争议。",
    ),
    "dispute_not_heard": (
        "Wait for the answer or for its due date.",
        "请等待对方答复或答复期满。",
    ),
    "dispute_step_not_yours": (
        "Answer what others opened; withdraw what you opened.",
        "对方提出的请答复；自己提出的可撤回。",
    ),
    "dispute_full": (
        "Put further evidence into one file.",
        "请将其余证据合并为一个文件。",
    ),
    "dispute_grant_exceeds_claim": (
        "Grant the claim or a part of it.",
        "请按主张全部或部分支持。",
    ),
    "points_spent": (
        "The member has spent what was credited; settle it at the till.",
        "会员已使用入账积分，请在门店另行处理。",
    ),
    "reversal_not_offered": (
        "Settle it at the till: this kind of order cannot be reversed.",
        "该类订单不支持冲正，请在门店另行处理。",
    ),
    # Cycles, merchants and endpoints.
    "cycle_not_open": ("Look the open cycle up in GET /v1/cycles.", "请查询当前开放的周期。"),
    "cycle_not_closed": ("Settle only a closed cycle, once.", "仅可结算已关闭且未结算的周期。"),
    "confirmation_invalid": (
        "Make it anew of this cycle's manifest with a key that is registered and in force: `tongdui package confirm`.",
        "请使用已注册且有效的密钥，针对本周期清单重新生成确认文件：`tongdui package confirm`。",
    ),
    "file_refused": (
        "Read the detail: another cycle, a merchant without lines in it, or files of another figure or rounding.",
        "请查看详情：周期不符、该商户在其中无明细，或与先前文件的口径不同。",
    ),
    "match_refused": (
        "Look at the breaks again: the match was decided or taken apart already, or nothing differs in it.",
        "请重新查看差异：该匹配已处理、已拆除，或不存在差异。",
    ),
    "funds_insufficient": (
        "Pay in what is missing; try again under a new key.",
        "请补足资金后使用新的幂等键重试。",
    ),
    "funds_moved": ("Make the plan again, then try it.", "请重新制定计划后再试。"),
    "package_not_signed": (
        "Have the missing roles sign: tongdui package sign.",
        "请由尚缺角色签名：tongdui package sign。",
    ),
    "settle_from_funds": (
        "Book what the bank shows, then settle from the funds: tongdui fund, tongdui settle.",
        "请先将银行流水入账，再以资金结算：tongdui fund，tongdui settle。",
    ),
    "objection_open": (
        "Hear the merchant, and correct by a dispute; or settle expressly: tongdui settle --despite-objections.",
        "请先听取商户意见并以争议更正；或明确继续结算：tongdui settle --despite-objections。",
    ),
    "movement_unmatched": (
        "Book or match what the bank shows first.",
        "请先将银行流水入账或匹配。",
    ),
    "cycle_exists": ("Choose another id for the next cycle.", "请为下一周期选择其他编号。"),
    "arrangement_exists": (
        "Choose another code, or give pairs the arrangement that is there.",
        "请选择其他代码，或直接使用现有安排。",
    ),
    "merchant_exists": ("Choose another code.", "请选择其他商户代码。"),
    "endpoint_limit_reached": (
        "Remove an endpoint that is not needed any more.",
        "请先删除不再使用的通知地址。",
    ),
    # Signatures.
    "signature_missing": (
        "Sign the request as `Accept-Signature` says (RFC 9421).",
        "请按 Accept-Signature 的要求对请求签名（RFC 9421）。",
    ),
    "signature_malformed": (
        "Write both signature fields as RFC 9421 has them, once.",
        "请按 RFC 9421 规范填写签名字段，且仅一次。",
    ),
    "signature_downgraded": (
        "Cover all components and parameters that `Accept-Signature` names.",
        "请覆盖 Accept-Signature 列出的全部组件与参数。",
    ),
    "signature_from_future": ("Set the clock and sign anew.", "请校准时钟后重新签名。"),
    "signature_late": ("Sign anew and send at once.", "请重新签名并立即发送。"),
    "signature_replayed": (
        "Sign anew with a fresh nonce; the idempotency key stays.",
        "请用新的随机数重新签名，幂等键保持不变。",
    ),
    "signature_misdirected": (
        "Send it to a name by which the house is known, and sign for that name; a proxy must keep the field `Host`.",
        "请使用清算所公布的主机名发送并签名；代理须保留 Host 字段。",
    ),
    "signature_forged": (
        "Check the key, and that nothing on the way changes the request.",
        "请核对密钥，并确认传输过程中请求未被修改。",
    ),
    "signing_key_unknown": ("Register the key first.", "请先登记密钥。"),
    "signing_key_revoked": ("Sign with a key that is in force.", "请使用有效密钥签名。"),
    "digest_mismatch": (
        "Compute `Content-Digest` over the body as it is sent.",
        "请对实际发送的请求体计算 Content-Digest。",
    ),
    "signing_key_not_taken": (
        "Make a new key, or revoke one that is not needed.",
        "请生成新密钥，或吊销不再使用的密钥。",
    ),
    # People and proposals.
    "sign_in_refused": (
        "Check name, password and code; after several failures wait a while.",
        "请核对用户名、密码和动态码；多次失败后请稍候。",
    ),
    "invitation_invalid": ("Ask for a new invitation.", "请重新获取邀请。"),
    "person_not_found": ("Look the name up in GET /v1/admin/people.", "请核对用户名。"),
    "person_exists": ("Choose another name.", "请选择其他用户名。"),
    "second_person_needed": (
        "Propose the change; another person approves it.",
        "请提交提案，由另一人批准。",
    ),
    "proposal_not_found": ("Check the proposal's number.", "请核对提案编号。"),
    "proposal_decided": ("Nothing is left to do.", "无需处理。"),
    "proposal_expired": ("Propose it anew.", "请重新提交提案。"),
    "proposal_outdated": (
        "Look at what is in force now, and propose it anew.",
        "请查看当前情况后重新提交提案。",
    ),
    "own_proposal": ("Have another person decide it.", "请由另一人审批。"),
    # Requests with which no business could be done.
    "malformed_request": (
        "Mend what `field` names; the document of all requests is at /openapi.json.",
        "请更正 field 指出的字段；接口文档见 /openapi.json。",
    ),
    "unauthenticated": (
        "Say who calls: sign the request, or send a session's token.",
        "请表明调用方身份：对请求签名或提供会话令牌。",
    ),
    "forbidden": (
        "Ask somebody who may do this; the access matrix says who.",
        "请由有权限的人员操作。",
    ),
    "not_found": ("Check the path.", "请核对路径。"),
    "method_not_allowed": (
        "Use a method that the header `Allow` names.",
        "请使用 Allow 头列出的方法。",
    ),
    "request_timed_out": (
        "Send the whole body at once, under the same key.",
        "请用同一幂等键一次性发送完整请求体。",
    ),
    "request_too_large": ("Split the request.", "请拆分请求。"),
    "unsupported_media_type": (
        "Send a content type that the detail names.",
        "请使用 detail 指出的内容类型。",
    ),
    "quota_exceeded": (
        "Send the same request again under the same key, after `Retry-After` seconds; keep to `RateLimit-Policy`.",
        "请在 Retry-After 秒后用同一幂等键重发原请求，并遵守 RateLimit-Policy 所示上限。",
    ),
    "not_acceptable": (
        "Name in `Accept` one of the content types that the detail names, or leave the header out; nothing was done.",
        "请在 Accept 中写明 detail 指出的某一内容类型，或省略该请求头；未作任何处理。",
    ),
    "unavailable": (
        "Send the same request again under the same key, after `Retry-After` seconds.",
        "请在 Retry-After 秒后用同一幂等键重发原请求。",
    ),
    "internal_error": (
        "Send it again under the same key; if it stays, tell the house the `request_id`.",
        "请用同一幂等键重试；若仍失败，请将 request_id 告知清算所。",
    ),
}
"""By code, for every reason and every fault."""

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{code}</title>
<body style="max-width:40em;margin:3em auto;padding:0 1em;font:16px/1.6 system-ui,sans-serif">
<h1><code>{code}</code></h1>
<p>HTTP {status} · {retryable}</p>
<section lang="en"><h2>What it means</h2><p>{meaning}</p><h2>What to do</h2><p>{advice}</p></section>
<section lang="zh"><h2>含义</h2><p>{meaning_zh}</p><h2>处理方法</h2><p>{advice_zh}</p></section>
</body></html>
"""


def problem_page(code: str) -> ProblemPage | None:
    """What stands at a problem's address; None if there is no such problem."""
    reason = next((each for each in Reason if each.code == code), None)
    if reason is not None:
        status, retryable = problems.STATUS[reason], reason.retryable
        meaning, meaning_zh = reason.english, reason.chinese
    else:
        fault = next((each for each in problems.FAULTS if each.code == code), None)
        if fault is None:
            return None
        status, retryable = fault.status, fault.retryable
        meaning, meaning_zh = fault.detail, fault.detail_zh
    advice, advice_zh = ADVICE[code]
    return ProblemPage(
        type=problems.PROBLEM_BASE + code,
        reason=code,
        status=int(status),
        retryable=retryable,
        meaning=meaning,
        meaning_zh=meaning_zh,
        advice=advice,
        advice_zh=advice_zh,
    )


def render_page(page: ProblemPage) -> bytes:
    """A problem for people who follow its address in a browser."""
    told = "a new key may succeed later · 可稍后重试" if page.retryable else "final · 不可重试"
    return _PAGE.format(
        code=escape(page.reason),
        status=page.status,
        retryable=told,
        meaning=escape(page.meaning),
        meaning_zh=escape(page.meaning_zh),
        advice=escape(page.advice),
        advice_zh=escape(page.advice_zh),
    ).encode()
