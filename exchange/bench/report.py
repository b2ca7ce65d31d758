"""The report of a run: spreads over rounds, ratios within a round, and the budgets beside them.

As JSON these records are what `bench --json` writes. Rates are orders (pgbench: transactions) a second; a ratio is
always taken within one round, so that a slow minute of the machine falls on both sides.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from exchange.bench.machine import Machine  # noqa: TC001 - msgspec reads the annotation at run time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT_VERSION: Final = 2


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over the rounds.

    Attributes:
        median: The middle one.
        min: The least.
        max: The most.
    """

    median: float
    min: float
    max: float


def spread(figures: Iterable[float], *, digits: int = 3) -> Spread:
    """Sum figures up.

    Raises:
        ValueError: There is none.
    """
    rounded = [round(figure, digits) for figure in figures]
    if not rounded:
        raise ValueError("no figure to sum up")
    return Spread(median=round(median(rounded), digits), min=min(rounded), max=max(rounded))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted figures that `share` of all do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


class LoadRun(msgspec.Struct, frozen=True, kw_only=True):
    """One load in one round.

    Attributes:
        orders: Orders answered, refused and repeated ones among them; transactions of pgbench.
        seconds: From the first request to the last answer.
        rate: Orders a second.
        ratio: Rate over pgbench's in the same round.
        p50_ms: Half of the requests took no longer; of two-phase orders, accept and clear together; of journeys,
            everything until the till has its answer.
        p99_ms: 99 of 100 took no longer.
        refused_share: Refused orders, of all.
        duplicate_share: Orders under a key that was used before, of all.
        refused: Refusals by reason.
        cpu_us_per_order: Processor time of each part, microseconds an order.
        cpu_ratio: Processor time of a transaction of pgbench in the same round over that of an order, all parts
            together but the merchants' own systems: the ratio of rates that the processors allow, whoever else uses
            them.
        wal_bytes_per_order: Bytes of write-ahead log an order.
    """

    orders: int
    seconds: float
    rate: float
    ratio: float
    p50_ms: float
    p99_ms: float
    refused_share: float = 0.0
    duplicate_share: float = 0.0
    refused: dict[str, int] = {}
    cpu_us_per_order: dict[str, float] = {}
    cpu_ratio: float = 0.0
    wal_bytes_per_order: float = 0.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One load over all rounds; attributes as in `LoadRun`."""

    rate: Spread
    ratio: Spread
    p50_ms: Spread
    p99_ms: Spread
    refused_share: Spread
    duplicate_share: Spread
    cpu_us_per_order: dict[str, Spread]
    cpu_ratio: Spread
    wal_bytes_per_order: Spread


class CycleRun(msgspec.Struct, frozen=True, kw_only=True):
    """A cycle closed, packaged and verified, once.

    Attributes:
        orders: Orders cleared in it.
        close_seconds: From the command until it was answered and the positions were read and summed to zero.
        lines: Lines of its statements.
        package_seconds: From the first file until the package stood, signed.
        package_lines_per_second: Lines over that.
        package_bytes: Size of the package.
        package_peak_bytes: The most memory that the packager ever held.
        verify_seconds: Verification, without the start of the interpreter.
        verify_lines_per_second: Lines over that.
        verify_peak_bytes: The most memory that it held.
    """

    orders: int
    close_seconds: float
    lines: int
    package_seconds: float
    package_lines_per_second: float
    package_bytes: int
    package_peak_bytes: int
    verify_seconds: float
    verify_lines_per_second: float
    verify_peak_bytes: int


class IsolationRun(msgspec.Struct, frozen=True, kw_only=True):
    """Orders between two healthy merchants at one rate, by turns alone and beside orders with a third that is dead.

    Attributes:
        rate: Orders a second between the healthy ones, in both.
        dead_rate: Orders a second with the dead one, half of them as issuer and half as acceptor.
        orders: Orders between the healthy ones that were answered beside it.
        dead_orders: Orders with the dead one that were answered.
        dead_p99_ms: 99 of 100 tills that named it had their answer, a refusal, no later.
        alone_p50_ms: Half of the healthy ones' tills had their answer no later, alone.
        alone_p99_ms: 99 of 100, alone.
        beside_p50_ms: Half of them, beside the dead one.
        beside_p99_ms: 99 of 100, beside the dead one.
        ratio: The p99 beside it over the p99 alone.
    """

    rate: float
    dead_rate: float
    orders: int
    dead_orders: int
    dead_p99_ms: float
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    ratio: float


class ReplayRun(msgspec.Struct, frozen=True, kw_only=True):
    """A file of purchases replayed and run through the model, once.

    Attributes:
        lines: Lines of the file.
        orders: Orders cleared.
        cycles: Cycles with a figure.
        seconds: The replay, packages included, without the start of the interpreter.
        model_seconds: The model, the same.
        ratio: The replay over the model.
        peak_bytes: The most memory that the replay's process held.
        agree: Whether both came to the same positions and totals.
    """

    lines: int
    orders: int
    cycles: int
    seconds: float
    model_seconds: float
    ratio: float
    peak_bytes: int
    agree: bool


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The most memory that each part held, bytes; PostgreSQL's shared pages counted once, at the end of each load."""

    writer: int
    gateway: int
    order_worker: int
    packager: int
    postgres: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one round."""

    loads: dict[str, LoadRun]
    isolation: IsolationRun
    cycle: CycleRun
    replay: ReplayRun


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One budget beside what was measured.

    Attributes:
        name: What it is about.
        measured: The median.
        limit: The budget of today.
        goal: What it shall become; None where that is the same.
        sense: Whether the limit is the least or the most.
        met: Whether the median keeps it.
        remark: In what the measurement falls short of the budget's own terms; empty if in nothing.
    """

    name: str
    measured: float
    limit: float
    goal: float | None
    sense: Literal["at least", "at most"]
    met: bool
    remark: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        version: Of this form.
        at: When it began, RFC 3339.
        quick: Whether it was a quick run.
        seconds: How long all of it took.
        machine: What it ran on.
        settings: How it was run.
        checkpoints: Checkpoints of the server while the rounds ran.
        loads: By name, pgbench among them.
        signed_to_unsigned: Rate of signed requests to that of the same ones with API keys.
        isolation: Figures of orders beside a dead merchant.
        cycle: Figures of the cycles.
        replay: Figures of the replays.
        memory: Peaks.
        budgets: Beside what was measured.
        faults: What went wrong; empty if the figures count.
        rounds: Every round as it was.
    """

    version: int
    at: str
    quick: bool
    seconds: float
    machine: Machine
    settings: dict[str, int | float | str]
    checkpoints: int
    loads: dict[str, Load]
    signed_to_unsigned: dict[str, float]
    isolation: dict[str, Spread]
    cycle: dict[str, Spread]
    replay: dict[str, Spread]
    memory: Memory
    budgets: list[Budget]
    faults: list[str]
    rounds: list[Round]


def sum_up_loads(rounds: Sequence[Round]) -> dict[str, Load]:
    """Sum the loads of all rounds up, in the order of their first appearance."""
    summed: dict[str, Load] = {}
    for name in {name: None for each in rounds for name in each.loads}:
        runs = [each.loads[name] for each in rounds if name in each.loads]
        parts = {part: None for run in runs for part in run.cpu_us_per_order}
        summed[name] = Load(
            rate=spread((run.rate for run in runs), digits=1),
            ratio=spread(run.ratio for run in runs),
            p50_ms=spread(run.p50_ms for run in runs),
            p99_ms=spread(run.p99_ms for run in runs),
            refused_share=spread((run.refused_share for run in runs), digits=4),
            duplicate_share=spread((run.duplicate_share for run in runs), digits=4),
            cpu_us_per_order={
                part: spread((run.cpu_us_per_order.get(part, 0.0) for run in runs), digits=1)
                for part in parts
            },
            cpu_ratio=spread((run.cpu_ratio for run in runs), digits=2),
            wal_bytes_per_order=spread((run.wal_bytes_per_order for run in runs), digits=1),
        )
    return summed


def signed_to_unsigned(loads: dict[str, Load]) -> dict[str, float]:
    """What is left of the rate where requests and answers are signed; medians."""
    pairs = {
        "bulk": ("bulk_uuid7_signed", "bulk_uuid7"),
        "singles": ("single_512_signed", "single_512"),
    }
    return {
        name: round(loads[signed].rate.median / max(0.1, loads[plain].rate.median), 3)
        for name, (signed, plain) in pairs.items()
    }


def sum_up(records: Sequence[msgspec.Struct]) -> dict[str, Spread]:
    """Sum every number of some records up, by its name."""
    return {
        name: spread(float(getattr(record, name)) for record in records)
        for name in records[0].__struct_fields__
        if not isinstance(getattr(records[0], name), bool)
    }


CLOSE_ORDERS: Final = 1_000_000
REPLAY_LINES: Final = 386_828
P99_ORDERS: Final = 1_000
"""With fewer, a handful of orders decides what the p99 is."""


def hold_against_budgets(
    loads: dict[str, Load],
    isolation: dict[str, Spread],
    cycle: dict[str, Spread],
    replay: dict[str, Spread],
) -> list[Budget]:
    """Hold medians against the budgets (DESIGN, "The clearing pipeline").

    The bulk budget is held by the time-ordered keys that clients are told to use; random keys are shown beside it.
    """
    few_orders = cycle["orders"].median < CLOSE_ORDERS
    few_journeys = isolation["orders"].median < P99_ORDERS
    few_lines = replay["lines"].median < REPLAY_LINES
    return [
        _at_least("bulk orders, UUIDv7 keys, to pgbench", loads["bulk_uuid7"].ratio, 20, 40),
        _at_least("bulk orders, random keys, to pgbench", loads["bulk_random"].ratio, 20, 40),
        _at_least("single orders, 512 callers, to pgbench", loads["single_512"].ratio, 2.5, 7),
        _at_least(
            "two-phase orders, 512 callers, to pgbench", loads["two_phase_512"].ratio, 1.25, 3.5
        ),
        _at_most(
            "p99 beside a dead merchant, to p99 alone",
            isolation["ratio"],
            1.2,
            None,
            f"p99 of {isolation['orders'].median:,.0f} orders" if few_journeys else "",
        ),
        _at_most(
            "replay to model",
            replay["ratio"],
            10,
            3,
            f"{replay['lines'].median:,.0f} lines, not the year's {REPLAY_LINES:,}"
            if few_lines
            else "",
        ),
        _at_most(
            "cycle close, seconds",
            cycle["close_seconds"],
            1,
            None,
            f"{cycle['orders'].median:,.0f} orders, not a million" if few_orders else "",
        ),
        _at_least(
            "package, statement lines a second", cycle["package_lines_per_second"], 100_000, None
        ),
    ]


def _at_least(
    name: str, measured: Spread, limit: float, goal: float | None, remark: str = ""
) -> Budget:
    return Budget(
        name=name, measured=measured.median, limit=limit, goal=goal,
        sense="at least", met=measured.median >= limit, remark=remark,
    )  # fmt: skip


def _at_most(
    name: str, measured: Spread, limit: float, goal: float | None, remark: str = ""
) -> Budget:
    return Budget(
        name=name, measured=measured.median, limit=limit, goal=goal,
        sense="at most", met=measured.median <= limit, remark=remark,
    )  # fmt: skip
