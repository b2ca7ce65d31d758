"""A merchant's own words for things, as its manifest gives them: that they are clear, and what its codes mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from schemas.values.faults import SchemaError
from schemas.values.reason import REASON_BY_CODE, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Codes(Protocol):
    """Settings with a system's codes for a no."""

    @property
    def not_found(self) -> str:
        """Code for a reference that it does not know."""
        ...

    @property
    def codes(self) -> dict[str, str]:
        """Our reason's code, by its code."""
        ...


def reason_of(settings: Codes, code: str) -> Reason | None:
    """The reason that a code means; None for a code that decides nothing."""
    if code == settings.not_found:
        return Reason.CALL_NOT_FOUND
    name = settings.codes.get(code)
    return REASON_BY_CODE[name] if name else None


def check_reasons(codes: Mapping[str, str], where: str) -> None:
    """Check that there are the reasons that a system's codes are said to mean.

    Raises:
        SchemaError: There is none of that code.
    """
    for code, reason in codes.items():
        if reason not in REASON_BY_CODE:
            raise SchemaError(f"{where}.{code}", f"No reason is called {reason!r}")


def check_each_once(
    names: msgspec.Struct, where: str, *, taken: Collection[str] = frozenset()
) -> None:
    """Check that no two things are called the same.

    Args:
        names: The names.
        where: How a complaint begins.
        taken: Names that stand for something else already.

    Raises:
        SchemaError: Two are.
    """
    seen = set(taken)
    for key, name in cast("dict[str, str]", msgspec.structs.asdict(names)).items():
        if name in seen:
            raise SchemaError(f"{where}.{key}", f"{name!r} stands for something else already")
        seen.add(name)
