"""The replay of real purchases: the published figures come out, also when it is killed on the way."""

import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import deploy.demo
from deploy.database.connection import open_pool, open_writer_connection
from exchange.service.replay import line_key_head, line_of_key, replay
from schemas.values.ids import key_milliseconds

DEMO = Path(deploy.demo.__file__).parent
SUMMARY = {
    "orders": 15206,
    "refused": 613,
    "lots": 19558,
    "gross_cu": 86450294,
    "net_cu": 24580194,
    "unfunded_cu": 332962761,
    "cycles": 4,
}
"""Figures of the first 20,000 lines of the year."""


def test_killed_replay_goes_on_and_ends_with_the_same_figures(server, tmp_path):
    """A replay that is killed again and again books every line once: positions and summary are the published ones."""
    purchases = tmp_path / "purchases.csv"
    purchases.write_bytes(lzma.decompress((DEMO / "purchases.csv.xz").read_bytes()))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "exchange.cli", "replay", str(purchases)]
    command += ["--programmes", str(DEMO / "programmes.toml"), "--out", str(out), "--json"]
    environ = {key: value for key, value in os.environ.items() if key != "TONGDUI_HOME"}
    environ |= {
        "TONGDUI_HOME": str(tmp_path / "home"),
        "DATABASE_URL": server.create_database("replay_home"),
    }
    kills = 0
    for cut in ("2016-12-26", "2017-01-02", "2017-01-09"):
        running = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not (out / "packages" / cut).exists() and running.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            kills += 1
        running.wait(10)
    assert kills >= 2
    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert (out / "positions.csv").read_bytes() == (DEMO / "positions.csv").read_bytes()
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert {name: summary[name] for name in SUMMARY} == SUMMARY
    assert sorted(path.name for path in (out / "packages").iterdir()) == [
        "2016-12-26", "2017-01-02", "2017-01-09", "2017-01-16",
    ]  # fmt: skip
    for cycle in (out / "packages").iterdir():
        verified = subprocess.run(
            [sys.executable, "-m", "exchange.cli", "verify", str(cycle)],
            env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stdout


PROGRAMMES = """
[house]
fee_bps = 50
""" + "".join(
    f"""
[[programme]]
code = "{code}"
unit = "point"
scale = 0
value_num = 100
value_den = 1
earn_num = 1
earn_den = 100
valid_days = 180
cap_cu = 1000000
hosted = {hosted}
"""
    for code, hosted in (("HOSTED", "true"), ("OWN", "false"))
)
PURCHASES = """occurred_at,member,merchant,amount_fen,discount_fen
2017-01-02T10:00:00,7,HOSTED,500,0
2017-01-03T10:00:00,7,OWN,500,0
2017-01-03T10:00:00,7,NOBODY,500,0
2017-01-03T10:00:00,7,OWN,500,0
"""


async def test_lines_that_were_refused_are_not_sent_again(dsn, tmp_path):
    """A replay that goes on behind lines that were refused adds nothing to the journal."""
    (tmp_path / "programmes.toml").write_text(PROGRAMMES)
    (tmp_path / "purchases.csv").write_text(PURCHASES)

    async def nothing_to_wait_for() -> None:
        pass

    pool = await open_pool(dsn, size=2)
    journals = []
    for _ in range(2):
        await replay(
            pool=pool,
            connect=lambda: open_writer_connection(dsn),
            keys=tmp_path / "keys",
            purchases=tmp_path / "purchases.csv",
            programmes=tmp_path / "programmes.toml",
            out=tmp_path / "out",
            packages_stand=nothing_to_wait_for,
        )
        journals.append(
            [tuple(row) for row in await pool.fetch("SELECT * FROM settlement.event ORDER BY seq")]
        )
    assert journals[0] == journals[1]
    kinds = await pool.fetch("SELECT kind, reason FROM settlement.event WHERE kind < 10")
    assert sorted(row["kind"] for row in kinds) == [2, 2, 7]
    await pool.close()


def test_the_key_of_a_line_tells_its_number_and_its_time():
    """Keys of lines are UUIDv7 in the order of the lines, so that the writer need not look them up."""
    head = line_key_head(bytes(range(0xA0, 0xC0)), 1_772_000_000_123)
    keys = [head + line.to_bytes(7, "big") for line in (2, 386_829)]
    assert [line_of_key(key) for key in keys] == [2, 386_829]
    assert [key_milliseconds(key) for key in keys] == [1_772_000_000_123] * 2
    assert keys == sorted(keys)
    assert all(len(key) == 16 and key[8] >> 6 == 0b10 for key in keys)
