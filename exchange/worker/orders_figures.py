"""Figures of an order worker for Prometheus, beside those of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from exchange.service.journeys import Journeys


def watch(registry: CollectorRegistry, journeys: Journeys) -> None:
    """Show what a worker drives; read when somebody looks."""
    for name, text, read in (
        ("tongdui_journeys_under_way", "Orders driven now.", lambda: journeys.under_way),
        (
            "tongdui_journeys_stuck",
            "Of them, those that people are asked about.",
            lambda: journeys.stuck,
        ),
        (
            "tongdui_journeys_taken_over",
            "Taken over from workers that were gone.",
            lambda: journeys.taken_over,
        ),
        ("tongdui_journey_commits", "Transactions so far.", lambda: journeys.commits),
        ("tongdui_journey_rows", "Journeys written in them so far.", lambda: journeys.rows),
    ):
        Gauge(name, text, registry=registry).set_function(read)
