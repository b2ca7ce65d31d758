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
            env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stdout
