"""The commands of `tongdui`, and what their ends mean.

A command's module is loaded when the command is called, so that `tongdui --help` starts at once.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "demo": (
        "exchange.cli.demo",
        "Clear 20,000 purchases of 21 programmes and show the settlement.",
    ),
    "serve": ("exchange.cli.serve", "Run the clearing house: database, writer and gateways."),
    "call": ("exchange.cli.call", "Send one signed request and print its verified answer."),
    "replay": ("exchange.cli.replay", "Clear a whole file of purchases, week by week."),
    "verify": (
        "exchange.cli.package",
        "Check a settlement package or a proof, without database or network.",
    ),
    "package": (
        "exchange.cli.rendering",
        "Make the files for people and banks of a settlement package; sign, stamp, confirm and witness it.",
    ),
    "prove": ("exchange.cli.package", "Write the proof that an order is in a signed package."),
    "audit": (
        "exchange.cli.audit",
        "Recompute every position, every lot and the hash chain from the journal.",
    ),
    "trail": (
        "exchange.cli.trail",
        "Show, export and verify the audit trail: who changed what, and why.",
    ),
    "bench": ("exchange.cli.bench", "Measure this machine: orders, cycle close, packages."),
    "simulate": (
        "exchange.cli.simulate",
        "Play whole histories on virtual time, with faults drawn from a seed.",
    ),
    "doctor": (
        "exchange.cli.doctor",
        "Say what is wrong with this machine, database, keys or clock.",
    ),
    "merchant": (
        "exchange.cli.merchant",
        "Add, list, import and export merchants, and manage their keys.",
    ),
    "person": (
        "exchange.cli.person",
        "Add, invite and shut out the people of this clearing house, and sign in.",
    ),
    "dispute": (
        "exchange.cli.dispute",
        "Open, hear and decide disputes about lines; take files of corrections; compensate members.",
    ),
    "proposal": (
        "exchange.cli.proposal",
        "Propose changes that need a second person, and approve or reject those of others.",
    ),
    "member": (
        "exchange.cli.member",
        "Export and erase members, and show their tokens.",
    ),
    "retention": (
        "exchange.cli.retention",
        "Show for how long personal data is kept, and remove what is past its time.",
    ),
    "adapter": (
        "exchange.cli.adapter",
        "Start, try, certify and simulate the adapter of a merchant's own system.",
    ),
    "orders": (
        "exchange.cli.orders",
        "Show orders between merchants' systems that are stuck, and resolve them.",
    ),
    "webhooks": (
        "exchange.cli.webhooks",
        "Show endpoints of webhooks, resume them, replay what they did not take, rotate the keys.",
    ),
    "cycle": (
        "exchange.cli.cycle",
        "Close the open cycle, show cycles, their figures and confirmations, and say when they cut off.",
    ),
    "keys": (
        "exchange.cli.keys",
        "List, generate, add, rotate, revoke and export the signing keys, and say how many must sign.",
    ),
    "reconcile": (
        "exchange.cli.reconciling",
        "Match what banks and merchants say with what the books say, and show and resolve what differs.",
    ),
    "fund": (
        "exchange.cli.fund",
        "Show whose the money at the bank is, book what the bank shows, and move money with two people.",
    ),
    "settle": (
        "exchange.cli.settle",
        "Settle a closed cycle with the money that is there, or take the steps of a default.",
    ),
    "report": (
        "exchange.cli.report",
        "Make reports for finance: trial balance, balances, liability, ageing, fees, savings.",
    ),
}
"""Where each command lives, and its line in `--help`."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tongdui", message="tongdui %(version)s")
def tongdui() -> None:
    """A neutral clearing house for loyalty points (通兑).

    The data live under TONGDUI_HOME; the books in the PostgreSQL server that DATABASE_URL names, else in a
    private one that is started for you. Exit status: 0 fine, 1 a check failed or the answer is no, 2 the input
    or the environment cannot be used.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status; an expected fault becomes one sentence and status 2."""
    try:
        status = tongdui.main(
            args=list(sys.argv[1:] if argv is None else argv),
            prog_name="tongdui",
            standalone_mode=False,
        )
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        print(f"tongdui: {error.format_message()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("tongdui: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python must not complain when it flushes at exit.
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        from exchange.cli.context import expected_fault

        told = expected_fault(error)
        if told is None:
            raise
        print(f"tongdui: {told[1]}", file=sys.stderr)
        sys.exit(told[0])
    sys.exit(status if isinstance(status, int) else 0)
