from .server import Served as Served
from .server import served_page as served_page
from .session import Session as Session
from .session import WatchRequest as WatchRequest
