"""The fast simulator, equal to the reference on every spike and membrane.

Read :mod:`.layout` (the arrays), :mod:`.plan` (a network as these arrays), :mod:`.chip` (the
backend), then :mod:`.kernels` (the compiled loops).
"""
