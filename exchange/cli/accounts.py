"""Bank accounts of the house and its merchants, as commands get to know them: from the file of parties."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, this_home

if TYPE_CHECKING:
    from schemas.files.parties import Parties

parties_option = click.option(
    "--parties",
    "parties_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the house's and the merchants' bank accounts (schemas/FORMAT.md, Parties). "
    "Default: parties.toml in TONGDUI_HOME.",
)


def read_parties(parties_file: Path | None) -> Parties:
    """Read a file of parties; that of this installation where none is named.

    Raises:
        Unusable: There is none, or it is malformed.
    """
    from schemas.files.parties import parse_parties
    from schemas.values.faults import SchemaError

    path = parties_file or this_home().parties
    try:
        return parse_parties(path.read_bytes())
    except FileNotFoundError as error:
        raise Unusable(
            f"there is no {path}: name the file of parties with --parties, or put it there"
        ) from error
    except SchemaError as error:
        raise Unusable(f"{path}: {error}") from error


def house_accounts(parties_file: Path | None) -> tuple[str, dict[str, str]]:
    """The house's settlement account, and the merchant behind each other account.

    Raises:
        Unusable: There is no file of parties, or it is malformed.
    """
    from settlement.core.breaks import plain_account
    from settlement.core.instruction import HOUSE_LEG_CODE

    parties = read_parties(parties_file)
    holders = {plain_account(one.account.number): one.code for one in parties.merchant}
    holders[plain_account(parties.house.own_account.number)] = HOUSE_LEG_CODE
    return plain_account(parties.house.account.number), holders
