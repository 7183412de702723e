"""Configurations as files hold them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.networks import YOUNG_FIELDS

YOUNG = {
    "pruning": (
        "method",
        "drop_fraction",
        "score_window",
        "freeze_returns",
        "freeze_success",
        "overlap",
        "ranking",
        "gradual",
        "scope",
        "pretrain_steps",
        "reopen",
    ),
    "network": YOUNG_FIELDS,
    "plasticity": ("reset_every", "reset_most"),
    "sac": ("critic_layer_norm",),
    "ppo": ("critic_layer_norm",),
    "offline": ("critic_layer_norm",),
}
YOUNG_TABLES = ("plasticity", "sac", "ppo", "offline", "task_context")
"""Fields of tables, and tables, that a file names only where they differ from their default.

Files of runs without them are those of before they existed.
"""


def config_to_json(config: TrainConfig | ImageConfig) -> dict[str, Any]:
    """Return the fields by name, for checkpoints and agent files."""
    content = asdict(config)
    standard = asdict(type(config)())
    for table in YOUNG_TABLES:
        if table in content and content[table] == standard[table]:
            del content[table]
    for described in content.get("environments", ()):
        if not described["name"]:
            del described["name"]
    for table, names in YOUNG.items():
        for name in names:
            if table in content and content[table][name] == standard[table][name]:
                del content[table][name]
    return content
