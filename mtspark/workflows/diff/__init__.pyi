from .comparison import diff as diff
from .frames import recorded_frames as recorded_frames
from .result import DiffResult as DiffResult
