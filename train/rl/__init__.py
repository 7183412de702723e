"""Reinforcement learning on games: PQN, double DQN, PPO and SAC; from recorded data, IQL and BCQ.

Read `trainer` first, the loop that all algorithms share. It is composed of `collect` (the games),
`exploration`, `values`, `schedule` (turns and falls), `pathways` (synapses of each task) and
`distil` (teachers). Then read `pqn`, or `dqn` with its `replay`, `ppo` with `clipped` or `sac` with
`policy`, or `offline` with `recorded`, `iql` and `bcq`, and `run`, a run in its folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
