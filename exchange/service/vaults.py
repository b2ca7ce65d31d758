"""Opening the vault: the house's keys from the database, unwrapped by the master key."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from exchange.store import house_keys
from exchange.store import links as link_store
from exchange.store import members as member_store
from exchange.vault.master import KEY_BYTES, MasterKeyUnusable, open_master_key
from exchange.vault.sealing import HOUSE_KEYS, Vault, link_place, name_place
from schemas.values.ids import HOUSE
from settlement.service import trail
from settlement.service.trail import Change

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Connection, Pool

    from exchange.vault.master import MasterKey
    from settlement.service.trail import By

PEOPLE_FILE: Final = "people.key"
"""Where the key `people` lay, by itself, before it stood under the master key."""
_TOGETHER: Final = 5_000


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
                    self._vault = await open_vault(
                        self._pool, open_master_key(self._folder), folder=self._folder
                    )
        return self._vault

    def same_request(self, stored: bytes, asked: bytes) -> bool:
        """As `RequestDigests.same`; before the vault is open, only equal digests are one request's."""
        if stored == asked or self._vault is None:
            return stored == asked
        return self._vault.requests.same(stored, asked)


async def open_vault(pool: Pool, master: MasterKey, *, folder: Path | None = None) -> Vault:
    """Open the vault; make the keys that it lacks, and seal what stands open from before.

    Args:
        pool: The database.
        master: The master key.
        folder: Where the key of people's seeds lay by itself, if it did; it is wrapped as it is, and its file removed.

    Raises:
        MasterKeyUnusable: Another master key wrapped what is there, or the file in `folder` cannot be read.
    """
    found = await house_keys.fetch_house_keys(pool)
    if missing := set(HOUSE_KEYS) - found.keys():
        for master_id in {master_id for _, master_id in found.values()} - {master.master_id}:
            raise MasterKeyUnusable(
                f"the keys of the house were wrapped under the master key {master_id}, "
                f"and this is {master.master_id}"
            )
        fresh = {name: secrets.token_bytes(KEY_BYTES) for name in sorted(missing)}
        if "people" in fresh and folder is not None:
            fresh["people"] = _people_key(folder / PEOPLE_FILE) or fresh["people"]
        await house_keys.insert_house_keys(
            pool,
            keys={name: master.wrap(key, name=name) for name, key in fresh.items()},
            master_id=master.master_id,
            now=datetime.now(UTC),
        )
        found = await house_keys.fetch_house_keys(pool)
    for name, (_, master_id) in found.items():
        if master_id != master.master_id:
            raise MasterKeyUnusable(
                f"the key {name!r} was wrapped under the master key {master_id}, and this is {master.master_id}"
            )
    opened = {name: master.unwrap(found[name][0], name=name) for name in HOUSE_KEYS}
    if folder is not None:
        _remove_people_key(folder / PEOPLE_FILE, opened["people"])
    vault = Vault(**opened)
    await _seal_what_stands_open(pool, vault)
    return vault


async def rewrap(pool: Pool, old: MasterKey, new: MasterKey, *, by: By, now: datetime) -> None:
    """Wrap the house's keys under another master key; nothing else changes.

    Args:
        pool: The database.
        old: The master key of now.
        new: The one from now on.
        by: Who changes it.
        now: Instant.

    Raises:
        MasterKeyUnusable: `old` is not the one that wrapped them.
    """
    async with pool.acquire() as conn, conn.transaction():
        found = await house_keys.fetch_house_keys(conn)  # type: ignore[arg-type] # a pool's connection is one
        await house_keys.update_house_keys(
            conn,  # type: ignore[arg-type]
            keys={
                name: new.wrap(old.unwrap(wrapped, name=name), name=name)
                for name, (wrapped, _) in found.items()
            },
            master_id=new.master_id,
            now=now,
        )
        change = Change(
            action="house_key.rewrap",
            subject="HOUSE",
            before={"master_id": old.master_id},
            after={"master_id": new.master_id, "keys": sorted(found)},
        )
        await trail.record(conn, by, change, at=now)


def _people_key(path: Path) -> bytes | None:
    """The key of people's seeds from its own file; None where there is none."""
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        # Without the cause, which would quote the key.
        raise MasterKeyUnusable(f"{path} holds no key of {KEY_BYTES * 2} hex digits") from None
    return key


def _remove_people_key(path: Path, kept: bytes) -> None:
    """Remove the file once its key is kept in the database; several processes may do so at once."""
    if path.exists():
        with suppress(FileNotFoundError):
            if _people_key(path) == kept:
                path.unlink()


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
