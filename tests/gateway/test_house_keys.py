"""Keys of the house that came later than the others: what was made before them still counts."""

from __future__ import annotations

import asyncio
import secrets
from unittest import mock

import pytest

from exchange.core.request_digest import RequestDigests, plain_digest
from exchange.service.vaults import PEOPLE_FILE, VaultDoor
from exchange.vault.master import MasterKeyUnusable
from exchange.vault.sealing import Seals
from tests.gateway.conftest import AIR, House, fresh_key, shared


@shared
async def test_a_key_of_people_that_lay_by_itself(shared_house: House):
    """A key of people's seeds from before comes under the master key, opens what it sealed, and its file goes."""
    pool, folder = shared_house.pool, shared_house.home / "keys"
    path, key = folder / PEOPLE_FILE, secrets.token_bytes(32)
    sealed = Seals(key).seal(b"seed", owner="anna")
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL ROLE none")
        await conn.execute("DELETE FROM exchange.house_key WHERE name = 'people'")
    path.write_text("no key")
    with pytest.raises(MasterKeyUnusable, match="holds no key"):
        await VaultDoor(pool, folder).vault()
    path.write_text(key.hex())
    opened = await asyncio.gather(*(VaultDoor(pool, folder).vault() for _ in range(2)))
    assert [each.people.open(sealed, owner="anna") for each in opened] == [b"seed", b"seed"]
    assert not path.exists()
    # Another one that somebody puts there is neither used nor destroyed.
    path.write_text(bytes(32).hex())
    assert (await VaultDoor(pool, folder).vault()).people.open(sealed, owner="anna") == b"seed"
    assert path.exists()


@shared
async def test_a_request_whose_digest_was_stored_without_a_key(shared_house: House):
    """Rule I2: what was asked before digests had a key gets its answer again, alone and in bulk; another is refused."""
    house, key = shared_house, fresh_key()
    order = {**AIR, "units": "3"}
    door = VaultDoor(house.pool, house.home / "keys")
    await door.vault()
    house.writer.same = door.same_request

    async def ask(units: str) -> list[str]:
        wish = {**order, "units": units}
        alone = await house.order(wish, key=key)
        bulk = await house.call(
            "POST",
            "/v1/orders/bulk",
            [{**wish, "key": key}, {**wish, "key": fresh_key()}],
        )
        return [each.get("order_id") or repr(each) for each in (alone.body, bulk.body[0])]

    with mock.patch.object(RequestDigests, "of", lambda _, canonical: plain_digest(canonical)):
        first = await house.order(order, key=key)
    assert await ask("3") == [first.body["order_id"]] * 2
    assert all("idempotency_conflict" in each for each in await ask("4"))
