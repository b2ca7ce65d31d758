"""Nothing personal is written: canaries go through what names members, and all that is written is searched."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cli.conftest import Command
from tests.cli.test_serve import Serving, serving

__all__ = ["serving"]

NAMES = ("Canary-Anna-51c9", "Canary-Nobody-83ba", "Canary-Path-2d7e", "Canary-Ben-90aa")
ACCOUNT, WRONG, PROOF = "T-1001", "Canary-Account-6f0b", "Canary-Proof-11fe"
HOSTED = {
    "code": "tea", "name": "Tea", "hosted": True, "spend": {"cu": "100", "units": "1"},
    "cap_cu": "0", "earn_units": "1", "earn_fen": "100",
}  # fmt: skip
CANARY = re.compile("|".join([*NAMES, ACCOUNT, WRONG, PROOF, "[Cc]anary"]).encode())


def written(home: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file that the installation wrote, but for the database's own."""
    for path in home.rglob("*"):
        if path.is_file() and home / "database" not in path.parents:
            yield path, path.read_bytes()


def test_no_canary_is_in_what_was_written(
    tongdui: Command, serving: Callable[..., Serving], tell_figure: Callable[[str], None]
):
    """Names, accounts and proofs, right, wrong and malformed, are in no log, metric, error, URL or package."""
    server = serving(tongdui, "--sandbox")
    anna, nobody, in_path, ben = NAMES
    answers: list[bytes] = []

    def send(method: str, path: str, body: object = None, *, key: str | None = None) -> int:
        status, data = server.call(method, path, body, key=key)
        # An answer may repeat an account that stood in its own request, and nothing else.
        answers.append(data if status >= 400 else b"")
        return status

    enrolled = server.json("POST", "/v1/members", {"members": [anna, ben]})
    token = enrolled["tokens"][0]
    link = {"merchant": "till-town", "merchant_member": ACCOUNT, "proof": "246810"}
    assert send("POST", f"/v1/members/{token}/links", link) == 201
    assert (
        send(
            "POST", f"/v1/members/{token}/links", link | {"merchant_member": WRONG, "proof": PROOF}
        )
        >= 400
    )
    assert send("POST", f"/v1/members/{token}/links", link | {"proof": PROOF}) >= 400
    order = {"issuer": "till-town", "acceptor": "noodle-house", "units": "100"}
    assert send("POST", "/v1/orders", order | {"member": anna}, key="1") == 201
    for number, (member, more) in enumerate(
        [
            (nobody, {}),
            (ben, {}),
            (anna, {"units": "99999999"}),
            (anna, {"units": anna}),
            (anna, {"acceptor": anna}),
            (anna, {"phone": anna}),
            (anna + " ", {}),
            (anna, {"code": anna}),
        ]
    ):
        assert (
            send("POST", "/v1/orders", order | {"member": member} | more, key=f"k{number}") >= 400
        )
    for page in ("balances", "history", "consents", "households"):
        assert send("GET", f"/v1/members/{in_path}/{page}") == 404
        assert send("GET", f"/v1/members/{token}/{page}") == 200
    rules = {
        "offered": True, "members_max": 3, "transfer_units_max": "9", "daily_units": "9",
        "daily_transfers": 9, "monthly_units": "9", "monthly_transfers": 9, "cooling_days": 9,
    }  # fmt: skip
    assert send("POST", "/v1/merchants", HOSTED) == 201
    assert send("PUT", "/v1/merchants/tea/household-rules", rules) == 200
    wish = {"merchant": "tea", "head": anna, "purpose": anna, "text_version": "1"}
    made = server.json("POST", "/v1/households", wish)
    home = f"/v1/households/{made['household_id']}"
    assert send("POST", "/v1/households", wish | {"head": nobody}) == 422
    assert send("POST", "/v1/households", wish | {"text_version": anna + " "}) == 400
    assert send("POST", f"{home}/invitations", {"by": anna, "member": ben}) == 200
    assert send("POST", f"{home}/members", {"member": ben, "purpose": anna}) == 400
    gift = {"giver": anna, "receiver": ben, "units": "5"}
    for place, more in enumerate([{}, {"receiver": nobody}, {"units": anna}, {"note": anna}]):
        assert send("POST", f"{home}/transfers", gift | more, key=f"t{place}") >= 400
    assert send("POST", f"{home}/leave", {"by": ben, "member": anna}) >= 400
    assert send("GET", f"/v1/members/{token}/history?limit={anna}") == 400
    assert send("POST", "/v1/members", {"members": [anna, 7]}) == 400
    assert send("POST", "/v1/baskets", {"member": anna, "parts": anna}, key="b") == 400
    assert send("POST", "/v1/purchases/bulk", [{"member": anna, "key": anna}]) < 500
    assert send("POST", "/v1/cycles/close", {"next": "c9"}) < 500
    metrics = server.call("GET", "/metrics")[1]
    assert server.stop() == 0
    out, err = server.process.popen.communicate()
    places = {
        "standard output": out.encode(),
        "standard error": err.encode(),
        "metrics": metrics,
        **{f"answer {place}": data for place, data in enumerate(answers)},
        **{str(path): data for path, data in written(server.home)},
    }
    found = {place: CANARY.findall(data) for place, data in places.items() if CANARY.search(data)}
    assert found == {}
    assert len(places["standard error"]) > 0
    tell_figure(
        f"canaries: {len(answers)} requests, {len(places)} places with "
        f"{sum(map(len, places.values()))} bytes searched, none found"
    )


def test_member_commands(tongdui: Command, serving: Callable[..., Serving], tmp_path: Path):
    """A member is exported to a file of the caller's own and erased once; a wrong name is not repeated."""
    server = serving(tongdui)
    server.json("POST", "/v1/members", {"members": ["anna"]})
    token = tongdui("member", "token", "anna").stdout.strip()
    assert re.fullmatch(r"mt_[a-z2-7]{26}", token)
    assert tongdui("member", "export", "anna", "--out", tmp_path / "a.json").returncode == 0
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    names = json.loads((tmp_path / "a.json").read_text())["names"]
    assert [each["name"] for each in names] == ["anna"]
    for wrong in ("nobody", "mt_" + 26 * "a"):
        unknown = tongdui("member", "token", wrong)
        assert unknown.returncode == 2
        assert wrong not in unknown.stderr
    assert tongdui("member", "erase", token).returncode == 2
    erased = tongdui("member", "erase", token, "--yes", "--why", "asked by letter")
    assert erased.returncode == 0, erased.stderr
    assert tongdui("member", "export", "anna", "--out", tmp_path / "b.json").returncode == 2
    for more, word in (((), "due"), (("--yes",), "removed")):
        kept = json.loads(tongdui("retention", "--json", *more).stdout)
        assert {each["name"]: each[word] for each in kept}["sessions"] == 0
    assert "190 days" in tongdui("retention").stdout
    audited = tongdui("audit")
    assert audited.returncode == 0, audited.stdout
