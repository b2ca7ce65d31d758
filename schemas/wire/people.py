"""People: signing in and out, taking an invitation up, and who there is."""

from __future__ import annotations

from typing import Annotated

import msgspec

Name = Annotated[
    str, msgspec.Meta(max_length=48, description="What a person signs in as.", examples=["anna"])
]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Code = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A([0-9]{6}|[a-zA-Z2-7]{4}(-[a-zA-Z2-7]{4}){3})\Z",
        description="The authenticator's six digits, or an unused recovery code.",
        examples=["123456"],
    ),
]
Token = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]


class SignInRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs in.

    Attributes:
        name: Who.
        password: The password.
        code: The authenticator's code of now, or a recovery code; each counts once.
    """

    name: Name
    password: Password
    code: Code


class PersonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls.

    Attributes:
        name: What the audit trail calls them.
        merchant: Code of their merchant; null for the house.
        roles: What they may do.
    """

    name: str
    merchant: str | None
    roles: list[str]


class SessionAnswer(PersonAnswer, frozen=True, kw_only=True):
    """A session that was opened.

    Attributes:
        token: Send it as `Authorization: Bearer …`; it is shown this once.
        ends_at: When the session ends at the latest.
        idle_seconds: A session that is not used for so long ends earlier.
    """

    token: str
    ends_at: str
    idle_seconds: int


class EndedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a session was ended.

    Attributes:
        ended: False where it had ended before.
    """

    ended: bool


class AcceptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Takes an invitation up.

    Attributes:
        invitation: The token.
        second: Its second part, where another person had to approve it.
        password: The new password.
    """

    invitation: Token
    password: Password
    second: Token | None = None


class AcceptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown once.

    Attributes:
        name: What to sign in as.
        totp_uri: For an authenticator application.
        recovery_codes: Each stands once for a code.
    """

    name: str
    totp_uri: str
    recovery_codes: list[str]


class PersonView(msgspec.Struct, frozen=True, kw_only=True):
    """A person as the house sees them.

    Attributes:
        name: What they sign in as.
        merchant: Code of their merchant; null for the house.
        roles: What they may do.
        state: `invited`, `active`, `locked` or `disabled`.
        made_at: When they were added.
    """

    name: str
    merchant: str | None
    roles: list[str]
    state: str
    made_at: str


class PeopleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of everybody.

    Attributes:
        people: By name.
        next: Cursor of the next page; null on the last.
    """

    people: list[PersonView]
    next: str | None
