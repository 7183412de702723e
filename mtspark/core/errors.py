"""Errors that a user can act on.

Every message is one line that says what is wrong, where, which limit was met and what to
do. The command line prints it and exits with code 2.
"""


class MtsparkError(Exception):
    """Base of every error that mtspark raises on purpose."""


class BadFileError(MtsparkError):
    """A file is missing, unreadable, or not what it should be."""


class BadNetworkError(MtsparkError):
    """A network cannot be represented, or breaks a rule of its own format."""


class BadRequestError(MtsparkError, ValueError):
    """A request names something that does not exist or cannot be done: the caller's error."""


class BadInputError(BadNetworkError, BadRequestError):
    """A network does not run on the input that the caller asked for."""


class DivergedError(MtsparkError):
    """A training run came to values that are not finite, and cannot go on."""


class BackendMissingError(MtsparkError):
    """A backend's package is not installed."""


class BackendFailedError(MtsparkError):
    """A backend stopped, died, or ran past its time limit."""


CUT = "..."
"""Ends what was shortened."""


def one_line(error: BaseException | str, length: int = 160) -> str:
    """Return an error's text, or a stranger's value, on one printable line.

    Args:
        error: or its text.
        length: characters at most.

    Returns:
        The text with each run of spaces and line breaks as one space, and with ``?`` for what
        cannot be printed. A longer text ends with a whole word, where it has words, and ``...``.
        An error without a text gives its type.
    """
    text = " ".join(str(error).split())
    if not text and isinstance(error, BaseException):
        text = type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(text) <= length:
        return text
    room = max(length - len(CUT), 0)
    space = text.rfind(" ", 0, room + 1)
    kept = text[:room] if space < room // 2 else text[:space]
    return (kept.rstrip(" ,;:([{") + CUT)[:length]
