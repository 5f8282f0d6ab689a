"""Every error that bedside raises on purpose, drawn as a tree.

Each one also inherits the builtin a caller would expect, and carries the exit code that
the command line ends with: 2 wrong use, 3 bad input, 4 a missing backend, 5 no time or room.
"""

import re

_NO_TEXT = re.compile("[\ud800-\udfff]+")


class BedsideError(Exception):
    """Something that a person can act on: what is wrong, what was expected, what to do.

    Attributes:
        exit_code: What the command line returns when this error ends it.
    """

    exit_code = 1


class UsageError(BedsideError, ValueError):
    """An argument or an option that cannot mean anything."""

    exit_code = 2


class ClosedError(UsageError):
    """A session or a pool of models that is used after it was closed."""


class OutputError(UsageError, OSError):
    """A result that cannot be written where it was asked for."""


class BudgetError(UsageError):
    """A budget of time or size that no network can meet, or that this one did not."""


class BackendError(BedsideError, RuntimeError):
    """A runtime or an optional package that is needed and is not here."""

    exit_code = 4


class WorkerError(BedsideError, RuntimeError):
    """A worker of a batch that died, or was stopped for taking too long."""


class StaleJobError(BedsideError, RuntimeError):
    """A job that was changed or removed by another since it was read."""


class PeerError(BedsideError, ConnectionError):
    """Another system that cannot be reached, or refuses to talk: nothing was sent to it."""


class ConflictError(BedsideError, RuntimeError):
    """A request that does not fit the state of what it is for, as somebody else has changed it."""


class UnansweredError(BedsideError, TimeoutError):
    """A request that was sent, at least in part, and to which no whole answer came."""


class NoModelError(UsageError, LookupError):
    """A model that a server does not serve."""


class BusyError(BedsideError, RuntimeError):
    """Work that a server has no room for now.

    Args:
        message: What is full.
        retry_after_s: Seconds after which there is likely to be room.
    """

    exit_code = 5

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(BedsideError, TimeoutError):
    """Work that was given up because its time was over."""

    exit_code = 5


class CancelledError(BedsideError, RuntimeError):
    """Work that was given up because nobody waits for it any more."""

    exit_code = 5


class InputError(BedsideError, ValueError):
    """Input that is refused; the base of everything below."""

    exit_code = 3


class FormatError(InputError):
    """A file that is not what its name, header or place says it is."""


class LimitError(FormatError):
    """A file that takes more memory or time to decode than it was allowed."""


class KilledError(LimitError):
    """A file whose decoder was killed, perhaps because the machine ran out of memory."""


class MessageError(FormatError):
    """A message of a network protocol that is damaged, or that it has no form for."""


class GeometryError(InputError):
    """An image whose place or scale cannot be trusted."""


class ModalityError(InputError):
    """A sound image of the wrong kind for this bundle."""


class FrameError(InputError):
    """A frame of another size or kind than the plan that it is given to was made for."""


class MemoryLimitError(InputError, MemoryError):
    """An image that cannot be segmented in the memory that is allowed."""


class SpecError(InputError):
    """A recipe or a specification that does not say what it must."""


class BundleError(InputError):
    """A bundle that is damaged, of another schema version, or not to be trusted."""


class SignatureError(BundleError):
    """A bundle that is not signed by anybody trusted, or was changed after it was signed."""


class KeyFileError(InputError):
    """A file that is not the key that it must be."""


class DataError(InputError):
    """A data set with a case that does not fit its own layout or labels."""


class SplitError(DataError):
    """A split in which one patient stands on both sides."""


class PatientsError(DataError):
    """Too few patients to show what is asked to be shown."""


class ExportError(BedsideError, RuntimeError):
    """An exported graph that does not do what the model did, and is not written."""

    exit_code = 3


def install_command(needed: str) -> str:
    """Return the command that installs an extra of bedside, or one package that it can use.

    It names the packages themselves, so it works wherever bedside was installed from.

    Args:
        needed: Name of an extra, such as "train", or of a package.

    Example:
        >>> install_command("numpy")
        'pip install "numpy>=2.2"'
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("bedside") or []
    except PackageNotFoundError:  # run from its sources
        lines = []
    rows = [[part.strip() for part in line.partition(";")[::2]] for line in lines]
    found = [name for name, marker in rows if f'extra == "{needed}"' in marker] or [
        name for name, _ in rows if re.fullmatch(rf"{re.escape(needed)}\b(?!-).*", name)
    ][:1]
    return " ".join(["pip install", *(f'"{name}"' for name in found or [needed])])


def last_line(said: object, *, otherwise: str = "it ended") -> str:
    r"""Return the last line of a message, for errors that quote a library or a process.

    Args:
        said: The message, of any number of lines.
        otherwise: What an empty message becomes.

    Example:
        >>> last_line("Traceback\n  ValueError: no\n\n"), last_line("")
        ('ValueError: no', 'it ended')
    """
    lines = str(said).strip().splitlines() or [otherwise]
    return lines[-1].strip()


def printable(text: object) -> str:
    r"""Return a text with every character that UTF-8 cannot hold written as `\xff`.

    Args:
        text: Such as the name of a file, or an error that quotes it.

    Example:
        >>> printable("caf\udce9.png")
        'caf\\xe9.png'
    """
    return _NO_TEXT.sub(_spell, str(text))


def _spell(found: re.Match[str]) -> str:
    """Spell out bytes of a file's name that Python has kept as halves of characters."""
    try:
        kept = found[0].encode("ascii", "surrogateescape")
    except UnicodeEncodeError:  # halves that no file's name has brought
        return found[0].encode("ascii", "backslashreplace").decode()
    return kept.decode("utf-8", "backslashreplace")
