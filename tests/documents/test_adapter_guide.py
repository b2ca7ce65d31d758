"""The guide for integrators is followed word by word, in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from adapters.kit import registry
from exchange.cli import main

GUIDE = Path(__file__).parents[2] / "adapters" / "README.md"
TEXT = GUIDE.read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
[ADAPTER] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def follow(line: str) -> None:
    """Type one line; `tongdui` is called in this process."""
    command, *words = shlex.split(line)
    if command != "tongdui":
        subprocess.run([command, *words], check=True)
        return
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0, line


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder, and a home of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TONGDUI_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_guide_can_be_followed(workplace, capsys):
    """Every command of the guide ends well, and at its end stands a certificate that is in force."""
    for line in COMMANDS:
        follow(line)
    assert "valid 有效: corner-shop" in capsys.readouterr().out


def test_the_code_of_the_guide_passes(workplace):
    """The adapter that the guide shows passes the clauses that its code concerns."""
    follow("mkdir my-adapters")
    follow("tongdui adapter new corner-shop --protocol http-mapping --into my-adapters")
    (workplace / "my-adapters/corner-shop/adapter.py").write_text(ADAPTER, encoding="utf-8")
    follow(
        "tongdui adapter check my-adapters/corner-shop --only hold.reserves --only hold.captured"
    )


def test_the_guide_names_every_protocol_and_its_models():
    """The table of protocols is the registry's, and names each shipped merchant with what it speaks."""
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| (`.*`) \|$", TEXT, re.MULTILINE))
    assert sorted(rows) == sorted(registry.PROTOCOLS)
    speaking: dict[str, list[str]] = {}
    for name in registry.names():
        speaking.setdefault(registry.find(name).manifest.merchant.protocol, []).append(name)
    assert {
        protocol: re.findall(r"`([a-z-]+)`", models) for protocol, models in rows.items()
    } == speaking


@pytest.mark.parametrize("protocol", registry.PROTOCOLS)
def test_a_new_folder_passes_its_first_checks(protocol, workplace):
    """Whatever the protocol, a new folder reads, has its own name, and finds a member on its simulator."""
    follow(f"tongdui adapter new corner-shop --protocol {protocol} --into .")
    assert registry.at(workplace / "corner-shop").code == "corner-shop"
    follow("tongdui adapter check ./corner-shop --only folder.complete --only member.found")
