"""Our spiking actor as stable-baselines3's SAC takes it, beside that library's plain critics.

The library keeps its own networks, optimizers and one gradient step (``SAC.train``); play,
checkpoints and logs are ours, so that a run resumes to the bit and its files hold tensors and
plain values, where the library's own would hold pickles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from mtspark.core.environments import LARGEST_MESSAGE, MESSAGES_PER_DEVIATION, Task
from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.rl.memory import Memory

LOWEST_LOG, HIGHEST_LOG = -5.0, 2.0
"""Of the deviation of a value before the tanh."""


class Messages(BaseFeaturesExtractor):  # type: ignore[misc]
    """Numbers as the messages that the chip is sent, and the one-hot task behind them.

    Args:
        observation_space: of the numbers and the task.
        tasks: their number.
        graded: numbers are sent relative to their statistics; otherwise they are spikes.
    """

    def __init__(self, observation_space: spaces.Box, tasks: int, graded: bool) -> None:
        size = observation_space.shape[0]
        super().__init__(observation_space, size)
        self.graded = graded
        self.register_buffer("mean", torch.zeros(tasks, size - tasks))
        self.register_buffer("deviation", torch.ones(tasks, size - tasks))

    def forward(self, observations: Tensor) -> Tensor:
        """Return messages, whole numbers, and the task."""
        if not self.graded:
            return observations
        tasks = self.mean.shape[0]
        numbers, task = observations[:, :-tasks], observations[:, -tasks:]
        # As float64, as the host's are: a message at a border must be the one of the game.
        which = task.argmax(1)
        apart = (numbers.double() - self.mean.double()[which]) / self.deviation.double()[which]
        sent = (apart * MESSAGES_PER_DEVIATION).round().clamp(-LARGEST_MESSAGE, LARGEST_MESSAGE)
        return torch.cat([sent.float(), task], 1)


class Deviations(Messages):
    """As :class:`Messages`, in deviations: what a plain critic learns well from."""

    def forward(self, observations: Tensor) -> Tensor:
        """Return numbers around 0, and the task."""
        sent = super().forward(observations)
        tasks = self.mean.shape[0]
        unit = MESSAGES_PER_DEVIATION if self.graded else 1
        return torch.cat([sent[:, :-tasks] / unit, sent[:, -tasks:]], 1)


class SpikingActor(Actor):  # type: ignore[misc]
    """A network of ours as the mean of a squashed Gaussian, whose deviation no state changes.

    So the chip answers with the mean alone, and the host may add what is drawn.

    Args:
        network: the actor.
        log_deviation: before learning.
        arguments: of the library's actor.
    """

    def __init__(self, network: MTSparkNetwork, log_deviation: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        # The library's own layers are not used, and must not be learned or counted.
        self.latent_pi, self.mu = nn.Identity(), nn.Identity()
        self.network = network
        size = network.config.actions
        self.log_std = nn.Parameter(torch.full((size,), log_deviation))

    def get_action_dist_params(self, obs: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return means and log deviations, (batch, numbers) both."""
        assert isinstance(self.features_extractor, Messages)
        seen = self.extract_features(obs, self.features_extractor)
        tasks = self.network.config.tasks
        shape = self.network.config.observation_shape
        frames, task = seen[:, :-tasks].reshape(-1, *shape), seen[:, -tasks:].argmax(1)
        mean = self.network(frames, task)
        return mean, self.log_deviation.expand_as(mean), {}

    @property
    def log_deviation(self) -> Tensor:
        """Of each number, within its bounds."""
        return self.log_std.clamp(LOWEST_LOG, HIGHEST_LOG)


class SpikingPolicy(SACPolicy):  # type: ignore[misc]
    """The library's policy with our actor; its critics see numbers in deviations.

    Args:
        network: the actor's.
        log_deviation: before learning.
        arguments: of the library's policy.
    """

    def __init__(
        self,
        *arguments: Any,
        network: MTSparkNetwork,
        log_deviation: float,
        **others: Any,
    ) -> None:
        # nn.Module takes no modules before its own start.
        self._made: dict[str, Any] = {"network": network, "log_deviation": log_deviation}
        super().__init__(*arguments, **others)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Build the actor around our network."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SpikingActor(**self._made, **arguments)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Build critics that see numbers in deviations."""
        kind, options = Deviations, self.features_extractor_kwargs
        return super().make_critic(kind(self.observation_space, **options))


