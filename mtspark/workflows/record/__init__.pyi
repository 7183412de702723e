from .recording import record_play as record_play
from .request import RecordedTask as RecordedTask
from .request import Recording as Recording
from .request import RecordRequest as RecordRequest
from .request import exploring_of as exploring_of
