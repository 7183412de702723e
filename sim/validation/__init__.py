"""PilotNet on Loihi 2: our predictions beside Intel's measurement.

:mod:`.pilotnet` reads network and recording, :mod:`.mapping` maps it, :mod:`.compare` predicts.
"""
