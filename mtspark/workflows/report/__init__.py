"""Reports: tables of the runs in a bundle (`stored`), or a page that plays once more (`page`).

Read `request` (what a page is asked for), then `page` (its steps). `studies` plays and maps,
`checks` compares the numbers with others, `provenance` tells how to write the page again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
