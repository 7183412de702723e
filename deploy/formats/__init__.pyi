from .netx import drives_neurons_directly as drives_neurons_directly
from .netx import save_netx as save_netx
from .nir_integer import in_chip_units as in_chip_units
from .nir_integer import integer_metadata as integer_metadata
from .onnx_integer import FORMAT as FORMAT
from .onnx_integer import VERSION as VERSION
from .onnx_integer import integer_model as integer_model
