from .explanation import explain as explain
from .result import EffectTable as EffectTable
from .result import Explanation as Explanation
