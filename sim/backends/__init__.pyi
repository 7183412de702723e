from .episode import episode_decisions as episode_decisions
from .episode import episode_trace as episode_trace
from .lava.backend import LavaBackend as LavaBackend
from .netx.backend import NetxBackend as NetxBackend
from .onnx import OnnxChip as OnnxChip
from .onnx import open_session as open_session
from .reference import ReferenceChip as ReferenceChip
from .reference import check_request as check_request
