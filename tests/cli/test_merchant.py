"""`tongdui merchant`: joining, listing and API keys, without a server that runs."""

import json

from tests.cli.conftest import assert_one_sentence


def test_a_merchant_joins_and_is_listed(with_ledger):
    """What was given on the command line is what the books hold, exactly."""
    [added] = with_ledger.json(
        "merchant",
        "add",
        "EYEWEAR",
        "--name",
        "眼镜店",
        "--spend",
        "100/3",
        "--cap",
        "400.0001",
        "--earn",
        "5/100",
    )
    assert added["refused"] is None
    assert added["api_key"].startswith("tdk_")
    [row] = with_ledger.json("merchant", "list")
    assert (row["code"], row["name"], row["cap_cu"], row["held_cu"]) == (
        "EYEWEAR",
        "眼镜店",
        "4000001",
        "0",
    )
    assert "400.0001" in with_ledger("merchant", "list").stdout

    done = with_ledger("merchant", "add", "EYEWEAR", "--spend", "1/1", "--cap", "1", "--json")
    assert done.returncode == 1
    assert "takes part already" in json.loads(done.stdout)[0]["refused"]


def test_a_file_of_programmes_joins(with_ledger):
    """All programmes of a file join; a second time each is refused, and nothing changes."""
    done = with_ledger("merchant", "add", "--from-file", "deploy/demo/programmes.toml")
    assert done.returncode == 0, done.stderr
    before = with_ledger.json("merchant", "list")
    assert len(before) == 21
    assert (
        with_ledger("merchant", "add", "--from-file", "deploy/demo/programmes.toml").returncode == 1
    )
    assert with_ledger.json("merchant", "list") == before


def test_a_file_that_is_malformed_is_refused_whole(with_ledger, tmp_path):
    """A malformed file is named by its field, and nobody joins."""
    path = tmp_path / "p.toml"
    path.write_text("[house]\nfee_bps = 50\n[[programme]]\ncode = 'A'\n")
    assert "$.programme[0]" in assert_one_sentence(
        with_ledger("merchant", "add", "--from-file", path)
    )
    assert with_ledger.json("merchant", "list") == []


def test_api_keys_are_added_listed_and_revoked(with_ledger):
    """Keys are told apart by an id that is no part of them."""
    with_ledger("merchant", "add", "A", "--spend", "1/1", "--cap", "1")
    key = with_ledger("merchant", "apikey", "add", "A", "--label", "till 7").stdout.strip()
    assert key.startswith("tdk_")
    first, second = with_ledger.json("merchant", "apikey", "list", "A")
    assert (first["label"], second["label"]) == ("first", "till 7")
    assert second["id"] not in key
    assert with_ledger("merchant", "apikey", "revoke", "A", second["id"]).returncode == 0
    assert with_ledger.json("merchant", "apikey", "list", "A")[1]["revoked_at"] is not None
    assert_one_sentence(with_ledger("merchant", "apikey", "revoke", "A", second["id"]), status=1)
    assert "revoked 吊销" in with_ledger("merchant", "apikey", "list", "A").stdout
    assert "no merchant B" in assert_one_sentence(with_ledger("merchant", "apikey", "add", "B"))


def test_a_merchant_moves_in_and_out_with_its_points(with_ledger, tmp_path):
    """What was imported is exported; an import repeated gives nothing twice; a wrong total changes nothing."""
    with_ledger("merchant", "add", "EYE", "--spend", "100/1", "--cap", "1000")
    file = tmp_path / "in.csv"
    good = (
        "member,units,expires_at\nben,35,2090-01-01T00:00:00Z\n"
        "anna,1200,2099-06-30T16:00:00.000001Z\nanna,5,\ncara,0,\nTOTAL 合计,1240,4\n"
    )
    file.write_text(good.replace("1240", "1241"), encoding="utf-8")
    assert "line 6, units" in assert_one_sentence(with_ledger("merchant", "import", "EYE", file))
    file.write_text(good, encoding="utf-8")
    assert (
        "nothing was changed" in with_ledger("merchant", "import", "EYE", file, "--dry-run").stdout
    )
    for _ in range(2):
        done = with_ledger.json("merchant", "import", "EYE", file)
        assert done == {"members": 3, "lots": 3, "units": "1240", "refused": []}
    exported = with_ledger.json("merchant", "export", "EYE", "--out", tmp_path / "out")
    assert exported == {"lots": 3, "units": "1240", "events": 4}
    rows = (tmp_path / "out/balances.csv").read_text(encoding="utf-8-sig").splitlines()
    assert rows[-1] == "TOTAL 合计,1240,3"
    assert [row for row in rows if row.startswith("ben")] == ["ben,35,2090-01-01T00:00:00.000000Z"]
    assert "anna,1200,2099-06-30T16:00:00.000001Z" in rows
    events = (tmp_path / "out/events.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [row.split(",")[3] for row in events[1:]] == ["joined", *["accrued"] * 3]
    assert_one_sentence(with_ledger("merchant", "export", "EYE", "--out", tmp_path / "out"))

    with_ledger("merchant", "add", "OWN", "--spend", "100/1", "--cap", "1", "--own-system")
    assert "own system" in assert_one_sentence(with_ledger("merchant", "import", "OWN", file))
    assert "no merchant" in assert_one_sentence(
        with_ledger("merchant", "export", "NO", "--out", tmp_path / "x")
    )


def test_rules_for_members_are_put_in_force(with_ledger):
    """What a programme asks of a spend is said in words, and a merchant that nobody knows is no traceback."""
    with_ledger("merchant", "add", "EYEWEAR", "--spend", "100/3", "--cap", "400")
    done = with_ledger(
        "merchant", "protect", "EYEWEAR", "--authority", "code", "--daily-yuan", "200"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "proof code, at most 200 yuan a day for each member" in done.stdout
    assert "no limits" in with_ledger("merchant", "protect", "EYEWEAR").stdout
    unknown = assert_one_sentence(with_ledger("merchant", "protect", "NOBODY"))
    assert unknown == "tongdui: no merchant has the code NOBODY"


def test_quotas_are_shown_and_set(with_ledger):
    """A merchant has the usual quotas until others are set; what is left out stays, and `none` is no limit."""
    with_ledger.json("merchant", "add", "A", "--spend", "1/1", "--cap", "1")
    usual = {"merchant": "A", "orders": "30000/10", "requests": "3000/10"}
    assert with_ledger.json("merchant", "limit", "A") == usual
    done = with_ledger.json("merchant", "limit", "A", "--orders", "none", "--why", "load test")
    assert done == usual | {"orders": None}
    done = with_ledger("merchant", "limit", "A", "--requests", "5/1")
    assert done.stdout == "A orders: no limit\nA requests: 5 in 1 s\n"
    assert with_ledger.json("merchant", "limit", "HOUSE")["orders"] is None
    assert "is no quota" in with_ledger("merchant", "limit", "A", "--orders", "5").stderr
    assert "no merchant B" in assert_one_sentence(with_ledger("merchant", "limit", "B"))
