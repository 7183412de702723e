from .landlock import landlock_version as landlock_version
from .process import Bounds as Bounds
from .process import Mechanism as Mechanism
from .process import confine as confine
from .process import detach as detach
from .process import mechanisms_here as mechanisms_here
