from .compare import Validation as Validation
from .compare import validate as validate
from .mapping import PilotNetComparison as PilotNetComparison
from .mapping import compare_pilotnet as compare_pilotnet
