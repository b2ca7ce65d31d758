"""Merkle tree over the lines of a cycle (RFC 6962 §2.1), read once and never held in memory.

A leaf is hashed with a zero byte before it and a node with a one byte, so that no node can pass for
a leaf. The tree of n leaves splits at the largest power of two below n; so it is the list of its
full subtrees, largest first, joined from the right. That list has at most log2(n) + 1 entries.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EMPTY_ROOT: Final = sha256(b"").digest()
"""Root of a tree without leaves (RFC 6962 §2.1)."""
DIGEST_BYTES: Final = 32
_BLOCK_LEVEL = 10
_BLOCK = 1 << _BLOCK_LEVEL


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf (RFC 6962 §2.1)."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 6962 §2.1)."""
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """Root of a stream of leaf hashes, in memory that grows with the logarithm of their number.

    Given the index of a leaf whose inclusion is to be shown, it also collects that leaf's audit
    path (RFC 6962 §2.1.1) on the way.

    """

    __slots__ = ("_complete", "_settled", "_subtrees", "_waiting", "_watched")

    def __init__(self, *, watch: int | None = None) -> None:
        """Start an empty tree.

        Args:
            watch: Index of the leaf whose audit path is wanted.
        """
        self._settled = 0  # leaves that are in a subtree
        self._complete = False
        self._subtrees: list[tuple[int, int, bytes]] = []  # level, index of first leaf, hash
        self._waiting: list[bytes] = []
        self._watched = None if watch is None else _Watched(watch)

    @property
    def count(self) -> int:
        """Leaves so far."""
        return self._settled + len(self._waiting)

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Append leaves, given by their hashes.

        Raises:
            ValueError: The root was asked for already, so the tree is complete.
        """
        if self._complete:
            raise ValueError("the tree is complete")
        self._waiting.extend(leaf_hashes)
        waiting = self._waiting
        if len(waiting) >= _BLOCK:
            whole = len(waiting) - len(waiting) % _BLOCK
            for start in range(0, whole, _BLOCK):
                self._append_block(waiting[start : start + _BLOCK])
            del waiting[:whole]

    def root(self) -> bytes:
        """Root over all leaves; the tree is complete then."""
        self._finish()
        if not self._subtrees:
            return EMPTY_ROOT
        _, start, right = self._subtrees[-1]
        for _, left_start, left in reversed(self._subtrees[:-1]):
            if self._watched is not None:
                self._watched.note(
                    self._watched.path, (left_start, left), (start, right), self.count - start
                )
            start, right = left_start, node_hash(left, right)
        return right

    def audit_path(self) -> list[bytes]:
        """Audit path of the watched leaf, from the leaf's sibling up (RFC 6962 §2.1.1).

        Raises:
            ValueError: No leaf is watched, or the tree is too small to hold it.
        """
        self._finish()
        if self._watched is None or not 0 <= self._watched.index < self.count:
            raise ValueError("the tree watches no leaf of its own")
        self._watched.path.clear()
        self._watched.path.extend(self._watched.inside)
        self.root()
        return list(self._watched.path)

    def _finish(self) -> None:
        """Append the leaves that did not fill a block; after this the tree is complete."""
        self._complete = True
        waiting, self._waiting = self._waiting, []
        for leaf in waiting:
            self._subtrees.append((0, self._settled, leaf))
            self._settled += 1
            self._settle()

    def _append_block(self, hashes: list[bytes]) -> None:
        """Append a full subtree of `_BLOCK` leaves, hashed level by level."""
        start = self._settled
        watched = self._watched
        for level in range(_BLOCK_LEVEL):
            if watched is not None and start <= watched.index < start + _BLOCK:
                watched.inside.append(hashes[(watched.index - start >> level) ^ 1])
            pairs = iter(hashes)
            hashes = [
                sha256(b"\1" + left + right).digest()
                for left, right in zip(pairs, pairs, strict=True)
            ]
        self._subtrees.append((_BLOCK_LEVEL, start, hashes[0]))
        self._settled += _BLOCK
        self._settle()

    def _settle(self) -> None:
        """Join full subtrees of the same height."""
        subtrees = self._subtrees
        while len(subtrees) > 1 and subtrees[-1][0] == subtrees[-2][0]:
            level, right_start, right = subtrees.pop()
            _, left_start, left = subtrees.pop()
            if self._watched is not None:
                self._watched.note(
                    self._watched.inside, (left_start, left), (right_start, right), 1 << level
                )
            subtrees.append((level + 1, left_start, node_hash(left, right)))


class _Watched:
    """The leaf whose audit path is collected.

    Attributes:
        index: Its number, from 0.
        inside: Its path within the full subtree that holds it.
        path: Its whole path, known when the tree is complete.
    """

    __slots__ = ("index", "inside", "path")

    def __init__(self, index: int) -> None:
        self.index = index
        self.inside: list[bytes] = []
        self.path: list[bytes] = []

    def note(
        self, path: list[bytes], left: tuple[int, bytes], right: tuple[int, bytes], width: int
    ) -> None:
        """Add the sibling if one of two joined subtrees (first index, hash) holds the leaf."""
        if left[0] <= self.index < right[0]:
            path.append(right[1])
        elif right[0] <= self.index < right[0] + width:
            path.append(left[1])


def root_from_path(*, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Root that a leaf and its audit path lead to (RFC 9162 §2.1.3.2).

    Args:
        leaf: Hash of the leaf.
        index: Its number, from 0.
        size: Number of leaves of the tree.
        path: Audit path, from the leaf's sibling up.

    Returns:
        The root; None if no tree of this size has such a path.
    """
    if not 0 <= index < size:
        return None
    position, last = index, size - 1
    digest = leaf
    for sibling in path:
        if last == 0 or len(sibling) != DIGEST_BYTES:
            return None
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            digest = node_hash(digest, sibling)
        position >>= 1
        last >>= 1
    return digest if last == 0 else None


