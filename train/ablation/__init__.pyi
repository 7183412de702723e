from .grid import FORMAT as FORMAT
from .grid import AblationResult as AblationResult
from .grid import as_markdown as as_markdown
from .grid import run_grid as run_grid
from .plots import draw as draw
from .plots import draw_curves as draw_curves
