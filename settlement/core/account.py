"""A merchant's account: its cap and collateral, and what counts against them (rules C1 and C5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.reason import Reason
from settlement.core.command import SetCap
from settlement.core.event import Kind

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import Entry, Join, SetCollateral


class Account:
    """One merchant's figures in the open cycle; every one counts whole CU.

    Attributes:
        cap: Net debit cap.
        collateral: What a bank holds for the merchant.
        held: Sum of open holds against it.
        unsettled: Sum of its negative positions in closed, unsettled cycles, and in open cycles other than the
            main one, none of a gross arrangement; what is held by `Books.reserved` is added back.
        open: Position in the open cycle of the main arrangement, signed.
    """

    __slots__ = ("cap", "collateral", "held", "open", "unsettled")

    def __init__(self, cap: int, collateral: int = 0, held: int = 0) -> None:
        """Start without a position."""
        self.cap = cap
        self.collateral = collateral
        self.held = held
        self.unsettled = 0
        self.open = 0

    @property
    def base(self) -> int:
        """Headroom before the open position counts; negative after a breach."""
        return self.cap + self.collateral + self.unsettled - self.held


def join(books: Books, command: Join) -> Entry:
    """Open the account of a merchant, with its cap."""
    if command.merchant_no in books.accounts:
        return books.refuse(command, Reason.MERCHANT_EXISTS, merchant_no=command.merchant_no)
    _check_amount(command.cap_cu)
    if command.merchant_no < 1:
        raise ValueError(f"not a merchant's number: {command.merchant_no}")
    books.accounts[command.merchant_no] = Account(command.cap_cu)
    books.moved_accounts.add(command.merchant_no)
    return books.administer(command, 0, Kind.JOINED, command.merchant_no, command.cap_cu, "")


def change(books: Books, command: SetCap | SetCollateral) -> Entry:
    """Set a cap, which may leave the merchant below it, or collateral, which may not when it is lowered (rule C5)."""
    account = books.accounts.get(command.merchant_no)
    if account is None:
        return books.refuse(command, Reason.UNKNOWN_MERCHANT, merchant_no=command.merchant_no)
    if isinstance(command, SetCap):
        _check_amount(command.cap_cu)
        account.cap = command.cap_cu
        kind, figure = Kind.CAP_SET, command.cap_cu
    else:
        _check_amount(command.collateral_cu)
        withdrawn = account.collateral - command.collateral_cu
        if withdrawn > 0 and account.base + min(0, account.open) < withdrawn:
            return books.refuse(
                command, Reason.NET_DEBIT_CAP_EXCEEDED, merchant_no=command.merchant_no
            )
        account.collateral = command.collateral_cu
        kind, figure = Kind.COLLATERAL_SET, command.collateral_cu
    books.moved_accounts.add(command.merchant_no)
    return books.administer(command, 0, kind, command.merchant_no, figure, "")


def add_collateral(books: Books, merchant_no: int, cu: int) -> None:
    """Change a merchant's collateral; whether it may is decided by whoever asks."""
    books.accounts[merchant_no].collateral += cu
    books.moved_accounts.add(merchant_no)


def _check_amount(cu: int) -> None:
    """Hold what every cap and collateral must be.

    Raises:
        ValueError: It is negative or passes the limit of amounts.
    """
    if not 0 <= cu < AMOUNT_LIMIT:
        raise ValueError(f"not an amount: {cu} CU")
