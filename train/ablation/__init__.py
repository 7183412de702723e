"""The ablation grid: small networks on images that differ in one part each.

`grid` trains its cells and summarises them; `plots` draws the figures.
"""
