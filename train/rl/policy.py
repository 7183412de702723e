"""Our spiking actor as stable-baselines3's SAC takes it, beside that library's plain critics.

The library keeps its own networks, optimizers and one gradient step (``SAC.train``); play,
checkpoints and logs are ours, so that a run resumes to the bit and its files hold tensors and
plain values, where the library's own would hold pickles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn
from torch.distributions import Normal

from mtspark.core.environments import LARGEST_MESSAGE, MESSAGES_PER_DEVIATION, Task
from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.plasticity import renew_plain, reset_output
from mtspark.train.rl.critic import with_layer_norm
from mtspark.train.rl.memory import Memory
from mtspark.train.sparsity import SparseModule

LOWEST_LOG, HIGHEST_LOG = -5.0, 2.0
"""Of the deviation of a value before the tanh."""
SMALL = 1e-6
"""Keeps logarithms finite; the library's."""


class Messages(BaseFeaturesExtractor):  # type: ignore[misc]
    """Numbers as the messages that the chip is sent, and the one-hot task behind them.

    Args:
        observation_space: of the numbers and the task.
        tasks: their number.
        graded: numbers are sent relative to their statistics; otherwise they are spikes.
    """

    def __init__(self, observation_space: spaces.Box, tasks: int, graded: bool) -> None:
        size: int = observation_space.shape[0]
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

    So the chip answers with the mean alone, and the host may add what is drawn. Of several tasks,
    each has deviations and a temperature of its own, and uses as many numbers as its box has.

    Args:
        network: the actor.
        log_deviation: before learning.
        numbers: of each task's box.
        arguments: of the library's actor.

    Attributes:
        temperatures: of several tasks; None of one, whose temperature the library learns.
        judged: (batch,) tasks, and logarithms of the chances, of the last batch that was learned
            from; of several tasks.
    """

    def __init__(
        self,
        network: MTSparkNetwork,
        log_deviation: float,
        numbers: tuple[int, ...],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        # The library's own layers are not used, and must not be learned or counted.
        self.latent_pi, self.mu = nn.Identity(), nn.Identity()
        self.network = network
        size = network.config.actions
        shape = (size,) if len(numbers) == 1 else (len(numbers), size)
        self.log_std = nn.Parameter(torch.full(shape, log_deviation))
        own = torch.arange(size)[None] < torch.tensor(numbers)[:, None]
        self.register_buffer("own", own, persistent=False)
        self.temperatures: Temperatures | None = None
        self.judged: tuple[Tensor, Tensor] | None = None

    def get_action_dist_params(self, obs: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return means and log deviations, (batch, numbers) both."""
        frames, task = self.frames_of(obs)
        mean = self.network(frames, task)
        several = self.network.config.tasks > 1
        spread = self.log_deviation[task] if several else self.log_deviation
        return mean, spread.expand_as(mean), {}

    def frames_of(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Return the frames that the network is shown, and the tasks, (batch,)."""
        assert isinstance(self.features_extractor, Messages)
        seen = self.extract_features(obs, self.features_extractor)
        tasks = self.network.config.tasks
        shape = self.network.config.observation_shape
        return seen[:, :-tasks].reshape(-1, *shape), seen[:, -tasks:].argmax(1)

    def action_log_prob(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Draw actions; return the logarithms of their chances, too.

        Of several tasks the logarithms are times the temperature of their task, so that the
        library's loss, which then has a temperature of 1, weighs each task's entropy by its own.
        Numbers beyond those of a task are 0 and have no chance.
        """
        if self.temperatures is None:
            drawn: tuple[Tensor, Tensor] = super().action_log_prob(obs)
            return drawn
        mean, log_deviation, _ = self.get_action_dist_params(obs)
        task = obs[:, -self.network.config.tasks :].argmax(1)
        gaussian = Normal(mean, log_deviation.exp())
        value = gaussian.rsample()
        actions, own = torch.tanh(value), self.own[task]
        # The density of a tanh, with the library's own small number.
        terms = gaussian.log_prob(value) - torch.log(1 - actions.square() + SMALL)
        chances = (terms * own).sum(1)
        if torch.is_grad_enabled():
            self.judged = task, chances.detach()
        return actions * own, self.temperatures.of(task) * chances

    @property
    def log_deviation(self) -> Tensor:
        """Of each number, within its bounds."""
        return self.log_std.clamp(LOWEST_LOG, HIGHEST_LOG)


class Temperatures:
    """The weight of each task's entropy, learned as the library learns its one.

    Args:
        begin: all of them before learning.
        targets: entropy that each is learned for, in nats.
        device: of the network.
    """

    def __init__(self, begin: float, targets: list[float], device: torch.device) -> None:
        self.targets = torch.tensor(targets, device=device)
        start = torch.full((len(targets),), math.log(begin), device=device)
        self.logarithms = start.requires_grad_()
        self.optimizer = torch.optim.Adam([self.logarithms], fused=True)

    def of(self, task: Tensor) -> Tensor:
        """(batch,) of each sample's task."""
        return self.logarithms.detach().exp()[task]

    def learn(self, task: Tensor, chances: Tensor, rate: float) -> None:
        """Raise the temperature of a task whose entropy is below its target; lower others.

        Args:
            task: (batch,) indices.
            chances: (batch,) logarithms of the chances of drawn actions.
            rate: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        (-(self.logarithms[task] * (chances + self.targets[task])).mean()).backward()
        self.optimizer.step()


class PlainCritic(ContinuousCritic):  # type: ignore[misc]
    """The library's critics, which the actor's loss asks for the gradient of its actions alone.

    The library throws away what that loss would teach the critics, a seventh of their arithmetic.
    """

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Return the values of both critics, (batch, 1) each."""
        apart: list[nn.Parameter] = []
        if actions.requires_grad:
            apart = [one for one in self.parameters() if one.requires_grad]
        for one in apart:
            one.requires_grad_(False)
        try:
            values: tuple[Tensor, ...] = super().forward(obs, actions)
        finally:
            for one in apart:
                one.requires_grad_(True)
        return values


class SpikingPolicy(SACPolicy):  # type: ignore[misc]
    """The library's policy with our actor; its critics see numbers in deviations.

    Args:
        network: the actor's.
        log_deviation: before learning.
        numbers: of each task's box.
        critic_layer_norm: hidden layers of the critics are normalised.
        arguments: of the library's policy.
    """

    def __init__(
        self,
        *arguments: Any,
        network: MTSparkNetwork,
        log_deviation: float,
        numbers: tuple[int, ...],
        critic_layer_norm: bool,
        **others: Any,
    ) -> None:
        self._critic_layer_norm = critic_layer_norm
        # nn.Module takes no modules before its own start.
        self._made: dict[str, Any] = {
            "network": network,
            "log_deviation": log_deviation,
            "numbers": numbers,
        }
        super().__init__(*arguments, **others)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Build the actor around our network."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SpikingActor(**self._made, **arguments)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Build critics that see numbers in deviations."""
        seen = Deviations(self.observation_space, **self.features_extractor_kwargs)
        arguments = self._update_features_extractor(self.critic_kwargs, seen)
        critic = PlainCritic(**arguments).to(self.device)
        if self._critic_layer_norm:
            # Before the library makes their optimizer, and alike for their slow copies.
            for index, one in enumerate(critic.q_networks):
                critic.q_networks[index] = with_layer_norm(one)
                critic.add_module(f"qf{index}", critic.q_networks[index])
        return critic

    def set_training_mode(self, mode: bool) -> None:
        """Set the mode of all modules, which costs: every gradient step asks for it."""
        if any(part.training != mode for part in (self, self.actor.network, self.critic)):
            super().set_training_mode(mode)


class _Draws:
    """The library's replay as far as a gradient step asks for it.

    Args:
        memories: of each task.

    Attributes:
        active: indices of the tasks that are drawn of.
    """

    def __init__(self, memories: tuple[Memory, ...]) -> None:
        self._memories = memories
        self.active = tuple(range(len(memories)))

    def sample(self, batch_size: int, env: None = None) -> ReplayBufferSamples:
        """Draw so many transitions of each active task."""
        parts = [self._memories[index].sample(batch_size) for index in self.active]

        def joined(name: str) -> Tensor:
            rows = [getattr(part, name) for part in parts]
            return rows[0] if len(rows) == 1 else torch.cat(rows)

        return ReplayBufferSamples(
            *(joined(name) for name in ("seen", "action", "next_seen", "terminal", "reward"))
        )


class Learner:
    """SAC of stable-baselines3 around our network and our memories.

    Args:
        config: of the run.
        network: the actor's; it learns.
        memories: of each task, what batches are drawn of.
        numbers: of an observation, with the task.
        actions: numbers of each task's box.
        graded: see :class:`Messages`.
        rate: gives the learning rate.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: MTSparkNetwork,
        memories: tuple[Memory, ...],
        numbers: int,
        actions: tuple[int, ...],
        *,
        graded: bool,
        rate: Callable[[], float],
    ) -> None:
        own, size = config.sac, network.config.actions
        targets = [
            -float(count) if own.target_entropy is None else own.target_entropy for count in actions
        ]
        several = len(actions) > 1
        self._rate, self._draws = rate, _Draws(memories)
        self._sac = SAC(
            SpikingPolicy,
            None,
            learning_rate=lambda _: rate(),
            batch_size=config.replay.batch_size,
            tau=own.target_rate,
            gamma=config.discount,
            ent_coef=1.0 if several else f"auto_{own.temperature}",
            target_entropy=targets[0],
            device=config.device,
            policy_kwargs={
                "network": network,
                "log_deviation": math.log(own.deviation),
                "numbers": actions,
                "critic_layer_norm": own.critic_layer_norm,
                "net_arch": {"pi": [1], "qf": list(own.critic_layers)},
                "features_extractor_class": Messages,
                "optimizer_kwargs": {"fused": True},
                "features_extractor_kwargs": {"tasks": config.network.tasks, "graded": graded},
            },
            _init_setup_model=False,
        )
        sac = self._sac
        sac.observation_space = spaces.Box(-np.inf, np.inf, (numbers,), np.float32)
        sac.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        sac.n_envs = 1
        sac.replay_buffer = self._draws
        sac._setup_model()
        sac.set_logger(Logger(folder=None, output_formats=[]))
        assert isinstance(sac.actor, SpikingActor)
        self.actor = sac.actor
        if config.plasticity.weight_decay:
            self._let_decay(config.plasticity.weight_decay)
        if several:
            self.actor.temperatures = Temperatures(own.temperature, targets, sac.device)
        self._cuts: tuple[SparseModule, ...] = ()
        if config.pruning.scope == "critics":
            # Their optimizer keeps the same parameters; masks travel in the critics' state.
            self._cuts = SparseModule(sac.critic), SparseModule(sac.critic_target)

    def cut_critics(self, density: float) -> None:
        """Cut the smallest weights of both critics, and their slow copies at the same places."""
        critic, target = self._cuts
        critic.prune(density)
        target.follow(critic.masks)

    @property
    def critic_densities(self) -> dict[str, float]:
        """Share of the synapses of each layer of the critics that are left; empty of dense ones."""
        return self._cuts[0].densities if self._cuts else {}

    def _let_decay(self, share: float) -> None:
        """Let all weights of the actor and the critics shrink; its deviations are no weights."""
        actor, critic = self.actor, self._sac.critic
        groups: list[dict[str, Any]] = [
            {"params": list(actor.network.parameters())},
            {"params": [actor.log_std], "weight_decay": 0.0},
        ]
        options: dict[str, Any] = {"lr": self._rate(), "weight_decay": share, "fused": True}
        actor.optimizer = torch.optim.AdamW(groups, **options)
        critic.optimizer = torch.optim.AdamW(critic.parameters(), **options)

    @property
    def critics(self) -> tuple[nn.Sequential, ...]:
        """Both critics, of numbers in deviations, the task and an action."""
        return tuple(self._sac.critic.q_networks)

    @property
    def critic(self) -> nn.Module:
        """What learns of both."""
        learned: nn.Module = self._sac.critic
        return learned

    def critic_inputs(self, seen: Tensor, action: Tensor) -> Tensor:
        """(samples, numbers) what the critics are shown."""
        critic = self._sac.critic
        return torch.cat([critic.extract_features(seen, critic.features_extractor), action], 1)

    def renew_critics(self, inputs: Tensor, threshold: float) -> tuple[int, ...]:
        """Renew dormant units of each critic; returns how many."""
        optimizer = self._sac.critic.optimizer
        return tuple(renew_plain(one, inputs, threshold, optimizer) for one in self.critics)

    def reset_critics(self) -> None:
        """Draw the outputs of both critics anew, and give them to their slow copies."""
        critic, target = self._sac.critic, self._sac.critic_target
        for one, slow in zip(critic.q_networks, target.q_networks, strict=True):
            reset_output(one, slow, critic.optimizer)

    def begin_turn(self) -> None:
        """Let slow copies be the critics as they are, and moments be of no other weights."""
        self._sac.critic_target.load_state_dict(self._sac.critic.state_dict())
        self._sac.critic.optimizer.state.clear()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The actor's."""
        return self.actor.optimizer

    def learn(self, steps: int, active: tuple[int, ...]) -> float:
        """Take gradient steps on these tasks; return the critics' mean loss."""
        self._draws.active = active
        temperatures = self.actor.temperatures
        if temperatures is None:
            return self._learned(steps)
        losses = []
        for _ in range(steps):
            losses.append(self._learned(1))
            assert self.actor.judged is not None
            temperatures.learn(*self.actor.judged, self._rate())
        return sum(losses) / len(losses)

    def _learned(self, steps: int) -> float:
        self._sac.train(steps, self._sac.batch_size)
        return float(self._sac.logger.name_to_value["train/critic_loss"])

    def actor_loss(self, seen: Tensor) -> Tensor:
        """Mean loss of the actor on what was seen, (samples, numbers + tasks)."""
        actions, chances = self.actor.action_log_prob(seen)
        values = torch.cat(self._sac.critic(seen, actions), dim=1).min(1).values
        weight = 1.0 if self.actor.temperatures is not None else self.temperature[0]
        return (weight * chances - values).mean()

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
                place = slice(observation.start, observation.start + observation.size)
                seen.mean[row, place] = torch.tensor(observation.mean, dtype=seen.mean.dtype)
                seen.deviation[row, place] = torch.tensor(observation.deviation)

    @property
    def temperature(self) -> tuple[float, ...]:
        """Weight of each task's entropy now."""
        if self.actor.temperatures is not None:
            return tuple(self.actor.temperatures.logarithms.detach().exp().tolist())
        assert self._sac.log_ent_coef is not None
        return (float(self._sac.log_ent_coef.detach().exp()),)

    @property
    def deviation(self) -> tuple[tuple[float, ...], ...]:
        """Of each task, those of its values before the tanh, now."""
        deviations = self.actor.log_deviation.detach().exp()
        rows = deviations if deviations.dim() == 2 else deviations[None]
        counts = self.actor.own.sum(1).tolist()
        return tuple(tuple(row[:count].tolist()) for row, count in zip(rows, counts, strict=True))

    def state(self) -> dict[str, Any]:
        """Tensors and plain values of all but the actor's network and optimizer."""
        sac, (logarithms, optimizer) = self._sac, self._entropy
        return {
            "critic": sac.critic.state_dict(),
            "critic_target": sac.critic_target.state_dict(),
            "critic_optimizer": sac.critic.optimizer.state_dict(),
            "log_temperature": logarithms.detach().clone(),
            "temperature_optimizer": optimizer.state_dict(),
            "log_deviation": self.actor.log_std.detach().clone(),
        }

    @property
    def _entropy(self) -> tuple[Tensor, torch.optim.Optimizer]:
        """Logarithms of the temperatures, and what learns them."""
        own = self.actor.temperatures
        if own is not None:
            return own.logarithms, own.optimizer
        assert self._sac.log_ent_coef is not None
        assert self._sac.ent_coef_optimizer is not None
        return self._sac.log_ent_coef, self._sac.ent_coef_optimizer

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        sac, (logarithms, optimizer) = self._sac, self._entropy
        sac.critic.load_state_dict(state["critic"])
        sac.critic_target.load_state_dict(state["critic_target"])
        sac.critic.optimizer.load_state_dict(state["critic_optimizer"])
        optimizer.load_state_dict(state["temperature_optimizer"])
        if state["log_temperature"].shape != logarithms.shape:
            raise ValueError("temperatures of another number of tasks")
        with torch.no_grad():
            logarithms.copy_(state["log_temperature"])
            self.actor.log_std.copy_(state["log_deviation"])
