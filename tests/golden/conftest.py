"""Copies of the committed packages, to be spoiled."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from settlement.service.renderings import KINDS
from tests.golden.models import BILATERAL, GROSS
from tests.golden.packages import FIRST, FOLDER, SECOND
from tests.golden.renderings import make


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with both packages, a copy of its own for each test."""
    return Path(shutil.copytree(FOLDER, tmp_path / "packages"))


@pytest.fixture
def package(packages: Path) -> Path:
    """The first package."""
    return packages / FIRST


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All files of both packages but the pages, made once."""
    folder = tmp_path_factory.mktemp("renderings")
    kinds = tuple(kind for kind in KINDS if kind != "pdf")  # a font for each would take seconds
    listed = {cycle: make(FOLDER / cycle, folder / cycle, kinds=kinds) for cycle in (FIRST, SECOND)}
    return SimpleNamespace(folder=folder, listed=listed)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All files of a bilateral and of a gross package but the pages."""
    folder = tmp_path_factory.mktemp("models")
    kinds = tuple(kind for kind in KINDS if kind != "pdf")
    for package in (BILATERAL, GROSS):
        make(package, folder / package.name, kinds=kinds)
    return SimpleNamespace(folder=folder)
