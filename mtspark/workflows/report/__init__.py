"""Reports: tables of the runs in a bundle (`stored`), or a page that plays once more (`page`).

Read `request` (what a page is asked for), then `page` (its steps). `studies` plays and maps,
`scores` and `sentences` say how well it goes and what it costs, `checks` compares the numbers
with others, `comparison` sets bundles side by side, `provenance` tells how to write the page again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
