"""Packages of a bilateral and of a gross cycle, which the real writer closed; their bytes are committed.

`python -m tests.golden.models` writes them anew, after a wanted change of a format. Keys of orders are new each time,
and chain digests with them, so other bytes come of it that say the same.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from deploy.database.ephemeral import ephemeral_server
from deploy.database.migrate import migrate
from exchange.worker.packager import cut_missing
from settlement.core.arrangement import Model
from settlement.core.command import Deposit, Order, Pot
from settlement.core.trail import PROGRAM
from settlement.service import cycles
from settlement.service.arrangements import carry_out_arrangement
from tests.golden.packages import golden_keyring
from tests.golden.renderings import MERCHANTS
from tests.simulation.ground import BODY, new_key, open_house, terms

MODELS = Path(__file__).parent / "models"
BILATERAL, GROSS = MODELS / "bilateral", MODELS / "gross"
"""Each is the second package of its model, so that pairs carry what the first left."""
_ORDERS = (
    (("AIR", "NOODLES", 12_345, ""), ("NOODLES", "AIR", 2_222, ""), ("NOODLES", "SPECTACLES", 777, "")),
    (
        ("AIR", "NOODLES", 43_268, "bon-1"),
        ("SPECTACLES", "AIR", 29_999, "=1+1"),
        ("SPECTACLES", "AIR", 9_951, "till 7"),
        ("NOODLES", "SPECTACLES", 5_050, ""),
        ("AIR", "NOODLES", 650, "bon-2"),
    ),
)  # fmt: skip


async def _cut(dsn: str, model: Model, folder: Path) -> Path:
    """Close two cycles of a model; the folder of the second's package."""
    golden_keyring(folder / "keys")
    async with open_house(dsn, *(terms(code, hosted=False) for code in MERCHANTS)) as house:
        numbers = house.numbers
        refused = await carry_out_arrangement(
            house.pool,
            house.writer,
            arrangement="beside",
            model=model,
            pairs=[(numbers[one], numbers[other]) for one in MERCHANTS for other in MERCHANTS if one < other],
            body=new_key(),
        )  # fmt: skip
        assert refused is None

        async def close(arrangement: str) -> None:
            now = datetime.fromtimestamp(house.clock.us / 1_000_000, UTC)
            await cycles.close_now(
                house.pool, house.writer, now, by=PROGRAM, arrangement=arrangement
            )

        await close("main")
        if model is Model.GROSS:
            for code in MERCHANTS:
                await house.one(Deposit(0, new_key(), BODY, numbers[code], Pot.FUNDS, 100_000))
        for bought in _ORDERS:
            for issuer, acceptor, debit_cu, reference in bought:
                await house.one(
                    Order(
                        numbers[acceptor], new_key(), BODY, numbers[issuer], numbers[acceptor], 1, debit_cu // 100,
                        debit_cu, debit_cu - 45, debit_cu // 50, house.rates[numbers[issuer]], reference=reference,
                    )
                )  # fmt: skip
            await close("beside")
        await cut_missing(house.pool, keys=folder / "keys", packages=folder / "packages")
        cycle_id = await house.pool.fetchval(
            "SELECT cycle_id FROM settlement.batch ORDER BY sequence DESC LIMIT 1"
        )
        return folder / "packages" / cycle_id


def _regenerate() -> None:
    shutil.rmtree(MODELS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, ephemeral_server() as server:
        for model, target in ((Model.BILATERAL, BILATERAL), (Model.GROSS, GROSS)):
            dsn = server.create_database(target.name)
            asyncio.run(migrate(dsn))
            shutil.copytree(asyncio.run(_cut(dsn, model, Path(folder) / target.name)), target)


if __name__ == "__main__":
    _regenerate()
