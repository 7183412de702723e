from .explanation import explain as explain
from .inputs import float_side as float_side
from .result import EffectTable as EffectTable
from .result import Explanation as Explanation
