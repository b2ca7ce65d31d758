"""A form-and-sign merchant's `[settings]`: where the gateway is, its keys, and what it calls things.

The names that most gateways share are the defaults, so that a manifest says only what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from adapters.kit.contract import Step
from adapters.kit.http import HttpSettings
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.form_sign.wire import Charset  # noqa: TC001 - msgspec reads it when it runs
from adapters.kit.protocols.words import check_each_once, check_reasons
from adapters.kit.signers import SignType  # noqa: TC001 - the same
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.folder import Folder

_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_.]{0,63}\Z")]
_Path = Annotated[str, msgspec.Meta(pattern=r"\A/[!-~]*\Z")]
_Secret = Annotated[str, msgspec.Meta(min_length=1)]
_Column = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Methods(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway calls each operation."""

    look_up: _Name = "points.member.query"
    authenticate: _Name = "points.member.verify"
    hold: _Name = "points.freeze"
    capture: _Name = "points.deduct"
    release: _Name = "points.unfreeze"
    credit: _Name = "points.grant"
    reverse_credit: _Name = "points.grant.revoke"
    status: _Name = "points.trade.query"
    balance: _Name = "points.balance.query"
    statement: _Name = "points.bill.query"


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway calls each pair.

    Attributes:
        app_id: Who calls.
        method: The operation.
        charset: The charset.
        version: Version of the gateway's interface.
        time: When the message was written, `2026-03-02 09:14:07` in the merchant's zone.
        nonce: Drawn for each call; the answer repeats it, so that no older answer passes for it.
        notify_url: Where the gateway posts its notification.
        reference: Our reference of the call.
        of: Reference of the earlier call that this one ends.
        of_number: The gateway's own number for that earlier call.
        member: The member.
        proof: What the member presented.
        amount: Points, as a decimal with the merchant's own number of places.
        available: Points that the member could spend now.
        number: The gateway's own number of what it did.
        state: What became of a call.
        code: How the request ended.
        why: Why a call was refused, where `state` says that it was.
        day: Day of the statement, `2026-03-02`.
        url: Where the statement lies.
        digest: SHA-256 of the statement's bytes, in hexadecimal.
    """

    app_id: _Name = "app_id"
    method: _Name = "method"
    charset: _Name = "charset"
    version: _Name = "version"
    time: _Name = "timestamp"
    nonce: _Name = "nonce_str"
    notify_url: _Name = "notify_url"
    reference: _Name = "out_trade_no"
    of: _Name = "orig_out_trade_no"
    of_number: _Name = "orig_trade_no"
    member: _Name = "member_no"
    proof: _Name = "auth_code"
    amount: _Name = "points"
    available: _Name = "available_points"
    number: _Name = "trade_no"
    state: _Name = "trade_state"
    code: _Name = "code"
    why: _Name = "fail_code"
    day: _Name = "bill_date"
    url: _Name = "bill_url"
    digest: _Name = "bill_sha256"


class States(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway calls what became of a call. Whatever it calls otherwise is unknown.

    Attributes:
        done: It took effect.
        failed: It did not, and never will.
        pending: It was taken, and the outcome is told by a notification.
    """

    done: str = "SUCCESS"
    failed: str = "FAILED"
    pending: str = "PROCESSING"


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the day's statement is written: CSV in the charset, a header, and totals as its last row.

    Attributes:
        reference: Header of the column with our reference.
        step: Header of the column that says what was done.
        member: Header of the column with the member.
        amount: Header of the column with the points.
        booked: Header of the column with the time, `2026-03-02 09:14:07` in the merchant's zone.
        number: Header of the column with the gateway's own number.
        total: First field of the last row; the number of rows and the sum of the points follow it.
        steps: What the column `step` holds for each step.
    """

    reference: _Column = "商户订单号"
    step: _Column = "业务类型"
    member: _Column = "会员号"
    amount: _Column = "积分"
    booked: _Column = "入账时间"
    number: _Column = "平台流水号"
    total: _Column = "合计"
    steps: dict[Literal["hold", "capture", "release", "credit", "reverse_credit"], _Column] = (
        msgspec.field(
            default_factory=lambda: {
                "hold": "冻结",
                "capture": "扣减",
                "release": "解冻",
                "credit": "发放",
                "reverse_credit": "撤销发放",
            }
        )
    )

    def step_names(self) -> dict[str, Step]:
        """The step that each name in the column stands for."""
        return {name: Step[step.upper()] for step, name in self.steps.items()}


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where notifications come in.

    Attributes:
        host: Where to listen.
        port: Where to listen; 0 for any free port.
        url: Where the gateway finds us; made of host and port if empty, as on one machine.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    url: Annotated[str, msgspec.Meta(pattern=r"\A(https?://[!-~]+)?\Z")] = ""


class Settings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that differs from one form-and-sign gateway to the next.

    Attributes:
        path: Every call is posted there.
        app_id: Who we are at the gateway.
        version: Version of the gateway's interface.
        charset: Of bodies, of what is signed, and of the statement.
        sign_type: How both sides sign.
        private_key: Where our private key is (`adapters.kit.secret`).
        public_key: Where the gateway's public key is.
        answer: Whether answers are a flat JSON object or a form.
        success: Code of a request that was understood; then `state` tells the outcome.
        not_found: Code of the answer about a reference that the gateway does not know.
        codes: Reason of each other code that means no for ever. A code that is not listed, such as
            "system busy" or "timestamp expired", leaves the outcome unknown.
        bill_bytes_max: Largest statement that is read.
        notify: Where notifications come in; none are asked for without it.
        methods: What the gateway calls each operation.
        fields: What it calls each pair.
        states: What it calls what became of a call.
        statement: What it calls the columns of its statement.
    """

    path: _Path = "/gateway.do"
    app_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: str = "1.0"
    charset: Charset = "GBK"
    sign_type: SignType = "RSA2"
    private_key: _Secret
    public_key: _Secret
    answer: Literal["json", "form"] = "json"
    success: str = "10000"
    not_found: str = "TRADE_NOT_EXIST"
    codes: dict[str, str] = msgspec.field(default_factory=dict)
    bill_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = 64 * 1024 * 1024
    notify: Notify | None = None
    methods: Methods = Methods()
    fields: Fields = Fields()
    states: States = States()
    statement: Statement = Statement()


_SIGNED_WITH: Final = frozenset({"sign", "sign_type"})
"""Pairs that every gateway has, under these names."""


def read_settings(folder: Folder) -> Settings:
    """Read and check a folder's settings.

    Raises:
        SchemaError: A key is unknown or missing, a value does not fit, or a reason is unknown.
    """
    settings = settings_as(folder.manifest, Settings)
    where = f"{folder.where(MANIFEST_FILE)}.settings"
    check_reasons(settings.codes, f"{where}.codes")
    check_each_once(settings.fields, f"{where}.fields", taken=_SIGNED_WITH)
    check_each_once(settings.methods, f"{where}.methods", taken=_SIGNED_WITH)
    names = settings.statement.steps
    if len(names) != len(Step) or len(set(names.values())) != len(names):
        raise SchemaError(f"{where}.statement.steps", "Expected one name for each step")
    return settings
