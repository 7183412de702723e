from .magnitude import density as density
from .magnitude import prune as prune
from .operations import OPERATIONS_UNIT as OPERATIONS_UNIT
from .operations import operations_of as operations_of
from .operations import synapses_met as synapses_met
