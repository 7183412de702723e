"""Energy of a mean decision, as a view of its counts.

Read :mod:`.cards` (prices and their sources), then :mod:`.events` (what a decision spends), then
:mod:`.pricing`. :mod:`.memory_model` prices accesses to memory, :mod:`.baselines` networks without
spikes; :mod:`.rapl` measures this computer.

More than a dozen names stand on this face because a bill is shown beside its rivals, and each
rival is a function of its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
