"""`tongdui package stamp`: a time-stamping authority's token over a package's manifest (RFC 3161)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exchange.cli.context import Unusable, run
from exchange.cli.output import print_json
from exchange.cli.package import package_trust, read_tsa_roots

if TYPE_CHECKING:
    from datetime import datetime

TIMEOUT_SECONDS: Final = 30.0


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--tsa", "url", required=True, help="Address of the authority: http:// or https://.")
@click.option(
    "--tsa-root",
    "tsa_roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Its root certificate (PEM): a token that does not lead to it is not taken.",
)
@click.option(
    "--trust",
    "keys_given",
    metavar="[ROLE=]FILE",
    multiple=True,
    help="Trusted public key (PEM) of the operator's. Default: the keys of this installation.",
)
@click.option("--dry-run", is_flag=True, help="Ask and check the answer; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def stamp(
    context: click.Context,
    folder: Path,
    url: str,
    tsa_roots: tuple[Path, ...],
    keys_given: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let an authority say when the package in FOLDER was there; the token is kept in it as `manifest.tsr`.

    Only the digest of the manifest leaves this machine. Status 1: the package is not what was signed, or the
    answer is not what was asked.
    """
    from settlement.core.report import CheckFailed
    from settlement.service.timestamps import ask_stamp, standing_stamp, take_stamp
    from settlement.signing.timestamp import TimestampInvalid

    if standing_stamp(folder) is not None:
        raise Unusable(f"{folder} has a timestamp already; the first one is worth the most")
    roots = read_tsa_roots(tsa_roots)
    try:
        asked = ask_stamp(folder, package_trust(keys_given))
        at = take_stamp(asked, run(_ask(url, asked.body)), roots=roots, dry_run=dry_run)
    except CheckFailed as error:
        click.echo(f"tongdui: {error.english} {error.chinese}", err=True)
        context.exit(1)
    except TimestampInvalid as error:
        click.echo(f"tongdui: {url}: {error}", err=True)
        context.exit(1)
    _show(folder, at, written=not dry_run, as_json=as_json)


async def _ask(url: str, body: bytes) -> bytes:
    """Send a question to the authority (RFC 3161 §3.4).

    Raises:
        Unusable: It does not answer.
    """
    import aiohttp

    from settlement.signing.timestamp import RESPONSE_BYTES_MAX

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/timestamp-query"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise Unusable(f"{url} answers with status {answer.status}")
            pieces = bytearray()
            async for piece in answer.content.iter_any():
                pieces += piece
                if len(pieces) > RESPONSE_BYTES_MAX:
                    break
            return bytes(pieces)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unusable(f"{url} does not answer: {str(error) or type(error).__name__}") from error


def _show(folder: Path, at: datetime, *, written: bool, as_json: bool) -> None:
    """Tell what the authority said."""
    if as_json:
        print_json({"package": str(folder), "stamped_at": at.isoformat(), "written": written})
    else:
        print(
            f"{folder} {'stamped' if written else 'would be stamped'} at {at:%Y-%m-%d %H:%M:%S} UTC"
        )
