"""Reinforcement learning on games: PQN and double DQN.

Read `trainer` first, the loop that both algorithms share. It is composed of `collect` (the games),
`exploration`, `values`, `schedule` (turns and falls), `pathways` (synapses of each task) and
`distil` (teachers). Then read `pqn`, or `dqn` with its `replay`, and `run`, a run in its folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
