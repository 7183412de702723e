from .agreement import Agreement as Agreement
from .agreement import Comparison as Comparison
from .agreement import compare_activity as compare_activity
from .agreement import compare_traces as compare_traces
from .divergence import Divergence as Divergence