class _Draws(NamedTuple):
    """The library's replay as far as a gradient step asks for it."""

    memory: Memory

    def sample(self, batch_size: int, env: None = None) -> ReplayBufferSamples:
        """Draw a batch."""
        batch = self.memory.sample(batch_size)
        return ReplayBufferSamples(
            batch.seen, batch.action, batch.next_seen, batch.terminal, batch.reward
        )


class Learner:
    """SAC of stable-baselines3 around our network and our memory.

    Args:
        config: of the run.
        network: the actor's; it learns.
        memory: what batches are drawn of.
        numbers: of an observation, with the task.
        graded: see :class:`Messages`.
        rate: gives the learning rate.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: MTSparkNetwork,
        memory: Memory,
        numbers: int,
        *,
        graded: bool,
        rate: Callable[[], float],
    ) -> None:
        own, size = config.sac, network.config.actions
        entropy = -float(size) if own.target_entropy is None else own.target_entropy
        self._sac = SAC(
            SpikingPolicy,
            None,
            learning_rate=lambda _: rate(),
            batch_size=config.replay.batch_size,
            tau=own.target_rate,
            gamma=config.discount,
            ent_coef=f"auto_{own.temperature}",
            target_entropy=entropy,
            device=config.device,
            policy_kwargs={
                "network": network,
                "log_deviation": math.log(own.deviation),
                "net_arch": {"pi": [1], "qf": list(own.critic_layers)},
                "features_extractor_class": Messages,
                "features_extractor_kwargs": {"tasks": config.network.tasks, "graded": graded},
            },
            _init_setup_model=False,
        )
        sac = self._sac
        sac.observation_space = spaces.Box(-np.inf, np.inf, (numbers,), np.float32)
        sac.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        sac.n_envs = 1
        sac.replay_buffer = _Draws(memory)
        sac._setup_model()
        sac.set_logger(Logger(folder=None, output_formats=[]))
        assert isinstance(sac.actor, SpikingActor)
        self.actor = sac.actor

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The actor's."""
        return self.actor.optimizer

    def learn(self, steps: int) -> float:
        """Take gradient steps; return the critics' mean loss."""
        self._sac.train(steps, self._sac.batch_size)
        return float(self._sac.logger.name_to_value["train/critic_loss"])

    def take_statistics(self, tasks: tuple[Task, ...]) -> None:
        """See numbers relative to the tasks' statistics."""
        for part in (self._sac.actor, self._sac.critic, self._sac.critic_target):
            seen = part.features_extractor
            assert isinstance(seen, Messages)
            if not seen.graded:
                return
            for row, task in enumerate(tasks):
                assert task.environment is not None
                observation = task.environment.found
                seen.mean[row] = torch.tensor(observation.mean, dtype=seen.mean.dtype)
                seen.deviation[row] = torch.tensor(observation.deviation)

    @property
    def temperature(self) -> float:
        """Weight of the entropy now."""
        assert self._sac.log_ent_coef is not None
        return float(self._sac.log_ent_coef.detach().exp())

    @property
    def deviation(self) -> tuple[float, ...]:
        """Of each value before the tanh, now."""
        return tuple(self.actor.log_deviation.detach().exp().tolist())

    def state(self) -> dict[str, Any]:
        """Tensors and plain values of all but the actor's network and optimizer."""
        sac = self._sac
        assert sac.ent_coef_optimizer is not None
        assert sac.log_ent_coef is not None
        return {
            "critic": sac.critic.state_dict(),
            "critic_target": sac.critic_target.state_dict(),
            "critic_optimizer": sac.critic.optimizer.state_dict(),
            "log_temperature": sac.log_ent_coef.detach().clone(),
            "temperature_optimizer": sac.ent_coef_optimizer.state_dict(),
            "log_deviation": self.actor.log_std.detach().clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        sac = self._sac
        assert sac.ent_coef_optimizer is not None
        assert sac.log_ent_coef is not None
        sac.critic.load_state_dict(state["critic"])
        sac.critic_target.load_state_dict(state["critic_target"])
        sac.critic.optimizer.load_state_dict(state["critic_optimizer"])
        sac.ent_coef_optimizer.load_state_dict(state["temperature_optimizer"])
        with torch.no_grad():
            sac.log_ent_coef.copy_(state["log_temperature"])
            self.actor.log_std.copy_(state["log_deviation"])
