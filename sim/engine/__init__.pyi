from .chip import EngineChip as EngineChip
from .counts import LaneCounts as LaneCounts
from .counts import LaneTotals as LaneTotals
