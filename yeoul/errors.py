"""Every error that Yeoul raises on purpose, as one tree; knows nothing of HTTP, processes or sockets.

YeoulError
├── UserError                the user's mistake: an HTTP 4xx, or exit code 2 on the command line
│   ├── InvalidRequestError      400  a field is missing, malformed or out of range; 413, 414, 415, 431 where HTTP has a
│   │   │                             status of its own: what is too large, and a body that says that it is no JSON
│   │   └── PromptTooLongError   400  the prompt does not fit the model's context
│   ├── AuthenticationError      401  the API key is missing or wrong
│   ├── ForbiddenError           403  a web page, or a host, that may not use this server
│   ├── NotFoundError            404  no such model, request or route
│   └── ConfigError                   a flag, a file or a setting that cannot work
│       ├── ModelFileError            a model file that is missing, damaged or of an unknown kind
│       └── MachineError              what is asked for cannot be had of this machine: memory, a port, a folder
├── BusyError                try again later: the answer carries Retry-After
│   ├── TooManyRequestsError     429  the waiting queue is full
│   └── UnavailableError         503  starting, draining or recovering
├── DeadlineMissedError      504  not finished in the time that the server gives; 408 where the client itself gave less
└── InternalError            our fault: an HTTP 5xx
    ├── RequestFailedError       500  this one request failed inside the engine; the engine goes on
    ├── TransportError                a ring, a socket or a channel broke or timed out
    └── ProcessDeadError         500  a child process died or never became ready; keeps its cause
        └── GivenUpError         500  it was replaced, and died again, too often

A message says what was expected, what came, and what to do. ``assert`` is for our own bugs only.
"""

from __future__ import annotations


class YeoulError(Exception):
    """The root. ``status`` is the HTTP status that the web process answers with; ``kind`` is OpenAI's ``type`` field.

    ``is_final``: the same request would only do the same again, so clients that repeat by themselves are told not to.
    """

    status: int = 500
    kind: str = "internal_error"
    is_final: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UserError(YeoulError):
    """The user's mistake. ``param`` names the offending field, ``code`` is OpenAI's machine-readable code."""

    status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class InvalidRequestError(UserError):
    """A field of a request is missing, malformed or out of range. ``status`` is another one where HTTP has it for this."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = UserError.status
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status


class PromptTooLongError(InvalidRequestError):
    """The prompt does not fit the model's context."""

    def __init__(self, message: str, *, param: str | None = "prompt") -> None:
        super().__init__(message, param=param, code="context_length_exceeded")


class AuthenticationError(UserError):
    """The API key is missing or wrong."""

    status = 401


class ForbiddenError(UserError):
    """A web page, or a host, that may not use this server."""

    status = 403
    kind = "permission_error"


class NotFoundError(UserError):
    """No such model, request or route."""

    status = 404


class ConflictError(UserError):
    """Somebody else does just now what can be done by one at a time only."""

    status = 409


class ConfigError(UserError):
    """A flag, a file or a setting that cannot work; the command line prints it and exits with 2."""


class ModelFileError(ConfigError):
    """A model file that is missing, damaged, or of a kind that this version does not know."""


class MachineError(ConfigError):
    """What is asked for cannot be had of this machine as it is: memory, a port, a folder, kernels."""


class BusyError(YeoulError):
    """Try again later. ``retry_after_seconds`` becomes the Retry-After header."""

    status = 503
    kind = "overloaded_error"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequestsError(BusyError):
    """The waiting queue is full."""

    status = 429


class UnavailableError(BusyError):
    """The engine is starting, draining or recovering."""


class DeadlineMissedError(YeoulError):
    """The request was not finished in the time that it was given: nobody waits for it any longer.

    ``is_own``: the client gave it, which says nothing of the server's health. Routers count what is 500 or more.
    """

    status = 504
    kind = "timeout_error"
    is_final = True

    def __init__(self, message: str, *, is_own: bool = False) -> None:
        super().__init__(message)
        if is_own:
            self.status = 408


class InternalError(YeoulError):
    """Our fault."""

    is_final = True


class RequestFailedError(InternalError):
    """This one request failed inside the engine; the engine goes on."""


class TransportError(InternalError):
    """A ring, a socket or a channel broke."""


class TransportTimeoutError(TransportError):
    """Nothing came, or nobody read, within the time given."""


class TransportClosedError(TransportError):
    """The other side closed the channel or died."""


class ProcessDeadError(InternalError):
    """A child process died or never became ready.

    Args:
        role: the process title without its prefix, such as ``EngineCore`` or ``Worker_0``.
        cause: one line, the child's own last error where it left one.
        exit_code: as ``subprocess`` counts: negative for a signal; None when it is not known.
        details: the child's last traceback, for the log; never shown to an HTTP client.
        is_for_memory: the kernel ended it because there was none left.
    """

    is_final = False

    def __init__(
        self, role: str, cause: str, *, exit_code: int | None = None, details: str = "", is_for_memory: bool = False
    ) -> None:
        super().__init__(f"{role} {cause}")
        self.role = role
        self.cause = cause
        self.exit_code = exit_code
        self.details = details
        self.is_for_memory = is_for_memory


class GivenUpError(ProcessDeadError):
    """A process that was replaced died again and again, and nothing was made meanwhile: there is no use in going on."""

    is_final = True
