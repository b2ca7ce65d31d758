"""`tongdui call`: one signed request to a clearing house, and its verified answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, keyring_of, run, this_home

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from exchange.client import Answer, Identity

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("method", type=click.Choice(["GET", "POST", "DELETE"], case_sensitive=False))
@click.argument("path")
@click.option("--body", help="JSON to send; @FILE reads a file, @- what comes in.")
@click.option("--key", help="Idempotency key; what is sent again under it gets the first answer.")
@click.option(
    "--again",
    is_flag=True,
    help="A repeat is harmless though there is no key: send it again while nobody answers.",
)
@click.option(
    "--url",
    envvar="TONGDUI_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Where the clearing house is; also TONGDUI_URL.",
)
@click.option(
    "--identity",
    type=_FILE,
    envvar="TONGDUI_IDENTITY",
    help="Private key (PEM) that signs; this installation's own for the house where left out.",
)
@click.option(
    "--trust",
    type=_FILE,
    multiple=True,
    help="Public key (PEM) of the operator; this installation's own where left out.",
)
@click.option("--ca", type=_FILE, help="Authority (PEM) of the clearing house's TLS certificate.")
@click.option(
    "--cert", type=_FILE, help="Mutual TLS: own certificate and private key in one PEM file."
)
@click.pass_context
def call(
    context: click.Context,
    method: str,
    path: str,
    body: str | None,
    key: str | None,
    again: bool,  # noqa: FBT001 - click's
    url: str,
    identity: Path | None,
    trust: tuple[Path, ...],
    ca: Path | None,
    cert: Path | None,
) -> None:
    """Send one signed request and print its verified answer.

    While nobody answers, what carries a key or only reads is sent again; `--again` says so of anything else. Status 1
    means that the answer is no, or that it is not shown to be the clearing house's.
    """
    from exchange.client import load_identity, load_trusted

    if not path.startswith("/"):
        raise click.UsageError(f"{path!r} is no path such as /v1/positions")
    home = this_home()
    if identity is None and not home.operator_identity.exists():
        raise Unusable(f"there is no {home.operator_identity} yet: name a key with --identity")
    who = load_identity(identity or home.operator_identity)
    trusted = load_trusted(trust) if trust else keyring_of(home).trusted()
    # What carries no key may be a wish that counts twice; only the caller knows.
    again = again or bool(key) or method.upper() == "GET"
    asked = _ask(
        url, who, trusted, method.upper(), path, _read(body), key, _tls(ca, cert), again=again
    )
    answer = run(asked)
    sys.stdout.buffer.write(answer.body)
    if answer.content_type.partition(";")[0].endswith("json"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()
    context.exit(0 if answer.good else 1)


async def _ask(
    url: str,
    who: Identity,
    trusted: Mapping[str, Ed25519PublicKey],
    method: str,
    path: str,
    body: bytes | None,
    key: str | None,
    tls: ssl.SSLContext,
    *,
    again: bool,
) -> Answer:
    from exchange.client import SignedClient

    async with SignedClient.open(url, who, trusted, tls=tls) as client:
        return await client.call(method, path, body, key=key, again=again)


def _tls(ca: Path | None, cert: Path | None) -> ssl.SSLContext:
    """Whom to believe, and what to show; the machine's authorities and nothing by default."""
    import ssl

    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert)
    return context


def _read(body: str | None) -> bytes | None:
    """What is to be sent."""
    if body is None or not body.startswith("@"):
        return None if body is None else body.encode()
    try:
        return sys.stdin.buffer.read() if body == "@-" else Path(body[1:]).read_bytes()
    except OSError as error:
        raise Unusable(f"{body[1:]} cannot be read: {error.strerror}") from error
