"""The streaming tree against the definition of RFC 6962, written as it reads."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.signing.merkle import EMPTY_ROOT, MerkleTree, leaf_hash, root_from_path


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


def test_certificate_transparency_test_vector() -> None:
    """The eight-leaf tree that implementations of RFC 6962 publish gives the published root."""
    leaves = [
        bytes.fromhex(text)
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                     "606162636465666768696a6b6c6d6e6f")
    ]  # fmt: skip
    root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert streamed(leaves, 3).root().hex() == root


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
