from .experience import play_transitions as play_transitions
from .measure import Plasticity as Plasticity
from .measure import Transitions as Transitions
from .measure import layer_activity as layer_activity
from .measure import measure as measure
from .renewal import renew_dormant as renew_dormant
