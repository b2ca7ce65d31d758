"""What a verifier reports: one named result for each check, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable


class Status(Enum):
    """Result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class CheckFailed(Exception):  # noqa: N818 - what the check found, not a fault of ours
    """Ends a check that found something wrong; the runner turns it into a result."""

    def __init__(self, english: str, chinese: str) -> None:
        """Say what is wrong, in one sentence each."""
        super().__init__(english)
        self.english = english
        self.chinese = chinese


class NotChecked(CheckFailed):
    """Ends a check that cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of one check.

    Attributes:
        name: Permanent name of the check.
        status: How it ended.
        english: One sentence for people.
        chinese: The same.
    """

    name: str
    status: Status
    english: str
    chinese: str


def run_check(name: str, check: Callable[[], tuple[str, str]]) -> Check:
    """Run one check and put its result in words.

    Args:
        name: Permanent name of the check.
        check: Returns its sentences in English and Chinese if it passes. Else it raises
            `CheckFailed`, `NotChecked`, `SchemaError`, or what a missing file raises.
    """
    status = Status.FAILED
    try:
        english, chinese = check()
        status = Status.PASSED
    except NotChecked as missing:
        status = Status.NOT_CHECKED
        english, chinese = missing.english, missing.chinese
    except CheckFailed as wrong:
        english, chinese = wrong.english, wrong.chinese
    except SchemaError as error:
        english = f"It is malformed at {error.path}: {error.detail}."
        chinese = f"{error.path} 处格式错误（{error.detail}）。"
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        file_name = PurePath(str(error.filename)).name
        english, chinese = f"{file_name} is missing.", f"缺少文件 {file_name}。"
    return Check(name=name, status=status, english=english, chinese=chinese)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of all checks of one package or proof, in a fixed order.

    Attributes:
        subject: What was verified: the package's cycle id or the proof's order id; empty if unknown.
        checks: The results.
    """

    subject: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.status is not Status.FAILED for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.status is Status.FAILED]

    @property
    def exit_status(self) -> int:
        """0 if no check failed, else 1."""
        return 0 if self.ok else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """There is nothing that could be verified.

    Attributes:
        english: One sentence that says why.
        chinese: The same.
    """

    english: str
    chinese: str

    subject: str = ""
    checks: tuple[Check, ...] = ()

    @property
    def ok(self) -> bool:
        """Never."""
        return False

    @property
    def failed(self) -> list[str]:
        """No check was made."""
        return []

    @property
    def exit_status(self) -> int:
        """2: neither right nor wrong."""
        return 2
