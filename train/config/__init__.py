"""Configurations of training runs, none of which needs PyTorch.

Read `games` first, then `images` and `ablation`; `recipe` makes them of TOML files or of fields,
and `notes` lists what a user should know of one. The shipped recipes are in `recipes/`.

More than a dozen names stand on this face because games, images and ablations each have a
configuration and its checks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
