"""Verifying a manifest and its signatures alone: what a package says, who signed that, and whether they are enough.

Source: settlement/RULES.md, rules K11 to K13 and K34 to K37.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.files.manifest import OPERATOR, Manifest, read_manifest, write_manifest
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed, NotChecked
from settlement.service.package_files import (
    JWS,
    MANIFEST,
    SIGNATURE,
    SIGNATURE_BYTES_MAX,
    further_signature_name,
    read_whole,
    signature_name,
)
from settlement.signing.signature import is_jws_signed, is_signed, jws_key_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from settlement.signing.signature import PublicKey

_MARKS: Final = (b"tongdui-package", b'"signing_keys"', b'"merkle"')
"""They say that damaged bytes were a manifest; one changed byte leaves all but one of them."""


class NothingThere(CheckFailed):
    """There is nothing to verify."""


class ManifestVerifier:
    """The checks of one manifest, to be made in this order: `manifest`, `signature`, `jws`, `threshold`.

    Attributes:
        path: The package's folder.
        data: The manifest's bytes.
        manifest: What they say; None until the check `manifest` has passed.
        signed: Keys that were found to have signed, by id, each in its role.
    """

    def __init__(
        self,
        path: Path,
        trusted: Mapping[str, PublicKey],
        roles: Mapping[str, str] | None,
    ) -> None:
        self.path = path
        self.trusted: dict[str, PublicKey] = dict(trusted)
        self.data = b""
        self.manifest: Manifest | None = None
        self.signed: dict[str, str] = {}
        self._roles = roles or {}

    def verified(self) -> tuple[bytes, Manifest]:
        """Make the checks but for `threshold`; the first that fails is raised."""
        self.read()
        self.check_manifest()
        self.check_signature()
        self.check_jws()
        return self.data, self.known()

    def known(self) -> Manifest:
        """The manifest, for checks that need it."""
        if self.manifest is None:
            raise NotChecked("The manifest cannot be read.", "清单无法读取，未核对。")
        return self.manifest

    def read(self) -> None:
        """Read the manifest's bytes.

        Raises:
            NothingThere: This was no package at all.
        """
        try:
            data = read_whole(self.path / MANIFEST)
        except (FileNotFoundError, IsADirectoryError):
            if (self.path / SIGNATURE).exists() or (self.path / JWS).exists():
                return
            raise NothingThere(
                f"{self.path} holds no package: {MANIFEST} is missing.",
                f"{self.path} 不是结算包：缺少 {MANIFEST}。",
            ) from None
        try:
            read_manifest(data)
        except SchemaError:
            if sum(mark in data for mark in _MARKS) < len(_MARKS) - 1:
                raise NothingThere(
                    f"{self.path / MANIFEST} is not a manifest.",
                    f"{self.path / MANIFEST} 不是结算包清单。",
                ) from None
        self.data = data

    def check_manifest(self) -> tuple[str, str]:
        """It is there, of the known format, and canonical."""
        if not (self.path / MANIFEST).is_file():
            raise CheckFailed(f"{MANIFEST} is missing.", f"缺少文件 {MANIFEST}。")
        self.manifest = read_manifest(self.data)
        if write_manifest(self.manifest) != self.data:
            raise CheckFailed(
                "The manifest is not in canonical form (RFC 8785).",
                "清单不是规范形式（RFC 8785）。",
            )
        return "The manifest is canonical JSON of a known format.", "清单为已知格式的规范 JSON。"

    def check_signature(self) -> tuple[str, str]:
        """Every key that the manifest says signed it did, and so did every further one whose signature is there."""
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
            if self._roles.get(name, OPERATOR) != OPERATOR:
                raise CheckFailed(
                    f"The key {name} is the {self._roles[name]}'s, not the operator's.",
                    f"密钥 {name} 属于 {self._roles[name]}，并非运营方。",
                )
            self._require_signed(name, file_name, signature)
            self.signed[name] = OPERATOR
        self._check_further()
        names = "、".join(self.signed)
        return f"Signed by {', '.join(self.signed)}.", f"由 {names} 签名。"

    def further(self) -> dict[str, str]:
        """Roles of the keys that may sign beside the operator's: the verifier's word, else the manifest's.

        A key whose role nobody tells counts for nothing.
        """
        manifest = self.known()
        stated = {} if manifest.approval is None else manifest.approval.signers
        roles = {one.key_id: one.role for one in stated} | dict(self._roles)
        return {name: role for name, role in roles.items() if name not in manifest.signing_keys}

    def check_threshold(self, demanded: int | None) -> tuple[str, str]:
        """As many roles signed as the verifier demands, or else as the manifest states; each counts once."""
        approval = self.known().approval
        stated = 1 if approval is None else approval.threshold
        needed = stated if demanded is None else demanded
        signed = sorted(set(self.signed.values()))
        if len(signed) >= needed:
            names, chinese = ", ".join(signed), "、".join(signed)
            if needed < stated:
                names += f"; the package itself states {stated}"
                chinese += f"；结算包自身要求 {stated} 方"
            return (
                f"{len(signed)} of {needed} roles signed: {names}.",
                f"需 {needed} 方签名，已有 {len(signed)} 方：{chinese}。",
            )
        missing = sorted(set(self.further().values()) - set(signed))
        others = f"; {', '.join(missing)} may" if missing else ""
        raise CheckFailed(
            f"Only {len(signed)} of {needed} roles signed: {', '.join(signed) or 'none'}{others}.",
            f"需 {needed} 方签名，仅有 {len(signed)} 方：{'、'.join(signed) or '无'}。",
        )

    def _check_further(self) -> None:
        """Whatever trusted keys signed beside the operator's is good; what nobody here can check does not count."""
        for name, role in self.further().items():
            path = self.path / further_signature_name(name)
            if name in self.trusted and path.exists():
                signature = read_whole(path, limit=SIGNATURE_BYTES_MAX)
                self._require_signed(name, path.name, signature)
                self.signed[name] = role

    def _require_signed(self, name: str, file_name: str, signature: bytes) -> None:
        if not is_signed(self.trusted[name], self.data, signature):
            raise CheckFailed(
                f"{file_name} is not the signature of {name} over this manifest.",
                f"{file_name} 不是密钥 {name} 对该清单的签名。",
            )

    def _signature_of_anybody(self) -> tuple[str, str]:
        """The manifest does not say who signed it: no trusted key may have signed such bytes."""
        signature = read_whole(self.path / SIGNATURE, limit=SIGNATURE_BYTES_MAX)
        if any(is_signed(public, self.data, signature) for public in self.trusted.values()):
            return "A trusted key signed these bytes.", "受信任的密钥签署了这些字节。"
        raise CheckFailed(
            f"{SIGNATURE} is no trusted key's signature over this manifest.",
            f"{SIGNATURE} 不是受信任密钥对该清单的签名。",
        )

    def check_jws(self) -> tuple[str, str]:
        """The detached JWS is the active key's over the same bytes."""
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
