"""The wheel, the lock files and run.py's own parts."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[2]
CODE = ("exchange", "settlement", "adapters", "schemas", "deploy")
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def uv_command() -> str:
    """Return the uv that set this environment up, wherever it was found."""
    found = shutil.which("uv") or next(map(str, (ROOT / ".tools").glob("uv-*/bin/uv")), None)
    if found is None:
        pytest.skip("this environment was not made by run.py")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The project's wheel, built from the files of this folder."""
    out = tmp_path_factory.mktemp("wheel")
    command = [uv_command(), "build", "--wheel", "--offline", "--out-dir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "was not found in the cache" in done.stderr:
        pytest.skip("uv is another version than the build backend's, which is not on this machine")
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_holds_every_file_of_the_code_folders(wheel: zipfile.ZipFile):
    """The wheel holds every module, migration, type marker and demo file of the five code folders."""
    packed = set(wheel.namelist())
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *CODE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        wanted = {name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()}
    else:
        wanted = {
            str(path.relative_to(ROOT))
            for folder in CODE
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert any(name.endswith(".sql") for name in wanted)
    assert {f"{folder}/py.typed" for folder in CODE} <= wanted
    assert wanted - packed == set()


def test_wheel_offers_the_command(wheel: zipfile.ZipFile):
    """The wheel installs the command `tongdui` and carries its licence."""
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "tongdui = exchange.cli:main" in wheel.read(entry).decode()
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_lock_names_versions_and_hashes_and_no_address(path: Path):
    """Each locked package has one exact version and its hashes, and no file names a registry."""
    text = path.read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_has_what_the_project_asks_for(name: str):
    """Each dependency that pyproject.toml names is in the lock: nobody forgot to resolve again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    if "dev" in name:
        wanted += project["dependency-groups"]["dev"]
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / name).read_text(), flags=re.MULTILINE))
    names = {re.split(r"[<>=;\[ ]", each, maxsplit=1)[0].lower() for each in wanted}
    assert names - locked == set()


def test_locks_agree():
    """A package that stands in several locks has the same versions in all: one environment holds them."""
    seen: dict[str, set[str]] = {}
    for path in LOCKS:
        of_file: dict[str, set[str]] = {}
        for name, number in re.findall(r"^(\S+?)==(\S+)", path.read_text(), flags=re.MULTILINE):
            of_file.setdefault(name, set()).add(number)
        for name, numbers in of_file.items():
            assert seen.setdefault(name, numbers) == numbers, name


def test_environment_is_the_locked_one():
    """What runs these tests are the locked versions."""
    locked = dict(
        re.findall(r"^(\S+?)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    for name in ("asyncpg", "aiohttp", "msgspec", "cryptography"):
        assert version(name) == locked[name]


def test_run_needs_only_the_standard_library():
    """run.py starts on a bare Python: it imports nothing but the standard library."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('run.py')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pip_s_settings_reach_uv():
    """Where pip is sent to a mirror, uv is sent there too, and the hashes still decide."""
    made = run.uv_environment(
        {"HOME": "/", "PATH": "/bin", "PYTHONPATH": "/elsewhere"},
        {
            "index-url": "https://mirror.example/simple",
            "extra-index-url": "file:///a/simple file:///b/simple",
            "find-links": "/wheels /more",
            "cert": "/ca.pem",
            "timeout": "60",
        },
    )
    assert made["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert made["UV_INDEX"] == "file:///a/simple file:///b/simple"
    assert made["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert made["UV_FIND_LINKS"] == "/wheels,/more"
    assert made["SSL_CERT_FILE"] == "/ca.pem"
    assert made["UV_HTTP_TIMEOUT"] == "60"
    assert "PYTHONPATH" not in made


def test_uv_s_own_settings_win():
    """What the caller tells uv itself stands, whatever pip was told."""
    own = {
        "HOME": "/",
        "UV_INDEX_URL": "https://own.example/simple",
        "UV_FIND_LINKS": "/own",
        "SSL_CERT_FILE": "/own.pem",
        "UV_CACHE_DIR": "/own-cache",
    }
    made = run.uv_environment(
        own, {"index-url": "https://mirror.example/simple", "find-links": "/w", "cert": "/ca.pem"}
    )
    assert made | own == made
    assert "UV_DEFAULT_INDEX" not in made


def test_home_that_cannot_be_written_gets_a_cache_of_ours():
    """An account without a usable home folder still gets set up."""
    made = run.uv_environment({"HOME": "/nonexistent"}, {})
    assert made["UV_CACHE_DIR"] == str(ROOT / ".tools" / "cache")


def test_run_passes_arguments_and_status_on():
    """`python3 run.py ARGS` is `tongdui ARGS`: its exit status comes back unchanged."""
    if run.stamp_path("dev").read_text() != run.expected_stamp("dev", run.DEV_LOCK):
        pytest.skip("the environment is not up to date, and a test should not change it")
    direct = subprocess.run(
        [ROOT / ".venv" / "bin" / "tongdui", "no-such-command"], capture_output=True, check=False
    )
    through = subprocess.run(
        [sys.executable, ROOT / "run.py", "no-such-command"], capture_output=True, check=False
    )
    assert (through.returncode, through.stdout) == (direct.returncode, direct.stdout)


def test_what_is_compiled_at_set_up_exists():
    """Each module that run.py has compiled beforehand is one that can be imported."""
    assert [name for name in run.PROCESSES if find_spec(name) is None] == []
