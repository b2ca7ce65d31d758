"""Where a merchant's system posts its callbacks.

A callback is acknowledged only when whoever takes answers has made it durable; everything else makes
the system post it again. So a callback may come often, late, and before the answer to its own call,
and each time it is checked and handed on: that the first one counts, the taker of answers sees to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from adapters.kit.http_auth import Ed25519, Sent, public_key, signature_holds
from adapters.kit.manifest import MANIFEST_FILE
from adapters.kit.protocols.http_mapping.client import receipt_of
from adapters.kit.protocols.http_mapping.rules import judge_callback
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.context import Context
    from adapters.kit.folder import Folder
    from adapters.kit.protocols.http_callback.settings import CallbackSettings
    from adapters.kit.protocols.http_mapping.mapping import Mapping

log = structlog.get_logger()


class Listener:
    """Checks callbacks, reads them, and hands them on."""

    def __init__(
        self, settings: CallbackSettings, mapping: Mapping, folder: Folder, context: Context
    ) -> None:
        """Read the key now: a missing one is found before the first callback.

        Raises:
            SchemaError: There is no such key, or it is malformed.
        """
        where = folder.where(MANIFEST_FILE) + ".settings.callback.auth.secret"
        self._settings = settings
        self._mapping = mapping
        self._merchant = folder.code
        self._context = context
        self._key = context.secrets.read(settings.auth.secret, where=where)
        if isinstance(settings.auth, Ed25519):
            try:
                public_key(self._key)
            except ValueError:
                raise SchemaError(where, "Not a public key of Ed25519") from None
        callback = mapping.file.callback
        self._acknowledgement = callback.acknowledge if callback else {}
        self._runner: web.AppRunner | None = None
        self.url = settings.url

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        app = web.Application(client_max_size=self._settings.body_bytes_max)
        app.router.add_post(self._settings.path, self._post_callback)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        shared = True if self._settings.port else None
        site = web.TCPSite(
            self._runner, self._settings.host, self._settings.port, reuse_port=shared
        )
        await site.start()
        if not self.url:
            host, port = self._runner.addresses[0][:2]
            self.url = f"http://{host}:{port}{self._settings.path}"

    async def close(self) -> None:
        """Stop listening; what is not acknowledged by now comes again."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _post_callback(self, request: web.Request) -> web.Response:
        """Answer 200 to what is durable, and anything else to what should come again or be looked at."""
        raw = await request.read()
        if not self._is_signed(request, raw):
            log.warning("callback.refused", merchant=self._merchant)
            return web.json_response({"problem": "not signed by the merchant"}, status=401)
        try:
            reference, verdict = judge_callback(self._mapping, raw)
        except SchemaError as error:
            log.warning("callback.not_understood", merchant=self._merchant, detail=error.detail)
            return web.json_response({"problem": error.detail}, status=422)
        receipt = receipt_of(verdict)
        if not receipt.expected:
            try:
                await self._context.answers(reference, receipt)
            except Exception as error:  # noqa: BLE001 - whatever failed, the answer is not durable
                log.warning(
                    "callback.not_taken",
                    merchant=self._merchant,
                    reference=reference,
                    error=type(error).__name__,
                )
                return web.json_response({"problem": "try again"}, status=503)
        return web.json_response(self._acknowledgement)

    def _is_signed(self, request: web.Request, raw: bytes) -> bool:
        """Whether the merchant's key signed exactly this, not long ago.

        A nonce that came before is no reason to refuse: the system posts again what we did not
        acknowledge, and handing an answer on twice changes nothing.
        """
        sent = Sent(
            method=request.method,
            host=request.host,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            body=raw,
        )
        now_us = self._context.now_us()
        auth = self._settings.auth
        return signature_holds(auth, self._key, sent, request.headers, now_us=now_us) is not None
