from .bundles import opened_bundle as opened_bundle
from .bundles import package_of as package_of
from .games import GameQuestion as GameQuestion
from .games import PlayedParts as PlayedParts
from .games import episode_of as episode_of
from .games import episode_values as episode_values
from .games import game_jobs as game_jobs
from .games import seeds_text as seeds_text
