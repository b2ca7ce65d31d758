"""What `schemas/SIGNATURES.md` shows, run as it stands against a gateway that takes signed requests alone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from settlement.signing.signature import public_pem
from tests.gateway.signing import signed_house

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "schemas" / "SIGNATURES.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Code of one language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


async def execute(folder: Path, *command: str) -> str:
    """Run in a folder; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    return out.decode()


async def test_openssl_and_curl_sign_and_verify(dsn: str, tmp_path: Path):
    """Made and signed with openssl, a request is taken, and openssl verifies its answer; the client does the same."""
    folder = tmp_path / "merchant"
    folder.mkdir()
    async with signed_house(dsn, tmp_path / "home") as signed:
        [(_, public)] = signed.trusted.items()
        (folder / "operator.pub").write_bytes(public_pem(public))
        make, *rest = blocks("sh")
        await execute(folder, "bash", "-euc", make)
        csr = (folder / "eye.csr").read_text()
        answer = await signed.client(signed.operator).call(
            "POST", "/v1/keys", json.dumps({"csr": csr}).encode()
        )
        assert answer.status == 201, answer.body
        script = "\n".join(rest).replace("127.0.0.1:8080", f"127.0.0.1:{signed.house.port}")
        told = await execute(folder, "bash", "-euo", "pipefail", "-c", script)
        assert "Signature Verified Successfully" in told
        quote = json.loads((folder / "answer.json").read_text())
        assert "250" in [offer["units"] for offer in quote["offers"]]

        [example] = blocks("python")
        example = example.replace("127.0.0.1:8080", f"127.0.0.1:{signed.house.port}")
        printed = await execute(folder, sys.executable, "-c", example)
        assert printed.split() == [quote["offers"][0]["debit_cu"]]
