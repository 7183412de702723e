"""Reports: tables of the runs in a bundle (`stored`), or a page that plays once more (`page`).

Read `request` (what a page is asked for), then `page` (its steps). `studies` plays and maps,
`checks` compares the numbers with others, `provenance` tells how to write the page again.
"""
