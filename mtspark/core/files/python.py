"""What a Python file has names for, read without running it."""

from __future__ import annotations

import ast
from pathlib import Path

SHOWN = 6
"""Names in a message."""


def names_in(path: Path) -> str:
    """Say which names a Python file gives to functions, classes and values, for a message.

    Args:
        path: of the file.

    Returns:
        A clause such as ``in it are make, Net and net``; of a file that is no Python, or has no
        such name, the empty string.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    names: dict[str, None] = {}
    for part in tree.body:
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            names[part.name] = None
        elif isinstance(part, ast.Assign):
            names |= dict.fromkeys(to.id for to in part.targets if isinstance(to, ast.Name))
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            names[part.target.id] = None
    public = [name for name in names if not name.startswith("_")]
    if not public:
        return ""
    if len(public) > SHOWN:
        return f"in it are {', '.join(public[:SHOWN])} and {len(public) - SHOWN} more"
    *others, last = public
    return f"in it are {', '.join(others)} and {last}" if others else f"in it is {last}"
