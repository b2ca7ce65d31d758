"""`[settings]` of a merchant that calls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from adapters.kit.http import HttpSettings
from adapters.kit.http_auth import Ed25519, Hmac  # noqa: TC001 - msgspec reads annotations
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from adapters.kit.folder import Folder


class CallbackSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[settings.callback]`.

    Attributes:
        auth: How the system signs what it posts: `hmac`, or `ed25519` with its public key.
        host: Where we listen.
        port: Where we listen; 0 for any free port. Several workers share a port that is named.
        path: Where the system posts to.
        url: What we tell the system to post to; where we listen, if empty. It is set where a proxy
            stands before us, which then speaks TLS.
        body_bytes_max: Largest callback that is read.
    """

    auth: Hmac | Ed25519
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    path: Annotated[str, msgspec.Meta(pattern=r"\A/[!-~]*\Z")] = "/callback"
    url: str = ""
    body_bytes_max: Annotated[int, msgspec.Meta(ge=256, le=1024 * 1024)] = 64 * 1024


class Settings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address and auth kind of the system, and how it calls back."""

    callback: CallbackSettings


def read_settings(folder: Folder) -> Settings:
    """Read a folder's settings.

    Raises:
        SchemaError: They are malformed, or the manifest does not say that answers come by callback.
    """
    if folder.manifest.answers.way != "callback":
        where = folder.where(MANIFEST_FILE) + ".answers.way"
        raise SchemaError(where, 'Expected "callback", as the protocol says')
    return settings_as(folder.manifest, Settings)
