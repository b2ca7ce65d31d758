"""Tries every clause on one adapter, several at a time, and says clause by clause what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import structlog

from adapters.kit.conformance.clauses import CLAUSES, STRANGER, Clause
from adapters.kit.conformance.trial import Failed, Trial, against, on_trial
from adapters.kit.contract import NotSent
from adapters.kit.manifest import MANIFEST_FILE
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from adapters.kit.conformance.trial import Build
    from adapters.kit.folder import Folder

    World = Callable[[], AbstractAsyncContextManager[Trial]]

Verdict = Literal["passed", "failed", "not applicable", "not tried"]

AT_ONCE: Final = 6
_CLAUSE_SECONDS_MAX: Final = 60.0
FOLDER_CLAUSES: Final = ("folder.complete", "folder.no_secret", "log.silent")
"""Clauses that concern the whole and not one trial."""
_FOLDER_SENTENCES: Final = {
    "folder.complete": (
        "The folder holds a manifest with two test members, a README and samples.",
        "Add README.md, one file under samples/, and [sandbox.members] with a rich and a poor member.",
    ),
    "folder.no_secret": (
        "No secret stands in the folder: secrets are references to the environment or to a file.",
        'Write "env:NAME" or "file:/path" where a secret, key or password is wanted.',
    ),
    "log.silent": (
        "No member id and no secret appears in a log line.",
        "Log references and outcomes only; never a body, a member or a header.",
    ),
}
_SECRET_WORDS: Final = ("secret", "password", "private_key", "token")
_ID_LENGTH_MIN: Final = 4
"""A shorter member id would be found in any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one clause ended.

    Attributes:
        id: The clause.
        sentence: What the adapter must do.
        verdict: Passed, failed, not applicable to what the manifest declares, or not tried because
            a real system's books are not known.
        seen: What was seen, for a failure.
        mend: How to mend it, for a failure.
    """

    id: str
    sentence: str
    verdict: Verdict
    seen: str = ""
    mend: str = ""


def all_clauses() -> list[str]:
    """Ids of every clause, in the order of the report."""
    return [*FOLDER_CLAUSES, *(clause.id for clause in CLAUSES)]


async def examine(
    folder: Folder,
    *,
    build: Build | None = None,
    settings: dict[str, object] | None = None,
    only: Sequence[str] = (),
    done: Callable[[], None] | None = None,
    world: World | None = None,
    exempt: Collection[str] = (),
) -> list[Finding]:
    """Try every clause.

    Args:
        folder: The merchant's folder.
        build: Builds the adapter; the folder's own way if None.
        settings: Settings that lead to a real system; then only clauses that need no simulator are
            tried, with the manifest's test members. None tries all of them on the simulator.
        only: Ids of the clauses to try; all if empty.
        done: Called as each clause ends.
        world: Makes each trial, for a system that is no folder with a simulator; None for one that is.
        exempt: Clauses that ask for what such a system does not offer.

    Returns:
        One finding for each clause, in the order of `all_clauses`.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    trials: list[Trial] = []

    async def tried(clause: Clause) -> Finding:
        async with gate:
            if clause.id in exempt:
                finding = _not_applicable(clause.id, clause.sentence)
            else:
                finding = await _try(
                    clause, folder, build=build, settings=settings, world=world, trials=trials
                )
        if done:
            done()
        return finding

    with _overheard() as heard:
        wanted = [clause for clause in CLAUSES if not only or clause.id in only]
        findings = list(await asyncio.gather(*(tried(clause) for clause in wanted)))
    whole = {
        "folder.complete": None if world else _complete(folder),
        "folder.no_secret": None if world else _no_secret(folder),
        "log.silent": _silent(heard, folder, trials),
    }
    first = [
        _not_applicable(name, _FOLDER_SENTENCES[name][0])
        if seen is None
        else _finding(name, *_FOLDER_SENTENCES[name], seen)
        for name, seen in whole.items()
        if not only or name in only
    ]
    if done:
        for _ in first:
            done()
    return first + findings


