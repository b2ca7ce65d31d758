"""Packages on the command line: verified, proven, and cut by the packager."""

import asyncio
import json
import shutil
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from exchange.cli.context import Unusable
from exchange.cli.package import package_trust
from exchange.worker.packager import cut_missing
from settlement.service.package_folder import PackageDiffers
from tests.builders import small_books
from tests.cli.conftest import Command, assert_one_sentence
from tests.golden.packages import KEY_ID, PROVEN, files_of, golden_keyring
from tests.tsa import Authority

GOLDEN = Path(__file__).parents[1] / "golden" / "packages"
KEY = GOLDEN / f"{KEY_ID}.pub.pem"


@pytest.fixture
def books(tongdui: Command, home: Path, dsn: str) -> Command:
    """The command on two closed cycles and the published key."""

    async def write() -> None:
        connection = await asyncpg.connect(dsn)
        await small_books().write(connection)
        await connection.close()

    asyncio.run(write())
    golden_keyring(home / "keys")
    return tongdui


def cut(dsn: str, home: Path) -> bool:
    """Let the packager look once."""

    async def look() -> bool:
        pool = await open_pool(dsn)
        try:
            return await cut_missing(pool, keys=home / "keys", packages=home / "packages")
        finally:
            await pool.close()

    return asyncio.run(look())


def test_a_good_package_passes_with_every_check_named(private_tongdui):
    """Status 0, in words for people and as JSON for programs, with the public key alone."""
    report = private_tongdui.json("verify", GOLDEN / "2017-01-09", "--key", KEY)
    assert (report["result"], report["subject"], report["failed"]) == ("passed", "2017-01-09", [])
    assert {"signature", "files", "chain", "merkle_root"} <= {
        each["name"] for each in report["checks"]
    }
    shown = private_tongdui("verify", GOLDEN / "2017-01-09", "--key", KEY)
    assert shown.returncode == 0
    assert "验证通过" in shown.stdout
    assert shown.stdout.count("✓") == len(report["checks"])


def test_a_package_that_was_changed_fails_by_name(private_tongdui, tmp_path):
    """Status 1, and the check that failed is named."""
    shutil.copytree(GOLDEN / "2017-01-02", tmp_path / "2017-01-02")
    path = tmp_path / "2017-01-02" / "positions.csv"
    path.write_bytes(path.read_bytes().replace(b"AIR", b"AIX", 1))
    report = private_tongdui.json("verify", tmp_path / "2017-01-02", "--key", KEY, status=1)
    assert "files" in report["failed"]
    shown = private_tongdui("verify", tmp_path / "2017-01-02", "--key", KEY)
    assert shown.returncode == 1
    assert "positions.csv was changed" in shown.stdout


def test_a_package_of_another_key_fails(private_tongdui):
    """With the installation's own keys, somebody else's package is not trusted."""
    private_tongdui("keys", "generate")
    report = private_tongdui.json("verify", GOLDEN / "2017-01-02", status=1)
    assert "signature" in report["failed"]


def test_an_order_is_proven_and_the_proof_checked(books, home, dsn, tmp_path):
    """`prove` writes what `verify` accepts with the public key alone; another order is refused."""
    assert "has no package yet" in assert_one_sentence(books("prove", PROVEN), status=1)
    assert cut(dsn, home)
    proof = tmp_path / "proof.json"
    assert books("prove", PROVEN, "--out", proof).returncode == 0
    assert json.loads(proof.read_text())["order"] == str(PROVEN)
    assert books.json("verify", proof, "--key", KEY)["result"] == "passed"
    assert books("verify", proof, "--key", f"treasurer={KEY}").returncode == 1
    assert books("verify", proof, "--key", KEY, "--threshold", 2).returncode == 2
    proof.write_text(proof.read_text().replace('"leaf_index":', '"leaf_index":1'))
    assert books("verify", proof, "--key", KEY).returncode == 1


