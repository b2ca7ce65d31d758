"""The runbook for closing the books is followed command by command, with the demo's bank in between."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from pathlib import Path

from deploy.database.connection import open_pool
from deploy.demo.bank import Bank
from exchange.worker.packager import cut_missing
from tests.cli.conftest import Command, home, make_home, tongdui  # noqa: F401 - fixtures
from tests.documents.text import ROOT
from tests.golden.packages import golden_keyring
from tests.simulation.ground import open_house, order_of, terms

CYCLE = "2017-01-02"
TEXT = (ROOT / "deploy/runbooks/closing-the-books.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[2:]
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
ACCOUNT = "1001000000000000001"
MAY_BE_1 = {"reconcile", "fund", "report", "cycle"}
"""Their status says that something is open, which before the end of the day it is."""


async def _write(dsn: str) -> None:
    """A ledger with a closed cycle in which AIR owes both others, and one that is open."""
    merchants = [terms(code, hosted=False) for code in ("AIR", "NOODLES", "SPECTACLES")]
    async with open_house(dsn, *merchants, first_cycle=CYCLE) as house:
        await house.submit(
            order_of(house, "AIR", "NOODLES", 500_000),
            order_of(house, "AIR", "SPECTACLES", 300_000),
            order_of(house, "NOODLES", "SPECTACLES", 100_077),
        )
        await house.close_cycle(1, "2017-01-09")


async def _cut(dsn: str, folder: Path) -> None:
    pool = await open_pool(dsn)
    assert await cut_missing(pool, keys=folder / "keys", packages=folder / "packages")
    await pool.close()


def test_the_runbook_can_be_followed(tongdui: Command, home: Path, dsn, monkeypatch):  # noqa: F811 - the fixtures
    """Every command does what the text says; the cycle is settled when money and both signatures are there."""
    asyncio.run(_write(dsn))
    golden_keyring(home / "keys")
    shutil.copy(ROOT / "tests/golden/parties.toml", home / "parties.toml")
    monkeypatch.chdir(home)
    bank = Bank(account=ACCOUNT)
    settled = False
    for words in COMMANDS:
        if words[:2] == ["cycle", "show"]:
            asyncio.run(_cut(dsn, home))
        if words[:2] == ["reconcile", "bank"] and not Path(words[2]).exists():
            orders = sorted(Path("files").glob("*/pain.001.xml"))
            mine = [each for each in orders if (each.parent.name == "_house") == settled]
            bank.execute(each.read_bytes() for each in mine)
            [day] = set(re.findall(r"<ReqdExctnDt>\s*<Dt>(.*?)</Dt>", mine[0].read_text("utf-8")))
            Path(words[2]).write_bytes(bank.state(day))
        if words[0] == "verify":
            assert tongdui("verify", f"packages/{CYCLE}").returncode == 0
        if words[:2] == ["package", "sign"] and "--dry-run" in words:
            assert tongdui("verify", f"packages/{CYCLE}").returncode == 1
        if words[0] == "settle" and "--dry-run" not in words:
            signature = Path(f"packages/{CYCLE}/manifest.sig")
            whole = signature.read_bytes()
            signature.write_bytes(bytes(64))
            refused = tongdui.json(*words, status=1)
            assert refused["why"].startswith("manifest.sig is not the signature of")
            signature.write_bytes(whole)
        done = tongdui(*words)
        good = {0, 1} if words[0] in MAY_BE_1 else {0}
        assert done.returncode in good, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, words
        settled = settled or (words[0] == "settle" and "--dry-run" not in words)
    assert settled
    assert tongdui.json("settle", CYCLE, "--dry-run", status=1)["state"] == "settled"
