"""A run as JSON: what ``mtspark run`` writes and ``mtspark report`` reads."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import mtspark
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.environments.protocol import protocol_to_json
from mtspark.sim.counts.totals import RunCounts, Split
from mtspark.sim.energy.cards import load_card
from mtspark.sim.energy.pricing import Bill, price
from mtspark.sim.play import Run

FORMAT = "mtspark-run"
VERSION = 1
DEFAULT_CARD = "loihi1_davies2018"


def run_to_json(
    run: Run,
    network: ChipNetwork,
    *,
    backend: str,
    task: str,
    seed: int,
    network_hash: str,
    sticky: float | None,
    host_s: float,
    card: str = DEFAULT_CARD,
) -> dict[str, Any]:
    """Everything about a run: protocol, episodes, counts, energy, host time.

    Counts are totals over the run; divide by ``decisions`` for a mean decision.
    """
    protocol = protocol_to_json(network.game_protocol)
    if sticky is not None:
        protocol["sticky_action_probability"] = sticky
    bill = price(run.counts, network, load_card(card))
    return {
        "format": FORMAT,
        "version": VERSION,
        "note": "ESTIMATE: no neuromorphic hardware was measured",
        "mtspark": mtspark.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": {"machine": platform.machine(), "python": platform.python_version()},
        "agent": network.name,
        "network_sha256": network_hash,
        "backend": backend,
        "task": task,
        "seed": seed,
        "protocol": protocol,
        "time_steps": network.time_steps,
        "steps_per_decision": network.steps_per_decision,
        "episodes": [
            {
                "seed": episode.seed,
                "return": episode.score,
                "decisions": episode.decisions,
                "finished": episode.finished,
                "trajectory": episode.trajectory,
                "actions": " ".join(map(str, episode.actions)),
            }
            for episode in run.episodes
        ],
        "distinct_episodes": run.distinct_episodes,
        "mean_return": sum(e.score for e in run.episodes) / len(run.episodes),
        "decisions": run.counts.decisions,
        "input_events": _split(run.counts.input_events),
        "layers": _layers(run.counts),
        "connections": _connections(run.counts),
        "energy": [bill_to_json(bill)],
        "host_time": {
            "seconds": round(host_s, 3),
            "decisions_per_s": round(run.counts.decisions / host_s, 2),
            "includes": "game and simulation on this computer, not the chip",
        },
    }


def _split(count: Split) -> dict[str, int]:
    return {"total": count.total, "window": count.window, "drain": count.drain}


def _layers(counts: RunCounts) -> list[dict[str, Any]]:
    layers = []
    for layer in counts.layers:
        entry: dict[str, Any] = {"name": layer.name, "neurons": layer.neurons}
        for key in ("spikes", "synops_structural", "synops_effective", "neuron_updates"):
            split: Split = getattr(layer, key)
            entry[key] = split.total
            entry[f"{key}_window"] = split.window
            entry[f"{key}_drain"] = split.drain
        entry["silent_neurons"] = layer.silent_neurons
        layers.append(entry)
    return layers


def _connections(counts: RunCounts) -> list[dict[str, Any]]:
    connections = []
    for link in counts.connections:
        entry: dict[str, Any] = {"name": link.name, "source": link.source, "target": link.target}
        for key in ("synops_structural", "synops_effective"):
            split: Split = getattr(link, key)
            entry[key] = split.total
            entry[f"{key}_window"] = split.window
            entry[f"{key}_drain"] = split.drain
        connections.append(entry)
    return connections


def bill_to_json(bill: Bill) -> dict[str, Any]:
    """A bill as JSON values."""
    return {
        "card": bill.card.name,
        "card_key": bill.card.key,
        "chip": bill.card.chip,
        "source": bill.card.source,
        "evidence": bill.card.evidence,
        "scope": bill.card.scope,
        "hypothetical": bool(bill.hypothetical),
        "hypothetical_because": list(bill.hypothetical),
        "terms": [asdict(term) for term in bill.terms],
        "dynamic_j_per_decision": bill.dynamic_j_per_decision,
        "dynamic_low_j_per_decision": bill.dynamic_low_j,
        "dynamic_high_j_per_decision": bill.dynamic_high_j,
        "dynamic_j_per_decision_by_layer": bill.layers_j,
        "static_j_per_decision": bill.static_j_per_decision,
        "static_note": bill.static_note,
        "total_j_per_decision": bill.total_j_per_decision,
        "fitted": bill.card.fitted,
    }
