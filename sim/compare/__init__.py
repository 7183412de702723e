"""Comparison of two backends on the same frames.

:mod:`.agreement` counts what is equal; :mod:`.divergence` describes the first difference.
"""
