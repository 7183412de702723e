from .densities import erk_densities as erk_densities
from .evolution import draw_synapses as draw_synapses
from .evolution import exchange_synapses as exchange_synapses
from .magnitude import density as density
from .magnitude import prune as prune
from .operations import OPERATIONS_UNIT as OPERATIONS_UNIT
from .operations import operations_of as operations_of
from .operations import synapses_met as synapses_met
