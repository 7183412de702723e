"""From a trained network to a bundle.

`request` says what may be asked, each option once; `steps` is the list of named steps that an
export takes, by kind of source, and `pipeline` runs them. `agent` and `formats` hold what some
steps need: the frames that graphs are compared on, and the further files of a bundle.

More than a dozen names stand on this face because each step of the pipeline can be called and
looked at alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
