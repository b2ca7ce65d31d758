"""The market that orders come from: skewed merchants, members with lots, and order bodies as bytes.

Everything follows from the seed, so the process that sends and the one that sets up need not talk about it.

Refusals are made by flow, not by luck: the merchants at odd ranks are asked for a twentieth more than they take in.
Once such a merchant's cap is used up, what it takes in is all that it can give, so some of its orders are refused; that
leaves others with less, too, and about a twentieth of all orders is refused, however long the run is.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

MERCHANTS: Final = 50
UNITS_MAX: Final = 50
RATE_CU: Final = 100
MEAN_CU: Final = (UNITS_MAX + 1) * RATE_CU // 2
LOTS_A_MEMBER: Final = 2
LOT_UNITS: Final = 5_000_000
DUPLICATE_SHARE: Final = 0.01
DEFICIT: Final = 0.05
"""How much less than what it is asked for a merchant at an odd rank takes in."""

HOSTED: Final = tuple(f"H{rank:02d}" for rank in range(1, MERCHANTS + 1))
"""Merchants whose points the house keeps; the first is the largest."""
OWN: Final = tuple(f"T{rank:02d}" for rank in range(1, MERCHANTS + 1))
"""Merchants with a points system of their own: their orders have two phases."""

ISSUING: Final = tuple(1 / rank for rank in range(1, MERCHANTS + 1))
"""Zipf weights with exponent 1, by rank."""


class Order(NamedTuple):
    """One order; merchants by rank from 0."""

    issuer: int
    acceptor: int
    member: int
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Who holds what.

    Attributes:
        members: How many members there are.
        lots: (member, merchant's rank), one for each lot, in the order in which they are made.
        holders: Members that hold a lot of a merchant, by its rank.
    """

    members: int
    lots: list[tuple[int, int]]
    holders: list[list[int]]


def member_name(number: int) -> str:
    """Reference of a member: seven characters for every number below a million."""
    return f"M{number:06d}"


def make_market(members: int, *, seed: int) -> Market:
    """Deal lots out: each member holds lots of two merchants, drawn by their size.

    Raises:
        ValueError: So few members leave a merchant without any.
    """
    draw = random.Random(seed)  # noqa: S311 - a benchmark must repeat, not surprise
    reach = list(accumulate(ISSUING))
    holders: list[list[int]] = [[] for _ in range(MERCHANTS)]
    lots: list[tuple[int, int]] = []
    for member in range(members):
        held: set[int] = set()
        while len(held) < LOTS_A_MEMBER:
            held.update(draw.choices(range(MERCHANTS), cum_weights=reach, k=1))
        for rank in sorted(held):
            holders[rank].append(member)
            lots.append((member, rank))
    if not all(holders):
        raise ValueError(f"{members} members are too few for {MERCHANTS} merchants")
    return Market(members=members, lots=lots, holders=holders)


def flows() -> list[list[float]]:
    """How likely each acceptor is, by issuer: nobody is its own customer, and rows and columns keep their shares.

    Iterative proportional fitting; a few rounds bring it within a thousandth.
    """
    short = sum(ISSUING[0::2])
    given = DEFICIT * short / sum(ISSUING[1::2])
    taken = [
        weight * (1 - DEFICIT if rank % 2 == 0 else 1 + given)
        for rank, weight in enumerate(ISSUING)
    ]
    ranks = range(MERCHANTS)
    rows = [[0.0 if i == a else ISSUING[i] * taken[a] for a in ranks] for i in ranks]
    for _ in range(30):
        for acceptor in ranks:
            scale = taken[acceptor] / sum(row[acceptor] for row in rows)
            for row in rows:
                row[acceptor] *= scale
        for issuer in ranks:
            scale = ISSUING[issuer] / sum(rows[issuer])
            rows[issuer] = [flow * scale for flow in rows[issuer]]
    return rows


def cap_cu(rank: int, *, orders: float) -> int:
    """Net debit cap of a merchant: its share of the debits of so many orders, and never below a few orders."""
    share = ISSUING[rank] / sum(ISSUING)
    return max(int(share * orders * MEAN_CU), 4 * UNITS_MAX * RATE_CU)


