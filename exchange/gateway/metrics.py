"""Figures of one gateway process for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from exchange.service.house_watch import HouseWatch

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts what one application did; every application has a registry of its own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "tongdui_request_seconds",
            "Time from a request's headers to its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._responses = Counter(
            "tongdui_responses", "Answers by status.", ["route", "status"], registry=self.registry
        )
        self._elements = Counter(
            "tongdui_commands",
            "Orders, ends, purchases and accruals that were answered.",
            ["route"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "tongdui_refusals", "Business refusals by reason.", ["reason"], registry=self.registry
        )
        self._observers: dict[str, Callable[[float], None]] = {}
        self._response_counts: dict[tuple[str, int], Counter] = {}
        self._command_counts: dict[str, Counter] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a figure that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        observe = self._observers.get(route)
        if observe is None:
            observe = self._observers[route] = self._seconds.labels(route).observe
        observe(seconds)
        count = self._response_counts.get((route, status))
        if count is None:
            count = self._response_counts[route, status] = self._responses.labels(
                route, str(status)
            )
        count.inc()

    def commands(self, route: str, number: int = 1) -> None:
        """Count what was decided."""
        count = self._command_counts.get(route)
        if count is None:
            count = self._command_counts[route] = self._elements.labels(route)
        count.inc(number)

    def refused(self, reason: str, number: int = 1) -> None:
        """Count a refusal."""
        self._refusals.labels(reason).inc(number)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class HouseCollector(Collector):
    """Shows what was last read of the house; nothing before the first reading."""

    def __init__(self, watch: HouseWatch) -> None:
        """Take what reads."""
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Every figure; those of one reading belong together."""
        read = self._watch.figures
        if read is None:
            return
        yield _gauge(
            "tongdui_house_read_timestamp_seconds",
            "When the figures of the house were read.",
            read.read_at.timestamp(),
        )
        alerts = GaugeMetricFamily(
            "tongdui_funds_alerts", "Merchants with too little money, by why.", labels=["alert"]
        )
        for alert, count in sorted(read.alerts.items()):
            alerts.add_metric([alert], count)
        yield alerts
        breaks = GaugeMetricFamily(
            "tongdui_breaks_open",
            "Open breaks of payments, by kind and days.",
            labels=["kind", "days"],
        )
        for names, count in sorted(read.breaks.items()):
            breaks.add_metric(names, count)
        yield breaks
        for name, text, figure in (
            ("bank_movements_unbooked", "Movements at the bank that nobody claims.", read.unbooked),
            ("releases_blocked", "1 while books and bank do not agree.", read.blocked),
            ("disputes_overdue", "Open disputes past the time to answer.", read.disputes),
            ("packages_unsigned", "Closed cycles whose package lacks signatures.", read.unsigned),
            ("batches_unanswered", "Batches that a merchant left unanswered.", read.unanswered),
            ("batches_objected", "Batches that a merchant objects to.", read.objected),
        ):
            yield _gauge(f"tongdui_{name}", text, figure)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
