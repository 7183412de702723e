"""Causes of the lost agreement between a float network and its chip network.

Read `explanation` first: it takes a bundle and returns a table of rows, one an effect.
`effects` switches each effect of the integers on alone, `differences` tells lost ties and lost
signs from rounding, `result` holds the rows and resumes a run that was stopped.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
