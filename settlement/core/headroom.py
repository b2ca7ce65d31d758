"""Headroom: what a merchant may still owe under its net debit cap, and what of its funds is free.

All in CU (settlement/RULES.md, rules C1 to C4 and T9):

    base = cap + collateral + sum of min(0, each closed and unsettled position) - held
    an order that clears at once needs        base + open position           - debit >= 0
    an order that is accepted first needs     base + min(0, open position)   - debit >= 0

`Books.clear`, `settlement.core.hold` and `settlement.core.stretch` write the comparison out where they decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.amounts import SUM_LIMIT
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from settlement.core.account import Account
    from settlement.core.books import Books
    from settlement.core.window import Window


def why_not_clear(
    books: Books, issuer: int, acceptor: int, debit_cu: int, *, beside_cu: int
) -> Reason | None:
    """Say why an order could not clear at once now, if it could not; nothing changes.

    Args:
        books: The books.
        issuer: Whose points.
        acceptor: Where the value goes.
        debit_cu: What the issuer would owe, CU.
        beside_cu: What else the issuer would owe the acceptor before it, CU.

    Returns:
        None, or what `Books.clear` would refuse it with.
    """
    debtor = books.accounts.get(issuer)
    if debtor is None or acceptor not in books.accounts:
        return Reason.UNKNOWN_MERCHANT
    window = books.window_of(issuer, acceptor)
    if window is None and not books.cycle_no:
        return Reason.CYCLE_NOT_OPEN
    if window is not None and window.gross:
        if free_funds(books, issuer) - beside_cu < debit_cu:
            return Reason.FUNDS_INSUFFICIENT
    elif room(issuer, debtor, window) - beside_cu < debit_cu:
        return Reason.NET_DEBIT_CAP_EXCEEDED
    obligations = books.obligations if window is None else window.obligations
    obligation = obligations.get((issuer, acceptor))
    if (obligation.debit if obligation else 0) + beside_cu + debit_cu >= SUM_LIMIT:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    return None


def owed_beside(books: Books, number: int) -> int:
    """What a merchant owes in the open cycles beside the main one, CU; never positive."""
    return sum(min(0, window.net(number)) for window in books.windows.values() if not window.gross)


def free_funds(books: Books, number: int) -> int:
    """What a merchant's funds hold that no accepted order of a gross arrangement reserves, CU (rule T9)."""
    return books.funds.of(number) - books.reserved.get(number, 0)


def reserve(books: Books, issuer: int, cu: int) -> None:
    """Hold an order's value against its issuer's funds instead of the cap, which it leaves alone."""
    books.reserved[issuer] = books.reserved.get(issuer, 0) + cu
    books.accounts[issuer].unsettled += cu


def room(number: int, account: Account, window: Window | None) -> int:
    """What a merchant may still owe in one open cycle; each other counts where it is below 0 (rule C2)."""
    if window is None:
        return account.base + account.open
    return account.base + min(0, account.open) + max(0, window.net(number))


def note_breach(books: Books, merchant_no: int, window: Window | None) -> None:
    """Tell whoever waits for it that a merchant is below its cap; of a gross cycle its funds are told."""
    if window is not None and window.gross:
        return
    missing_cu = -room(merchant_no, books.accounts[merchant_no], window)
    if missing_cu > 0:
        books.changes.breached[merchant_no] = missing_cu
