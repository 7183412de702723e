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


class BadRequestError(MtsparkError):
    """A request names something that does not exist or cannot be done."""


class BackendMissingError(MtsparkError):
    """A backend's package is not installed."""


class BackendFailedError(MtsparkError):
    """A backend stopped, died, or ran past its time limit."""
