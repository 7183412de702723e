"""What makes a network cheap on a chip: fewer synapses, and fewer messages over them.

`magnitude` cuts the synapses of least weight; `evolution` draws them at random, by `densities`,
and exchanges the least of them; `pathways` chooses synapses for each task.
`operations` counts the synaptic operations of a decision, with gradients, so that a loss can hold
their price.
`modules` offers these methods for modules that are not ours.
`quiet` keeps biases from firing alone; `reopening` brings cut synapses back for another run.

More than a dozen names stand on this face because a run calls each of them when it is due.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
