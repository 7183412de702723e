from .model import ChipModel as ChipModel
from .model import Encoding as Encoding
from .model import Figure as Figure
from .model import Mesh as Mesh
from .model import known_chips as known_chips
from .model import load_chip as load_chip
from .rules import Violation as Violation
from .rules import chip_violations as chip_violations