async def _try(
    clause: Clause,
    folder: Folder,
    *,
    build: Build | None,
    settings: dict[str, object] | None,
    world: World | None,
    trials: list[Trial],
) -> Finding:
    if not clause.applies(folder.manifest):
        return _not_applicable(clause.id, clause.sentence)
    if settings is not None and clause.needs_books:
        return Finding(id=clause.id, sentence=clause.sentence, verdict="not tried")
    if world is not None:
        opening = world()
    elif settings is None:
        opening = on_trial(folder, build=build)
    else:
        opening = against(folder.with_settings(dict(settings)), build=build)
    seen = ""
    try:
        async with asyncio.timeout(_CLAUSE_SECONDS_MAX), opening as trial:
            trials.append(trial)
            await clause.check(trial)
            if trial.books:
                trial.books.check()
    except Failed as failed:
        seen = str(failed)
    except NotSent as not_sent:
        seen = f"the system could not be reached: {not_sent.detail}"
    except TimeoutError:
        seen = f"not ended within {_CLAUSE_SECONDS_MAX:.0f} s"
    except SchemaError as error:
        seen = f"{error.path}: {error.detail}"
    except Exception as error:  # noqa: BLE001 - whatever an adapter under trial does is a finding, not our end
        seen = f"{type(error).__name__}: {error}"
    return _finding(clause.id, clause.sentence, clause.mend, seen)


def _not_applicable(name: str, sentence: str) -> Finding:
    return Finding(id=name, sentence=sentence, verdict="not applicable")


def _finding(name: str, sentence: str, mend: str, seen: str) -> Finding:
    if seen:
        return Finding(id=name, sentence=sentence, verdict="failed", seen=seen, mend=mend)
    return Finding(id=name, sentence=sentence, verdict="passed")


def _complete(folder: Folder) -> str:
    """What is missing in the folder; empty if nothing is."""
    missing = []
    if not (folder.path / "README.md").is_file():
        missing.append("README.md")
    samples = folder.path / "samples"
    if not samples.is_dir() or not any(samples.iterdir()):
        missing.append("a file under samples/")
    if len(set(folder.manifest.sandbox.members.values())) < 2:
        missing.append(f"two test members with different points in {MANIFEST_FILE}")
    return "missing: " + ", ".join(missing) if missing else ""


def _no_secret(folder: Folder) -> str:
    """Where a secret stands in the open; empty if nowhere."""

    def places(table: dict[str, object], path: str) -> Iterator[str]:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from places(value, f"{path}.{key}")
            elif (
                isinstance(value, str)
                and any(word in key.lower() for word in _SECRET_WORDS)
                and not value.startswith(("env:", "file:", "http:", "https:", "/"))
            ):
                yield f"{path}.{key}"

    found = list(places(folder.manifest.settings, "$.settings"))
    return f"{MANIFEST_FILE} holds a secret at {', '.join(found)}" if found else ""


def _silent(heard: list[str], folder: Folder, trials: list[Trial]) -> str:
    """Which line gave something away; empty if none did."""
    folders = [folder, *(trial.folder for trial in trials)]
    members = {
        member
        for each in folders
        for member in each.manifest.sandbox.members
        if len(member) >= _ID_LENGTH_MIN
    }
    secrets = {
        value.decode(errors="replace") for trial in trials for value in trial.secrets.values()
    }
    for line in heard:
        if any(member in line for member in members | {STRANGER}):
            return f"a member id stands in the log line {line[:60]!r}…"
        if any(secret in line for secret in secrets):
            return "a secret stands in a log line"
    return ""


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """Everything that is logged in the block, through either library."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear = Ear(level=logging.DEBUG)
    logging.root.addHandler(ear)
    try:
        with structlog.testing.capture_logs() as events:
            yield heard
            heard.extend(
                " ".join(f"{key}={value}" for key, value in each.items()) for each in events
            )
    finally:
        logging.root.removeHandler(ear)
