"""Meta-World's tasks as environments of Gymnasium, one id each: ``Meta-World/reach-v3``.

metaworld 3.1.1 registers benchmarks of many goals that are drawn before any episode, and its
environments ignore the seed of a reset. Here the goal of an episode is drawn at its reset from its
seed, of the same space, and shown to the agent, as in the multi-task benchmarks (Yu et al. 2019,
arXiv:1910.10897).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

NAMESPACE = "Meta-World/"
LONGEST_EPISODE = 500
"""Decisions; Meta-World's own limit."""
CAMERA = "corner2"


class SeededTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A task of Meta-World whose episodes are functions of their seed and actions."""

    def __init__(self, made: gymnasium.Env[Any, Any]) -> None:
        super().__init__(made)
        own: Any = made
        own._set_task_called = True
        own._partially_observable = False
        own._freeze_rand_vec = False
        own.seeded_rand_vec = True
        own._set_task_inner()
        # Found and kept while the goal was hidden.
        own.__dict__.pop("sawyer_observation_space", None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; its goal follows from the seed, or from the episode before."""
        if seed is not None:
            own: Any = self.env
            own.seed(seed)
        return self.env.reset(options=options)

    def render(self) -> Any:
        """Draw the scene; Meta-World's cameras hang upside down."""
        return np.rot90(np.asarray(self.env.render()), 2)


def make_task(task: str, **arguments: Any) -> gymnasium.Env[Any, Any]:
    """Make a task of Meta-World by its name there.

    Args:
        task: name, ``reach-v3``.
        **arguments: of the class of the task, for example ``reward_function_version``.
    """
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    return SeededTask(ALL_V3_ENVIRONMENTS[task](**{"camera_name": CAMERA, **arguments}))


def register_tasks() -> None:
    """Register every task of Meta-World, once."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    for name in ALL_V3_ENVIRONMENTS:
        if NAMESPACE + name not in gymnasium.registry:
            gymnasium.register(
                NAMESPACE + name,
                entry_point=f"{__name__}:make_task",
                max_episode_steps=LONGEST_EPISODE,
                # It warns of observations outside of their space, which simulated contacts are.
                disable_env_checker=True,
                kwargs={"task": name},
            )
