"""Checking a proof file with the public keys alone.

Source: settlement/RULES.md, rules K23 to K26.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from schemas.files.manifest import Manifest, read_manifest, write_manifest
from schemas.files.proof import Proof, base64_bytes, read_proof
from schemas.values.faults import SchemaError
from schemas.values.ids import order_id, order_place
from settlement.core.event import LINES, Event, Kind, unpack_event
from settlement.core.proving import event_in_words
from settlement.core.report import CheckFailed, NotChecked, Report, Unreadable, run_check
from settlement.signing.merkle import leaf_hash, root_from_path
from settlement.signing.signature import is_signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from settlement.signing.signature import PublicKey

_MARKS: Final = (b"tongdui-proof", b"audit_path", b"event_bytes")
"""They say that damaged bytes were a proof; one changed byte leaves all but one of them."""


def verify_proof(data: bytes, *, trusted: Mapping[str, PublicKey]) -> Report | Unreadable:
    """Check that an order stands in a signed package, offline.

    Args:
        data: The proof file.
        trusted: Public keys by key id.

    Returns:
        One result for each check, or why there was nothing to verify. Never raises for what the
        file holds.
    """
    verification = _ProofVerification(data, trusted)
    try:
        read_proof(data)
    except SchemaError as error:
        if sum(mark in data for mark in _MARKS) < len(_MARKS) - 1:
            return Unreadable(
                english=f"This is not a proof file: {error.detail}.",
                chinese=f"这不是证明文件（{error.detail}）。",
            )
    checks = tuple(
        run_check(name, check)
        for name, check in (
            ("proof", verification.check_proof),
            ("manifest", verification.check_manifest),
            ("signature", verification.check_signature),
            ("event", verification.check_event),
            ("inclusion", verification.check_inclusion),
        )
    )
    return Report(subject=verification.order, checks=checks)


class _ProofVerification:
    """One run over one proof; each check takes what the checks before it could read."""

    def __init__(self, data: bytes, trusted: Mapping[str, PublicKey]) -> None:
        self._data = data
        self._trusted = trusted
        self._proof: Proof | None = None
        self._manifest_bytes = b""
        self._manifest: Manifest | None = None

    @property
    def order(self) -> str:
        """The order that the proof is about; empty if it cannot be read."""
        return "" if self._proof is None else self._proof.order

    def check_proof(self) -> tuple[str, str]:
        """The file is a proof of a known format."""
        self._proof = read_proof(self._data)
        return "The proof is of a known format.", "证明文件格式正确。"

    def check_manifest(self) -> tuple[str, str]:
        """The manifest in it is one, in canonical form."""
        self._manifest_bytes = base64_bytes(self._read().manifest, "$.manifest")
        manifest = read_manifest(self._manifest_bytes)
        if write_manifest(manifest) != self._manifest_bytes:
            raise CheckFailed(
                "The manifest is not in canonical form (RFC 8785).",
                "清单不是规范形式（RFC 8785）。",
            )
        self._manifest = manifest
        return f"It holds the manifest of {manifest.cycle.id}.", f"含 {manifest.cycle.id} 的清单。"

    def check_signature(self) -> tuple[str, str]:
        """Every key that the manifest names signed it, and all are trusted."""
        manifest = self._signed()
        signatures = self._read().signatures
        if [one.key_id for one in signatures] != manifest.signing_keys:
            raise CheckFailed(
                "The signatures are not those of the manifest's keys.", "签名与清单所列密钥不符。"
            )
        for number, one in enumerate(signatures):
            public = self._trusted.get(one.key_id)
            if public is None:
                raise CheckFailed(
                    f"The key {one.key_id} is not among the trusted keys.",
                    f"密钥 {one.key_id} 不在受信任之列。",
                )
            signature = base64_bytes(one.signature, f"$.signatures[{number}].signature")
            if not is_signed(public, self._manifest_bytes, signature):
                raise CheckFailed(
                    f"{one.key_id} did not sign this manifest.", f"{one.key_id} 未签署该清单。"
                )
        keys = manifest.signing_keys
        return f"Signed by {', '.join(keys)}.", f"由 {'、'.join(keys)} 签名。"

    def check_event(self) -> tuple[str, str]:
        """The figures in words, and the order's id, are those of the bytes."""
        manifest = self._signed()
        proof = self._read()
        event = self._event()
        codes = {one.no: one.party for one in manifest.netting.parties}
        if event.cycle_no != manifest.cycle.no:
            raise CheckFailed(
                "The event belongs to another cycle than the manifest.", "该笔不属于清单的周期。"
            )
        if not _is_order_of(proof.order, event):
            raise CheckFailed("The event is not a line of the order.", "该事件不是此订单的明细。")
        if event_in_words(event, codes) != proof.event:
            raise CheckFailed(
                "The figures in words are not those of the bytes.", "文字数据与事件字节不符。"
            )
        return (
            f"The bytes are those of order {proof.order}.",
            f"事件字节与订单 {proof.order} 相符。",
        )

    def check_inclusion(self) -> tuple[str, str]:
        """The path leads from the bytes to the root that was signed."""
        manifest = self._signed()
        proof = self._read()
        root = root_from_path(
            leaf=leaf_hash(base64_bytes(proof.event_bytes, "$.event_bytes")),
            index=proof.leaf_index,
            size=proof.tree_size,
            path=[bytes.fromhex(text) for text in proof.audit_path],
        )
        if (
            root is None
            or root.hex() != proof.root
            or proof.root != manifest.merkle.root
            or proof.tree_size != manifest.merkle.leaf_count
        ):
            raise CheckFailed(
                "The path does not lead from the event to the signed root.",
                "审计路径未能从该事件推出签名的树根。",
            )
        return (
            f"It is leaf {proof.leaf_index} of {proof.tree_size} in the signed tree.",
            f"它是签名树中 {proof.tree_size} 叶的第 {proof.leaf_index} 叶。",
        )

    def _read(self) -> Proof:
        if self._proof is None:
            raise NotChecked("The proof cannot be read.", "证明文件无法读取，未核对。")
        return self._proof

    def _signed(self) -> Manifest:
        if self._manifest is None:
            raise NotChecked("The manifest cannot be read.", "清单无法读取，未核对。")
        return self._manifest

    def _event(self) -> Event:
        try:
            event = unpack_event(base64_bytes(self._read().event_bytes, "$.event_bytes"))
        except SchemaError:
            raise
        except ValueError as error:
            raise CheckFailed(
                "The bytes are not the canonical bytes of an event.", "字节不是规范的事件。"
            ) from error
        if event.kind not in LINES:
            raise CheckFailed("The event is not a line.", "该事件不是清算明细。")
        return event


def _is_order_of(text: str, event: Event) -> bool:
    """Tell whether an event is a line of the order, or the reversal or adjustment, with that id."""
    order = UUID(text)
    first_seq = event.order_seq or event.seq
    if event.kind in (Kind.REVERSED, Kind.ADJUSTED):
        first_seq = event.seq  # It has an id of its own.
    if order_place(order) != (event.part, first_seq):
        return False
    if first_seq == event.seq:
        return order == order_id(event.at_us, event.part, first_seq)
    return event.key == order.bytes  # the end of an order in two phases carries the order's id
