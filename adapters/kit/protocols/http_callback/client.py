"""The adapter of a system that takes a call with 202 and posts the outcome later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.kit.http import HttpClient
from adapters.kit.protocols.http_callback.listener import Listener
from adapters.kit.protocols.http_callback.settings import read_settings
from adapters.kit.protocols.http_mapping.client import HttpMapping
from adapters.kit.protocols.http_mapping.load import load_mapping
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.context import Context
    from adapters.kit.folder import Folder
    from adapters.kit.protocols.http_mapping.mapping import Mapping


def build(folder: Folder, context: Context) -> HttpCallback:
    """Build the adapter of a folder with a mapping file that has a table `[callback]`.

    Raises:
        SchemaError: Manifest or mapping is malformed; names file, table and key.
    """
    settings = read_settings(folder)
    mapping = load_callback_mapping(folder)
    listener = Listener(settings.callback, mapping, folder, context)
    return HttpCallback(mapping, HttpClient(settings, folder, context), settings.base_url, listener)


def load_callback_mapping(folder: Folder) -> Mapping:
    """Read the mapping file of a system that calls back.

    Raises:
        SchemaError: It is malformed, or has no table `[callback]`.
    """
    mapping = load_mapping(folder)
    if mapping.file.callback is None:
        raise SchemaError(f"{mapping.where}.callback", "Missing: how are callbacks read?")
    return mapping


class HttpCallback(HttpMapping):
    """What a mapping file describes, and a listener for what comes later."""

    def __init__(
        self, mapping: Mapping, client: HttpClient, base_url: str, listener: Listener
    ) -> None:
        """Take a listener that is not started."""
        super().__init__(mapping, client, base_url)
        self._listener = listener
        self._also = {"callback": listener.url}

    async def start(self) -> None:
        """Listen, then make ready to send: an outcome may come before the call is answered."""
        await self._listener.start()
        self._also = {"callback": self._listener.url}
        await super().start()

    async def close(self) -> None:
        """Close every connection, then stop listening."""
        await super().close()
        await self._listener.close()
