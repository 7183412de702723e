"""What mtspark does, above all packages: every command of the command line is one call here.

A workflow takes and returns typed objects, prints nothing and reports how far it has come to a
callback (:mod:`mtspark.core.progress`). Read `export` first: the steps from a trained network to a
bundle. `backends` opens what decides; `evaluate` and `run` use it.
"""
