"""What a package says about itself, made of the facts of its cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.files.instant import instant_text
from schemas.files.manifest import (
    BILATERAL,
    GROSS,
    MULTILATERAL,
    NO_PREVIOUS,
    PACKAGE_FORMAT,
    Approval,
    ChainHead,
    ControlTotals,
    Counts,
    CycleFacts,
    FileFacts,
    Manifest,
    MerkleFacts,
    ModelName,
    NettingFacts,
    PartyFacts,
    Previous,
    ReversedTotals,
)
from settlement.core.arrangement import MAIN_CODE, Model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from settlement.core.netting import Netting


MODEL_NAMES: Final[Mapping[Model, ModelName]] = {
    Model.MULTILATERAL: MULTILATERAL,
    Model.BILATERAL: BILATERAL,
    Model.GROSS: GROSS,
}
"""What manifests call the models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A closed cycle.

    Attributes:
        cycle_no: Its number.
        cycle_id: Its id.
        opened_us: When it opened, microseconds since 1970-01-01 UTC.
        cut_off_us: When it was planned to close; None if it was not planned.
        closed_us: When it closed.
        arrangement: Code of the arrangement that it is a cycle of.
        model: How it is paid.
    """

    cycle_no: int
    cycle_id: str
    opened_us: int
    cut_off_us: int | None
    closed_us: int
    arrangement: str = MAIN_CODE
    model: Model = Model.MULTILATERAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceInChain:
    """Where a package stands in the chain of packages.

    Attributes:
        sequence: Its number, from 1 without a gap.
        previous_id: Id of the cycle of the package before; None for the first.
        previous_sha256: Digest of that package's manifest; 32 zero bytes for the first.
        carries_id: Id of the cycle of the package whose carries go on: the one before that is multilateral too, or
            of the same arrangement where it is not; None where there is none.
        carries_sha256: Digest of that package's manifest; 32 zero bytes for none.
    """

    sequence: int
    previous_id: str | None
    previous_sha256: bytes
    carries_id: str | None
    carries_sha256: bytes


FIRST_PLACE = PlaceInChain(
    sequence=1,
    previous_id=None,
    previous_sha256=bytes.fromhex(NO_PREVIOUS),
    carries_id=None,
    carries_sha256=bytes.fromhex(NO_PREVIOUS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was written into a package.

    Attributes:
        netting: Result of the cycle.
        obligations: How many pairs.
        instructions: How many parties were instructed.
        leaf_count: Lines of the cycle.
        root: Root of the tree over them.
        files: Every file but the manifest and its signatures.
    """

    netting: Netting
    obligations: int
    instructions: int
    leaf_count: int
    root: bytes
    files: Sequence[FileFacts]


def compose_manifest(
    *,
    cycle: Cycle,
    place: PlaceInChain,
    contents: Contents,
    chain_heads: Sequence[ChainHead],
    codes: Mapping[int, str],
    signing_keys: Sequence[str],
    approval: Approval | None = None,
) -> Manifest:
    """Say all that a package says about itself.

    Args:
        cycle: The cycle.
        place: Where the package stands in the chain.
        contents: What was written.
        chain_heads: Where the journal's chains stood when the cycle's end was written.
        codes: Code of each party, the house's included.
        signing_keys: Ids of the keys that sign, the active one first.
        approval: Who else may sign, and how many roles must; None where the operator's signature is enough.

    Source: settlement/RULES.md, rules K1 to K4.
    """
    netting = contents.netting
    return Manifest(
        format=PACKAGE_FORMAT,
        sequence=place.sequence,
        cycle=CycleFacts(
            id=cycle.cycle_id,
            no=cycle.cycle_no,
            opened_at=instant_text(cycle.opened_us),
            cut_off_at=None if cycle.cut_off_us is None else instant_text(cycle.cut_off_us),
            closed_at=instant_text(cycle.closed_us),
            arrangement=None if cycle.arrangement == MAIN_CODE else cycle.arrangement,
        ),
        previous=Previous(cycle_id=place.previous_id, manifest_sha256=place.previous_sha256.hex()),
        carries=None
        if place.carries_id == place.previous_id
        else Previous(cycle_id=place.carries_id, manifest_sha256=place.carries_sha256.hex()),
        counts=Counts(
            orders=netting.orders,
            obligations=contents.obligations,
            positions=len(netting.paths),
            instructions=contents.instructions,
            statements=sum(one.path.endswith(".msgpack") for one in contents.files),
        ),
        totals=control_totals(netting),
        netting=netting_facts(netting, codes, model=MODEL_NAMES[cycle.model]),
        merkle=MerkleFacts(leaf_count=contents.leaf_count, root=contents.root.hex()),
        chain_heads=sorted(chain_heads, key=lambda head: head.part),
        files=sorted(contents.files, key=lambda one: one.path),
        signing_keys=list(signing_keys),
        approval=approval,
    )


def control_totals(netting: Netting) -> ControlTotals:
    """Sums over the whole cycle, as the manifest writes them."""
    cleared, taken = netting.cleared, netting.reversed
    return ControlTotals(
        gross_cu=str(cleared.debit_cu),
        value_cu=str(cleared.value_cu),
        fee_cu=str(cleared.fee_cu),
        rounding_cu=str(cleared.rounding_cu),
        bilateral_net_cu=str(netting.bilateral_net_cu),
        multilateral_net_cu=str(netting.multilateral_net_cu),
        reversed=ReversedTotals(
            reversals=taken.lines,
            gross_cu=str(taken.debit_cu),
            value_cu=str(taken.value_cu),
            fee_cu=str(taken.fee_cu),
            rounding_cu=str(taken.rounding_cu),
        )
        if taken.lines
        else None,
    )


def netting_facts(netting: Netting, codes: Mapping[int, str], *, model: ModelName) -> NettingFacts:
    """The explanation of the netting, as the manifest writes it."""
    parties = [
        PartyFacts(
            party=codes[path.party],
            no=path.party,
            issued_orders=path.issued_orders,
            debit_cu=str(path.debit_cu),
            accepted_orders=path.accepted_orders,
            credit_cu=str(path.credit_cu),
            fee_cu=str(path.fee_cu),
            payable_bilateral_cu=str(path.payable_bilateral_cu),
            receivable_bilateral_cu=str(path.receivable_bilateral_cu),
            net_cu=str(path.net_cu),
        )
        for path in netting.paths
    ]
    return NettingFacts(
        model=model,
        saved_bilateral_cu=str(netting.saved_bilateral_cu),
        saved_multilateral_cu=str(netting.saved_multilateral_cu),
        parties=sorted(parties, key=lambda one: (":" in one.party, one.party)),
    )


def difference(stored: Manifest, found: Manifest) -> str:
    """Name the first field in which two manifests differ."""
    return _difference("$", msgspec.to_builtins(stored), msgspec.to_builtins(found))


def _difference(path: str, stored: object, found: object) -> str:
    if isinstance(stored, dict) and isinstance(found, dict):
        pairs = [(f"{path}.{key}", stored.get(key), found.get(key)) for key in stored | found]
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        pairs = [
            (f"{path}[{index}]", old, new)
            for index, (old, new) in enumerate(zip(stored, found, strict=True))
        ]
    else:
        return f"{path} was {stored!r} and is {found!r} now"
    return next(_difference(*pair) for pair in pairs if pair[1] != pair[2])
