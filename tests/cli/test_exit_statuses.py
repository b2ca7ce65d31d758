"""Exit statuses: 0 fine, 1 the answer is no, 2 unusable, with one sentence and never a traceback."""

import subprocess
import sys

import click
import pytest

from exchange.cli.entrance import COMMANDS
from exchange.cli.entrance import tongdui as entrance
from tests.cli.conftest import assert_one_sentence


def test_help_loads_no_more_than_it_needs():
    """`tongdui --help` starts at once: no database driver, no web server, no tables."""
    code = (
        "import sys; from exchange.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('asyncpg', 'aiohttp', 'rich', 'structlog', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_what_the_list_says(name):
    """The line in `--help` is the first sentence of the command's own help."""
    context = click.Context(entrance)
    command = entrance.get_command(context, name)
    assert command is not None
    text = " ".join((command.help or "").split()).lower()
    assert text.startswith(COMMANDS[name][1].removesuffix(".").lower())


@pytest.mark.parametrize(
    "args",
    [
        ("no-such-command",),
        ("serve", "--port", "70000"),
        ("replay", "p.csv"),
        ("merchant", "add"),
        ("merchant", "add", "two words", "--spend", "1/1", "--cap", "1"),
        ("merchant", "add", "A", "--spend", "1.5", "--cap", "1"),
        ("merchant", "add", "A", "--spend", "1/1", "--cap", "0.00001"),
        ("merchant", "add", "A", "--spend", "2/1", "--issue", "1/1", "--cap", "1"),
        ("prove", "not-a-uuid"),
    ],
)
def test_wrong_usage_is_2(private_tongdui, args):
    """What cannot be understood is a usage error."""
    done = private_tongdui(*args)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("audit",),
        ("cycle", "show"),
        ("cycle", "close"),
        ("merchant", "list"),
        ("merchant", "apikey", "list", "GROCERY"),
    ],
)
def test_without_a_ledger_it_is_2(private_tongdui, home, args):
    """Commands that need a ledger say that there is none, and make none."""
    assert "no ledger" in assert_one_sentence(private_tongdui(*args))
    assert not (home / "database").exists()


def test_a_database_that_is_not_migrated_is_2(tongdui, server):
    """A database without the program's tables is named as such."""
    tongdui.database_url = server.create_database("unmigrated")
    try:
        assert "run the migrations" in assert_one_sentence(tongdui("merchant", "list"))
    finally:
        server.drop_database("unmigrated")


def test_a_database_that_does_not_answer_is_2(tongdui):
    """A server that is away makes one sentence."""
    tongdui.database_url = "postgresql://nobody@127.0.0.1:1/nothing"
    assert_one_sentence(tongdui("merchant", "list"))


def test_what_is_no_package_is_2(private_tongdui, tmp_path):
    """Nothing to verify is neither right nor wrong."""
    private_tongdui("keys", "generate")
    assert "holds no package" in assert_one_sentence(private_tongdui("verify", tmp_path))
    assert_one_sentence(private_tongdui("verify", tmp_path / "nothing"))
    (tmp_path / "file").write_bytes(b"\x00\xff")
    assert_one_sentence(private_tongdui("verify", tmp_path / "file"))


def test_a_key_that_is_none_is_2(private_tongdui, tmp_path):
    """A trusted key that is no key makes one sentence."""
    (tmp_path / "key.pem").write_text("nonsense")
    assert "no public key of Ed25519 or SM2" in assert_one_sentence(
        private_tongdui("verify", tmp_path, "--key", tmp_path / "key.pem")
    )


def test_an_order_that_nobody_knows_is_1(tongdui):
    """A business no is status 1."""
    tongdui("keys", "generate")
    sentence = assert_one_sentence(
        tongdui("prove", "0190f8a0-0000-7001-8000-000000000001"), status=1
    )
    assert "No such order" in sentence


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, private_tongdui):
    """Only expected faults become a sentence: a bug must be seen."""
    monkeypatch.setattr("exchange.cli.keys.keyring_of", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        private_tongdui("keys", "list")
