"""Energy of a mean decision, as a view of its counts.

Read :mod:`.cards` (prices and their sources), then :mod:`.events` (what a decision spends), then
:mod:`.pricing`. :mod:`.memory_model` prices accesses to memory, :mod:`.baselines` networks without
spikes; :mod:`.rapl` measures this computer.
"""
