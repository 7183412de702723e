"""Notes on a run before it begins: options without effect, networks that cannot be deployed."""

from __future__ import annotations

from dataclasses import fields, replace

from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.config.offline import OfflineConfig
from mtspark.train.config.ppo import PpoConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.config.sac import SacConfig
from mtspark.train.networks import why_not_deployable


def notes(config: TrainConfig | ImageConfig) -> list[str]:
    """List what a user should know of a run, a line each; default values never give a note."""
    lines = []
    reason = why_not_deployable(config.network)
    if reason is not None and why_not_deployable(replace(config.network, tasks=1)) is None:
        lines.append(
            f"mtspark export takes one task at a time (--task NAME): {config.network.tasks} tasks "
            f"have {config.network.by_task}"
        )
    elif reason is not None:
        lines.append(f"mtspark export will refuse this network: {reason}")
    if config.compiled and config.network.neuron == "relu":
        lines.append("compiled has no effect: only the steps of spiking neurons are compiled")
    if isinstance(config, ImageConfig):
        return lines
    lines += [
        f"{', '.join(names)}: no effect, {reason}" for names, reason in _without_effect(config)
    ]
    return lines


def _without_effect(config: TrainConfig) -> list[tuple[list[str], str]]:
    """Changed fields that this run does not use, and why."""
    taught, pruning = any(config.teachers), config.pruning
    replay = tuple(f"replay.{entry.name}" for entry in fields(ReplayConfig))
    algorithm = f"the algorithm is {config.algorithm}"
    unused = (
        (config.algorithm in ("pqn", "ppo"), replay, algorithm),
        (config.learns_offline, tuple(n for n in replay if n != "replay.batch_size"), algorithm),
        (config.learns_offline, ("games_per_task",), algorithm),
        (config.algorithm not in ("pqn", "ppo"), ("trace", "epochs", "minibatches"), algorithm),
        (config.algorithm != "pqn", ("target_rate",), algorithm),
        (
            config.algorithm not in ("pqn", "dqn"),
            (
                *("final_exploration", "exploration_fraction", "exploration_ladder"),
                "exploration_longest",
            ),
            algorithm,
        ),
        (config.algorithm == "sac", ("gradient_norm", "replay.target_every"), algorithm),
        (
            config.algorithm != "sac",
            tuple(f"sac.{entry.name}" for entry in fields(SacConfig)),
            algorithm,
        ),
        (
            config.algorithm != "ppo",
            tuple(f"ppo.{entry.name}" for entry in fields(PpoConfig)),
            algorithm,
        ),
        (
            not config.learns_offline,
            tuple(f"offline.{entry.name}" for entry in fields(OfflineConfig)),
            algorithm,
        ),
        (config.algorithm == "iql", ("offline.threshold",), algorithm),
        (
            config.algorithm == "bcq",
            tuple(f"offline.{n}" for n in ("expectile", "sharpness", "largest_weight")),
            algorithm,
        ),
        (config.algorithm == "bcq", ("offline.deviation",), algorithm),
        (config.schedule != "interval", ("switch_every_steps",), "the schedule is not interval"),
        (
            config.schedule != "performance",
            ("switch_episodes", "switch_change"),
            "the schedule is not performance",
        ),
        (
            not taught,
            (
                *("distillation_temperature", "distillation_weight"),
                *("final_distillation_fraction", "taught_from_rewards"),
            ),
            "no game has a teacher",
        ),
        (
            pruning.method != "evolution",
            ("pruning.drop_fraction",),
            f"the method of pruning is {pruning.method}",
        ),
        (
            pruning.method != "pathways",
            (
                "pruning.score_window",
                "pruning.freeze_returns",
                "pruning.freeze_success",
                "pruning.ranking",
                "pruning.gradual",
                "pruning.overlap",
            ),
            f"the method of pruning is {pruning.method}",
        ),
        (
            pruning.scope == "actor" and config.algorithm not in ("pqn", "dqn"),
            ("pruning.scope",),
            f"{config.algorithm} has no target of the network that plays",
        ),
        (
            pruning.method == "static",
            ("pruning.start", "pruning.end", "pruning.every_updates"),
            "static synapses stay as they were drawn",
        ),
        (
            config.learns_offline and pruning.method == "pathways" and not pruning.gradual,
            ("pruning.end", "pruning.score_window"),
            f"{config.algorithm} chooses each path once",
        ),
        (
            bool(pruning.layers) and pruning.method == "evolution" and pruning.density == 1,
            ("pruning.start", "pruning.end", "pruning.every_updates", "pruning.drop_fraction"),
            "pruning.density is 1, so there is no other place to grow at",
        ),
        (
            config.network.experts == 0,
            ("network.expert_gate",),
            "network.experts is 0",
        ),
        (
            not pruning.layers and not config.start_from,
            ("network.masked_layers", "network.pathway_layers"),
            "pruning.layers names none, so no synapse is cut",
        ),
        (
            not config.plasticity.measure_every and not config.plasticity.redo_every,
            ("plasticity.samples", "plasticity.dormant_threshold"),
            "neither measure_every nor redo_every is set",
        ),
        (
            not config.plasticity.measure_every,
            ("plasticity.rank_delta",),
            "measure_every is not set",
        ),
        (
            not pruning.layers,
            tuple(f"pruning.{entry.name}" for entry in fields(PruningConfig)),
            "pruning.layers names none",
        ),
    )
    ignored = []
    for never, names, reason in unused:
        changed = [name for name in names if _changed(config, name)]
        if never and changed:
            ignored.append((changed, reason))
    return ignored


def _changed(config: TrainConfig, name: str) -> bool:
    table, _, entry = name.rpartition(".")
    if table:
        part = getattr(config, table)
        return bool(getattr(part, entry) != getattr(type(part), entry))
    return bool(getattr(config, entry) != getattr(TrainConfig, entry))
