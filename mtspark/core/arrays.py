"""Names for the types of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
"""Whole numbers: weights, thresholds, membranes and currents in chip units, counts, indices."""

Floats = NDArray[np.float64]
"""Real numbers, wherever exactness or a long sum matters."""

Singles = NDArray[np.float32]
"""Real numbers as trained networks and action values hold them."""

Pixels = NDArray[np.uint8]
"""Frames and what else is sent to a chip as payloads, 0 to 255."""

Booleans = NDArray[np.bool_]
"""Spikes, and masks."""

AnyArray = NDArray[Any]
"""Of whatever type, where a text says which."""
