"""An agent that plays for people who watch, on a page of this machine.

Read `session` first: a game in a thread that waits while it is paused, on a chip that may break.
`telling` turns a decision into a message, `ring` keeps the latest ones for slow readers, and
`server` offers page and messages on loopback to whoever has the token.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
