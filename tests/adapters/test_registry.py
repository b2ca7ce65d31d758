"""Where merchants' folders are found, and what a certificate would name."""

import sys

import pytest

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.folder import digest_of
from schemas.values.faults import SchemaError

MANIFEST = """
[merchant]
code = "corner-shop"
name = "Corner shop"
protocol = "own"
[points]
[spend]
way = "burn"
[credit]
way = "none"
"""
ADAPTER = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Own:
    code: str

def build(folder, context):
    return Own(folder.code)
"""


@pytest.fixture
def shop(tmp_path):
    """A merchant's folder outside the tree, with a manifest and nothing else."""
    folder = tmp_path / "corner-shop"
    folder.mkdir()
    (folder / "manifest.toml").write_text(MANIFEST)
    return folder


def test_folder_with_its_own_adapter_needs_no_known_protocol(shop):
    """`adapter.py` in a folder comes before the table of protocols."""
    (shop / "adapter.py").write_text(ADAPTER)
    assert vars(type(registry.build(registry.at(shop), Context())))["__slots__"] == ("code",)


def test_unknown_protocol_is_refused_by_its_key(shop):
    """A protocol that is not in the table is refused, and the table is shown."""
    with pytest.raises(SchemaError, match="http-mapping") as refused:
        registry.build(registry.at(shop), Context())
    assert refused.value.path == "corner-shop/manifest.toml: $.merchant.protocol"


def test_broken_code_of_a_folder_is_told_with_its_file(shop):
    """An adapter that cannot be imported is told with its file, and nothing of it stays imported."""
    (shop / "adapter.py").write_text("import no_such_module")
    before = set(sys.modules)
    with pytest.raises(SchemaError, match="no_such_module") as refused:
        registry.build(registry.at(shop), Context())
    assert refused.value.path.startswith("corner-shop/adapter.py")
    assert sys.modules.keys() == before


def test_folder_of_another_package_is_found_by_entry_point(shop, tmp_path, monkeypatch):
    """An installed package brings a merchant by an entry point, and the package is not run for it."""
    package = tmp_path / "shop_package"
    shop.rename(package)
    (package / "__init__.py").write_text("raise RuntimeError('run')")
    information = tmp_path / "shop_package-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-package\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[tongdui.adapters]\ncorner-shop = shop_package\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("corner-shop").path == package
    assert "corner-shop" in registry.names()


@pytest.mark.parametrize("name", ["no-such-shop", "../kit", ""])
def test_unknown_name_is_refused(name):
    """A name that no folder has is refused, and no name leads out of the folders."""
    with pytest.raises(SchemaError):
        registry.find(name)


def test_digest_sees_every_byte_and_every_name(shop):
    """Changing, adding, renaming or moving a file changes the digest; caches and hidden files do not."""
    (shop / "samples").mkdir()
    (shop / "samples" / "a.json").write_text("{}")
    seen = {digest_of(shop)}
    (shop / "__pycache__").mkdir()
    (shop / "__pycache__" / "x.pyc").write_bytes(b"x")
    (shop / ".hidden").write_text("x")
    assert digest_of(shop) in seen
    (shop / "samples" / "a.json").write_text("{ }")
    seen.add(digest_of(shop))
    (shop / "samples" / "a.json").rename(shop / "samples" / "b.json")
    seen.add(digest_of(shop))
    (shop / "samples" / "b.json").rename(shop / "b.json")
    seen.add(digest_of(shop))
    assert len(seen) == 4
    (shop / "link").symlink_to(shop / "b.json")
    with pytest.raises(SchemaError, match="symbolic"):
        digest_of(shop)
