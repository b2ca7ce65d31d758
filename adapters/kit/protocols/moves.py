"""What the clients of several protocols share: calls that go one way, and answers that state what became of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Protocol

from adapters.kit.contract import Finding, Outcome, Receipt, Step
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters.kit.contract import Call

_NUMBER_MAX: Final = 64


class Moves(ABC):
    """The five calls that move points, of a system that is told the step as it is told all else."""

    async def hold(self, call: Call) -> Receipt:
        """Reserve or burn points."""
        return await self._move(call)

    async def capture(self, call: Call) -> Receipt:
        """Spend points that are held."""
        return await self._move(call)

    async def release(self, call: Call) -> Receipt:
        """Give held or burnt points back."""
        return await self._move(call)

    async def credit(self, call: Call) -> Receipt:
        """Give new points."""
        return await self._move(call)

    async def reverse_credit(self, call: Call) -> Receipt:
        """Take credited points back."""
        return await self._move(call)

    @abstractmethod
    async def _move(self, call: Call) -> Receipt:
        """Make a call that moves points."""


class Names(Protocol):
    """What a system calls the parts of an answer."""

    @property
    def reference(self) -> str:
        """Our reference."""
        ...

    @property
    def state(self) -> str:
        """What became of the call."""
        ...

    @property
    def number(self) -> str:
        """Its own number."""
        ...

    @property
    def amount(self) -> str:
        """What it moved."""
        ...


class States(Protocol):
    """What a system calls what became of a call."""

    @property
    def done(self) -> str:
        """It took effect."""
        ...

    @property
    def failed(self) -> str:
        """It did not, and never will."""
        ...

    @property
    def pending(self) -> str:
        """It was taken, and is not decided."""
        ...


def stated(
    texts: Mapping[str, str],
    names: Names,
    states: States,
    *,
    reference: str,
    step: Step,
    refusal: Reason | None,
    read_units: Callable[[str], int],
    who: str,
) -> Receipt:
    """What became of one call, as an answer that repeats its reference states it.

    Args:
        texts: The answer, by the system's names.
        names: Those names.
        states: Its words for a state.
        reference: Our reference of the call.
        step: Its step.
        refusal: Why it failed, should it have; None where that is not understood.
        read_units: Reads an amount as smallest units; raises `ValueError` for what is none.
        who: The other end, as sentences name it: `The gateway`.

    Returns:
        The receipt. What decides nothing is unknown; a release of nothing is done, and names no units.
    """
    if texts.get(names.reference) != reference:
        return unknown(f"{who} answered about another call")
    state = texts.get(names.state, "")
    if state == states.failed:
        return Receipt(outcome=Outcome.REFUSED, reason=refusal or Reason.MERCHANT_REFUSED)
    if state == states.pending:
        return Receipt(
            outcome=Outcome.UNKNOWN,
            expected=True,
            detail=Finding(f"{who} works on it and will tell"),
        )
    if state != states.done:
        return unknown(f"{who} named a state that decides nothing")
    number = texts.get(names.number, "")[:_NUMBER_MAX]
    amount = texts.get(names.amount)
    if amount is None:
        return Receipt(outcome=Outcome.DONE, number=number)
    try:
        units = read_units(amount)
    except ValueError:
        return unknown(f"{who} named an amount that cannot be read")
    if units == 0 and step is Step.RELEASE:
        return Receipt(
            outcome=Outcome.DONE, number=number, detail=Finding("There was nothing to give back")
        )
    return Receipt(outcome=Outcome.DONE, number=number, units=units)


def unknown(detail: str) -> Receipt:
    """A receipt that decides nothing, and why, in the kit's own words."""
    return Receipt(outcome=Outcome.UNKNOWN, detail=Finding(detail))
