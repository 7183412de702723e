"""What a user should know before a run begins: options that do nothing, what will not deploy."""

from __future__ import annotations

from dataclasses import fields

from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.images.trainer import ImageConfig
from mtspark.train.networks.variants import why_not_deployable


def notes(config: TrainConfig | ImageConfig) -> list[str]:
    """One line for each thing; a field that has its default value never brings one."""
    told = []
    reason = why_not_deployable(config.network)
    if reason is not None:
        told.append(f"mtspark export will refuse this network: {reason}")
    if config.compiled and config.network.neuron == "relu":
        told.append("compiled has no effect: only the steps of spiking neurons are compiled")
    if isinstance(config, ImageConfig):
        return told
    if config.compiled and config.quantisation_aware:
        told.append("compiled has no effect: quantisation_aware runs on integers, step by step")
    told += [
        f"{', '.join(names)}: no effect, {reason}" for names, reason in _without_effect(config)
    ]
    if config.checkpoint_every_steps >= config.total_steps:
        told.append(
            f"checkpoint_every_steps is {config.checkpoint_every_steps:,}, total_steps "
            f"{config.total_steps:,}: a run that is stopped begins anew"
        )
    return told


def _without_effect(config: TrainConfig) -> list[tuple[list[str], str]]:
    """Fields that were changed, but that this run never looks at, and why."""
    taught = any(config.teachers)
    replay = tuple(f"replay.{entry.name}" for entry in fields(ReplayConfig))
    unused = (
        (config.algorithm != "dqn", replay, "the algorithm is pqn"),
        (
            config.algorithm != "pqn",
            ("trace", "epochs", "minibatches", "target_rate"),
            "the algorithm is dqn",
        ),
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
            config.quantisation_aware and not taught,
            ("bfloat16",),
            "quantisation_aware runs on integers",
        ),
    )
    found = []
    for never, names, reason in unused:
        changed = [name for name in names if _changed(config, name)]
        if never and changed:
            found.append((changed, reason))
    return found


def _changed(config: TrainConfig, name: str) -> bool:
    table, _, entry = name.rpartition(".")
    if table:
        return bool(getattr(config.replay, entry) != getattr(ReplayConfig, entry))
    return bool(getattr(config, entry) != getattr(TrainConfig, entry))
