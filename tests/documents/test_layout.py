"""The shape of the source tree that imports and packaging rely on."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("package", ["exchange", "settlement", "adapters", "schemas", "deploy"])
def test_code_folder_is_a_typed_package(package: str) -> None:
    """Each of the five code folders is an importable package that ships its types."""
    module = import_module(package)
    assert module.__doc__
    assert (ROOT / package / "py.typed").is_file()