def test_the_packager_cuts_what_is_missing_and_nothing_else(books, home, dsn):
    """Every closed cycle gets its package, in order; one that was lost comes back byte for byte."""
    assert cut(dsn, home)
    assert sorted(path.name for path in (home / "packages").iterdir()) == [
        "2017-01-02",
        "2017-01-09",
    ]
    before = files_of(home / "packages")
    shutil.rmtree(home / "packages" / "2017-01-02")
    assert cut(dsn, home)
    assert files_of(home / "packages") == before
    for cycle in ("2017-01-02", "2017-01-09"):
        assert books("verify", home / "packages" / cycle, "--key", KEY).returncode == 0


def test_a_treasurer_signs_what_the_operator_cut(books, home, dsn, tmp_path):
    """Rules K34 to K36: keys, threshold, cut, and a signature made offline with the package and two keys alone."""
    own = tmp_path / "treasurer.pem"
    assert books("keys", "make", own, "--algorithm", "sm2").returncode == 0
    assert_one_sentence(books("keys", "make", own))
    assert_one_sentence(books("keys", "threshold", 2))
    told = books("keys", "add", f"{own}.pub", "--role", "treasurer", "--why", "new treasurer")
    assert told.returncode == 0, told.stderr
    assert books("keys", "threshold", 2).returncode == 0
    treasurer = books.json("keys", "list")[1]
    assert (treasurer["role"], treasurer["algorithm"], treasurer["held"]) == (
        "treasurer",
        "SM2-SM3",
        "elsewhere",
    )
    assert {each["action"] for each in books.json("trail", "list")} >= {
        "signing_key.set",
        "signing_threshold.set",
    }
    assert cut(dsn, home)
    folder = home / "packages" / "2017-01-02"
    assert books.json("verify", folder, status=1)["failed"] == ["threshold"]
    before = files_of(folder)
    parties = GOLDEN.parent / "parties.toml"
    files = ("package", "render", folder, "--parties", parties, "--out", tmp_path / "files")
    refused = books(*files, "--format", "payments")
    assert "Only 1 of 2 roles signed: operator; treasurer may." in assert_one_sentence(refused, 1)
    assert books(*files, "--format", "vouchers", "--dry-run").returncode == 0
    trust = ("--trust", f"operator={KEY}")
    dry = books.json("package", "sign", folder, "--key", own, *trust, "--dry-run")
    assert (dry["written"], dry["role"], files_of(folder)) == (False, "treasurer", before)
    own.chmod(0o644)
    assert "chmod 600" in assert_one_sentence(
        books("package", "sign", folder, "--key", own, *trust)
    )
    own.chmod(0o600)
    done = books("package", "sign", folder, "--key", own, *trust)
    assert f"{treasurer['key_id']} (treasurer) signed" in done.stdout
    assert files_of(folder).items() > before.items()
    assert books.json("verify", folder, "--threshold", 2)["result"] == "passed"
    assert books(*files, "--format", "payments").returncode == 0
    keys = ("--key", f"operator={KEY}", "--key", f"treasurer={own}.pub")
    assert books("verify", folder, *keys).returncode == 0
    assert books("verify", folder, *keys, "--threshold", 3).returncode == 1
    assert books("verify", folder, "--key", KEY).returncode == 1
    signature = folder / f"manifest.{treasurer['key_id']}.sig"
    brought = signature.rename(tmp_path / "brought.sig")
    assert books("package", "sign", folder).returncode == 2
    assert books("package", "sign", folder, "--signature", brought).returncode == 0
    assert signature.read_bytes() == brought.read_bytes()
    changed = folder / "positions.csv"
    changed.write_bytes(changed.read_bytes().replace(b"AIR", b"AIX", 1))
    assert books("package", "sign", folder, "--key", own, *trust).returncode == 1


