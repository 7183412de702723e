from .agent import Agent as Agent
from .agent import agent_bytes as agent_bytes
from .agent import load_agent as load_agent
from .agent import load_plain as load_plain
from .agent import save_agent as save_agent
from .agent import save_whole as save_whole
from .archive import read_tensors as read_tensors
from .archive import with_tensors as with_tensors
