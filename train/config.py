"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtspark.core.protocol import GameProtocol
from mtspark.train.network import NetworkConfig


@dataclass(frozen=True)
class TrainConfig:
    """PQN (Gallici et al. 2024, arXiv:2407.04811) with a soft target network and double Q.

    Attributes:
        games: ALE games, in the order of the task context.
        total_steps: agent decisions over all games; the schedules end there.
        games_per_task: copies of each game that play together; one number for all games, or
            one for each.
        rollout_steps: decisions a copy plays between two updates.
        epochs: passes over a rollout.
        minibatches: minibatches an epoch.
        learning_rate: RAdam's, at the start.
        final_learning_rate_fraction: it falls linearly to this fraction of itself.
        gradient_norm: gradients are clipped to this norm.
        discount: gamma, per decision.
        trace: lambda of the lambda returns.
        final_exploration: epsilon after its fall from 1.
        exploration_fraction: epsilon falls linearly over this fraction of `total_steps`.
        target_rate: share of the online network mixed into the target after each rollout.
        rescale_values: learn h(Q), h(x) = sign(x)(sqrt(|x|+1)-1) + 0.001x (Pohlen et al.
            2018, arXiv:1805.11593), so that games with large returns do not drown others.
        life_loss_is_terminal: a lost life ends the return that is learned, not the episode.
        teachers: an agent file for each game, or "" where the game is learned from its
            rewards; none for no game at all. A taught game is learned by policy distillation
            on the student's own play (Rusu et al. 2016, arXiv:1511.06295).
        distillation_temperature: action values are divided by this before the softmax.
        distillation_weight: of a taught game's loss, times the temperature, beside the others'.
        seed: of weights, games and exploration.
        threads: CPU threads of PyTorch.
        bfloat16: products in bfloat16; membranes stay float32.
        compiled: fuse the neurons' steps with torch.compile.
        checkpoint_every_steps: save this often. Games restart at every checkpoint, in a run
            that goes on as in one that was stopped, so both give the same weights.
        protocol: how the games are played.
        network: sizes of the network.
    """

    games: tuple[str, ...] = ("pong",)
    total_steps: int = 2_500_000
    games_per_task: tuple[int, ...] = (64,)
    rollout_steps: int = 32
    epochs: int = 2
    minibatches: int = 12
    learning_rate: float = 5e-4
    final_learning_rate_fraction: float = 0.1
    gradient_norm: float = 10.0
    discount: float = 0.99
    trace: float = 0.65
    final_exploration: float = 0.01
    exploration_fraction: float = 0.15
    target_rate: float = 0.2
    rescale_values: bool = False
    life_loss_is_terminal: bool = False
    teachers: tuple[str, ...] = ()
    distillation_temperature: float = 0.02
    distillation_weight: float = 0.5
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True
    compiled: bool = False
    checkpoint_every_steps: int = 400_000
    protocol: GameProtocol = field(default_factory=GameProtocol)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    @property
    def copies(self) -> tuple[int, ...]:
        """Copies of each game, in the order of `games`."""
        per_game = self.games_per_task
        return per_game * len(self.games) if len(per_game) == 1 else per_game
