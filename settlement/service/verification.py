"""Verifying a package with the public keys alone: no database, no network, no trust in the sender.

Every check has a permanent name and ends in one sentence. Nothing that a package holds makes the
verifier fail itself; what is not there to be read at all is `Unreadable`. Large files are streamed.

Source: settlement/RULES.md, rules K10 to K22.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import MULTILATERAL, NO_PREVIOUS, Manifest, Previous, read_manifest
from schemas.files.tables import InstructionRow, read_instructions
from schemas.values.faults import SchemaError
from settlement.core.report import Check, CheckFailed, NotChecked, Report, Unreadable, run_check
from settlement.service.package_files import (
    JWS,
    MANIFEST,
    TIMESTAMP,
    further_signature_name,
    length_and_digest,
    names_in,
    read_whole,
    signature_name,
)
from settlement.service.verify_checkpoint import check_checkpoint
from settlement.service.verify_figures import Figures
from settlement.service.verify_manifest import ManifestVerifier, NothingThere
from settlement.service.verify_proof import verify_proof
from settlement.service.verify_statements import StatementsVerifier
from settlement.signing.timestamp import (
    RESPONSE_BYTES_MAX,
    TimestampInvalid,
    verify_timestamp,
)
from settlement.signing.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cryptography.x509 import Certificate

    from settlement.signing.note import NoteKey
    from settlement.signing.signature import PublicKey

__all__ = ["Wanted", "check_manifest", "verify_package", "verify_proof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a verifier knows or demands beside the keys that it trusts.

    Attributes:
        roles: Roles of those trusted keys whose role it knows by itself, whatever the manifest says.
        threshold: How many roles must have signed; None for as many as the manifest states.
        checkpoint: A checkpoint or a proof of inclusion in which the package must be; None for no such check.
        witnesses: Trusted witnesses of checkpoints.
        witnesses_min: How many of them must have cosigned; None for all.
        tsa_roots: Certificates of trusted time-stamping authorities, by one of which the package must be stamped;
            none for no such demand.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    threshold: int | None = None
    checkpoint: bytes | None = None
    witnesses: tuple[NoteKey, ...] = ()
    witnesses_min: int | None = None
    tsa_roots: tuple[Certificate, ...] = ()


EVERYTHING_STATED: Final = Wanted()


def verify_package(
    path: Path,
    *,
    trusted: Mapping[str, PublicKey],
    previous: Path | None = None,
    wanted: Wanted = EVERYTHING_STATED,
) -> Report | Unreadable:
    """Verify a package, offline.

    Args:
        path: The package's folder.
        trusted: Public keys by key id; every signer that the manifest names must be among them.
        previous: Folder of the package before. By default the folder beside this one that bears
            the id of the cycle before, if it is there.
        wanted: What the verifier knows or demands beside that.

    Returns:
        One result for each check, or why there was nothing to verify. Never raises for what a
        package holds.
    """
    try:
        return _Verification(path, trusted, previous, wanted).run()
    except NothingThere as reason:
        return Unreadable(english=reason.english, chinese=reason.chinese)
    except OSError as error:
        return Unreadable(
            english=f"{error.filename or path} cannot be read: {error.strerror or error}.",
            chinese=f"无法读取 {error.filename or path}：{error.strerror or error}。",
        )


def check_manifest(
    path: Path,
    *,
    trusted: Mapping[str, PublicKey],
    roles: Mapping[str, str] | None = None,
) -> tuple[bytes, Manifest]:
    """Check a package's manifest and its signatures alone.

    Args:
        path: The package's folder.
        trusted: Public keys by key id; every signer that the manifest names must be among them.
        roles: Roles of those whose role the verifier knows by itself.

    Returns:
        The manifest's bytes, and what they say.

    Raises:
        CheckFailed: One of the checks `manifest`, `signature` and `jws` failed, or there is no manifest.
        SchemaError: The manifest is malformed.
        OSError: A signature is missing.
    """
    return ManifestVerifier(path, trusted, roles).verified()


class _Verification:
    """One run over one folder."""

    def __init__(
        self,
        path: Path,
        trusted: Mapping[str, PublicKey],
        previous: Path | None,
        wanted: Wanted,
    ) -> None:
        self.path = path
        self.wanted = wanted
        self.previous_path = previous
        self.checks: list[Check] = []
        self.signed = ManifestVerifier(path, trusted, wanted.roles)
        self.previous: Manifest | None = None

    def run(self) -> Report:
        """Make every check, in the order in which a person would."""
        signed = self.signed
        if not self.path.is_dir():
            raise NothingThere(f"{self.path} is not a folder.", f"{self.path} 不是文件夹。")
        signed.read()
        self._check("manifest", signed.check_manifest)
        self._check("signature", signed.check_signature)
        self._check("jws", signed.check_jws)
        manifest = signed.manifest
        demanded = self.wanted.threshold
        if demanded is not None or (manifest is not None and manifest.approval is not None):
            self._check("threshold", lambda: signed.check_threshold(demanded))
        self._check("files", self._files)
        self._check("chain", self._chain)
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
        if self.wanted.tsa_roots or (self.path / TIMESTAMP).exists():
            self._check("timestamp", self._timestamp)
        if self.wanted.checkpoint is not None:
            self._check("checkpoint", self._checkpoint)
        return Report(
            subject="" if manifest is None else manifest.cycle.id, checks=tuple(self.checks)
        )

    def _check(self, name: str, check: Callable[[], tuple[str, str]]) -> None:
        """Run one check and keep its result."""
        self.checks.append(run_check(name, check))

    def _files(self) -> tuple[str, str]:
        manifest = self.signed.known()
        keys = manifest.signing_keys
        listed = {one.path: one for one in manifest.files}
        if len(listed) != len(manifest.files) or MANIFEST in listed:
            raise CheckFailed("The manifest lists a file twice.", "清单重复列出文件。")
        own = {MANIFEST, JWS, *(signature_name(keys, name) for name in keys)}
        later = {further_signature_name(name) for name in self.signed.further()}
        found = names_in(self.path)
        added = found - listed.keys() - own - later - {TIMESTAMP}
        problems = [(f"{name} was added", f"多出 {name}") for name in sorted(added)]
        problems += [
            (f"{name} is missing", f"缺少 {name}") for name in sorted((listed.keys() | own) - found)
        ]
        for name in sorted(listed.keys() & found):
            length, digest = length_and_digest(self.path / name)
            if length != listed[name].bytes:
                wanted = listed[name].bytes
                problems.append(
                    (
                        f"{name} has {length} bytes, not {wanted}",
                        f"{name} 为 {length} 字节，应为 {wanted}",
                    )
                )
            elif digest != listed[name].sha256:
                problems.append((f"{name} was changed", f"{name} 被改动"))
        if problems:
            further = len(problems) - 3
            english = "; ".join(one for one, _ in problems[:3])
            chinese = "；".join(one for _, one in problems[:3])
            raise CheckFailed(
                f"Files differ: {english}{f' and {further} more' if further > 0 else ''}.",
                f"文件不符：{chinese}{f'，另有 {further} 处' if further > 0 else ''}。",
            )
        return (
            f"All {len(listed)} files are there as the manifest lists them.",
            f"全部 {len(listed)} 个文件与清单一致。",
        )

    def _chain(self) -> tuple[str, str]:
        manifest = self.signed.known()
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
            or previous.cycle.no == manifest.cycle.no
            or (
                previous.cycle.arrangement == manifest.cycle.arrangement
                and previous.cycle.no > manifest.cycle.no
            )
            or not _heads_go_on(previous, manifest)
        ):
            raise CheckFailed(
                f"The package does not follow that of {before.cycle_id}.",
                f"本包与前一结算包 {before.cycle_id} 不连续。",
            )
        self.previous = previous
        return f"It follows the package of {before.cycle_id}.", f"承接结算包 {before.cycle_id}。"

    def _timestamp(self) -> tuple[str, str]:
        if not self.wanted.tsa_roots:
            raise NotChecked(
                "It has a timestamp, and no authority to believe was named.",
                "有时间戳，但未指定受信任的时间戳机构，未核对。",
            )
        response = read_whole(self.path / TIMESTAMP, limit=RESPONSE_BYTES_MAX)
        try:
            at = verify_timestamp(response, self.signed.data, roots=self.wanted.tsa_roots)
        except TimestampInvalid as error:
            raise CheckFailed(
                f"{TIMESTAMP} is no trusted authority's timestamp of this manifest: {error}.",
                f"{TIMESTAMP} 不是受信任机构对该清单的时间戳（{error}）。",
            ) from error
        told = at.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"The manifest was there at {told}.", f"清单于 {told} 已存在。"

    def _checkpoint(self) -> tuple[str, str]:
        wanted = self.wanted
        needed = wanted.witnesses_min
        return check_checkpoint(
            wanted.checkpoint or b"",
            manifest=(self.signed.data, self.signed.known()),
            folder=self.path,
            operators=Trust(keys=self.signed.trusted, roles=wanted.roles).operators,
            witnesses=wanted.witnesses,
            needed=len(wanted.witnesses) if needed is None else needed,
        )

    def _carries_before(self) -> dict[str, int] | None:
        """What the package before carried over, of those whose carries go on here; None where it cannot be told."""
        manifest = self.signed.known()
        if manifest.carries is None:
            if manifest.sequence == 1:
                return {}
            carrying = self.previous
        elif manifest.carries.cycle_id is None:
            return {}
        else:
            carrying = self._carrying(manifest, manifest.carries)
        if carrying is None:
            return None
        folder = self.path.resolve().parent / carrying.cycle.id
        if manifest.carries is None and self.previous_path is not None:
            folder = self.previous_path
        listed = {one.path: one.sha256 for one in carrying.files}
        try:
            data = read_whole(folder / "instructions.csv")
            if hashlib.sha256(data).hexdigest() != listed.get("instructions.csv"):
                return None
            rows: list[InstructionRow] = read_instructions(data)
        except (FileNotFoundError, IsADirectoryError, SchemaError):
            return None
        return {row.carry_name: row.carry_after_cu for row in rows if row.has_carry}

    def _carrying(self, manifest: Manifest, named: Previous) -> Manifest | None:
        """The package beside this one whose carries go on, if it is the one that is named."""
        try:
            data = read_whole(self.path.resolve().parent / str(named.cycle_id) / MANIFEST)
            found = read_manifest(data)
        except (FileNotFoundError, IsADirectoryError, SchemaError):
            return None
        same = found.netting.model == manifest.netting.model == MULTILATERAL or (
            found.cycle.arrangement == manifest.cycle.arrangement
        )
        if hashlib.sha256(data).hexdigest() != named.manifest_sha256 or not same:
            return None
        return found


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
