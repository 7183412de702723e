from .comparison import diff as diff
from .costs import EpisodeLog as EpisodeLog
from .costs import count_frames as count_frames
from .frames import recorded_frames as recorded_frames
from .result import DiffResult as DiffResult
