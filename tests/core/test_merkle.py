"""The streaming tree against the definition of RFC 6962, written as it reads."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.signing.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    consistency_path,
    is_consistent,
    leaf_hash,
    root_from_path,
)


def split(n: int) -> int:
    """Largest power of two below n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def obvious_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\x01" + obvious_root(leaves[:k]) + obvious_root(leaves[k:])).digest()


def obvious_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*obvious_path(m, leaves[:k]), obvious_root(leaves[k:])]
    return [*obvious_path(m - k, leaves[k:]), obvious_root(leaves[:k])]


def leaves_of(n: int) -> list[bytes]:
    """As many different leaves."""
    return [b"leaf %d" % i for i in range(n)]


def streamed(leaves: list[bytes], step: int, watch: int | None = None) -> MerkleTree:
    """A tree that took the leaves in pieces."""
    tree = MerkleTree(watch=watch)
    for start in range(0, len(leaves), step):
        tree.extend(map(leaf_hash, leaves[start : start + step]))
    return tree


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    """RFC 6962 §2.1: the hash of an empty list is the hash of an empty string."""
    assert MerkleTree().root() == EMPTY_ROOT == sha256(b"").digest()


PUBLISHED = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                 "606162636465666768696a6b6c6d6e6f")
]  # fmt: skip
"""Leaves of the tree that implementations of RFC 6962 publish."""


def test_certificate_transparency_test_vector() -> None:
    """The eight-leaf tree that implementations of RFC 6962 publish gives the published root."""
    root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert streamed(PUBLISHED, 3).root().hex() == root


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (1, 1, []),
        (2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
        (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    ],
)  # fmt: skip
def test_published_consistency_paths(old: int, new: int, path: list[str]) -> None:
    """RFC 6962 §2.1.2: those that implementations publish for the same tree."""
    hashes = list(map(leaf_hash, PUBLISHED[:new]))
    assert [each.hex() for each in consistency_path(hashes, old)] == path


def obvious_consistency(m: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2."""
    if m == len(leaves):
        return [] if whole else [obvious_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*obvious_consistency(m, leaves[:k], whole=whole), obvious_root(leaves[k:])]
    return [*obvious_consistency(m - k, leaves[k:], whole=False), obvious_root(leaves[:k])]


def test_a_consistency_path_is_the_recursive_one_and_is_believed_for_its_own_trees_alone() -> None:
    """RFC 6962 §2.1.2 and RFC 9162 §2.1.4.2: every pair of sizes up to 17; no other size, root or path will do."""
    leaves = leaves_of(17)
    hashes = list(map(leaf_hash, leaves))
    roots = [obvious_root(leaves[:n]) for n in range(18)]
    for new in range(1, 18):
        for old in range(new + 1):
            path = consistency_path(hashes[:new], old)
            assert path == (obvious_consistency(old, leaves[:new]) if old else [])
            right: dict[str, Any] = {
                "old_size": old,
                "old_root": roots[old],
                "size": new,
                "root": roots[new],
            }
            assert is_consistent(**right, path=path)
            wrong = [
                right | {"old_root": bytes(32)},
                right | {"root": bytes(32)} if old else right | {"old_size": -1},
                right | {"old_size": old + 1},
            ]
            assert not any(is_consistent(**each, path=path) for each in wrong), (old, new)
            assert not is_consistent(**right, path=[*path, bytes(32)])
            assert not path or not is_consistent(**right, path=path[:-1])
            for place, each in enumerate(path):
                spoiled = [*path[:place], bytes([each[0] ^ 1]) + each[1:], *path[place + 1 :]]
                assert not is_consistent(**right, path=spoiled)
    short = [bytes(31)]
    assert not is_consistent(old_size=1, old_root=roots[1], size=2, root=roots[2], path=short)
    with pytest.raises(ValueError, match="never had 18"):
        consistency_path(hashes, 18)


@pytest.mark.parametrize("n", [*range(1, 40), 1023, 1024, 1025, 2047, 2048, 3071, 3500, 5121])
def test_streamed_root_is_the_recursive_one(n: int) -> None:
    """RFC 6962 §2.1, whatever the pieces in which the leaves come."""
    leaves = leaves_of(n)
    assert {streamed(leaves, step).root() for step in (1, 7, 1024, 4000)} == {obvious_root(leaves)}


@given(st.integers(1, 3000), st.data())
def test_streamed_path_is_the_recursive_one_and_leads_to_the_root(n: int, data) -> None:
    """RFC 6962 §2.1.1: every leaf's path, collected while streaming, is the one of the definition."""
    index = data.draw(st.integers(0, n - 1))
    leaves = leaves_of(n)
    tree = streamed(leaves, data.draw(st.integers(1, 2000)), watch=index)
    path = tree.audit_path()
    assert path == obvious_path(index, leaves)
    leaf = leaf_hash(leaves[index])
    assert root_from_path(leaf=leaf, index=index, size=n, path=path) == tree.root()


@given(st.integers(1, 70), st.data())
def test_a_changed_path_leads_elsewhere(n: int, data) -> None:
    """No other leaf, index, size, longer or shorter or changed path reaches the root."""
    index = data.draw(st.integers(0, n - 1))
    leaves = leaves_of(n)
    tree = streamed(leaves, 5, watch=index)
    path, root, leaf = tree.audit_path(), tree.root(), leaf_hash(leaves[index])
    other = data.draw(st.integers(0, n - 1).filter(lambda i: i != index) if n > 1 else st.just(-1))
    assert root_from_path(leaf=leaf, index=other, size=n, path=path) != root
    assert root_from_path(leaf=leaf_hash(b"else"), index=index, size=n, path=path) != root
    assert root_from_path(leaf=leaf, index=index, size=n, path=[*path, root]) != root
    if path:
        assert root_from_path(leaf=leaf, index=index, size=n, path=path[:-1]) != root
        spoiled = [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]
        assert root_from_path(leaf=leaf, index=index, size=n, path=spoiled) != root


def test_a_complete_tree_takes_no_more_leaves() -> None:
    """The root is asked for once the stream has ended."""
    tree = MerkleTree()
    tree.extend([leaf_hash(b"a")])
    tree.root()
    with pytest.raises(ValueError, match="complete"):
        tree.extend([leaf_hash(b"b")])


def test_a_leaf_that_is_not_there_has_no_path() -> None:
    """Watching a leaf past the end is found out."""
    with pytest.raises(ValueError, match="watches"):
        MerkleTree(watch=0).audit_path()
