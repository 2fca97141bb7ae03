"""Every way a work or a command can be turned down, and the errors people see.

Expected failures are values (a :class:`Reason` on a result), not exceptions. Exceptions are for what a person must
mend: each is one line that says what is wrong, where, and how to mend it.

    PamdiError
    ├── ConfigError      a file or variable that a person wrote
    ├── EngineError      an engine or a model that cannot be used
    ├── BadInput         a payload that cannot be read as what it claims to be
    └── Unreachable      somebody who should answer does not
"""

from enum import Enum


class Reason(str, Enum):
    """Why a work was refused or failed: the ``reason`` of a result. The documented list, in full."""

    OVERLOADED = "overloaded"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ATTEMPTS = "attempts"
    NO_ROUTE = "no_route"
    ID_REUSED = "id_reused"
    BAD_INPUT = "bad_input"
    UNKNOWN_SOURCE = "unknown_source"
    HEAD_AWAY = "head_away"
    TOO_LARGE = "too_large"
    JOURNAL_FULL = "journal_full"
    STOPPING = "stopping"
    UNKNOWN_WORK = "unknown_work"


class PamdiError(Exception):
    """Something a person must mend. ``str()`` is one line: what, where, how to mend."""


class ConfigError(PamdiError):
    """A configuration file or variable cannot be used as it stands."""


class EngineError(PamdiError):
    """An engine, a model file or a store entry cannot be used as it stands."""


class BadInput(PamdiError):
    """A payload cannot be read as what it claims to be; ``reason`` is what its sender is told."""

    def __init__(self, detail: str, reason: Reason = Reason.BAD_INPUT) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class Unreachable(PamdiError):
    """Somebody who should answer does not: a broker, a peer, a head."""
