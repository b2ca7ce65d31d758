"""Takes the gateway's signed notifications, and answers `success` when what they say is durable.

Whatever else is answered makes the gateway send the notification again, later: that is what is wanted
while nobody has taken it, and is harmless, since the same outcome twice is one outcome. A
notification that only says "still being worked on" tells nothing and is taken at once; arriving
after the outcome, it therefore cannot undo it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from adapters.kit.contract import Outcome
from adapters.kit.protocols.form_sign import wire
from adapters.kit.protocols.form_sign.answers import outcome_of
from adapters.kit.reference import step_of
from adapters.kit.signers import aside
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.contract import Answers, Receipt
    from adapters.kit.protocols.form_sign.settings import Notify, Settings
    from adapters.kit.signers import Verifier

TAKEN: Final = "success"
NOT_TAKEN: Final = "fail"
PATH: Final = "/notify"
_BODY_BYTES_MAX: Final = 64 * 1024
_log = structlog.get_logger("tongdui.adapters")


def read_notification(
    body: bytes, settings: Settings, verifier: Verifier, *, scale: int
) -> tuple[str, Receipt]:
    """Read one notification: our reference, and what became of the call.

    Raises:
        SchemaError: It is malformed, not signed by the gateway, for somebody else, or about no call
            of ours.
    """
    pairs = wire.read_form(body, settings.charset)
    if not wire.is_signed(pairs, verifier, settings.sign_type, settings.charset):
        raise SchemaError("$.sign", "Not the gateway's signature")
    names = settings.fields
    if pairs.get(names.app_id) != settings.app_id:
        raise SchemaError(f"$.{names.app_id}", "Meant for somebody else")
    reference = pairs.get(names.reference, "")
    try:
        _, step = step_of(reference)
    except ValueError as error:
        raise SchemaError(f"$.{names.reference}", str(error)) from None
    return reference, outcome_of(pairs, settings, reference=reference, step=step, scale=scale)


class Listener:
    """The server that the gateway posts its notifications to."""

    def __init__(
        self,
        place: Notify,
        settings: Settings,
        verifier: Verifier,
        answers: Answers,
        *,
        merchant: str,
        scale: int,
    ) -> None:
        """Take what it needs; `start` listens."""
        self._place = place
        self._settings = settings
        self._verifier = verifier
        self._answers = answers
        self._merchant = merchant
        self._scale = scale
        self._runner: web.AppRunner | None = None
        self.url = place.url

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_post(PATH, self._post_notification)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        # Order workers in several processes share a port that is fixed: whichever is posted to takes it.
        shared = True if self._place.port else None
        site = web.TCPSite(self._runner, self._place.host, self._place.port, reuse_port=shared)
        await site.start()
        if not self.url:
            host, port = self._runner.addresses[0][:2]
            self.url = f"http://{host}:{port}{PATH}"

    async def close(self) -> None:
        """Stop listening; what is not acknowledged by now comes again."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _post_notification(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            reference, receipt = await aside(
                self._settings.sign_type,
                read_notification,
                body,
                self._settings,
                self._verifier,
                scale=self._scale,
            )
        except SchemaError as error:
            _log.warning(
                "notification.refused",
                merchant=self._merchant,
                path=error.path,
                detail=error.detail,
            )
            return web.Response(text=NOT_TAKEN, status=400)
        if receipt.outcome is Outcome.UNKNOWN:
            if not receipt.expected:
                _log.warning(
                    "notification.not_understood", merchant=self._merchant, reference=reference
                )
                return web.Response(text=NOT_TAKEN, status=400)
            return web.Response(text=TAKEN)
        try:
            await self._answers(reference, receipt)
        except Exception as error:  # noqa: BLE001 - whoever takes answers may fail in any way; then nothing is acknowledged
            _log.warning(
                "notification.not_taken",
                merchant=self._merchant,
                reference=reference,
                error=type(error).__name__,
            )
            return web.Response(text=NOT_TAKEN, status=503)
        return web.Response(text=TAKEN)
