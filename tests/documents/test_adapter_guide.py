"""The guide for integrators is followed word by word, in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from adapters.kit import registry
from tests.cli.conftest import Command

GUIDE = Path(__file__).parents[2] / "adapters" / "README.md"
MERCHANTS = GUIDE.with_name("merchants")
TEXT = GUIDE.read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
[ADAPTER] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """A function that types one line in an empty folder and returns what it printed; every line must end well."""
    monkeypatch.chdir(tmp_path)
    tongdui = Command(home=tmp_path / "home")

    def type_line(line: str) -> str:
        command, *words = shlex.split(line)
        if command == "tongdui":
            done = tongdui(*words)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            return done.stdout
        subprocess.run([command, *words], check=True)
        return ""

    return type_line


def test_the_guide_can_be_followed(follow):
    """Every command of the guide ends well, and at its end stands a certificate that is in force."""
    printed = [follow(line) for line in COMMANDS]
    assert "valid 有效: corner-shop" in printed[-1]


def test_the_code_of_the_guide_passes(follow, tmp_path):
    """The adapter that the guide shows passes the clauses that its code concerns."""
    follow("mkdir my-adapters")
    follow("tongdui adapter new corner-shop --protocol http-mapping --into my-adapters")
    (tmp_path / "my-adapters/corner-shop/adapter.py").write_text(ADAPTER, encoding="utf-8")
    follow(
        "tongdui adapter check my-adapters/corner-shop --only hold.reserves --only hold.captured"
    )


def shipped() -> list[str]:
    """Merchants of this project; one that somebody scaffolded in this copy with `adapter new` is theirs."""
    listed = subprocess.run(
        ["git", "ls-files", MERCHANTS], cwd=MERCHANTS, capture_output=True, text=True, check=False
    )
    ours = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    return [name for name in registry.names() if name in ours or not ours]


def test_the_guide_names_every_protocol_and_its_models():
    """The table of protocols is the registry's, and names each shipped merchant with what it speaks."""
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| (`.*`) \|$", TEXT, re.MULTILINE))
    assert sorted(rows) == sorted(registry.PROTOCOLS)
    speaking: dict[str, list[str]] = {}
    for name in shipped():
        speaking.setdefault(registry.find(name).manifest.merchant.protocol, []).append(name)
    assert {
        protocol: re.findall(r"`([a-z-]+)`", models) for protocol, models in rows.items()
    } == speaking


@pytest.mark.parametrize("protocol", registry.PROTOCOLS)
def test_a_new_folder_passes_its_first_checks(protocol, follow, tmp_path):
    """Whatever the protocol, a new folder reads, has its own name, and finds a member on its simulator."""
    follow(f"tongdui adapter new corner-shop --protocol {protocol} --into .")
    assert registry.at(tmp_path / "corner-shop").code == "corner-shop"
    follow("tongdui adapter check ./corner-shop --only folder.complete --only member.found")
