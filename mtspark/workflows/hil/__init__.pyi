from .modelled import ModelledTimes as ModelledTimes
from .request import HilRequest as HilRequest
from .request import parse_sweep as parse_sweep
from .request import varied as varied
from .result import HilResult as HilResult
from .serving import serve_chip as serve_chip
from .sweep import hil as hil
