"""Whether a gateway lives, and whether it can do its work."""

from __future__ import annotations

from typing import Literal

import msgspec


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers.

    Attributes:
        status: Always `ok`.
    """

    status: Literal["ok"] = "ok"


class ReadyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether orders can be taken now.

    Attributes:
        ready: Whether everything below is well.
        writer: Whether the writer decides.
        database: Whether the database answers.
        stopping: Whether this gateway is on its way out.
    """

    ready: bool
    writer: bool
    database: bool
    stopping: bool
