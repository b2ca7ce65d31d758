"""The one catalogue of business refusals.

A reason's code is public and permanent; so is its number, which the journal stores. Its sentences
may change. Numbers are never reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why a request that was understood is answered with no.

    Each member holds its number in the journal, whether the same wish may succeed later under a new
    key (`retryable`), and one sentence each in English and Chinese.
    """

    NET_DEBIT_CAP_EXCEEDED = (
        1,
        True,
        "The issuer has reached its net debit cap in this cycle.",
        "发行方本周期净借记额度已用完。",
    )
    INSUFFICIENT_POINTS = (
        2,
        True,
        "The member does not have that many live points.",
        "会员可用积分不足。",
    )
    IDEMPOTENCY_CONFLICT = (
        3,
        False,
        "This key was used before with another body.",
        "该幂等键已用于内容不同的请求。",
    )
    UNKNOWN_MERCHANT = (4, False, "No such merchant takes part.", "商户不存在。")
    MERCHANT_SUSPENDED = (5, True, "The merchant is suspended.", "商户已暂停。")
    UNKNOWN_MEMBER = (6, False, "No such member is enrolled.", "会员不存在。")
    RATE_NOT_OFFERED = (
        7,
        True,
        "No rate is in force for these points.",
        "该积分当前没有有效汇率。",
    )
    AMOUNT_BELOW_MINIMUM = (8, False, "The amount is below the minimum.", "数量低于最小限额。")
    AMOUNT_ABOVE_MAXIMUM = (9, False, "The amount is above the maximum.", "数量高于最大限额。")
    CONVERTS_TO_NOTHING = (
        10,
        False,
        "These points convert to less than one unit.",
        "该数量折算后不足一个单位。",
    )
    SAME_MERCHANT = (
        11,
        False,
        "Issuer and acceptor are the same merchant.",
        "发行方与受理方不能是同一商户。",
    )
    QUOTE_EXPIRED = (12, True, "The quote's deadline has passed.", "报价已过期。")
    QUOTE_INVALID = (
        13,
        False,
        "The quote was not made here, or was altered.",
        "报价无效或已被改动。",
    )
    ORDER_NOT_FOUND = (14, False, "No such order is known to this merchant.", "订单不存在。")
    ORDER_ALREADY_CLEARED = (15, False, "The order has already cleared.", "订单已清算。")
    ORDER_ALREADY_VOIDED = (16, False, "The order has already been voided.", "订单已撤销。")
    HOLD_EXPIRED = (17, False, "The order's hold has expired.", "预留已过期。")
    ORDER_REFUSED = (18, False, "The order had been refused.", "订单此前已被拒绝。")
    NOT_HOSTED = (
        19,
        False,
        "This merchant keeps its points in its own system.",
        "该商户使用自有积分系统。",
    )
    CYCLE_NOT_OPEN = (20, False, "The cycle is not the open one.", "该结算周期并非当前周期。")
    CYCLE_NOT_CLOSED = (
        21,
        False,
        "The cycle is not closed and unsettled.",
        "该结算周期尚未关闭或已结算。",
    )
    CLOCK_RUNS_BACK = (
        22,
        False,
        "The business time lies before what is already booked.",
        "业务时间早于已入账时间。",
    )
    MERCHANT_EXISTS = (
        23,
        False,
        "A merchant with this code takes part already.",
        "商户代码已存在。",
    )
    BUSINESS_TIME_NOT_ACCEPTED = (
        24,
        False,
        "Only a ledger made for replay takes its time from the caller.",
        "仅回放账本接受调用方提供的业务时间。",
    )

    TILL_TIME_OUT_OF_RANGE = (
        25,
        False,
        "The till time lies in the future or more than seven days back.",
        "交易时间在未来或早于七天前。",
    )

    CANNOT_BE_BOOKED = (
        26,
        False,
        "The books cannot hold this request; it changed nothing.",
        "账本无法记录该请求，未产生任何变更。",
    )
    HOLD_NOT_OFFERED = (
        27,
        False,
        "An order of a hosted programme clears at once and takes no hold.",
        "托管积分订单即时清算，不支持预留。",
    )
    CYCLE_EXISTS = (28, False, "A cycle with this id exists already.", "该结算周期编号已存在。")
    MEMBER_NOT_AUTHORISED = (
        29,
        True,
        "The member has not authorised this.",
        "会员未授权该操作。",
    )
    CODE_SPENT = (30, True, "This spending code was used before.", "该付款码已被使用。")
    MEMBER_LIMIT_EXCEEDED = (
        31,
        True,
        "The member has reached a limit of value or of orders.",
        "会员已达到金额或次数限额。",
    )
    MERCHANT_UNAVAILABLE = (
        32,
        True,
        "The merchant's own system does not take calls now.",
        "商户系统当前不可用。",
    )
    DECIDED_TOO_LATE = (
        33,
        True,
        "The order was not decided in time; nothing of it will stand.",
        "订单未能按时完成，已取消且不会生效。",
    )
    CREDIT_UNDER_WAY = (
        34,
        True,
        "The credit may have been sent, so the order cannot be voided now.",
        "入账可能已发出，当前无法撤销。",
    )
    CALL_NOT_FOUND = (
        35,
        False,
        "The merchant's own system knows no such call.",
        "商户系统中没有该笔请求。",
    )
    MERCHANT_REFUSED = (
        36,
        False,
        "The merchant's own system refused.",
        "商户系统已拒绝。",
    )
    BASKET_NOT_COVERED = (
        37,
        True,
        "Not every part of the basket could be paid, so none was.",
        "组合支付未能全部完成，已整体取消。",
    )
    MERCHANT_NOT_CERTIFIED = (
        38,
        True,
        "The merchant's adapter has no certificate that is in force.",
        "商户适配器没有有效的认证证书。",
    )
    ORDER_UNDER_WAY = (
        39,
        True,
        "The order is under way between the merchants' own systems and ends by itself.",
        "订单正在商户系统间处理，将自动完成。",
    )
    ORDER_NOT_CLEARED = (
        40,
        True,
        "The order has not cleared, so there is nothing to take back.",
        "订单尚未清算，无可冲正。",
    )
    REVERSAL_EXCEEDS_ORDER = (
        41,
        False,
        "The order has fewer points left than are to be taken back.",
        "冲正积分超过订单剩余积分。",
    )
    POINTS_SPENT = (
        42,
        False,
        "The member has spent the points that are to be taken back.",
        "待收回的积分已被会员使用。",
    )
    REVERSAL_NOT_OFFERED = (
        43,
        False,
        "This order cannot be reversed here; its merchants settle it between themselves.",
        "该订单无法在此冲正，请由商户双方处理。",
    )

    SIGNATURE_MISSING = (60, False, "The request is not signed.", "请求未签名。")
    SIGNATURE_MALFORMED = (
        61,
        False,
        "The request's signature cannot be read.",
        "请求签名格式有误。",
    )
    SIGNATURE_DOWNGRADED = (
        62,
        False,
        "The signature does not cover or say what it must.",
        "签名未覆盖必需的内容，或所用算法、参数不符合要求。",
    )
    SIGNATURE_FROM_FUTURE = (
        63,
        True,
        "The signature comes from the future; set the clock.",
        "签名时间在未来，请校准时钟。",
    )
    SIGNATURE_LATE = (
        64,
        True,
        "The signature has expired; sign anew.",
        "签名已过期，请重新签名。",
    )
    SIGNATURE_REPLAYED = (
        65,
        True,
        "This signature was used before; sign anew.",
        "该签名已被使用，请重新签名。",
    )
    SIGNATURE_FORGED = (
        66,
        False,
        "The signature is not this key's over this request.",
        "签名验证失败。",
    )
    SIGNING_KEY_UNKNOWN = (67, False, "No such key is registered.", "签名密钥未登记。")
    SIGNING_KEY_REVOKED = (
        68,
        False,
        "The key was revoked, or has retired.",
        "签名密钥已吊销或已停用。",
    )
    DIGEST_MISMATCH = (
        69,
        False,
        "The body is not the one that was signed.",
        "请求体与签名的摘要不一致。",
    )
    SIGNING_KEY_NOT_TAKEN = (
        70,
        False,
        "This key cannot be registered: it was before, or there are too many.",
        "该密钥无法登记：曾登记过，或有效密钥过多。",
    )
    SIGN_IN_REFUSED = (
        80,
        True,
        "Name, password or code is wrong, or too many attempts failed.",
        "用户名、密码或动态码有误，或尝试次数过多。",
    )
    INVITATION_INVALID = (
        81,
        False,
        "The invitation is unknown, incomplete, used or too old.",
        "邀请无效、不完整、已使用或已过期。",
    )
    PERSON_NOT_FOUND = (82, False, "Nobody is called so.", "没有该用户。")
    PERSON_EXISTS = (83, False, "Somebody is called so already.", "该用户名已被使用。")
    SECOND_PERSON_NEEDED = (
        84,
        False,
        "This change needs a second person: propose it.",
        "该变更须由另一人复核，请提交提案。",
    )
    PROPOSAL_NOT_FOUND = (85, False, "There is no such proposal.", "没有该提案。")
    PROPOSAL_DECIDED = (86, False, "The proposal has been decided already.", "该提案已有结论。")
    PROPOSAL_EXPIRED = (87, False, "The proposal was not decided in time.", "该提案已过期。")
    PROPOSAL_OUTDATED = (
        88,
        False,
        "What the proposal was made for is no longer so; propose it anew.",
        "提案所依据的情况已变化，请重新提交。",
    )
    OWN_PROPOSAL = (89, False, "Nobody approves their own proposal.", "不得复核本人提交的提案。")
    ENDPOINT_LIMIT_REACHED = (
        90,
        True,
        "There are as many endpoints for webhooks as a merchant may have.",
        "接收通知的地址数量已达上限。",
    )

    UNKNOWN_CONSENT = (
        91,
        False,
        "The member gave no such consent.",
        "会员没有该项授权。",
    )

    MEMBER_HAS_POINTS = (
        92,
        True,
        "The member has points that would be lost.",
        "会员尚有积分，将会丧失。",
    )

    HOUSEHOLD_NOT_OFFERED = (
        100,
        False,
        "This programme does not offer family sharing.",
        "该积分计划未开通家庭共享。",
    )
    HOUSEHOLD_NOT_FOUND = (101, False, "No such household is known here.", "家庭不存在。")
    HOUSEHOLD_FULL = (102, True, "The household has as many members as it may.", "家庭成员已满。")
    ALREADY_IN_HOUSEHOLD = (
        103,
        True,
        "The member is in a household of this programme already.",
        "会员已加入该积分计划的家庭。",
    )
    HOUSEHOLD_COOLING = (
        104,
        True,
        "The member left a household a short while ago and has to wait.",
        "会员近期退出过家庭，须等待冷静期结束。",
    )
    NOT_INVITED = (
        105,
        True,
        "The household's head has not invited the member, or the invitation is over.",
        "会员未收到邀请或邀请已失效。",
    )
    NOT_IN_HOUSEHOLD = (
        106,
        True,
        "The member is not in this household.",
        "会员不在该家庭中。",
    )
    HEAD_ONLY = (107, False, "Only the household's head may do this.", "仅家庭户主可进行此操作。")
    TRANSFER_LIMIT_EXCEEDED = (
        108,
        True,
        "The giver has reached a limit for transfers.",
        "赠出会员已达转赠限额。",
    )
    SAME_MEMBER = (
        109,
        False,
        "Giver and receiver are the same member.",
        "赠出会员与接收会员不能相同。",
    )
    SIGNATURE_MISDIRECTED = (
        115,
        False,
        "The request was signed for another host.",
        "请求是为其他主机签名的。",
    )

    FUNDS_INSUFFICIENT = (
        120,
        True,
        "The money is not there.",
        "资金不足。",
    )
    FUNDS_MOVED = (
        121,
        True,
        "The figures changed since this was planned.",
        "计划制定后资金数据已变化。",
    )
    MOVEMENT_UNMATCHED = (
        122,
        True,
        "Books and bank do not agree: a movement of the bank has no place in the books.",
        "账簿与银行不一致:存在未入账的银行流水。",
    )
    PACKAGE_NOT_SIGNED = (
        123,
        True,
        "Too few have signed the cycle's package.",
        "结算包签名人数不足。",
    )
    ARRANGEMENT_EXISTS = (
        125,
        False,
        "An arrangement with this code exists already.",
        "该结算安排代码已存在。",
    )
    ADJUSTMENT_EXCEEDS_ORDER = (
        130,
        False,
        "What is left of the order after the correction would not be an order.",
        "更正超出订单余额。",
    )
    REMAINDERS_NOT_DUE = (
        131,
        False,
        "The remainders of this quarter cannot go back now.",
        "本季度尾差现在不能退还。",
    )
    DISPUTE_NOT_FOUND = (
        132,
        False,
        "No such dispute is known to this merchant.",
        "争议不存在。",
    )
    DISPUTE_EXISTS = (
        133,
        True,
        "A dispute about this line is open already.",
        "该明细已有未结争议。",
    )
    DISPUTE_ENDED = (
        134,
        False,
        "The dispute has ended.",
        "争议已结束。",
    )
    DISPUTE_NOT_HEARD = (
        135,
        True,
        "The other side has not answered, and still has time to.",
        "对方尚未答复且仍在答复期内。",
    )
    DISPUTE_STEP_NOT_YOURS = (
        136,
        False,
        "This step is for the other side or for the house.",
        "该步骤应由对方或平台进行。",
    )
    DISPUTE_FULL = (
        137,
        False,
        "The dispute has as many steps as it may.",
        "争议步骤已达上限。",
    )
    DISPUTE_GRANT_EXCEEDS_CLAIM = (
        138,
        False,
        "The decision goes beyond what was claimed.",
        "裁定超出主张。",
    )
    CONFIRMATION_INVALID = (
        140,
        False,
        "This is no confirmation of this batch by this merchant.",
        "该文件不是该商户对本批次的有效确认。",
    )
    FILE_REFUSED = (
        141,
        False,
        "These lines are not taken: they contradict what is known.",
        "明细文件与已知数据矛盾，未予接收。",
    )
    MATCH_REFUSED = (
        142,
        False,
        "There is nothing of the kind to decide about this match.",
        "该匹配没有可作此决定的事项。",
    )
    SETTLE_FROM_FUNDS = (
        145,
        False,
        "Funds are kept on this ledger: a cycle is settled from them, not on somebody's word.",
        "本账本记有资金：周期须以资金结算，不能仅凭声明结算。",
    )
    OBJECTION_OPEN = (
        151,
        True,
        "A merchant objects to the cycle's batch.",
        "有商户对本批次提出异议。",
    )

    def __init__(self, number: int, retryable: bool, english: str, chinese: str) -> None:  # noqa: FBT001 - the table above reads best without keywords
        """Unpack one row of the catalogue."""
        self.number = number
        self.retryable = retryable
        self.english = english
        self.chinese = chinese

    @property
    def code(self) -> str:
        """Permanent public code, for example `net_debit_cap_exceeded`."""
        return self.name.lower()


REASON_BY_NUMBER = {reason.number: reason for reason in Reason}
REASON_BY_CODE = {reason.code: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A business "no": the reason, and what a person needs to understand this case.

    Attributes:
        reason: Entry of the catalogue.
        detail: One English sentence about this very case; holds no member's reference and no key.
    """

    reason: Reason
    detail: str
