"""Jobs that workers do, in other processes or on other machines, with results equal to ours.

Read `job` first, what is sent, and `run`, which hands jobs out and takes results. `processes`,
`ray_cluster` and `slurm` are three kinds of workers behind the protocol of `pool`; `work` is what
each of them does with an order, `versions` whether it may, `address` how the user names them, and
`kept` what is on the disk after a command was stopped.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
