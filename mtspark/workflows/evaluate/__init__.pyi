from .bundle import EvaluationRequest as EvaluationRequest
from .bundle import evaluate_bundle as evaluate_bundle
from .checkpoint import evaluate_checkpoint as evaluate_checkpoint
from .data import DataEvaluation as DataEvaluation
from .data import evaluate_data as evaluate_data
from .images import load_test_images as load_test_images
from .rows import Evaluation as Evaluation
from .rows import confidence_interval as confidence_interval
