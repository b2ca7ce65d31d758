"""Copies of the committed packages, to be spoiled."""

import shutil
from pathlib import Path

import pytest

from tests.golden.packages import FIRST, FOLDER


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with both packages, a copy of its own for each test."""
    return Path(shutil.copytree(FOLDER, tmp_path / "packages"))


@pytest.fixture
def package(packages: Path) -> Path:
    """The first package."""
    return packages / FIRST
