"""The tests of mtspark.

This file makes the folder a package of its own: Lava's wheel installs one called ``tests``, which
would otherwise stand before it in ``python -m tests.fuzz.fuzz``.
"""
