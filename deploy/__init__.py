"""Deployment: from a float network to integers on a chip.

Read :mod:`~mtspark.deploy.lower` (time on the chip) and :mod:`~mtspark.deploy.quantise` (integers)
first, then :mod:`~mtspark.deploy.bundle` (the folder that an export writes). ``chips`` and
``mapping`` say what a chip can hold and which neuron lies on which core; ``formats`` and ``lava``
hand the network to other tools.
"""
