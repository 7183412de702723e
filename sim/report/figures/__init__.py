"""Figures of the report: `energy` (bills), `episode` (spikes over time), `mapping` (cores).

Every function returns SVG or a figure of matplotlib and reads the typed report, never its JSON.
"""
