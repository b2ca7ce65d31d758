"""The small packages whose bytes are committed, and how they are made.

`python -m tests.golden.packages` writes them anew, after a wanted change of a format. The key is
made of a published sentence, so its signatures prove nothing but that the bytes are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgpack  # type: ignore[import-untyped]
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.database.connection import open_pool
from settlement.core.report import Report
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.package_files import MANIFEST, signature_name
from settlement.service.proofs import prove_order
from settlement.service.verification import verify_package
from settlement.signing.keyring import Keyring
from settlement.signing.signature import key_id, public_pem, sign, sign_jws
from settlement.signing.signer import SigningKey
from tests.builders import small_books

FOLDER = Path(__file__).parent / "packages"
FIRST, SECOND = "2017-01-02", "2017-01-09"
PROVEN = uuid.UUID("01595c79-cbb8-7001-8000-000000000003")
"""The order of the first cycle that was held, then cleared."""
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"tongdui golden test key").digest())
KEY_ID = key_id(KEY.public_key())
TRUSTED = {KEY_ID: KEY.public_key()}
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)


def golden_keyring(folder: Path) -> Keyring:
    """A keyring that holds the published key alone."""
    folder.mkdir(mode=0o700, parents=True)
    index = {
        "format": "tongdui-keyring/1",
        "keys": [
            {
                "key_id": KEY_ID,
                "public_hex": KEY.public_key().public_bytes_raw().hex(),
                "made_at": MADE_AT.isoformat(),
            }
        ],
    }
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, data in (("keyring.json", json.dumps(index).encode()), (f"{KEY_ID}.pem", pem)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)
    return Keyring.open(folder)


async def cut_small(dsn: str, keyring: Keyring, out: Path) -> list[CutBatch]:
    """Put the small books into a fresh database, cut both cycles, and prove one order."""
    owner = await asyncpg.connect(dsn)
    await small_books().write(owner)
    await owner.close()
    pool = await open_pool(dsn)
    try:
        cut = [await cut_batch(pool, cycle_no=no, keyring=keyring, out=out) for no in (1, 2)]
        proof = await prove_order(pool, order_id=PROVEN, keyring=keyring)
    finally:
        await pool.close()
    assert isinstance(proof, bytes)
    (out / "proof.json").write_bytes(proof)
    (out / f"{KEY_ID}.pub.pem").write_bytes(public_pem(KEY.public_key()))
    return [batch for batch in cut if isinstance(batch, CutBatch)]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its name from there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def resign(folder: Path, *, key: Ed25519PrivateKey = KEY, **changes: object) -> None:
    """Write the manifest anew over the files as they are, and sign it: a forger with the key."""
    manifest = json.loads((folder / MANIFEST).read_bytes()) | changes
    manifest["files"] = [
        {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files_of(folder).items())
        if not name.startswith("manifest.")
    ]
    data = rfc8785.dumps(manifest)
    (folder / MANIFEST).write_bytes(data)
    name = manifest["signing_keys"][0]
    (folder / signature_name(manifest["signing_keys"], name)).write_bytes(sign(key, data))
    (folder / "manifest.jws").write_bytes(sign_jws(SigningKey.of(key), data))


def failed(path: Path, **options) -> list[str]:
    """Names of the checks that fail."""
    report = verify_package(path, trusted=TRUSTED, **options)
    assert isinstance(report, Report)
    assert report.exit_status == (1 if report.failed else 0)
    return report.failed


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file that holds it."""
    text = path.read_bytes().decode()
    assert old in text, (path, old)
    path.write_bytes(text.replace(old, new).encode())


def manifest_of(folder: Path) -> dict:
    """The manifest, decoded."""
    return json.loads((folder / "manifest.json").read_bytes())


def lines_of(path: Path) -> list:
    """Objects of a msgpack statement."""
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(path.read_bytes())
    return list(unpacker)


def write_lines(path: Path, objects: list) -> None:
    """Write a msgpack statement of these objects."""
    path.write_bytes(b"".join(msgpack.packb(one) for one in objects))


def _regenerate() -> None:
    from deploy.database.ephemeral import ephemeral_server
    from deploy.database.migrate import migrate

    with tempfile.TemporaryDirectory() as keys, ephemeral_server() as server:
        dsn = server.create_database("golden")
        asyncio.run(migrate(dsn))
        shutil.rmtree(FOLDER, ignore_errors=True)
        asyncio.run(cut_small(dsn, golden_keyring(Path(keys) / "keys"), FOLDER))


if __name__ == "__main__":
    _regenerate()