def draw_orders(market: Market, count: int, *, seed: int) -> list[Order]:
    """Draw orders: issuer and acceptor by their size, a member who holds the issuer's points, a few points."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark must repeat, not surprise
    pick = draw.random
    ranks = range(MERCHANTS)
    issuers = draw.choices(ranks, cum_weights=list(accumulate(ISSUING)), k=count)
    asked = Counter(issuers)
    acceptors = [
        iter(draw.choices(ranks, cum_weights=list(accumulate(row)), k=asked[issuer]))
        for issuer, row in enumerate(flows())
    ]
    orders: list[Order] = []
    for issuer in issuers:
        holders = market.holders[issuer]
        member = holders[int(pick() * len(holders))]
        orders.append(Order(issuer, next(acceptors[issuer]), member, 1 + int(pick() * UNITS_MAX)))
    return orders


# --- bodies ---

_HEAD: Final = b"\x85\xa3key\xd9\x24"
KEY_BYTES: Final = 36
KEY_AT: Final = len(_HEAD)
_BODY: Final = b"\xa6member\xa7%b\xa6issuer\xa3%b\xa8acceptor\xa3%b\xa5units\xcd%b"
"""An element of a bulk request as msgpack, each field of fixed width, so that all elements are equally long."""
_ARRAY: Final = struct.Struct(">BH")
_UNITS: Final = struct.Struct(">H")
ELEMENT_BYTES: Final = KEY_AT + KEY_BYTES + len(_BODY) - 8 + 7 + 3 + 3 + 2
STAMP_BYTES: Final = 13
"""Of a UUID's text, what a time takes: twelve digits and a hyphen."""


def random_keys(count: int, *, seed: int) -> list[bytes]:
    """Keys as a client makes them without a thought: UUIDs of random bits (RFC 9562 §5.4)."""
    draw = random.Random(seed)  # noqa: S311 - unique is enough
    return [
        b"%08x-%04x-4%03x-%04x-%012x"
        % (
            bits >> 90,
            bits >> 74 & 0xFFFF,
            bits >> 62 & 0xFFF,
            0x8000 | bits >> 48 & 0x3FFF,
            bits & (1 << 48) - 1,
        )
        for bits in (draw.getrandbits(122) for _ in range(count))
    ]


def timed_keys(count: int, *, seed: int) -> list[bytes]:
    """UUIDv7 keys whose time is still to be put in with `stamp`."""
    draw = random.Random(seed)  # noqa: S311 - unique is enough
    stub = bytes(STAMP_BYTES)
    return [
        stub
        + b"-7%03x-%04x-%012x"
        % (bits >> 60, 0x8000 | bits >> 46 & 0x3FFF, bits & (1 << 46) - 1 | 1 << 46)
        for bits in (draw.getrandbits(72) for _ in range(count))
    ]


def stamp(milliseconds: int) -> bytes:
    """A UUIDv7's first thirteen characters."""
    digits = b"%012x" % milliseconds
    return digits[:8] + b"-" + digits[8:]


def bulk_body(orders: list[Order], keys: list[bytes], merchants: tuple[str, ...]) -> bytearray:
    """One bulk request of msgpack; element `i` begins at `bulk_start(i)`."""
    codes = [code.encode() for code in merchants]
    body = bytearray(_ARRAY.pack(0xDC, len(orders)))
    for order, key in zip(orders, keys, strict=True):
        body += _HEAD
        body += key
        body += _BODY % (
            b"M%06d" % order.member,
            codes[order.issuer],
            codes[order.acceptor],
            _UNITS.pack(order.units),
        )
    return body


def bulk_start(place: int) -> int:
    """Where the element at `place` begins in the body."""
    return _ARRAY.size + place * ELEMENT_BYTES


def put_stamps(body: bytearray, elements: int, stamped: bytes) -> None:
    """Put one time into the keys of all elements; thirteen strided copies, since the elements are equally long."""
    first = bulk_start(0) + KEY_AT
    last = bulk_start(elements)
    for place in range(STAMP_BYTES):
        body[first + place : last : ELEMENT_BYTES] = stamped[place : place + 1] * elements


def single_body(order: Order, merchants: tuple[str, ...]) -> bytes:
    """One order as JSON."""
    return msgspec.json.encode(
        {
            "member": member_name(order.member),
            "issuer": merchants[order.issuer],
            "acceptor": merchants[order.acceptor],
            "units": str(order.units),
        }
    )


def exchange_body(
    *, member: int, issuer: str, acceptor: str, units: int, decide_by_seconds: int | None
) -> bytes:
    """One order that gives points for points, as JSON.

    Args:
        member: The member's number.
        issuer: Code of the merchant whose points are spent.
        acceptor: Code of the merchant whose points are given.
        units: Smallest units spent.
        decide_by_seconds: When it must be answered; None for the usual time.
    """
    terms = {
        "member": member_name(member),
        "issuer": issuer,
        "acceptor": acceptor,
        "units": str(units),
        "kind": "exchange",
    }
    return msgspec.json.encode(
        terms if decide_by_seconds is None else terms | {"decide_by_seconds": decide_by_seconds}
    )
