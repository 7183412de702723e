"""The report of `mtspark report`: data first, then one HTML file that needs nothing else.

Read `data` (what is counted and priced, typed and as JSON), `page` (the rendering) and `figures`
(SVG by matplotlib, in the one `style`). `provenance` holds the types that say how a report came
about.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
