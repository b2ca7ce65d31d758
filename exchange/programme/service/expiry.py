"""The expiry run: lots that expired unused are booked as breakage."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from exchange.programme.core.command import LapseLots
from schemas.values.ids import HOUSE, new_uuid7
from settlement.core.books import BACKDATE_US

if TYPE_CHECKING:
    from settlement.service.clearing import Clearing

LOTS_MAX = 5_000


async def lapse_lots(clearing: Clearing, *, as_of_us: int) -> int:
    """Book breakage for everything that expired by an instant, a few thousand lots at a time.

    Args:
        clearing: The writer.
        as_of_us: Microseconds since 1970; lots that expired later stay.

    Returns:
        How many lots lapsed.
    """
    lapsed = 0
    while True:
        [answer] = await clearing.submit(
            [
                LapseLots(
                    caller=HOUSE,
                    key=new_uuid7(secrets.randbits, time.time_ns).bytes,
                    body=bytes(16),
                    as_of_us=as_of_us,
                    limit=LOTS_MAX,
                )
            ]
        )
        lapsed += len(answer)
        if len(answer) < LOTS_MAX:
            return lapsed


async def lapse_expired_lots(clearing: Clearing, now_us: int) -> None:
    """The hourly run; lots stay as long as a late offline order may still spend them."""
    await lapse_lots(clearing, as_of_us=now_us - BACKDATE_US)
