from .experience import play_transitions as play_transitions
from .measures import Plasticity as Plasticity
from .measures import Transitions as Transitions
from .measures import layer_activity as layer_activity
from .measures import measure as measure
from .renewal import renew_dormant as renew_dormant
from .renewal import reset_heads as reset_heads
