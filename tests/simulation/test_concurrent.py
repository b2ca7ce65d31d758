"""Several gateways in front of one writer.

Whatever order it gave their commands, the oracle gives the same answers in that order.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exchange.programme.core.command import AnyCommand
from schemas.values.faults import Unavailable
from settlement.core.command import Answer, Command
from settlement.service.link import LinkServer, RemoteClearing
from tests.simulation.compare import assert_audits_clean, assert_same_figures
from tests.simulation.ground import DAY_US, HOUR_US, House, make_writer, open_house
from tests.simulation.histories import (
    FEE_BPS,
    PRELUDE,
    Script,
    command_of,
    merchant_terms,
    plain,
)

Wish = dict[str, Any]
Said = tuple[Wish, list[dict[str, Any]]]


@asynccontextmanager
async def gateways(house: House, folder: Path, count: int) -> AsyncIterator[list[RemoteClearing]]:
    """Gateways' ends of the socket, connected to the house's writer."""
    path = folder / "writer.sock"
    server = LinkServer(house.writer, path, AnyCommand)
    await server.start()
    remotes = [RemoteClearing(path) for _ in range(count)]
    for remote in remotes:
        await remote.start()
    try:
        yield remotes
    finally:
        for remote in remotes:
            await remote.stop()
        await server.stop()


class Crowd:
    """Random wishes that need no knowledge of what else is in flight."""

    def __init__(self, seed: int) -> None:
        """Draw from a seed, so that a failure can be played again."""
        self.random = random.Random(seed)
        self.number = 1_000
        self.keyed: list[Wish] = []
        self.accepted: list[tuple[int, int]] = []
        self.cycles = 1

    def wish(self) -> Wish:
        """One more wish."""
        draw = self.random.random()
        if draw < 0.12 and self.keyed:
            wish = dict(self.random.choice(self.keyed[-40:]))
            return wish | {"body": wish["body"] + 5_000} if draw < 0.03 else wish
        if draw < 0.32 and self.accepted:
            order, caller = self.random.choice(self.accepted[-60:])
            how = self.random.choice(["cleared", "cleared", "voided"])
            return {"what": "end", "caller": caller, "order": order, "how": how}
        self.number += 1
        wish = {"caller": 0, "key": self.number, "body": self.number} | self._fresh()
        self.keyed.append(wish)
        return wish

    def _fresh(self) -> Wish:
        pick = self.random
        draw = pick.random()
        if draw < 0.30:
            return {
                "what": "purchase",
                "member": pick.randint(1, 3),
                "merchant": pick.choice([1, 2, 3]),
                "amount_fen": pick.randint(0, 2_000),
                "discount_fen": pick.randint(0, 12),
                "occurred_at": 0,
            }
        if draw < 0.34:
            return {
                "what": "set_cap",
                "merchant": pick.randint(1, 5),
                "cap": pick.randint(0, 6_000),
            }
        if draw < 0.37:
            merchant = pick.randint(1, 5)
            return {
                "what": "set_collateral",
                "merchant": merchant,
                "collateral": pick.randint(0, 2_000),
            }
        if draw < 0.39:
            self.cycles += 1
            cycle = pick.randint(max(1, self.cycles - 3), self.cycles)
            return {"what": "close", "cycle": cycle, "next_id": f"cycle {self.number}", "at": 0}
        if draw < 0.42:
            return {"what": "settle", "cycle": pick.randint(1, self.cycles)}
        hosted = draw < 0.65
        issuer = pick.choice([1, 2, 3] if hosted else [4, 5])
        acceptor = pick.choice([one for one in (1, 2, 3, 4, 5) if one != issuer])
        debit = pick.randint(2, 300)
        order = {
            "what": "order",
            "caller": acceptor,
            "issuer": issuer,
            "acceptor": acceptor,
            "member": pick.randint(1, 3),
            "units": pick.randint(1, 30),
            "debit": debit,
            "value": debit - pick.randint(0, 1),
            "fee": pick.randint(0, 1),
            "hosted": hosted,
        }
        if not hosted and draw < 0.9:
            order["hold"] = pick.choice([HOUR_US, DAY_US])
        if hosted and draw < 0.47:
            order["credited"] = pick.randint(1, 20)
        return order


async def talk(crowd: Crowd, gateway: RemoteClearing, said: list[Said], rounds: int) -> None:
    """One caller of one gateway: small groups, one after the other; what it accepted others may end."""
    for _ in range(rounds):
        wishes = [crowd.wish() for _ in range(crowd.random.choice([1, 1, 1, 2, 5]))]
        answers: list[Answer] = await gateway.submit([command_of(wish) for wish in wishes])
        for wish, answer in zip(wishes, answers, strict=True):
            entries = [plain(entry) for entry in answer]
            said.append((wish, entries))
            if entries and entries[0]["kind"] == "accepted":
                crowd.accepted.append((entries[0]["order"], wish["caller"]))


async def assert_serial(house: House, script: Script, said: list[Said]) -> None:
    """Give the oracle every wish in the order of the numbers that the writer gave: it must say the same.

    Raises:
        AssertionError: Some answer cannot be explained by any order of deciding.
    """
    oracle = script.oracle
    first: dict[int, Said] = {}
    repeats: list[Said] = []
    for wish, answer in said:
        seq = answer[0]["seq"] if answer else 0
        if seq > len(oracle.log) and seq not in first:
            first[seq] = wish, answer
        else:
            repeats.append((wish, answer))
    last = await house.pool.fetchval("SELECT max(seq) FROM settlement.event")
    while len(oracle.log) < last:
        seq = len(oracle.log) + 1
        if seq in first:
            wish, answer = first[seq]
            assert oracle.decide(wish) == answer, wish
        else:
            # Nobody was answered with this event: an end that came too late wrote the expiry.
            row = await house.pool.fetchrow(
                "SELECT kind, order_seq FROM settlement.event WHERE seq = $1", seq
            )
            assert row is not None
            assert row["kind"] == 5
            late = {"what": "end", "caller": 0, "order": row["order_seq"], "how": "voided"}
            assert oracle.decide(late)[0]["reason"] == "hold_expired"
    for wish, answer in repeats:
        # Whatever else was said must be what is said now that everything is decided: a repeat of a
        # stored answer, a conflict, or how the order ended.
        again = oracle.decide(wish)
        if wish["what"] != "expire":
            assert again == answer, wish
    assert len(oracle.log) == last


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_through_several_gateways_are_those_of_some_order(
    dsn: str, tmp_path: Path, seed: int
):
    """Two gateways with many callers, repeats and conflicts: the numbers that the writer gave explain every answer.

    No accept broke a cap, no order is in two cycles.
    """
    async with (
        open_house(dsn, *merchant_terms(), fee_bps=FEE_BPS) as house,
        gateways(house, tmp_path, 2) as (one, other),
    ):
        script = Script(caller_clock=False)
        for step in PRELUDE:
            script.step(step)
        prelude = script.take().groups
        for group in prelude:
            await house.writer.submit([command_of(wish) for wish in group])
        crowd = Crowd(seed)
        for _ in range(3):
            said: list[Said] = []
            await asyncio.gather(
                *(talk(crowd, gateway, said, 5) for gateway in (one, other) for _ in range(10))
            )
            await assert_serial(house, script, said)
            script.wait(HOUR_US + 1)
            house.clock.us = script.clock_us
        await assert_same_figures(house.pool, script.oracle)
        assert await assert_audits_clean(house.pool) == len(script.oracle.log)


async def test_gateways_follow_a_takeover_and_nothing_is_lost(dsn: str, tmp_path: Path):
    """Writers that take over from each other under load from two gateways.

    Every caller gets an answer, each command takes effect once.
    """
    async with open_house(dsn, *merchant_terms(), fee_bps=FEE_BPS) as house:
        path = tmp_path / "writer.sock"
        server = LinkServer(house.writer, path, AnyCommand)
        await server.start()
        remotes = [RemoteClearing(path) for _ in range(2)]
        for remote in remotes:
            await remote.start()
        script = Script(caller_clock=False)
        crowd = Crowd(4)
        said: list[Said] = []
        callers = [
            asyncio.create_task(_stubborn(crowd, remote, said))
            for remote in remotes
            for _ in range(6)
        ]
        for _ in range(4):
            await asyncio.sleep(0.15)
            successor = make_writer(dsn, house.clock)
            await successor.start()
            next_server = LinkServer(successor, path, AnyCommand)
            await next_server.start()
            await house.writer.stop()
            await server.stop()
            house.writer, server = successor, next_server
        await asyncio.gather(*callers)
        await assert_serial(house, script, said)
        await assert_same_figures(house.pool, script.oracle)
        assert await assert_audits_clean(house.pool) == len(script.oracle.log)
        assert await house.pool.fetchval("SELECT epoch FROM settlement.partition") >= 5
        for remote in remotes:
            await remote.stop()
        await server.stop()


async def _stubborn(crowd: Crowd, gateway: RemoteClearing, said: list[Said]) -> None:
    """A caller that sends the same again when the writer is away."""
    deadline = asyncio.get_running_loop().time() + 0.8
    while asyncio.get_running_loop().time() < deadline:
        wishes = [crowd.wish() for _ in range(crowd.random.choice([1, 1, 2]))]
        answers = await _insist(gateway, [command_of(wish) for wish in wishes])
        for wish, answer in zip(wishes, answers, strict=True):
            entries = [plain(entry) for entry in answer]
            said.append((wish, entries))
            if entries and entries[0]["kind"] == "accepted":
                crowd.accepted.append((entries[0]["order"], wish["caller"]))


async def _insist(gateway: RemoteClearing, commands: list[Command]) -> list[Answer]:
    while True:
        try:
            return await gateway.submit(commands)
        except Unavailable:
            await asyncio.sleep(0.02)
