"""Figures of calls to merchants' systems, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.kit.contract import Outcome

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallFigures:
    """Counts what one process asked of merchants' systems and what they answered."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Start at zero.

        Args:
            registry: Where the figures are collected; one of its own if None.
        """
        self.registry = registry or CollectorRegistry()
        self._seconds = Histogram(
            "tongdui_merchant_call_seconds",
            "Time that a call to a merchant's own system took.",
            ["merchant", "operation", "outcome"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Finding a series by its labels takes longer than counting in it, and there is one for every call.
        self._series: dict[tuple[str, str, Outcome], Histogram] = {}
        self._not_sent = Counter(
            "tongdui_merchant_calls_not_sent",
            "Calls that were held back, by what held them.",
            ["merchant", "why"],
            registry=self.registry,
        )
        self._breaches = Counter(
            "tongdui_merchant_breaches",
            "Answers that name other units than were asked.",
            ["merchant"],
            registry=self.registry,
        )
        self._under_way = Gauge(
            "tongdui_merchant_calls_under_way",
            "Calls under way.",
            ["merchant"],
            registry=self.registry,
        )
        self._open = Gauge(
            "tongdui_merchant_circuit_open",
            "1 while nothing is sent because calls failed.",
            ["merchant"],
            registry=self.registry,
        )

    def watch(
        self, merchant: str, under_way: Callable[[], int], closed: Callable[[], bool]
    ) -> None:
        """Add two figures of a merchant that are read when they are asked for."""
        self._under_way.labels(merchant).set_function(under_way)
        self._open.labels(merchant).set_function(lambda: 0.0 if closed() else 1.0)

    def answered(self, merchant: str, operation: str, outcome: Outcome, seconds: float) -> None:
        """Count one call that was made."""
        key = merchant, operation, outcome
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._seconds.labels(merchant, operation, outcome.value)
        series.observe(seconds)

    def held_back(self, merchant: str, why: str) -> None:
        """Count one call that was not made."""
        self._not_sent.labels(merchant, why).inc()

    def breached(self, merchant: str) -> None:
        """Count one answer that names other units than were asked."""
        self._breaches.labels(merchant).inc()
