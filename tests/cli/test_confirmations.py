"""`tongdui package confirm` and `tongdui cycle confirmations`: merchants sign offline, the house sees who is silent."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from exchange.client import Identity
from exchange.client.identity import load_identity, make_identity
from exchange.service.confirmations import confirm_batch
from exchange.store.signing_keys import insert_signing_key
from settlement.core.trail import By
from settlement.service.confirmations import Entry
from settlement.signing.signature import public_pem
from tests.cli.conftest import Command, assert_one_sentence
from tests.golden.packages import KEY, KEY_ID
from tests.merchant_files import CYCLE, cut, plant


@pytest.fixture
def with_batch(dsn: str, tmp_path: Path) -> Command:
    """The command on books with one batch, whose cycle closed years ago."""
    home = tmp_path / "home"
    home.mkdir()
    asyncio.run(cut(dsn, plant(10, seed=1, faults=0).books, home))
    (tmp_path / f"{KEY_ID}.pub.pem").write_bytes(public_pem(KEY.public_key()))
    return Command(home, database_url=dsn)


def test_a_merchant_signs_offline_and_the_house_sees_who_is_silent(with_batch, tmp_path):
    """The document is made of the package alone; entered, it is shown with its reason; others stay silent (Z5)."""
    key, target = tmp_path / "air.pem", tmp_path / "said.json"
    make_identity(key)
    silent = with_batch.json("cycle", "confirmations", status=1)
    states = {code: one["state"] for code, one in silent["batches"][0]["merchants"].items()}
    assert states == {"AIR": "silent", "NOODLES": "silent", "SPECTACLES": "silent"}
    words = (
        *("package", "confirm", with_batch.home / "packages" / CYCLE, "--merchant", "AIR"),
        *("--identity", key, "--trust", tmp_path / f"{KEY_ID}.pub.pem", "--out", target),
    )
    assert_one_sentence(with_batch(*words, "--object", " "))
    order = "01595c79-ac18-7001-8000-000000000002"
    done = with_batch(*words, "--object", "缺少一笔", "--order", order)
    assert (done.returncode, done.stdout) == (0, f"{target}\n"), done.stderr
    asyncio.run(_enter(str(with_batch.database_url), load_identity(key), target))
    told = with_batch.json("cycle", "confirmations", CYCLE, status=1)
    assert told["batches"][0]["merchants"]["AIR"]["state"] == "objected"
    [entry] = told["entries"]
    assert (entry["merchant"], entry["reason"], entry["orders"], entry["late"]) == (
        "AIR",
        "缺少一笔",
        1,
        True,
    )
    shown = with_batch("cycle", "confirmations", CYCLE)
    assert (shown.returncode, "silent 逾期未答" in shown.stdout, "缺少一笔" in shown.stdout) == (
        1,
        True,
        True,
    )
    assert_one_sentence(with_batch("cycle", "confirmations", "none"))


async def _enter(dsn: str, who: Identity, target: Path) -> None:
    """Register the key and enter the document, as the gateway does."""
    pool = await open_pool(dsn)
    now = datetime.now(UTC)
    number = await pool.fetchval("SELECT merchant_no FROM settlement.merchant WHERE code = 'AIR'")
    async with pool.acquire() as conn:
        await insert_signing_key(
            conn, key_id=who.key_id, merchant_no=number, label="test", now=now,
            public_key=who.private.public_key().public_bytes_raw(),
        )  # fmt: skip
    entered = await confirm_batch(
        pool, json.loads(target.read_bytes())["confirmation"], merchant_no=number, merchant="AIR", cycle_id=CYCLE,
        by=By(who=f"key:{who.key_id}"), now=now,
    )  # fmt: skip
    assert isinstance(entered, Entry)
    async with pool.acquire() as conn:
        for forbidden in (
            "DELETE FROM settlement.confirmation",
            "UPDATE settlement.confirmation SET reason = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(forbidden)
    await pool.close()
