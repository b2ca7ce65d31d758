"""The books in memory lose in a crash what a database would lose, and nothing else."""

import asyncio
import random
from collections import Counter
from pathlib import Path

from exchange.programme.core.command import AnyCommand
from exchange.programme.core.lotbook import LotBook
from exchange.simulation.loop import Host, VirtualLoop
from exchange.simulation.network import Network
from exchange.simulation.writer import Disk, VirtualWriter
from settlement.core.command import CloseCycle, End, Join, Order, Pin
from settlement.core.event import Kind
from settlement.service.link import LinkServer, RemoteClearing
from tests.simulation.ground import BODY, START_US, new_key

SOCKET = Path("/run/writer.sock")


def order(number: int, *, debit_cu: int = 1000) -> Order:
    """A two-phase order of merchant 1 at merchant 2."""
    return Order(
        caller=2,
        key=number.to_bytes(16, "big"),
        body=BODY,
        issuer=1,
        acceptor=2,
        member_no=1,
        units=10,
        debit_cu=debit_cu,
        value_cu=debit_cu,
        fee_cu=5,
        rate_no=1,
        hold_us=60_000_000,
    )


def test_a_writer_that_is_killed_again_and_again_loses_and_doubles_nothing():
    """Callers behind the real link get one answer for each key, whenever the writer dies; what was answered is on
    disk, and an audit that shares no code with the books finds them right.
    """
    loop = VirtualLoop()
    network = Network(loop, seed="writer")
    disk = Disk()
    answered: dict[int, int] = {}

    def now_us() -> int:
        return START_US + network.now_us()

    async def write(life: int) -> None:
        writer = VirtualWriter(disk, now_us=now_us, rng=random.Random(life))
        server = LinkServer(writer, SOCKET, AnyCommand)
        await loop.create_unix_server(server.accept, str(SOCKET))
        await writer.run()

    async def live_and_die() -> None:
        for life in range(100):
            host = Host("writer")
            loop.start_on(host, write(life), name="writer")
            await asyncio.sleep(random.Random(life).random() * 0.02)
            loop.kill(host)
            network.hang_up(host)
        loop.start_on(Host("writer"), write(100), name="writer")

    async def spend(clearing: RemoteClearing, number: int) -> None:
        await asyncio.sleep(number * 0.005)
        ((entry,),) = await clearing.submit([order(number)])
        assert entry.kind == Kind.ACCEPTED
        assert len(disk.events) >= entry.seq
        order_seq = entry.order_seq
        if number % 3:
            pin = Pin(caller=2, key=BODY, body=BODY, order_seq=order_seq)
            ((pinned,),) = await clearing.submit([pin])
            assert pinned.kind == Kind.PINNED
        kind = Kind.CLEARED if number % 2 else Kind.VOIDED
        wish = End(caller=2, key=BODY, body=BODY, order_seq=order_seq, kind=kind, proven=True)
        ((end,),) = await clearing.submit([wish])
        assert end.kind == kind
        answered[entry.order_seq] = end.kind

    async def history() -> None:
        clearing = RemoteClearing(SOCKET, timeout_seconds=60)
        await clearing.start()
        dying = asyncio.create_task(live_and_die())
        await clearing.submit(
            [
                Join(caller=0, key=new_key(), body=BODY, merchant_no=1, cap_cu=10**9),
                Join(caller=0, key=new_key(), body=BODY, merchant_no=2, cap_cu=10**9),
                CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=0, next_id="first"),
            ]
        )
        await asyncio.gather(*(spend(clearing, number) for number in range(200)))
        await dying
        await clearing.stop()

    loop.run_on(Host("gateway"), history(), name="history")
    loop.end()
    assert loop.failures() == []
    ends = {seq: entries[-1].kind for seq, (_, entries) in disk.lives.items()}
    assert ends == answered
    assert Counter(ends.values()) == {Kind.CLEARED: 100, Kind.VOIDED: 100}
    assert disk.epoch == 101
    assert disk.audit() == []


def test_an_audit_of_the_disk_finds_a_row_that_is_not_what_the_journal_says():
    """The audit at the end of a history compares accounts, positions, obligations and holds with the journal."""
    disk = Disk()
    books = disk.load()
    for command in (
        Join(caller=0, key=new_key(), body=BODY, merchant_no=1, cap_cu=10**9),
        Join(caller=0, key=new_key(), body=BODY, merchant_no=2, cap_cu=10**9),
        CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=0, next_id="first"),
    ):
        books.tick(START_US)
        books.decide(command)
    books.decide(order(1))
    (entry,) = books.decide(order(2))
    books.decide(End(caller=2, key=BODY, body=BODY, order_seq=entry.seq, kind=Kind.CLEARED))
    disk.write(books.take(), {}, books, LotBook(last_lot_no=0).take())
    assert disk.audit() == []
    disk.accounts[1] = (10**9, 0, 1001)
    disk.positions[1, 2] += 1
    disk.obligations[1, 1, 2] = (2, 1000, 1000, 5)
    disk.holds.clear()
    assert sorted(line.split()[0] for line in disk.audit()) == [
        "account",
        "hold",
        "obligation",
        "position",
    ]