def test_a_witness_cosigns_the_chain_and_a_merchant_believes_it(books, home, dsn, tmp_path):
    """Rules K39 to K42: checkpoint, request, cosignature and proof, each by its command, and `verify` with them."""
    assert cut(dsn, home)
    own, log, file = tmp_path / "witness.pem", ("--origin", "house.example/log"), tmp_path / "file"
    assert books("keys", "make", own).returncode == 0
    who = ("--key", own, "--name", "w.example/1")
    vkey = books("package", "witness", *who, "--show-key").stdout.strip()
    log_key = books("package", "checkpoint", *log, "--show-keys").stdout.strip()
    seen = ("--log", log_key, "--state", tmp_path / "seen.json")
    request = books("package", "checkpoint", *log, "--since", 0).stdout
    assert request.startswith("old 0\n\nhouse.example/log\n2\n")
    file.write_text(request)
    cosigned = tmp_path / "checkpoint"
    assert books("package", "witness", file, *who, *seen, "--out", cosigned).returncode == 0
    assert "ask from there" in assert_one_sentence(
        books("package", "witness", file, *who, *seen), status=1
    )
    folder = home / "packages" / "2017-01-09"
    trusting = ("--key", KEY, "--witness", vkey)
    assert books.json("verify", folder, "--checkpoint", cosigned, *trusting)["result"] == "passed"
    proof = tmp_path / "proof"
    made = ("--of", cosigned, "--for", folder, "--out", proof)
    assert books("package", "checkpoint", *made).returncode == 0
    alone = shutil.copytree(folder, tmp_path / "alone" / "2017-01-09")
    told = books("verify", alone, "--checkpoint", proof, *trusting)
    assert "seen by w.example/1" in told.stdout
    assert told.returncode == 0
    more = ("--witness", "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")
    assert books("verify", alone, "--checkpoint", proof, *trusting, *more).returncode == 1
    both = books("verify", alone, "--checkpoint", proof, *trusting, *more, "--witnesses", 1)
    assert both.returncode == 0
    assert_one_sentence(books("verify", alone, "--checkpoint", proof, "--witness", "w.example/1"))
    assert books("verify", alone, *trusting).returncode == 2
    assert_one_sentence(books("package", "checkpoint", "--since", 3))
    file.write_bytes(cosigned.read_bytes().replace(b"\n2\n", b"\n1\n"))
    assert_one_sentence(books("package", "checkpoint", "--of", file, "--since", 0), status=1)


def test_a_package_is_stamped_over_http(private_tongdui, tmp_path):
    """Rules K43 and K44: the authority is asked over a socket; what it answers is checked before it is kept."""
    folder = shutil.copytree(GOLDEN / "2017-01-02", tmp_path / "packages" / "2017-01-02")
    authority = Authority.make(tmp_path / "tsa")
    other = Authority.make(tmp_path / "other")
    words = ("package", "stamp", folder, "--trust", KEY, "--tsa-root", authority.root, "--tsa")
    with authority.serving() as url:
        dry = private_tongdui.json(*words, url, "--dry-run")
        assert (dry["written"], (folder / "manifest.tsr").exists()) == (False, False)
        assert private_tongdui(*words, url).returncode == 0
        assert "already" in assert_one_sentence(private_tongdui(*words, url))
    checked = ("verify", folder, "--key", KEY, "--tsa-root")
    assert private_tongdui(*checked, authority.root).returncode == 0
    report = private_tongdui.json(*checked, other.root, status=1)
    assert report["failed"] == ["timestamp"]
    assert_one_sentence(private_tongdui(*checked, KEY))
    (folder / "manifest.tsr").unlink()
    answers = {"500": lambda _: None, "not a time-stamp": lambda _: b"hello", "local": other.answer}
    for sentence, answer in answers.items():
        with other.serving(answer) as url:
            done = private_tongdui(*words, url)
            assert sentence in assert_one_sentence(done, status=2 if sentence == "500" else 1)
    assert "does not answer" in assert_one_sentence(private_tongdui(*words, url))
    assert not (folder / "manifest.tsr").exists()


