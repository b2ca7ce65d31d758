"""Verifying a package with the public keys alone: no database, no network, no trust in the sender.

Every check has a permanent name and ends in one sentence. Nothing that a package holds makes the
verifier fail itself; what is not there to be read at all is `Unreadable`. Large files are streamed.

Source: settlement/RULES.md, rules K10 to K22.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import NO_PREVIOUS, Manifest, read_manifest, write_manifest
from schemas.files.tables import InstructionRow, read_instructions
from schemas.values.faults import SchemaError
from settlement.core.report import Check, CheckFailed, NotChecked, Report, Unreadable, run_check
from settlement.service.package_files import (
    JWS,
    MANIFEST,
    SIGNATURE,
    SIGNATURE_BYTES_MAX,
    length_and_digest,
    names_in,
    read_whole,
    signature_name,
)
from settlement.service.verify_figures import Figures
from settlement.service.verify_proof import verify_proof
from settlement.service.verify_statements import StatementsVerifier
from settlement.signing.signature import is_jws_signed, is_signed, jws_key_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["verify_package", "verify_proof"]

_MARKS: Final = (b"tongdui-package", b'"signing_keys"', b'"merkle"')
"""They say that damaged bytes were a manifest; one changed byte leaves all but one of them."""


def verify_package(
    path: Path, *, trusted: Mapping[str, Ed25519PublicKey], previous: Path | None = None
) -> Report | Unreadable:
    """Verify a package, offline.

    Args:
        path: The package's folder.
        trusted: Public keys by key id; every signer that the manifest names must be among them.
        previous: Folder of the package before. By default the folder beside this one that bears
            the id of the cycle before, if it is there.

    Returns:
        One result for each check, or why there was nothing to verify. Never raises for what a
        package holds.
    """
    try:
        return _Verification(path, trusted, previous).run()
    except _Nothing as reason:
        return Unreadable(english=reason.english, chinese=reason.chinese)
    except OSError as error:
        return Unreadable(
            english=f"{error.filename or path} cannot be read: {error.strerror or error}.",
            chinese=f"无法读取 {error.filename or path}：{error.strerror or error}。",
        )


def check_manifest(
    path: Path, *, trusted: Mapping[str, Ed25519PublicKey]
) -> tuple[bytes, Manifest]:
    """Check a package's manifest and its signatures alone.

    Args:
        path: The package's folder.
        trusted: Public keys by key id; every signer that the manifest names must be among them.

    Returns:
        The manifest's bytes, and what they say.

    Raises:
        CheckFailed: One of the checks `manifest`, `signature` and `jws` failed, or there is no manifest.
        SchemaError: The manifest is malformed.
        OSError: A signature is missing.
    """
    return _Verification(path, trusted, None).signed_manifest()


class _Nothing(CheckFailed):
    """There is nothing to verify."""


class _Verification:
    """One run over one folder."""

    def __init__(
        self, path: Path, trusted: Mapping[str, Ed25519PublicKey], previous: Path | None
    ) -> None:
        self.path = path
        self.trusted = trusted
        self.previous_path = previous
        self.checks: list[Check] = []
        self.manifest: Manifest | None = None
        self.data = b""
        self.previous: Manifest | None = None

    def run(self) -> Report:
        """Make every check, in the order in which a person would."""
        if not self.path.is_dir():
            raise _Nothing(f"{self.path} is not a folder.", f"{self.path} 不是文件夹。")
        self.data = self._read_manifest_bytes()
        self._check("manifest", self._manifest)
        self._check("signature", self._signature)
        self._check("jws", self._jws)
        self._check("files", self._files)
        self._check("chain", self._chain)
        manifest = self.manifest
        if manifest is None:
            for name in (*Figures.CHECKS, *StatementsVerifier.CHECKS):
                self._check(name, _needs_manifest)
        else:
            figures = Figures(self.path, manifest, self._carries_before())
            for name in Figures.CHECKS:
                self._check(name, figures.checks[name])
            statements = StatementsVerifier(self.path, manifest, figures)
            for name in StatementsVerifier.CHECKS:
                self._check(name, statements.checks[name])
        return Report(
            subject="" if manifest is None else manifest.cycle.id, checks=tuple(self.checks)
        )

    def signed_manifest(self) -> tuple[bytes, Manifest]:
        """Make the checks of the manifest alone; the first that fails is raised."""
        self.data = self._read_manifest_bytes()
        self._manifest()
        self._signature()
        self._jws()
        return self.data, self._known()

    def _check(self, name: str, check: Callable[[], tuple[str, str]]) -> None:
        """Run one check and keep its result."""
        self.checks.append(run_check(name, check))

    def _read_manifest_bytes(self) -> bytes:
        """Read the manifest, or tell whether this was a package at all."""
        try:
            data = read_whole(self.path / MANIFEST)
        except (FileNotFoundError, IsADirectoryError):
            if (self.path / SIGNATURE).exists() or (self.path / JWS).exists():
                return b""
            raise _Nothing(
                f"{self.path} holds no package: {MANIFEST} is missing.",
                f"{self.path} 不是结算包：缺少 {MANIFEST}。",
            ) from None
        try:
            read_manifest(data)
        except SchemaError:
            if sum(mark in data for mark in _MARKS) < len(_MARKS) - 1:
                raise _Nothing(
                    f"{self.path / MANIFEST} is not a manifest.",
                    f"{self.path / MANIFEST} 不是结算包清单。",
                ) from None
        return data

    def _manifest(self) -> tuple[str, str]:
        if not (self.path / MANIFEST).is_file():
            raise CheckFailed(f"{MANIFEST} is missing.", f"缺少文件 {MANIFEST}。")
        self.manifest = read_manifest(self.data)
        if write_manifest(self.manifest) != self.data:
            raise CheckFailed(
                "The manifest is not in canonical form (RFC 8785).",
                "清单不是规范形式（RFC 8785）。",
            )
        return "The manifest is canonical JSON of a known format.", "清单为已知格式的规范 JSON。"

    def _signature(self) -> tuple[str, str]:
        if self.manifest is None:
            return self._signature_of_anybody()
        keys = self.manifest.signing_keys
        if len(set(keys)) != len(keys):
            raise CheckFailed("A signing key is named twice.", "签名密钥重复。")
        for name in keys:
            file_name = signature_name(keys, name)
            signature = read_whole(self.path / file_name, limit=SIGNATURE_BYTES_MAX)
            if name not in self.trusted:
                raise CheckFailed(
                    f"The key {name} is not among the trusted keys.",
                    f"密钥 {name} 不在受信任之列。",
                )
            if not is_signed(self.trusted[name], self.data, signature):
                raise CheckFailed(
                    f"{file_name} is not the signature of {name} over this manifest.",
                    f"{file_name} 不是密钥 {name} 对该清单的签名。",
                )
        return f"Signed by {', '.join(keys)}.", f"由 {'、'.join(keys)} 签名。"

    def _signature_of_anybody(self) -> tuple[str, str]:
        """The manifest does not say who signed it: no trusted key may have signed such bytes."""
        signature = read_whole(self.path / SIGNATURE, limit=SIGNATURE_BYTES_MAX)
        if any(is_signed(public, self.data, signature) for public in self.trusted.values()):
            return "A trusted key signed these bytes.", "受信任的密钥签署了这些字节。"
        raise CheckFailed(
            f"{SIGNATURE} is no trusted key's signature over this manifest.",
            f"{SIGNATURE} 不是受信任密钥对该清单的签名。",
        )

    def _jws(self) -> tuple[str, str]:
        token = read_whole(self.path / JWS, limit=SIGNATURE_BYTES_MAX)
        name = jws_key_id(token)
        if name is None:
            raise CheckFailed(
                f"{JWS} is not a detached JWS of the agreed form.",
                f"{JWS} 不是约定形式的分离式 JWS。",
            )
        if self.manifest is not None and name != self.manifest.signing_keys[0]:
            raise CheckFailed(
                f"{JWS} names {name}, which is not the active key of the manifest.",
                f"{JWS} 所指密钥 {name} 不是清单的当前密钥。",
            )
        public = self.trusted.get(name)
        if public is None:
            raise CheckFailed(
                f"The key {name} is not among the trusted keys.", f"密钥 {name} 不在受信任之列。"
            )
        if not is_jws_signed(public, self.data, token):
            raise CheckFailed(f"{JWS} does not sign this manifest.", f"{JWS} 并非对该清单的签名。")
        return "The detached JWS signs the same bytes.", "分离式 JWS 签署了相同的字节。"

    def _files(self) -> tuple[str, str]:
        manifest = self._known()
        keys = manifest.signing_keys
        listed = {one.path: one for one in manifest.files}
        if len(listed) != len(manifest.files) or MANIFEST in listed:
            raise CheckFailed("The manifest lists a file twice.", "清单重复列出文件。")
        own = {MANIFEST, JWS, *(signature_name(keys, name) for name in keys)}
        found = names_in(self.path)
        problems = [f"{name} was added" for name in sorted(found - listed.keys() - own)]
        problems += [f"{name} is missing" for name in sorted((listed.keys() | own) - found)]
        for name in sorted(listed.keys() & found):
            length, digest = length_and_digest(self.path / name)
            if length != listed[name].bytes:
                problems.append(f"{name} has {length} bytes, not {listed[name].bytes}")
            elif digest != listed[name].sha256:
                problems.append(f"{name} was changed")
        if problems:
            more = "" if len(problems) <= 3 else f" and {len(problems) - 3} more"
            shown = "; ".join(problems[:3]) + more
            raise CheckFailed(f"Files differ: {shown}.", f"文件不符：{shown}。")
        return (
            f"All {len(listed)} files are there as the manifest lists them.",
            f"全部 {len(listed)} 个文件与清单一致。",
        )

    def _chain(self) -> tuple[str, str]:
        manifest = self._known()
        before = manifest.previous
        if manifest.sequence == 1:
            if before.cycle_id is not None or before.manifest_sha256 != NO_PREVIOUS:
                raise CheckFailed(
                    "The first package names one before it.", "首个结算包却指向前一包。"
                )
            return "This is the first package of its chain.", "这是链上的首个结算包。"
        if before.cycle_id is None or before.cycle_id == manifest.cycle.id:
            raise CheckFailed(
                "The package does not name the one before it.", "结算包未指明前一包。"
            )
        folder = self.previous_path or self.path.resolve().parent / before.cycle_id
        if self.previous_path is None and not (folder / MANIFEST).is_file():
            raise NotChecked(
                f"The package of {before.cycle_id} is not here to compare with.",
                f"前一结算包 {before.cycle_id} 不在此处，未核对。",
            )
        data = read_whole(folder / MANIFEST)
        if hashlib.sha256(data).hexdigest() != before.manifest_sha256:
            raise CheckFailed(
                f"The package of {before.cycle_id} is not the one that this one is chained to.",
                f"结算包 {before.cycle_id} 并非本包所链接的前一包。",
            )
        previous = read_manifest(data)
        if (
            previous.cycle.id != before.cycle_id
            or previous.sequence != manifest.sequence - 1
            or previous.cycle.no >= manifest.cycle.no
            or not _heads_go_on(previous, manifest)
        ):
            raise CheckFailed(
                f"The package does not follow that of {before.cycle_id}.",
                f"本包与前一结算包 {before.cycle_id} 不连续。",
            )
        self.previous = previous
        return f"It follows the package of {before.cycle_id}.", f"承接结算包 {before.cycle_id}。"

    def _carries_before(self) -> dict[str, int] | None:
        """What the package before carried over; None where it cannot be told."""
        manifest = self._known()
        if manifest.sequence == 1:
            return {}
        if self.previous is None:
            return None
        folder = self.previous_path or self.path.resolve().parent / self.previous.cycle.id
        listed = {one.path: one.sha256 for one in self.previous.files}
        try:
            data = read_whole(folder / "instructions.csv")
            if hashlib.sha256(data).hexdigest() != listed.get("instructions.csv"):
                return None
            rows: list[InstructionRow] = read_instructions(data)
        except (FileNotFoundError, IsADirectoryError, SchemaError):
            return None
        return {row.party: row.carry_after_cu for row in rows if ":" not in row.party}

    def _known(self) -> Manifest:
        """The manifest, for checks that need it."""
        if self.manifest is None:
            _needs_manifest()
        assert self.manifest is not None
        return self.manifest


def _needs_manifest() -> tuple[str, str]:
    raise NotChecked("The manifest cannot be read.", "清单无法读取，未核对。")


def _heads_go_on(previous: Manifest, manifest: Manifest) -> bool:
    """Tell whether no chain of the journal went back, and none was lost."""
    heads = {head.part: head for head in manifest.chain_heads}
    for old in previous.chain_heads:
        new = heads.get(old.part)
        if new is None or new.flush_no < old.flush_no or new.last_seq < old.last_seq:
            return False
        if new.flush_no == old.flush_no and new.digest != old.digest:
            return False
    return True