def consistency_path(hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Hashes that show that a tree grew out of its own first leaves (RFC 6962 §2.1.2).

    Args:
        hashes: Hashes of all leaves; few enough to be held in memory.
        old_size: How many there were before; 0 and all of them need no path.

    Raises:
        ValueError: There were never so many.
    """
    if not 0 <= old_size <= len(hashes):
        raise ValueError(f"a tree of {len(hashes)} leaves never had {old_size}")
    if old_size in (0, len(hashes)):
        return []
    path: list[bytes] = []
    whole = True  # whether what is left of the old tree is a subtree that the verifier knows
    while old_size != len(hashes):
        half = 1 << (len(hashes) - 1).bit_length() - 1
        if old_size <= half:
            path.append(_root_of(hashes[half:]))
            hashes = hashes[:half]
        else:
            path.append(_root_of(hashes[:half]))
            hashes, old_size, whole = hashes[half:], old_size - half, False
    return [*([] if whole else [_root_of(hashes)]), *reversed(path)]


def _root_of(hashes: Sequence[bytes]) -> bytes:
    tree = MerkleTree()
    tree.extend(hashes)
    return tree.root()


def is_consistent(
    *, old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> bool:
    """Tell whether a tree grew out of an older one (RFC 9162 §2.1.4.2).

    Args:
        old_size: Leaves of the older tree; everything grows out of an empty one.
        old_root: Its root.
        size: Leaves of the tree.
        root: Its root.
        path: Consistency path.
    """
    if not 0 <= old_size <= size or any(len(each) != DIGEST_BYTES for each in path):
        return False
    if old_size == 0:
        return not path and old_root == EMPTY_ROOT
    if old_size == size:
        return not path and old_root == root
    hashes = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    position, last = old_size - 1, size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    if not hashes:
        return False
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == root
