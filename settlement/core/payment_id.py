"""What payments are called, in every bank file and on every bank statement.

A batch's id is what a person can type as the remark (附言) of a transfer; a payment's id names its party too, and
its counterparty in a bilateral cycle.

Source: settlement/RULES.md, rule X11.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_DIGEST_SHOWN: Final = 12
_ID = re.compile(
    r"TD([0-9]{6,9})-([0-9A-F]{12})(?:-([0-9]{1,9})(?:-([0-9]{1,9}))?(?![0-9A-Z]))?", re.ASCII
)


class PaymentName(NamedTuple):
    """What was read out of a remark.

    Attributes:
        batch_id: Id of the batch.
        party_no: Number of the party, 0 for the house's leg; None when the remark names the batch alone.
        counterparty_no: Number of the counterparty in a bilateral cycle, 0 for the house; None where none is named.
    """

    batch_id: str
    party_no: int | None
    counterparty_no: int | None = None


def batch_id(*, sequence: int, manifest_sha256: str) -> str:
    """Number of the package and the beginning of its manifest's digest.

    Args:
        sequence: Number of the package, from 1.
        manifest_sha256: Digest of its manifest, hex.

    Returns:
        For example `TD000004-0f3b2a9c11d7`.
    """
    return f"TD{sequence:06d}-{manifest_sha256[:_DIGEST_SHOWN]}"


def payment_id(batch: str, party_no: int, counterparty_no: int | None = None) -> str:
    """End-to-end id of a party's payment, at most 35 characters as ISO 20022 allows while numbers are below 10^5.

    Args:
        batch: Id of the batch.
        party_no: Number of the party in the journal; 0 or less for the house's leg.
        counterparty_no: In a bilateral cycle, the number of whom it is settled with, below 0 for the house; None
            or 0 in a multilateral one.
    """
    name = f"{batch}-{max(0, party_no)}"
    return f"{name}-{max(0, counterparty_no)}" if counterparty_no else name


def written_again(name: PaymentName) -> str:
    """A payment's id as bank files have it, of what was read out of a remark.

    Raises:
        ValueError: The remark names the batch alone.
    """
    if name.party_no is None:
        raise ValueError("a batch is no payment")
    party = payment_id(name.batch_id, name.party_no)
    return party if name.counterparty_no is None else f"{party}-{name.counterparty_no}"


def read_payment_name(remark: str) -> PaymentName | None:
    """Find the name of a payment in what somebody wrote: in any letters, with blanks, with words around it.

    Returns:
        The name; None when there is none, or when there are two different ones.
    """
    found = {
        PaymentName(
            f"TD{digits}-{digest.lower()}",
            int(party) if party else None,
            int(counterparty) if counterparty else None,
        )
        for digits, digest, party, counterparty in _ID.findall(re.sub(r"\s", "", remark).upper())
    }
    return found.pop() if len(found) == 1 else None
