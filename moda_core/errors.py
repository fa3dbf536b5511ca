"""Everything that can go wrong in MODA, as one tree.

    ModaError
    ├── InvalidInput            a value that cannot be used: names field, value and remedy
    │   ├── UnreadableImage     bytes that are no image, or a broken one
    │   ├── UnreadableFile      an artifact or data-set file that cannot be read
    │   ├── TooLarge            more bytes, pixels or entries than the limit
    │   └── UnsupportedType     a media type or file kind that is not understood
    ├── NotFound                an unknown model, version, class, data set, composition or job
    ├── Conflict                a request that the present state of its object forbids
    ├── PreconditionFailed      the object has changed since the caller read it
    ├── Unavailable             a part that is needed is not there now; worth trying again
    │   └── Overloaded          more is being asked than can be answered; worth trying again a little later
    ├── DeadlineExceeded        the answer was not there when the caller stopped waiting for it
    ├── StorageFailure          the store could not be written or read, or is out of space
    │   └── Corrupt             stored bytes differ from their digest or length
    ├── Untraceable             a network whose structure cannot be read; it can be served whole
    ├── NotExportable           a model that cannot be written in a format so that it answers the same
    ├── TrainingFailure         training ended without a usable model (a loss that is not finite)
    └── Cancelled               the caller asked for the work to stop

Each error carries its data as attributes; how it is shown (an HTTP status, an exit code) is
decided at the doors, by class.
"""

from __future__ import annotations

from moda_core.shown import shown

__all__ = [
    "Cancelled",
    "Conflict",
    "Corrupt",
    "DeadlineExceeded",
    "InvalidInput",
    "ModaError",
    "NotExportable",
    "NotFound",
    "Overloaded",
    "PreconditionFailed",
    "StorageFailure",
    "TooLarge",
    "TrainingFailure",
    "Unavailable",
    "UnreadableFile",
    "UnreadableImage",
    "UnsupportedType",
    "Untraceable",
]


class ModaError(Exception):
    """Base of every error that MODA raises on purpose."""


class InvalidInput(ModaError):
    """A value that cannot be used.

    Args:
        field: the name of the field, as the caller wrote it.
        value: what was given.
        problem: what is wrong with it, without a full stop.
        remedy: what to give instead, without a full stop.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem} (got {shown(value)}); {remedy}")
        self.field, self.value, self.problem, self.remedy = field, value, problem, remedy

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.field, self.value, self.problem, self.remedy)


class UnreadableImage(InvalidInput):
    """Bytes that are not an image, or not a whole one."""


class UnreadableFile(InvalidInput):
    """An artifact or data-set file that cannot be read."""


class TooLarge(InvalidInput):
    """More bytes, pixels or entries than the limit allows."""


class UnsupportedType(InvalidInput):
    """A media type or file kind that is not understood."""


class NotFound(ModaError):
    """Something named that does not exist.

    Args:
        kind: what was looked for: ``"model"``, ``"class"``, ``"job"``, ...
        name: the name that was given.
        remedy: where to look, or what exists, without a full stop.
    """

    def __init__(self, kind: str, name: str, remedy: str) -> None:
        super().__init__(f"there is no {kind} {shown(name)}; {remedy}")
        self.kind, self.name, self.remedy = kind, name, remedy

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.kind, self.name, self.remedy)


class _Explained(ModaError):
    """An error that is a problem and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.problem, self.remedy)


class Conflict(_Explained):
    """A request that the present state of its object forbids."""


class PreconditionFailed(_Explained):
    """The object has changed since the caller read it."""


class Unavailable(_Explained):
    """A part that is needed is not there now; trying again later may work."""


class Overloaded(Unavailable):
    """More is being asked than can be answered, and what is waiting already is enough.

    Args:
        retry_after_s: when there may be room again, in whole seconds.
    """

    def __init__(self, problem: str, remedy: str, retry_after_s: int) -> None:
        super().__init__(problem, remedy)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.problem, self.remedy, self.retry_after_s)


class DeadlineExceeded(_Explained):
    """The answer was not there when the caller's patience ended; nothing was changed."""


class StorageFailure(_Explained):
    """The store could not be written or read, or is out of space; nothing was published."""


class Corrupt(StorageFailure):
    """Stored bytes differ from the digest or length that names them."""


class Untraceable(_Explained):
    """A network whose structure cannot be read: it can be trained plainly and served whole, not decomposed."""


class NotExportable(_Explained):
    """A model that cannot be written in a format, or that would answer differently there: nothing was written."""


class TrainingFailure(_Explained):
    """Training ended without a usable model; the last good checkpoint stays."""


class Cancelled(ModaError):
    """The caller asked for the work to stop, and it did."""

    def __init__(self, what: str = "the work") -> None:
        super().__init__(f"{what} was cancelled")
        self.what = what
