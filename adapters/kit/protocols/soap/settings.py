"""A SOAP host's `[settings]`: where it is, who we are there, and what it calls things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from adapters.kit.contract import Step
from adapters.kit.http import HttpSettings
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.words import check_each_once, check_reasons
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.folder import Folder

_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")]
_Path = Annotated[str, msgspec.Meta(pattern=r"\A/[!-~]*\Z")]
_Uri = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z", max_length=200)]


class Operations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host calls each operation; its answer is called so with `Response` after it."""

    sign_in: _Name = "SignIn"
    look_up: _Name = "RetrieveMember"
    authenticate: _Name = "VerifyMember"
    hold: _Name = "BurnMiles"
    release: _Name = "ReinstateMiles"
    credit: _Name = "AccrueMiles"
    reverse_credit: _Name = "ReverseAccrual"
    status: _Name = "RetrieveTransaction"
    balance: _Name = "RetrieveBalance"
    statement: _Name = "RetrieveStatement"


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host calls each element.

    Attributes:
        message: Header: drawn for each message; the answer repeats it, so that no other passes for it.
        session: Header: the session that `SignIn` opened.
        reference: Header of a call that moves miles: our reference, under which a repeat has no second
            effect. In a body: the call that is asked or told about.
        of: Reference of the earlier call that this one ends.
        of_number: The host's own number for that earlier call.
        member: The member.
        proof: What the member presented.
        amount: Miles, an xs:long.
        available: Miles that the member could spend now, an xs:long.
        number: The host's own number of what it did.
        state: What became of a call.
        code: Why a call was refused: in a fault, or beside the state.
        executed: In a fault, an xs:boolean: whether the call took effect.
        day: Day of the statement, an xs:date.
        page: Which page of the statement; the answer names the next one, or none after the last.
        line: One movement of the statement.
        kind: What a line did.
        booked: When, an xs:dateTime with its offset.
        count: On the last page: how many lines all pages hold, an xs:long.
        total: On the last page: how many miles they make, an xs:long.
    """

    message: _Name = "MessageId"
    session: _Name = "Session"
    reference: _Name = "PartnerReference"
    of: _Name = "OriginalReference"
    of_number: _Name = "OriginalTransaction"
    member: _Name = "MemberNumber"
    proof: _Name = "OneTimeCode"
    amount: _Name = "Miles"
    available: _Name = "AvailableMiles"
    number: _Name = "TransactionNumber"
    state: _Name = "Status"
    code: _Name = "Code"
    executed: _Name = "Executed"
    day: _Name = "Date"
    page: _Name = "Page"
    line: _Name = "Movement"
    kind: _Name = "Kind"
    booked: _Name = "BookedAt"
    count: _Name = "MovementCount"
    total: _Name = "MilesTotal"


class States(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host calls what became of a call; whatever it calls otherwise is unknown."""

    done: str = "BOOKED"
    failed: str = "REJECTED"
    pending: str = "PENDING"


class Kinds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host calls each step in a statement."""

    hold: str = "BURN"
    release: str = "REINSTATE"
    credit: str = "ACCRUAL"
    reverse_credit: str = "ACCRUAL_REVERSAL"

    def steps(self) -> dict[str, Step]:
        """The step that each kind stands for."""
        return {getattr(self, name): Step[name.upper()] for name in self.__struct_fields__}


class Settings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that differs from one SOAP host to the next.

    Attributes:
        path: Every call is posted there.
        namespace: Of all elements that are the host's own.
        action: Begins the SOAPAction header; the operation's name follows.
        user: Who we are at the host.
        password: Where the password is (`adapters.kit.secret`).
        session_expired: Code of the fault that says that the session has ended.
        not_found: Code of the fault about a reference that the host does not know.
        codes: Reason of each other code that means no for ever. A fault with another code leaves the
            outcome unknown.
        operations: What the host calls each operation.
        fields: What it calls each element.
        states: What it calls what became of a call.
        kinds: What it calls each step in a statement.
    """

    path: _Path = "/"
    namespace: _Uri
    action: str
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    password: Annotated[str, msgspec.Meta(min_length=1)]
    session_expired: str = "SESSION_EXPIRED"
    not_found: str = "TRANSACTION_NOT_FOUND"
    codes: dict[str, str] = msgspec.field(default_factory=dict)
    operations: Operations = Operations()
    fields: Fields = Fields()
    states: States = States()
    kinds: Kinds = Kinds()


def read_settings(folder: Folder) -> Settings:
    """Read and check a folder's settings.

    Raises:
        SchemaError: A key is unknown or missing, a value does not fit, a reason is unknown, or the
            manifest promises holds, which this protocol has none of.
    """
    settings = settings_as(folder.manifest, Settings)
    where = folder.where(MANIFEST_FILE)
    if folder.manifest.spend.way == "hold":
        raise SchemaError(f"{where}.spend.way", 'This protocol burns: expected "burn" or "none"')
    check_reasons(settings.codes, f"{where}.settings.codes")
    tables: dict[str, msgspec.Struct] = {
        "operations": settings.operations,
        "fields": settings.fields,
        "kinds": settings.kinds,
    }
    for table, names in tables.items():
        check_each_once(names, f"{where}.settings.{table}")
    return settings
