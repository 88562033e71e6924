"""Every way to say no.

    HindbrainError
    |-- Refusal              the caller asked for something that cannot be; nothing was changed
    |   |-- Validation           400 validation
    |   |-- NotFound             404 not_found
    |   |-- Conflict             409 conflict
    |   |   |-- AlreadyOver          409 already_over
    |   |   |-- NotOver              409 not_over
    |   |   `-- IdempotencyConflict  409 idempotency_conflict
    |   |-- TooLarge             413 too_large
    |   |-- SqlError             422 sql_error
    |   `-- Limit                429 limit
    `-- Trouble              the caller did nothing wrong
        |-- Internal             500 internal
        |-- Unavailable          503 unavailable
        |-- Timeout              504 timeout
        |-- UnknownOutcome       504 unknown_outcome
        `-- Damaged              500 internal     the log has a gap or a broken chain

The code is stable: doors map it to an HTTP status, an exit code or an MCP error.  The first line of a class's
docstring is its message when none is given.
"""

from typing import Any, ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels."""

    code: str
    message: str
    details: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class HindbrainError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "", /, **details: Any) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n", 1)[0]
        self.details = details
        super().__init__(self.message)

    @property
    def problem(self) -> Problem:
        """The same error, ready to travel."""
        return Problem(code=self.code, message=self.message, details=self.details)


class Refusal(HindbrainError):
    """The request was refused; nothing was changed."""


class Validation(Refusal):
    """The request is not valid."""

    code, status = "validation", 400

    def __init__(self, message: str = "", /, **details: Any) -> None:
        super().__init__(f"Validation error: {message}" if message else "", **details)


class NotFound(Refusal):
    """There is nothing of that name."""

    code, status = "not_found", 404


class Conflict(Refusal):
    """That does not fit the present state."""

    code, status = "conflict", 409


class AlreadyOver(Conflict):
    """It is over already."""

    code = "already_over"


class NotOver(Conflict):
    """It is not over yet."""

    code = "not_over"


class IdempotencyConflict(Conflict):
    """This idempotency key was used before, with a different request."""

    code = "idempotency_conflict"


class TooLarge(Refusal):
    """That is larger than what is allowed."""

    code, status = "too_large", 413


class SqlError(Refusal):
    """The query cannot be run."""

    code, status = "sql_error", 422


class Limit(Refusal):
    """A limit is reached; try again later."""

    code, status = "limit", 429


class Trouble(HindbrainError):
    """The request was fine, but it could not be served."""


class Internal(Trouble):
    """Something is broken inside; the node's log says more."""


class Unavailable(Trouble):
    """The service cannot be reached now; try again later."""

    code, status = "unavailable", 503


class Timeout(Trouble):
    """It did not answer in time."""

    code, status = "timeout", 504


class UnknownOutcome(Trouble):
    """Nobody can say yet whether it was stored; ask again with the same id or key."""

    code, status = "unknown_outcome", 504


class Damaged(Trouble):
    """The log has a gap or a broken chain."""


def _leaves(root: type[HindbrainError]) -> list[type[HindbrainError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


def revive(problem: Problem) -> HindbrainError:
    """Make the exception again from what travelled; an unknown code becomes `Internal`."""
    kinds = {kind.code: kind for kind in reversed(_leaves(HindbrainError)) if "code" in vars(kind)}
    error = kinds.get(problem.code, Internal).__new__(kinds.get(problem.code, Internal))
    HindbrainError.__init__(error, problem.message, **problem.details)
    return error
