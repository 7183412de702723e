"""An agent whose task is a set of images, small and untrained."""

from __future__ import annotations

from pathlib import Path

from mtspark.core.environments import Task
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.networks import ConvSize, MTSparkNetwork, NetworkConfig


def image_agent(place: Path) -> Path:
    """Write its checkpoint into a folder, and return where it lies."""
    config = NetworkConfig(
        observation_shape=(3, 12, 12),
        convolutions=(ConvSize(3, 4, 2),),
        hidden=8,
        actions=10,
        time_steps=3,
        tasks=1,
    )
    network = MTSparkNetwork(config).eval()
    save_agent(Agent(network, (Task("mnist", "", tuple(range(10))),), None), place / "images.pt")
    return place / "images.pt"
