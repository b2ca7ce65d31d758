"""Opening the vault: the house's keys from the database, unwrapped by the master key."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exchange.store import house_keys
from exchange.store import links as link_store
from exchange.store import members as member_store
from exchange.vault.master import KEY_BYTES, MasterKeyUnusable, open_master_key
from exchange.vault.sealing import HOUSE_KEYS, Vault, link_place, name_place
from schemas.values.ids import HOUSE

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Connection, Pool

    from exchange.vault.master import MasterKey

_TOGETHER = 5_000


class VaultDoor:
    """Opens the vault when it is first needed, once."""

    def __init__(self, pool: Pool, keys_folder: Path) -> None:
        """Take the database, and the folder of the master key where none is named."""
        self._pool = pool
        self._folder = keys_folder
        self._vault: Vault | None = None
        self._lock = asyncio.Lock()

    async def vault(self) -> Vault:
        """The vault.

        Raises:
            MasterKeyUnusable: The master key is missing, or not the one that wrapped the house's keys.
        """
        if self._vault is None:
            async with self._lock:
                if self._vault is None:
                    self._vault = await open_vault(self._pool, open_master_key(self._folder))
        return self._vault


async def open_vault(pool: Pool, master: MasterKey) -> Vault:
    """Open the vault; make its keys if there are none, and seal what stands open from before.

    Raises:
        MasterKeyUnusable: Another master key wrapped what is there.
    """
    found = await house_keys.fetch_house_keys(pool)
    if len(found) < len(HOUSE_KEYS):
        fresh = {
            name: master.wrap(secrets.token_bytes(KEY_BYTES), name=name) for name in HOUSE_KEYS
        }
        await house_keys.insert_house_keys(
            pool, keys=fresh, master_id=master.master_id, now=datetime.now(UTC)
        )
        found = await house_keys.fetch_house_keys(pool)
    for name, (_, master_id) in found.items():
        if master_id != master.master_id:
            raise MasterKeyUnusable(
                f"the key {name!r} was wrapped under the master key {master_id}, and this is {master.master_id}"
            )
    vault = Vault(**{name: master.unwrap(found[name][0], name=name) for name in HOUSE_KEYS})
    await _seal_what_stands_open(pool, vault)
    return vault


async def rewrap(pool: Pool, old: MasterKey, new: MasterKey) -> None:
    """Wrap the house's keys under another master key; nothing else changes.

    Raises:
        MasterKeyUnusable: `old` is not the one that wrapped them.
    """
    found = await house_keys.fetch_house_keys(pool)
    await house_keys.update_house_keys(
        pool,
        keys={
            name: new.wrap(old.unwrap(wrapped, name=name), name=name)
            for name, (wrapped, _) in found.items()
        },
        master_id=new.master_id,
        now=datetime.now(UTC),
    )


async def _seal_what_stands_open(pool: Pool, vault: Vault) -> None:
    """Seal references and links that were written before there was a vault."""
    while True:
        async with pool.acquire() as conn, conn.transaction():
            if not await _seal_some(conn, vault):  # type: ignore[arg-type] # a pool's connection is one
                return


async def _seal_some(conn: Connection, vault: Vault) -> bool:
    open_names = await member_store.fetch_unsealed(conn, limit=_TOGETHER)
    names = []
    for member_no, reference in open_names.items():
        key, wrapped = vault.make_member_key(member_no)
        names.append(
            member_store.SealedName(
                digest=vault.digest(reference, scope=HOUSE),
                member_no=member_no,
                scope=HOUSE,
                sealed=key.seal(reference, place=name_place(HOUSE)),
                wrapped=wrapped,
            )
        )
    if names:
        await member_store.seal_references(conn, names=names, now=datetime.now(UTC))
    open_links = await link_store.fetch_unsealed(conn, limit=_TOGETHER)
    keys = await member_store.fetch_keys(conn, member_nos=[each[0] for each in open_links])
    if open_links:
        await link_store.seal_links(
            conn,
            links=[
                (
                    member_no,
                    merchant_no,
                    vault.open_member_key(member_no, keys[member_no]).seal(
                        name, place=link_place(merchant_no)
                    ),
                )
                for member_no, merchant_no, name in open_links
            ],
        )
    return bool(open_names or open_links)
