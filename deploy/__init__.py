"""Integers: quantisation, chip rules, bundles, Lava processes."""
