"""Figures of the report: `density` (sparse networks), `energy`, `episode` (spikes), `mapping`.

Every function returns SVG or a figure of matplotlib and reads the typed report, never its JSON.
"""
