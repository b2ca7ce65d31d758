"""The guide for tills is followed word by word, on a sandbox that `tongdui serve` runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Command, home, make_home, tongdui  # noqa: F401 - fixtures
from tests.cli.test_serve import Serving, serving  # noqa: F401 - a fixture

GUIDE = Path(__file__).parents[2] / "exchange" / "README.md"
STEPS = re.findall(
    r"^```sh\n(.*?)^```\n```(?:text|json)\n(.*?)^```$",
    GUIDE.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.slow
def test_the_guide_can_be_followed(tongdui: Command, serving, tmp_path):  # noqa: F811 - the fixtures
    """Every command prints what the guide says (`...` is any text); a ledger in earnest takes no wish for faults."""
    assert len(STEPS) >= 8
    running: Serving = serving(tongdui, "--sandbox")
    script = "\n".join(f"{{ {step.strip()}\n}} 2>&1\necho @@" for step, _ in STEPS)
    done = subprocess.run(
        ["bash", "-c", script],
        env=tongdui.environ
        | {"TONGDUI": running.ready["url"], "KEY": running.ready["sandbox_key"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    printed = [part.strip() for part in done.stdout.split("@@\n")]
    for (step, expected), said in zip(STEPS, printed, strict=False):
        pattern = ".+".join(map(re.escape, expected.strip().split("...")))
        assert re.fullmatch(pattern, said), (step, said)
    assert running.stop() == 0
    refused = tongdui("serve", "--port", "0")
    assert refused.returncode == 2
    assert "--sandbox" in refused.stderr
