"""Hardware in the loop: a game in its own time, and a chip in another process that may break.

Read `loop` first: it plays. `timing` and `realtime` carry observations and answers in simulated and
in real time, `game` passes one emulator frame at a time, and `faults` says what breaks. `protocol`
has the messages, and `stream` carries them over an `address` to those who have its key; `client`,
`server`, `host` and `chip` are the two sides of the process boundary, and an `order` crosses it.

More than a dozen names stand on this face because the host, the chip's process and the result each
have parts that a command chooses.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
