"""NIR graphs: any graph in as a float network, networks and agents out as graphs.

In: reader.py (the whole import), file.py (an untrusted file), graph.py (subgraphs opened),
nodes.py and neurons.py (what the nodes mean), signals.py and loops.py (what reaches each
population), annotate.py (a copy of the file that carries the options it was read with). Out:
writer.py (a float network), agent.py (a checkpoint, one graph a task).

More than a dozen names stand on this face because graphs are read, written and annotated, for
agents and for any network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