def test_the_packager_begins_nothing_once_it_is_told_to_stop(books, home, dsn):
    """A backlog does not hold a stop up."""

    async def look() -> bool:
        pool = await open_pool(dsn)
        stop = asyncio.Event()
        stop.set()
        try:
            return await cut_missing(
                pool, keys=home / "keys", packages=home / "packages", stop=stop
            )
        finally:
            await pool.close()

    assert asyncio.run(look()) is False
    assert not (home / "packages").exists()


def test_cycles_are_shown_from_books_and_from_packages(books, home, dsn):
    """The figures are the same before the cut, which adds what the bank moves."""
    shown = [row["cycle_id"] for row in books.json("cycle", "show")]
    assert shown == ["2017-01-02", "2017-01-09", "2017-01-16"]
    from_books = books.json("cycle", "show", "2017-01-02")
    assert cut(dsn, home)
    from_package = books.json("cycle", "show", "2017-01-02")
    assert from_package.pop("payments")
    assert from_books.pop("payments") == []
    assert from_books == from_package
    text = books("cycle", "show", "2017-01-02").stdout
    assert "应付总额" in text
    assert "应付款" in text
    assert_one_sentence(books("cycle", "show", "1999-01-04"), status=1)


def test_a_calendar_is_shown_and_set(with_ledger):
    """Rule T4: the calendar is set whole and counts at once for cycles that open; what cannot be is refused."""
    assert with_ledger.json("cycle", "calendar")["times"] == ["00:00"]
    said = (
        "--zone",
        "UTC",
        "--at",
        "06:00",
        "--at",
        "18:00",
        "--weekday",
        "1",
        "--holiday",
        "2026-12-25",
        "--confirm-days",
        "3",
    )
    shown = with_ledger.json("cycle", "calendar", *said, "--why", "two a day")
    assert shown == {
        "zone": "UTC",
        "times": ["06:00", "18:00"],
        "weekdays": [1],
        "holidays": ["2026-12-25"],
        "confirm_days": 3,
    }
    assert with_ledger.json("cycle", "calendar") == shown
    for wrong in (("--at", "24:00"), ("--zone", "Asia/Nowhere")):
        assert_one_sentence(with_ledger("cycle", "calendar", *wrong))
    assert with_ledger.json("trail", "list")[-1]["action"] == "calendar.set"


def test_pairs_are_given_an_arrangement_with_cycles_of_its_own(with_ledger):
    """Rules T6 to T8: a new arrangement is made with its first cycle; a pair gets it, and its cycle is closed alone."""
    for code in "AB":
        with_ledger("merchant", "add", code, "--spend", "1/1", "--cap", "12.5")
    with_ledger("keys", "generate")
    wanted = ("noon", "--model", "bilateral", "--pair", "A", "B", "--why", "contract 7")
    shown = with_ledger.json("cycle", "arrangement", *wanted)
    [main, noon] = shown["arrangements"]
    assert (main["code"], noon["code"], noon["model"]) == ("main", "noon", "bilateral")
    # No cycle was open for the pair, so there is no turn to wait for.
    assert shown["pairs"] == [{"one": "A", "other": "B", "arrangement": "noon", "next": None}]
    calendar = ("cycle", "calendar", "--arrangement", "noon", "--at", "12:00")
    assert with_ledger.json(*calendar)["times"] == ["12:00"]
    closed = with_ledger.json("cycle", "close", "--arrangement", "noon")
    assert closed["closed"] == noon["cycle_id"]
    assert closed["open"].startswith("noon-")
    assert closed["open"].endswith("T1200")
    assert [row["arrangement"] for row in with_ledger.json("cycle", "show")] == ["noon", "noon"]
    assert_one_sentence(with_ledger("cycle", "arrangement", "noon", "--pair", "A", "NOBODY"))
    wanted = ("now", "--model", "gross", "--pair", "A", "B", "--why", "prefunded")
    shown = with_ledger.json("cycle", "arrangement", *wanted)
    assert [each["model"] for each in shown["arrangements"]] == [
        "multilateral",
        "bilateral",
        "gross",
    ]
    assert [pair["next"] for pair in shown["pairs"]] == ["now"]


