"""What payments are called, in every bank file and on every bank statement.

A batch's id is what a person can type as the remark (附言) of a transfer; a payment's id names its party too, and
its counterparty in a bilateral cycle.

Source: settlement/RULES.md, rule X11.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

_DIGEST_SHOWN: Final = 12
_ID = re.compile(
    r"T\s*D\s*([0-9](?:\s*[0-9]){5,8})\s*-\s*([0-9A-F](?:\s*[0-9A-F]){11})"
    r"(?:\s*-\s*([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?(?![0-9A-Z]))?",
    re.ASCII,
)
"""Blanks may stand anywhere but in the numbers of the parties: what follows one behind a blank is not part of it."""
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))


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


def sequence_of(batch: str) -> int:
    """Number of the package of a batch, out of its id."""
    return int(batch[2:].partition("-")[0])


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
    """Find the name of a payment in what somebody wrote: in any letters and width, with blanks, with words around it.

    Returns:
        The name; None when there is none, or when there are two different ones. The batch alone beside one of its
        payments is no other name.
    """
    if not remark.isascii():
        remark = unicodedata.normalize("NFKC", remark).translate(_DASHES)
    found = {
        PaymentName(
            f"TD{_plain(digits)}-{_plain(digest).lower()}",
            int(party) if party else None,
            int(counterparty) if counterparty else None,
        )
        for digits, digest, party, counterparty in _ID.findall(remark.upper())
    }
    if len(found) > 1:
        whole = {one.batch_id for one in found if one.party_no is not None}
        found = {one for one in found if one.party_no is not None or one.batch_id not in whole}
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    return "".join(text.split())
