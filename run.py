#!/usr/bin/env python3
"""Prepare the environment once, then run the command in it; needs Python's standard library only.

    python3 run.py demo             `tongdui demo`
    python3 run.py ARGS...          `tongdui ARGS...`
    python3 run.py test [ARGS...]   pytest; the whole suite in three workers
    python3 run.py check            formatter, linter, types, import contracts, dependencies
    python3 run.py setup            prepare only, development tools included
    python3 run.py lock [ARGS...]   resolve the lock files again (e.g. `--upgrade-package aiohttp`)

A minimal Debian has python3 and perhaps pip, but no venv and no uv, and refuses `pip install` into
the system. So uv is taken from PATH, else installed into `.tools/`; uv then makes `.venv/` from the
lock files, which carry a hash for each package. A stamp in `.venv/` says what it was made from:
while that stands, a start costs one small read. First starts at the same time wait for each other
on a lock.

The machine's own package settings are honoured: uv's as they stand, and pip's, which uv does not
read by itself.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"

RUN_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
REPLAY_LOCK = ROOT / "requirements-replay.lock"
UV_LOCK = ROOT / "requirements-uv.lock"

PYTHON_MIN = (3, 11)
UV_MIN = (0, 8)
"""The oldest uv on PATH that is used; an older one is passed over for the pinned one."""

CODE = ("exchange", "settlement", "adapters", "schemas", "deploy")
PROCESSES = (
    "exchange.cli.gateway",
    "exchange.worker.writer",
    "exchange.worker.packager",
    "exchange.service.replay",
    "exchange.bench.load",
    "rich.progress",
    "uvloop",
)
"""Modules that draw in what the processes of a clearing house and the commands in front of them need."""
TEST_TOOLS = ("hypothesis", "openapi_spec_validator", "schemathesis", "xdist.remote")
"""The same for what the tests need besides."""
CHECKS: Mapping[str, Sequence[str]] = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy",),
    "imports": ("lint-imports", "--no-cache"),
    "dependencies": ("deptry", "."),
}


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def main(argv: list[str]) -> int:
    """Prepare what `argv` needs and become that command; return only when there is none."""
    command = argv[0] if argv else ""
    wants_tools = command in {"test", "check", "setup"}
    try:
        if command == "lock":
            return lock(argv[1:])
        prepare(tools=wants_tools, replay="--export-completejourney" in argv)
    except SetupError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    if command == "setup":
        return 0
    if command == "check":
        return check()
    if command == "test":
        os.chdir(ROOT)
        # Half of the suite's time is waiting for deadlines and processes: three workers fill two cores.
        spread = [] if argv[1:] else ["--numprocesses=3", "--dist=worksteal"]
        # Else each worker, and each process that a test starts, would compile what it imports.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        become([str(VENV_PYTHON), "-m", "pytest", *spread, *argv[1:]])
    become([str(VENV / "bin" / "tongdui"), *argv])
    return 1


def become(command: list[str]) -> None:
    """Replace this process by `command`, so that signals and the exit status are its own."""
    sys.stdout.flush()
    os.execve(command[0], command, in_venv(os.environ))


def in_venv(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` as it is inside the environment, whose commands child processes find too."""
    entered = clean_python(environ)
    entered["VIRTUAL_ENV"] = str(VENV)
    entered["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}"
    return entered


def check() -> int:
    """Run every static check, also after one has failed; 1 when any did."""
    failed = []
    for name, command in CHECKS.items():
        started = time.monotonic()
        print(f"== {name}: {' '.join(command)}", flush=True)
        path = VENV / "bin" / command[0]
        status = subprocess.run(
            [path, *command[1:]], cwd=ROOT, env=in_venv(os.environ), check=False
        ).returncode
        print(
            f"   {'ok' if status == 0 else 'FAILED'} in {time.monotonic() - started:.1f} s",
            flush=True,
        )
        if status != 0:
            failed.append(name)
    print(f"checks failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


# --- the environment ---


def prepare(*, tools: bool, replay: bool) -> None:
    """Make `.venv` what the lock files say, unless the stamps say that it already is.

    Args:
        tools: The development tools are needed as well.
        replay: The data package of the replay is needed as well.

    Raises:
        SetupError: Something is missing that only a person can supply.
    """
    stamps = [("run", RUN_LOCK), ("dev", DEV_LOCK)]
    stamp_text = {
        name: expected_stamp(name, path) for name, path in [*stamps, ("replay", REPLAY_LOCK)]
    }

    def ready() -> bool:
        # The development lock is a superset of the other, so what it made serves both.
        made = VENV_PYTHON.exists() and (has_stamp("dev") or (has_stamp("run") and not tools))
        return made and (has_stamp("replay") or not replay)

    def has_stamp(name: str) -> bool:
        with contextlib.suppress(OSError):
            return stamp_path(name).read_text() == stamp_text[name]
        return False

    if ready():
        return
    with setup_lock():
        if ready():
            return
        started = time.monotonic()
        print("run.py: preparing the environment in .venv ...", file=sys.stderr, flush=True)
        uv = Uv.find()
        if not (has_stamp("dev") or (has_stamp("run") and not tools)):
            level, locked = (
                ("dev", DEV_LOCK) if tools or has_any_stamp("dev") else ("run", RUN_LOCK)
            )
            remove_stamps()
            make_venv(uv)
            uv.run("pip", "sync", "--require-hashes", str(locked))
            uv.run("pip", "install", "--no-deps", "--editable", str(ROOT))
            compile_what_runs(tools=level == "dev")
            stamp_path(level).write_text(stamp_text[level])
        if replay and not has_stamp("replay"):
            uv.run("pip", "install", "--require-hashes", "--requirements", str(REPLAY_LOCK))
            stamp_path("replay").write_text(stamp_text["replay"])
        print(f"run.py: ready in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def compile_what_runs(*, tools: bool) -> None:
    """Have Python keep the compiled form of every module that a process of ours, or a test (`tools`), imports.

    It does so by itself, but not where PYTHONDONTWRITEBYTECODE is set: there each process would compile
    hundreds of modules whenever it starts, which takes longer than all else that it does then.
    """
    environ = in_venv(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = [
        ["-m", "compileall", "-q", *CODE],
        ["-c", f"import {', '.join(PROCESSES)}"],
        *([["-c", f"import {', '.join(TEST_TOOLS)}"]] if tools else []),
    ]
    running = [
        subprocess.Popen([VENV_PYTHON, *command], cwd=ROOT, env=environ) for command in commands
    ]
    for process in running:
        process.wait()


def expected_stamp(name: str, locked: Path) -> str:
    """Return what the stamp `name` must say: made here, by this Python, from these files."""
    digest = hashlib.sha256()
    for path in (locked, ROOT / "pyproject.toml"):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise SetupError(
                f"cannot read {path}: {error.strerror}; is this a whole copy of the project?"
            ) from error
    return f"{name} {digest.hexdigest()} {sys.version_info[:2]} {ROOT}\n"


def stamp_path(name: str) -> Path:
    """Return where the stamp `name` lies."""
    return VENV / f".stamp-{name}"


def has_any_stamp(name: str) -> bool:
    """Say whether `.venv` was once made at this level, be it from older lock files."""
    return stamp_path(name).exists()


def remove_stamps() -> None:
    """Withdraw every stamp before the environment changes: a killed set-up is done again."""
    for name in ("run", "dev", "replay"):
        stamp_path(name).unlink(missing_ok=True)


def make_venv(uv: "Uv") -> None:
    """Make `.venv` for this Python; one of another Python, or half of one, is replaced."""
    try:
        output = subprocess.run(
            [VENV_PYTHON, "-c", "import sys; print(sys.version_info[:2], sys.prefix)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        output = ""
    if output.strip() != f"{sys.version_info[:2]} {VENV}":
        uv.run("venv", "--clear", "--no-project", "--python", sys.executable, str(VENV))


@contextlib.contextmanager
def setup_lock() -> Iterator[None]:
    """Hold the set-up lock: several first starts at once do the work once."""
    try:
        TOOLS.mkdir(exist_ok=True)
        (TOOLS / ".gitignore").write_text("*\n")
        handle = (TOOLS / "lock").open("w")
    except OSError as error:
        raise SetupError(
            f"cannot write to {TOOLS}: {error.strerror}; "
            f"run the first command as the owner of {ROOT}"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- uv ---


class Uv:
    """The uv that this machine has, or the pinned one in `.tools`."""

    def __init__(self, path: str) -> None:
        """Take the executable's `path`."""
        self._path = path
        self._environ: dict[str, str] | None = None

    @classmethod
    def find(cls) -> "Uv":
        """Return uv from PATH, else from `.tools`, installing it there by pip if need be."""
        on_path = shutil.which("uv")
        if on_path is not None and uv_version(on_path) >= UV_MIN:
            return cls(on_path)
        pinned = UV_LOCK.read_text().split("==", 1)[1].split(maxsplit=1)[0]
        home = TOOLS / f"uv-{pinned}"
        path = home / "bin" / "uv"
        if not path.exists():
            install_uv(home)
        return cls(str(path))

    def run(self, *args: str, every_index: bool = True) -> None:
        """Run uv on `.venv`, quiet when all is well.

        Args:
            args: What uv is to do.
            every_index: Whether indices that pip is told to look at besides its first one count as
                well.

        Raises:
            SetupError: It failed; carries uv's own words.
        """
        if self._environ is None:
            self._environ = uv_environment(os.environ, pip_settings())
        environ = dict(self._environ)
        if not every_index:
            environ.pop("UV_INDEX", None)
        done = subprocess.run(
            [self._path, *args], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SetupError(f"`uv {' '.join(args[:2])}` failed:\n{done.stderr.strip()}")


def uv_version(path: str) -> tuple[int, ...]:
    """Return the version of the uv at `path`, or an empty tuple when it does not say."""
    try:
        words = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True
        ).stdout.split()
        return tuple(int(part) for part in words[1].split("."))
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return ()


def install_uv(home: Path) -> None:
    """Install the pinned uv into `home`, whole or not at all."""
    pip = pip_command()
    if pip is None:
        raise SetupError(
            "neither uv nor pip is on this machine. Install one package and run this again: "
            "`apt-get install python3-pip` on Debian or Ubuntu."
        )
    half = Path(tempfile.mkdtemp(prefix="uv-", dir=TOOLS))
    try:
        # pip refuses to change an externally managed Python, but a target folder of ours is none of
        # that.
        done = subprocess.run(
            [
                *(*pip, "install", "--quiet", "--no-input", "--no-warn-script-location"),
                *("--require-hashes", "--target", str(half), "--requirement", str(UV_LOCK)),
            ],
            env=clean_python(os.environ)
            | {
                "PIP_USER": "0",
                "PIP_ROOT_USER_ACTION": "ignore",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SetupError(f"pip could not install uv:\n{done.stderr.strip()}")
        half.chmod(0o755)
        if home.exists():
            shutil.rmtree(home)
        half.rename(home)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def pip_command() -> list[str] | None:
    """Return a command that is pip: this Python's own, or one that it can make; else None."""
    own = [sys.executable, "-m", "pip"]
    if succeeds([*own, "--version"]):
        return own
    # Where Python was built with its bundled pip (Debian takes it out), a throw-away environment
    # has one.
    home = TOOLS / "pip"
    made = [str(home / "bin" / "python"), "-m", "pip"]
    if succeeds([*made, "--version"]) or succeeds(
        [sys.executable, "-m", "venv", "--clear", str(home)]
    ):
        return made
    return None


def succeeds(command: list[str]) -> bool:
    """Say whether `command` can be run and exits with 0."""
    try:
        return (
            subprocess.run(
                command, capture_output=True, env=clean_python(os.environ), check=False
            ).returncode
            == 0
        )
    except OSError:
        return False


def clean_python(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without what would make another Python's packages visible."""
    return {
        name: value for name, value in environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}
    }


# --- the machine's own package settings ---


def pip_settings() -> dict[str, str]:
    """Return pip's settings from its files and environment, as `name: value`; empty without pip.

    More particular sections and sources come last in pip's listing, and win here as they do there.
    """
    pip = pip_command()
    if pip is None:
        return {}
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    settings: dict[str, str] = {}
    for wanted in ("global.", "install.", ":env:."):
        for line in listing.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(wanted):
                settings[name.removeprefix(wanted)] = value.strip("'\"").replace("\\n", " ")
    return settings


def uv_environment(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv: the caller's, and pip's settings where uv has none.

    Args:
        environ: The caller's environment; what it says to uv always wins.
        pip: What pip was told, from `pip_settings`.
    """
    made = clean_python(environ)
    made["VIRTUAL_ENV"] = str(VENV)
    made["UV_PYTHON_DOWNLOADS"] = "never"
    translated = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": pip.get("extra-index-url", ""),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_INSECURE_HOST": pip.get("trusted-host", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "HTTPS_PROXY": pip.get("proxy", ""),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
    }
    older_names = {
        "UV_DEFAULT_INDEX": "UV_INDEX_URL",
        "UV_INDEX": "UV_EXTRA_INDEX_URL",
        "HTTPS_PROXY": "https_proxy",
    }
    for name, value in translated.items():
        if value and not made.get(name) and not made.get(older_names.get(name, name)):
            made[name] = value
            if name == "UV_INDEX":
                # uv stops at the first index that knows a name, pip looks at all of them; the
                # hashes make that safe.
                made.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if "no-index" in pip and pip["no-index"].lower() in {"1", "true", "yes", "on"}:
        made.setdefault("UV_NO_INDEX", "1")
    if "UV_CACHE_DIR" not in made and not os.access(made.get("HOME", "/nonexistent"), os.W_OK):
        made["UV_CACHE_DIR"] = str(TOOLS / "cache")
    return made


# --- the lock files ---


def lock(options: list[str]) -> int:
    """Resolve the lock files again: versions and hashes for every platform, and no address.

    Each further file repeats the versions of the one before, so that one environment can hold them
    all.
    """
    header = "# Made by `python3 run.py lock` from pyproject.toml; do not edit.\n"
    steps: list[tuple[Path, list[str]]] = [
        (RUN_LOCK, []),
        (DEV_LOCK, ["--group", "dev", "--constraint", str(RUN_LOCK)]),
        (REPLAY_LOCK, ["--extra", "replay", "--constraint", str(DEV_LOCK)]),
    ]
    with setup_lock():
        uv = Uv.find()
        for path, extra in steps:
            uv.run(
                *(
                    "pip",
                    "compile",
                    "--quiet",
                    "--universal",
                    "--generate-hashes",
                    "--no-header",
                    "--no-annotate",
                ),
                *("--python-version", ".".join(map(str, PYTHON_MIN)), "pyproject.toml"),
                *("--output-file", str(path), *extra, *options),
                # A mirror may know only some of a version's files, and the lock wants the hashes of
                # all.
                every_index=False,
            )
            path.write_text(header + path.read_text().removeprefix(header))
            print(f"{path.name}: {path.read_text().count('==')} packages")
    return 0


if __name__ == "__main__":
    if sys.version_info < PYTHON_MIN:
        sys.exit(
            f"run.py: needs Python {'.'.join(map(str, PYTHON_MIN))} or newer, "
            f"this is {sys.version.split()[0]}"
        )
    sys.exit(main(sys.argv[1:]))
