"""Who the command line acts for, and why: what every change is written down under."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from settlement.core.trail import WHY_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from settlement.core.trail import By

_WHY: Final = "tongdui.why"

CommandT = TypeVar("CommandT", bound="Callable[..., Any]")


def accountable(command: CommandT) -> CommandT:
    """Give a command that changes something the option `--why`; `acting` reads it."""
    return click.option(
        "--why",
        callback=_keep,
        expose_value=False,
        help="The reason, for the audit trail.",
    )(command)


def acting() -> By:
    """Who acts: the operating system's user, with the reason that was given."""
    from settlement.core.trail import By

    why = click.get_current_context().meta.get(_WHY, "")
    return By(who=f"local:{local_user()}", why=why)


def local_user() -> str:
    """The operating system's name for who runs this; its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def _keep(context: click.Context, parameter: click.Parameter, text: str | None) -> None:
    if text is not None and (len(text) > WHY_MAX or not text.isprintable()):
        raise click.BadParameter(
            f"a reason is one line of at most {WHY_MAX} characters", context, parameter
        )
    context.meta[_WHY] = text or ""
