"""TLS at the gateway itself, and callers that must show a certificate."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exchange.client import SignedClient
from exchange.gateway.run import Tls, serve
from schemas.values.faults import Unavailable
from tests.gateway.signing import AIR_KEY, ORDER, signed_house

if TYPE_CHECKING:
    from pathlib import Path

_CA = "req -x509 -newkey ed25519 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=ca"
_SIGNED = "req -x509 -newkey ed25519 -nodes -days 2 -CA ca.pem -CAkey ca.key"


def make_certificates(folder: Path) -> None:
    """An authority, the gateway's certificate, and a caller's with its key in one file."""
    for words in (
        f"openssl {_CA}",
        f"openssl {_SIGNED} -keyout gw.key -out gw.pem -subj /CN=gw -addext subjectAltName=IP:127.0.0.1",
        f"openssl {_SIGNED} -keyout eye.key -out eye.pem -subj /CN=AIR",
    ):
        subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)
    (folder / "eye.pem").write_bytes(
        (folder / "eye.pem").read_bytes() + (folder / "eye.key").read_bytes()
    )


async def test_callers_without_a_certificate_reach_nothing(dsn: str, tmp_path: Path):
    """With mutual TLS a signed order passes on both ways in, and without a certificate nothing is heard at all."""
    make_certificates(tmp_path)
    names = {"cert": tmp_path / "gw.pem", "key": tmp_path / "gw.key"}
    server = Tls(**names, client_ca=tmp_path / "ca.pem").context()
    mine = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    mine.load_cert_chain(tmp_path / "eye.pem")
    nobody = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    async with (
        signed_house(dsn, tmp_path / "home") as signed,
        serve(signed.house.app, host="127.0.0.1", port=0, tls=server) as port,
    ):
        url = f"https://127.0.0.1:{port}"
        async with SignedClient.open(url, AIR_KEY, signed.trusted, tls=mine) as client:
            assert (await client.call("POST", "/v1/orders", ORDER, key="tls")).status == 201
            assert (await client.call("GET", "/v1/positions")).good
        async with SignedClient.open(
            url, AIR_KEY, signed.trusted, tls=nobody, patience_seconds=0.2
        ) as client:
            with pytest.raises(Unavailable):
                await client.call("GET", "/v1/positions")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{port}/healthz")


def test_certificates_that_cannot_be_used_are_told(tmp_path: Path):
    """A key that does not belong to the certificate is found when the gateway starts, not by its callers."""
    make_certificates(tmp_path)
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        Tls(cert=tmp_path / "gw.pem", key=tmp_path / "ca.key").context()
