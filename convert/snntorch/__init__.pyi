from .exchange import measure_exchange as measure_exchange
from .source import build_module as build_module
from .source import named_object as named_object
from .trace import Traced as Traced
from .trace import trace_module as trace_module
from .verify import compare_with_recording as compare_with_recording
