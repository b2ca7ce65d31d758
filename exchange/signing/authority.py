"""Under which names a gateway is known: a signature made for another host does not count here.

Whoever signs, signs for a host (`@authority`). Without holding that against its own names, a gateway would take what a
merchant signed for somebody else, such as a test system where the same key is registered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
"""By what a gateway is known that has no names of its own: to callers on the same machine."""
_NAME: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?"
)


class PublicNames:
    """Hosts that a gateway answers for."""

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str]) -> None:
        """Take names; one without a port stands for every port.

        Args:
            names: Hosts, with a port or without, as the field `Host` has them.

        Raises:
            ValueError: One is no host.
        """
        self._names = frozenset(name.lower() for name in names)
        for name in self._names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no host such as api.example.com or 127.0.0.1:8080")

    def __contains__(self, authority: str) -> bool:
        """Whether a request's `Host` is one of ours."""
        authority = authority.lower()
        if authority in self._names:
            return True
        host, _, port = authority.rpartition(":")
        return host in self._names and port.isascii() and port.isdigit()
