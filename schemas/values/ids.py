"""Identifiers: orders, idempotency keys, merchants, members.

An order's id is a UUIDv7 (RFC 9562 §5.7) that says where its first event stands in the journal, so
that looking an order up needs no index of its own: 48 bits of Unix milliseconds, 12 bits of
partition in `rand_a`, 62 bits of sequence number in `rand_b` (a counter, RFC 9562 §6.2).
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HOUSE: Final = 0
"""Merchant number of the house itself, as caller of operator commands."""
HOUSE_FEES: Final = -1
HOUSE_ROUNDING: Final = -2
HOUSE_DEFAULT_FUND: Final = -3
HOUSE_TRANSIT: Final = -4
"""Money on its way: taken out of somebody's funds, and not yet in the bank's statement; or announced, and
not yet there, then below zero."""
HOUSE_CODES: Final = {
    HOUSE_FEES: "HOUSE:fees",
    HOUSE_ROUNDING: "HOUSE:rounding",
    HOUSE_DEFAULT_FUND: "HOUSE:default-fund",
}
"""The house's own parties: never merchants, so their codes carry a colon that no merchant may use."""

MERCHANT_CODE_PATTERN: Final = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z"
KEY_PATTERN: Final = r"\A[\x21-\x7e]{1,64}\Z"
_SEQ_LIMIT = 1 << 62
_PART_LIMIT = 1 << 12


def order_id(at_us: int, part: int, seq: int) -> uuid.UUID:
    """Make the id of the order whose first event is `seq` of partition `part`.

    Args:
        at_us: Instant of the first event, microseconds since 1970-01-01 UTC.
        part: Partition, below 4,096.
        seq: Sequence number of the first event, below 2^62.

    Raises:
        ValueError: A figure does not fit its bits.
    """
    if not (0 <= part < _PART_LIMIT and 0 <= seq < _SEQ_LIMIT):
        raise ValueError(f"no order can stand at part {part}, seq {seq}")
    milliseconds = at_us // 1000
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | part << 64 | 2 << 62 | seq)


def order_place(order: uuid.UUID) -> tuple[int, int]:
    """Read partition and sequence number back from an order's id.

    Raises:
        ValueError: The id is not a UUIDv7, so it was not made here.
    """
    if order.version != 7:
        raise ValueError(f"not an order id: {order}")
    return order.int >> 64 & _PART_LIMIT - 1, order.int & _SEQ_LIMIT - 1


def order_text(at_us: int, part: int, seq: int) -> str:
    """Text form of `order_id`, without building a UUID object (hot path of answers)."""
    h = f"{at_us // 1000 << 80 | 7 << 76 | part << 64 | 2 << 62 | seq:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def key_bytes(text: str) -> bytes:
    """Sixteen bytes under which an idempotency key is stored.

    A UUID stands for itself, so that time-ordered keys stay time-ordered in the index; any other
    text becomes a UUIDv8 (RFC 9562 §5.8) made of its SHA-256.

    Args:
        text: 1 to 64 visible ASCII characters, already checked against `KEY_PATTERN`.
    """
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        # Half the time of a regular expression; `fromhex` skips blanks, which no key has.
        try:
            raw = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            raw = b""
        if len(raw) == 16:
            return raw
    digest = bytearray(hashlib.sha256(b"tongdui key\0" + text.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def keys_bytes(texts: Sequence[str]) -> bytes:
    """`key_bytes` of many keys, one after the other; fast where all of them are UUIDs."""
    count = len(texts)
    whole = "".join(texts)
    if set(map(len, texts)) == {36} and all(
        whole[place::36] == "-" * count for place in (8, 13, 18, 23)
    ):
        try:
            raw = bytes.fromhex(whole.replace("-", ""))
        except ValueError:
            raw = b""
        if len(raw) == 16 * count:
            return raw
    return b"".join(map(key_bytes, texts))


def key_milliseconds(key: bytes) -> int | None:
    """Unix milliseconds that a UUIDv7 key carries; None for a key that tells no time."""
    if key[6] >> 4 == 7:
        return int.from_bytes(key[:6], "big")
    return None


def new_uuid7(random_bits: Callable[[int], int], now_ns: Callable[[], int]) -> uuid.UUID:
    """Make a time-ordered UUIDv7, as recommended to clients for idempotency keys.

    Args:
        random_bits: For example `secrets.randbits`.
        now_ns: Clock in nanoseconds since 1970, for example `time.time_ns`.
    """
    milliseconds = now_ns() // 1_000_000
    return uuid.UUID(
        int=milliseconds << 80 | 7 << 76 | random_bits(12) << 64 | 2 << 62 | random_bits(62)
    )
