from .agreement import Agreement as Agreement
from .agreement import Comparison as Comparison
from .agreement import compare_activity as compare_activity
from .agreement import compare_traces as compare_traces
from .divergence import Divergence as Divergence
from .places import InPlaces as InPlaces
from .places import Places as Places
from .places import SharedPlaces as SharedPlaces
