from .integers import TwinOptions as TwinOptions
from .twin import Twin as Twin
from .twin import TwinTrace as TwinTrace
