"""Programmes as a TOML file: the house's fee, and each merchant's terms.

Source: schemas/FORMAT.md, "Programmes".
"""

from __future__ import annotations

import tomllib
from typing import Annotated

import msgspec

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

Positive = Annotated[int, msgspec.Meta(gt=0, lt=AMOUNT_LIMIT)]


class House(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The house's own terms: its fee in basis points of the value."""

    fee_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class ProgrammeTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One merchant's programme.

    Attributes:
        code: The merchant's code.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        value_num: CU for `value_den` smallest point units.
        value_den: Smallest point units.
        earn_num: Smallest point units for `earn_den` fen spent.
        earn_den: Fen.
        valid_days: Life of an earned lot, in days of 24 hours.
        cap_cu: Net debit cap of a cycle, CU.
        name: Name for people; the code if left out.
        hosted: Whether the house keeps the lots.
    """

    code: Annotated[str, msgspec.Meta(pattern=MERCHANT_CODE_PATTERN)]
    unit: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    scale: Annotated[int, msgspec.Meta(ge=0, le=9)]
    value_num: Positive
    value_den: Positive
    earn_num: Annotated[int, msgspec.Meta(ge=0, lt=AMOUNT_LIMIT)]
    earn_den: Positive
    valid_days: Annotated[int, msgspec.Meta(gt=0, le=36_500)]
    cap_cu: Annotated[int, msgspec.Meta(ge=0, lt=AMOUNT_LIMIT)]
    name: str = ""
    hosted: bool = True


class ProgrammeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    house: House
    programme: Annotated[list[ProgrammeTerms], msgspec.Meta(min_length=1)]


def parse_programmes(text: str) -> ProgrammeFile:
    """Read a programmes file.

    Raises:
        SchemaError: It is no TOML, or a field is missing, unknown or out of range.
    """
    try:
        parsed = msgspec.convert(tomllib.loads(text), ProgrammeFile)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError("$", f"not TOML: {error}") from error
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(path.rstrip("`") or "$", detail) from error
    codes = [programme.code for programme in parsed.programme]
    for place, code in enumerate(codes):
        if code in codes[:place]:
            raise SchemaError(f"$.programme[{place}].code", f"{code} stands there twice")
    return parsed
