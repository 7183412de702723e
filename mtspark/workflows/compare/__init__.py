"""Training runs side by side, over seeds and tasks.

`runs` reads their folders, `statistics` has means and intervals, `result` what is found,
`comparison` puts them together, and `figure` draws it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