def test_the_audit_finds_a_figure_that_was_changed(with_ledger, dsn):
    """Clean books are status 0; a changed figure is 1, with table, row, and both figures."""
    with_ledger("merchant", "add", "A", "--spend", "1/1", "--cap", "12.5")
    clean = with_ledger.json("audit")
    assert clean["clean"]
    assert clean["events"]
    assert "账目与日志一致" in with_ledger("audit").stdout

    async def change() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("UPDATE settlement.account SET cap_cu = cap_cu + 1")
        await connection.close()

    asyncio.run(change())
    [difference] = with_ledger.json("audit", status=1)["differences"]
    assert difference["table"] == "settlement.account"
    assert (difference["expected"], difference["found"]) == ("125000", "125001")
    shown = with_ledger("audit")
    assert shown.returncode == 1
    assert "发现 1 处不一致" in shown.stdout


def test_something_else_in_a_packages_place_is_not_touched(books, home, dsn):
    """A folder that is no package of ours stays, and the command says so with status 1."""
    assert cut(dsn, home)
    standing = home / "packages" / "2017-01-02"
    (standing / "manifest.json").write_text("{}")

    async def look() -> None:
        pool = await open_pool(dsn)
        from settlement.service.batches import cut_batch
        from settlement.signing.keyring import Keyring

        try:
            await cut_batch(
                pool, cycle_no=1, keyring=Keyring.open(home / "keys"), out=home / "packages"
            )
        finally:
            await pool.close()

    with pytest.raises(PackageDiffers):
        asyncio.run(look())
    assert (standing / "manifest.json").read_text() == "{}"


def test_files_are_made_offline(tongdui: Command, home: Path, tmp_path: Path):
    """`package render` needs no database: it says what it would write, writes it, and refuses what was not signed."""
    parties = GOLDEN.parent / "parties.toml"
    package = Path(shutil.copytree(GOLDEN / "2017-01-02", tmp_path / "2017-01-02"))
    command = ("package", "render", str(package), "--key", str(KEY), "--out", str(tmp_path / "out"))
    wanted = ("--for", "SPECTACLES", "--parties", parties, "--format", "payments")
    tried = tongdui.json(*command, *wanted, "--pay-on", "2017-01-05", "--dry-run")
    assert not tried["written"]
    assert not (tmp_path / "out").exists()
    made = tongdui.json(*command, *wanted, "--pay-on", "2017-01-05")
    assert made == tried | {"written": True}
    assert "SPECTACLES/pain.001.xml" in made["files"]
    assert b"<Dt>2017-01-05</Dt>" in (tmp_path / "out/SPECTACLES/pain.001.xml").read_bytes()
    assert "no pain.001" in tongdui(*command, "--format", "payments", "--dry-run").stdout
    home.mkdir(exist_ok=True)
    shutil.copy(parties, home / "parties.toml")
    assert "no pain.001" not in tongdui(*command, "--format", "payments", "--dry-run").stdout

    assert "no statement" in assert_one_sentence(tongdui(*command, "--for", "HOTEL"))
    (package / "statements/AIR.msgpack").write_bytes(b"")
    refused = assert_one_sentence(tongdui(*command, "--for", "AIR"), 1)
    assert "is not the file that was signed" in refused


def test_one_key_in_two_roles_is_refused():
    """Whoever gives a key as the operator's and as the treasurer's is told so, and not that nobody signed."""
    with pytest.raises(Unusable, match="one key cannot sign for two roles"):
        package_trust((f"operator={KEY}", f"treasurer={KEY}"))
    assert package_trust((f"operator={KEY}", str(KEY))).roles == {KEY_ID: "operator"}
