"""Modelled times and messages as plain JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtspark.sim.latency.model import DecisionTime, StepTime
from mtspark.sim.latency.traffic import Traffic


def step_to_json(step: StepTime) -> dict[str, Any]:
    """A step's terms; None is not modelled."""
    return {
        "times": step.times,
        "busiest_core": step.busiest,
        "population": step.population,
        "terms": [asdict(term) for term in step.terms],
        "total_us": step.total_us,
        "not_modelled": list(step.missing),
        "core_us": [round(float(value), 6) for value in step.core_us],
    }


def decision_to_json(decision: DecisionTime) -> dict[str, Any]:
    """A decision's terms; None is not modelled."""
    return {
        "note": "ESTIMATE: modelled, no neuromorphic hardware was measured",
        "step": step_to_json(decision.step),
        "steps": decision.steps,
        "by_step_us": [round(value, 6) for value in decision.by_step_us],
        "terms": [asdict(term) for term in decision.terms],
        "chip_us": decision.chip_us,
        "total_us": decision.total_us,
        "deadline_us": decision.deadline_us,
        "margin_us": decision.margin_us,
        "not_modelled": list(decision.missing),
        "measured_host_us": decision.measured_host_us,
    }


def traffic_to_json(traffic: Traffic, decisions: int) -> dict[str, Any]:
    """Messages of a mean decision, and those between cores."""
    count = max(decisions, 1)
    return {
        "decisions": decisions,
        "messages_per_decision": traffic.total / count,
        "within_router_per_decision": traffic.total_within_router / count,
        "between_chips_per_decision": traffic.total_between_chips / count,
        "hops_east_west_per_decision": traffic.total_hops_east_west / count,
        "hops_north_south_per_decision": traffic.total_hops_north_south / count,
        "from_host_per_decision": int(traffic.from_host.sum()) / count,
        "sent_by_core": traffic.sent.tolist(),
        "received_by_core": traffic.received.tolist(),
        "operations_by_core": sum(traffic.operations.values()).tolist(),  # type: ignore[union-attr]
    }
