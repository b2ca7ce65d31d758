"""Cutting batches on real PostgreSQL: the books' own figures, repeated cuts, crashes, refusals."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from schemas.values.reason import Reason, Refusal
from settlement.service import batches, package_folder
from settlement.service.batches import BooksDiffer, CutBatch, cut_batch
from settlement.service.package_folder import PackageDiffers
from settlement.service.proofs import prove_order
from settlement.service.verification import verify_package, verify_proof
from settlement.signing.keyring import Keyring, KeyringUnusable
from settlement.store import batches as store
from tests.builders import BooksBuilder, small_books
from tests.golden.packages import MADE_AT, PROVEN, files_of, golden_keyring

DAY = timedelta(days=1)


async def put(dsn: str, books: BooksBuilder) -> None:
    """Write the books as their owner."""
    owner = await asyncpg.connect(dsn)
    try:
        await books.write(owner)
    finally:
        await owner.close()


async def run_sql(dsn: str, sql: str) -> None:
    """Change the books behind the program's back."""
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute(sql)
    finally:
        await owner.close()


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """The program's own connections, with the rights of its role."""
    pool = await open_pool(dsn)
    yield pool
    await pool.close()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """Operator keys."""
    return golden_keyring(tmp_path / "keys")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Folder of packages, not made yet."""
    return tmp_path / "packages"


async def cut(pool, cycle_no: int, keyring, out, **options) -> CutBatch:
    """Cut a cycle that can be cut."""
    batch = await cut_batch(pool, cycle_no=cycle_no, keyring=keyring, out=out, **options)
    assert isinstance(batch, CutBatch), batch
    return batch


async def test_a_package_is_chained_and_carries_go_on(dsn, pool, keyring, out) -> None:
    """Rules K1 and N9: sequence, digest and carries go from one package to the next."""
    await put(dsn, small_books())
    first = await cut(pool, 1, keyring, out)
    second = await cut(pool, 2, keyring, out)
    manifest = json.loads((second.folder / "manifest.json").read_bytes())
    assert manifest["previous"] == {
        "cycle_id": first.cycle_id,
        "manifest_sha256": first.manifest_sha256.hex(),
    }
    assert [first.sequence, second.sequence] == [1, 2]
    after = {one.party: one.carry_after_cu for one in first.instructions}
    assert {one.party: one.carry_before_cu for one in second.instructions} == after
    assert verify_package(second.folder, trusted=keyring.trusted()).ok


async def test_the_rows_of_a_batch_are_its_manifest_and_instructions(
    dsn, pool, keyring, out
) -> None:
    """What is signed is what the books say was signed."""
    await put(dsn, small_books())
    batch = await cut(pool, 1, keyring, out)
    row = await pool.fetchrow("SELECT * FROM settlement.batch")
    assert row["manifest"] == (batch.folder / "manifest.json").read_bytes()
    assert row["manifest_sha256"] == batch.manifest_sha256
    rows = await pool.fetch(
        "SELECT merchant_no, pay_fen FROM settlement.instruction ORDER BY 1 DESC"
    )
    assert [(row["merchant_no"], row["pay_fen"]) for row in rows] == [
        (3, -118), (2, 32), (1, 84), (-9, 2),
    ]  # fmt: skip


async def test_a_cycle_is_cut_in_order_and_when_it_is_closed(dsn, pool, keyring, out) -> None:
    """Rule K1: an open cycle, an unknown one, and one with a gap before it are refused."""
    await put(dsn, small_books())
    for cycle_no, words in ((3, "still open"), (9, "unknown"), (2, "cycle 1 comes first")):
        refusal = await cut_batch(pool, cycle_no=cycle_no, keyring=keyring, out=out)
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.CYCLE_NOT_CLOSED
        assert words in refusal.detail
    assert await pool.fetchval("SELECT count(*) FROM settlement.batch") == 0
    assert not out.exists() or not list(out.iterdir())


async def test_a_zero_value_cycle_settles_too(dsn, pool, keyring, out) -> None:
    """A window in which nothing happened has a package, and the chain goes on over it."""
    books = BooksBuilder()
    books.open_cycle("quiet")
    books.close_cycle()
    books.open_cycle("busy")
    books.clear("A", "B", debit=10_050)
    books.close_cycle()
    await put(dsn, books)
    quiet = await cut(pool, 1, keyring, out)
    busy = await cut(pool, 2, keyring, out)
    assert quiet.orders == 0
    for batch in (quiet, busy):
        report = verify_package(batch.folder, trusted=keyring.trusted())
        assert {check.status.value for check in report.checks} == {"passed"}


async def test_a_settled_cycle_that_owes_nothing_may_be_left_out(dsn, pool, keyring, out) -> None:
    """Rule K1: the chain goes past it, and it cannot be put in afterwards."""
    books = BooksBuilder()
    books.open_cycle("quiet")
    books.close_cycle(settled=True)
    books.open_cycle("busy")
    books.clear("A", "B", debit=100)
    books.close_cycle()
    await put(dsn, books)
    assert (await cut(pool, 2, keyring, out)).sequence == 1
    refusal = await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)
    assert isinstance(refusal, Refusal)
    assert "a later one has been cut" in refusal.detail


async def test_cutting_again_writes_the_same_folder(dsn, pool, keyring, out) -> None:
    """Rules K3 and K9: a lost or damaged folder is made again, byte by byte, also after a rotation."""
    await put(dsn, small_books())
    await cut(pool, 1, keyring, out)
    whole = files_of(out)
    (out / "2017-01-02" / "positions.csv").write_text("spoiled")
    (out / "2017-01-02" / "manifest.sig").unlink()
    rotated = keyring.rotate(at=MADE_AT + DAY, overlap=timedelta())
    again = await cut(pool, 1, rotated, out)
    assert again.again
    assert files_of(out) == whole
    shutil.rmtree(out)
    await cut(pool, 1, rotated, out)
    assert files_of(out) == whole


async def test_a_package_outlives_its_key(dsn, pool, keyring, out) -> None:
    """When the key is gone a good signature is kept, and a lost one cannot be made."""
    await put(dsn, small_books())
    await cut(pool, 1, keyring, out)
    whole = files_of(out)
    (keyring.folder / f"{keyring.keys[0].key_id}.pem").unlink()
    await cut(pool, 1, keyring, out)
    assert files_of(out) == whole
    (out / "2017-01-02" / "manifest.sig").write_bytes(bytes(64))
    with pytest.raises(KeyringUnusable):
        await cut(pool, 1, keyring, out)


async def test_during_an_overlap_both_keys_sign(dsn, pool, keyring, out) -> None:
    """Rule K9: the active key's signature is `manifest.sig`, the other's bears its name."""
    await put(dsn, small_books())
    old = keyring.keys[0].key_id
    rotated = keyring.rotate(at=MADE_AT + DAY, overlap=7 * DAY)
    batch = await cut(pool, 1, rotated, out, now=MADE_AT + 2 * DAY)
    assert (batch.folder / f"manifest.{old}.sig").exists()
    assert verify_package(batch.folder, trusted=rotated.trusted()).ok
    later = await cut(pool, 2, rotated, out, now=MADE_AT + 9 * DAY)
    assert json.loads((later.folder / "manifest.json").read_bytes())["signing_keys"] == [
        rotated.keys[1].key_id
    ]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE settlement.obligation SET debit_cu = debit_cu + 1 WHERE issuer = 1 AND acceptor = 2",
         r"AIR to NOODLES .*lines sum to \(1, 3703, .* obligation says \(1, 3704"),
        ("UPDATE settlement.obligation SET orders = 2 WHERE issuer = 3 AND cycle_no = 1",
         "SPECTACLES to AIR"),
        ("DELETE FROM settlement.obligation WHERE issuer = 3", "obligation says None"),
        ("UPDATE settlement.position SET net_cu = net_cu + 1 WHERE merchant_no = 2 AND cycle_no = 1",
         "NOODLES: netting gives 3232 CU, the position says 3233 CU"),
        ("UPDATE settlement.position SET net_cu = 0 WHERE merchant_no = -1 AND cycle_no = 1",
         "HOUSE:fees"),
        ("UPDATE settlement.event SET value_cu = value_cu - 1 WHERE seq = 2", "lines sum to"),
        ("UPDATE settlement.event SET cycle_no = 2 WHERE seq = 2",
         "event 2 names cycle 2 and stands inside cycle 1"),
        ("DELETE FROM settlement.event WHERE seq = 5", "lines sum to None"),
        ("UPDATE settlement.event SET acceptor = 9 WHERE seq = 2", "not there: 9"),
        ("UPDATE settlement.event SET rate_no = 99 WHERE seq = 2", "not there: 99"),
        ("DELETE FROM settlement.flush", "no flush"),
        ("UPDATE settlement.cycle SET cycle_id = '../up' WHERE cycle_no = 1", "cannot name a folder"),
    ],
)  # fmt: skip
async def test_books_that_disagree_are_not_cut(dsn, pool, keyring, out, sql, words) -> None:
    """Rule K5: lines, obligations and positions say the same, or nothing is signed."""
    await put(dsn, small_books())
    await run_sql(dsn, sql)
    with pytest.raises(BooksDiffer, match=words):
        await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)
    assert await pool.fetchval("SELECT count(*) FROM settlement.batch") == 0
    assert list(out.iterdir()) == []


async def test_a_cut_cycle_whose_books_changed_is_refused(dsn, pool, keyring, out) -> None:
    """Rule K7: a figure that differs from what was signed is named, and the folder stays."""
    await put(dsn, small_books())
    await cut(pool, 1, keyring, out)
    whole = files_of(out)
    await run_sql(dsn, "UPDATE settlement.event SET reference = 'other' WHERE seq = 2")
    with pytest.raises(BooksDiffer, match=r"another manifest: \$\..* was .* and is"):
        await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)
    assert files_of(out) == whole


async def test_stored_instructions_that_changed_are_refused(dsn, pool, keyring, out) -> None:
    """The payments that were signed stand in the books too."""
    await put(dsn, small_books())
    await cut(pool, 1, keyring, out)
    await run_sql(
        dsn,
        "UPDATE settlement.instruction SET pay_fen = pay_fen - 1, "
        "carry_before_cu = carry_before_cu - 100 + 1, net_cu = net_cu - 1 WHERE merchant_no = 1",
    )
    with pytest.raises(BooksDiffer, match="instructions of cycle 1"):
        await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)


async def test_another_package_in_the_folder_is_not_replaced(dsn, pool, keyring, out) -> None:
    """What somebody else put there is moved by people, not by the program."""
    await put(dsn, small_books())
    (out / "2017-01-02").mkdir(parents=True)
    (out / "2017-01-02" / "manifest.json").write_text("{}")
    with pytest.raises(PackageDiffers):
        await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)
    assert await pool.fetchval("SELECT count(*) FROM settlement.batch") == 0


@pytest.mark.parametrize(
    "step", ["sign", "_commit", "publish", "require_same_or_absent", "insert_instructions"]
)
async def test_a_crash_anywhere_is_finished_by_cutting_again(
    dsn, pool, keyring, out, monkeypatch, step
) -> None:
    """Whichever step never returned, nothing half-made is seen and the next cut completes it."""
    await put(dsn, small_books())
    owner = next(
        place for place in (package_folder.PackageFolder, batches, store) if hasattr(place, step)
    )

    def crash(*_args: object, **_options: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, crash)
        # Nothing tidies up after a power cut.
        patch.setattr(package_folder.PackageFolder, "discard", lambda _self: None)
        with pytest.raises(RuntimeError, match="power cut"):
            await cut_batch(pool, cycle_no=1, keyring=keyring, out=out)
    assert not (out / "2017-01-02").exists()
    assert (out / ".2017-01-02.cutting").exists()
    batch = await cut(pool, 1, keyring, out)
    assert verify_package(batch.folder, trusted=keyring.trusted()).ok
    assert [path.name for path in out.iterdir()] == ["2017-01-02"]


async def test_two_who_cut_at_once_get_the_same_package(dsn, pool, keyring, out, tmp_path) -> None:
    """One commits; the other sees it. Also into two folders, where no lock helps."""
    await put(dsn, small_books())
    cuts = await asyncio.gather(
        *(cut(pool, 1, keyring, folder) for folder in (out, out, tmp_path / "other"))
    )
    assert len({batch.manifest_sha256 for batch in cuts}) == 1
    assert files_of(out) == files_of(tmp_path / "other")
    assert await pool.fetchval("SELECT count(*) FROM settlement.batch") == 1


async def test_thousands_of_lines_stream_through(dsn, pool, keyring, out) -> None:
    """Many blocks, many flushes to disk, many merchants; progress is told; every line is proven."""
    books = BooksBuilder(flush_events=100)
    rate = books.rate("M0", 37, 10)
    books.open_cycle("big")
    orders: list[uuid.UUID] = []
    for number in range(10_000):
        issuer, acceptor = f"M{number % 40}", f"M{(number * 7 + 1) % 41 + 40}"
        if number % 10 == 3:
            orders.append(books.end(books.accept(issuer, acceptor, debit=number + 1, units=number)))
        else:
            orders.append(
                books.clear(issuer, acceptor, debit=number + 1, rate=rate, reference=f"r{number}")
            )
    books.close_cycle()
    await put(dsn, books)
    seen: list[int] = []
    batch = await cut(pool, 1, keyring, out, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == batch.orders == 10_000
    assert verify_package(batch.folder, trusted=keyring.trusted()).ok
    for number in (0, 3, 1023, 1024, 8191, 9999):
        proof = await prove_order(pool, order_id=orders[number], keyring=keyring)
        assert isinstance(proof, bytes)
        assert verify_proof(proof, trusted=keyring.trusted()).ok
        assert json.loads(proof)["leaf_index"] == number
        # The first leaves have the same path in a tree that is a little smaller.
        lie = proof.replace(b'"tree_size": 10000', b'"tree_size": 9999')
        assert "inclusion" in verify_proof(lie, trusted=keyring.trusted()).failed


async def test_what_cannot_be_proven_is_refused(dsn, pool, keyring, out) -> None:
    """Unknown, voided, and not yet cut: each is refused, with its reason."""
    await put(dsn, small_books())
    at = str(PROVEN)
    for order, reason in (
        (PROVEN, Reason.CYCLE_NOT_CLOSED),
        (uuid.uuid4(), Reason.ORDER_NOT_FOUND),
        (uuid.UUID(at[:-1] + "2"), Reason.ORDER_NOT_FOUND),
        (uuid.UUID(at[:-1] + "7"), Reason.ORDER_NOT_FOUND),
        (uuid.UUID("01595c79-cfa0-7001-8000-000000000004"), Reason.ORDER_NOT_FOUND),
    ):
        answer = await prove_order(pool, order_id=order, keyring=keyring)
        assert isinstance(answer, Refusal), order
        assert answer.reason is reason, order


async def test_a_tree_that_changed_proves_nothing(dsn, pool, keyring, out) -> None:
    """If the journal were altered after signing, no proof of it is given out."""
    await put(dsn, small_books())
    await cut(pool, 1, keyring, out)
    await run_sql(dsn, "UPDATE settlement.event SET member_no = 5 WHERE seq = 2")
    with pytest.raises(BooksDiffer, match="do not lead to the root"):
        await prove_order(pool, order_id=PROVEN, keyring=keyring)


async def test_a_fault_in_the_middle_of_the_stream_leaves_the_connection_usable(
    dsn, pool, keyring, out
) -> None:
    """A receiver that fails while the server has already sent everything once waited for ever."""
    await put(dsn, small_books())

    def fail(_piece: bytes) -> None:
        raise RuntimeError("receiver")

    async with pool.acquire() as conn, asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="receiver"):
            await store.copy_lines(conn, part=1, first_seq=1, last_seq=9, sink=fail)
        assert await conn.fetchval("SELECT 1") == 1
