from .run import RUN_FORMAT as RUN_FORMAT
from .run import TrainingResult as TrainingResult
from .run import train as train
