"""Games that workers play: bundles as their packages, games as their jobs, and the sums after.

`bundles` packs an agent and reads it again on the worker, in the sandbox; `games` says how many
games are a job, plays one, and puts the parts together, so that everything equals a run here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
