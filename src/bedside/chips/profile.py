"""What a profile of a chip holds, and the profiles that come with the package.

A fact that no documentation was found for is absent from a profile, and named under `unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedside.errors import SpecError, UsageError
from bedside.spec.reading import from_mapping, read_toml

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """Where a fact is from.

    Attributes:
        title: Document, or package.
        version: Its version or date.
        where: Its address.
    """

    title: str
    version: str
    where: str


@dataclass(frozen=True)
class Limits:
    """Limits of an operation that can be checked in a graph; None or empty: none documented.

    Attributes:
        max_rank: Axes of its first input and its result.
        max_batch: Size of the first axis, of inputs with two axes or more.
        max_axis: Size of any axis.
        max_rows: Product of all sizes but the last.
        max_elements: Product of all sizes.
        max_stride: Stride of a convolution.
        max_reduced: Size of a reduced axis.
        spatial_dims: Numbers of spatial axes of a convolution.
        modes: Modes of a Resize or a DepthToSpace.
        transforms: Coordinate transformations of a Resize.
        nearest: Rounding modes of a Resize to the nearest.
        factors: Factors of a Resize along spatial axes.
        same_factor: Whether the factors of a Resize must be equal.
        types: Integer types of a quantized value.
        zero_point: Whether zero points must be 0.
        constant: Places of inputs that must be constant.
    """

    max_rank: int | None = None
    max_batch: int | None = None
    max_axis: int | None = None
    max_rows: int | None = None
    max_elements: int | None = None
    max_stride: int | None = None
    max_reduced: int | None = None
    spatial_dims: tuple[int, ...] = ()
    modes: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    factors: tuple[int, ...] = ()
    same_factor: bool = False
    types: tuple[str, ...] = ()
    zero_point: bool = False
    constant: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operation:
    """An operation that a chip has.

    Attributes:
        target: Its name in the chip's own list; empty if it is ONNX's.
        limits: What can be checked in a graph.
        note: Documented conditions that cannot be checked there.
        source: Key of its source; empty for the profile's `operations_source`.
    """

    target: str = ""
    limits: Limits = field(default_factory=Limits)
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Alignment:
    """Multiples of channels that fill the chip's units.

    Attributes:
        channels: Multiple by precision, such as {"int8": 16}.
        source: Key of its source.
    """

    channels: Mapping[str, int]
    source: str


@dataclass(frozen=True)
class Memory:
    """Memory on the chip.

    Attributes:
        bytes: Its size.
        what: What it is.
        source: Key of its source.
    """

    bytes: int
    what: str
    source: str


@dataclass(frozen=True)
class Chip:
    """What the compiler of a chip takes.

    Attributes:
        title: Name of the chip, for people.
        compiler: Program that compiles for it.
        formats: Formats of `bedside export` for it, the usual one first.
        accepts: Precisions of that file.
        precisions: Precisions that the chip computes in.
        layout: Order of axes of its feature maps.
        operations: By ONNX's names.
        complete: Whether the source lists all operations, so that any other falls back to the
            CPU; otherwise nothing is known of others.
        operations_source: Key of the source of `operations`.
        facts_source: Key of the source of precisions and layout.
        sources: By key.
        command: Lines to run after an export, in its folder.
        unknown: What was not found in the vendor's public documentation.
        alignment: None if unknown.
        memory: None if unknown.
        max_rank: Axes that a tensor may have; None if unknown.
        max_opset: Version of ONNX's operations that the compiler reads; None if unknown.
        inner_axes: Innermost axes that may be larger than 1; None if unknown.
        name: Name of the profile, that of its file.
    """

    title: str
    compiler: str
    formats: tuple[str, ...]
    accepts: tuple[str, ...]
    precisions: tuple[str, ...]
    layout: str
    operations: Mapping[str, Operation]
    complete: bool
    operations_source: str
    facts_source: str
    sources: Mapping[str, Source]
    command: tuple[str, ...]
    unknown: tuple[str, ...]
    alignment: Alignment | None = None
    memory: Memory | None = None
    max_rank: int | None = None
    max_opset: int | None = None
    inner_axes: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check that every source is there.

        Raises:
            SpecError: If a fact names none.
        """
        named = {self.operations_source, self.facts_source}
        named.update(each.source for each in self.operations.values() if each.source)
        named.update(each.source for each in (self.alignment, self.memory) if each)
        if missing := sorted(named - set(self.sources)):
            raise SpecError(f"no source {', '.join(map(repr, missing))} among the sources.")

    def source_of(self, operation: str) -> Source:
        """Where an operation is listed, or would be."""
        found = self.operations.get(operation)
        return self.sources[(found.source if found else "") or self.operations_source]

    def multiple(self, precision: str | None = None) -> int | None:
        """Multiple of channels for a precision; the largest one without; None if unknown."""
        if self.alignment is None:
            return None
        if precision is None:
            return max(self.alignment.channels.values())
        return self.alignment.channels.get(precision)


def read_chip(path: Path) -> Chip:
    """Read a profile, strictly.

    Raises:
        SpecError: If it is no profile.
    """
    return from_mapping(Chip, {**read_toml(path), "name": path.stem})


def list_chips() -> dict[str, Chip]:
    """The profiles that come with the package, by name.

    Example:
        >>> sorted(list_chips())[:2]
        ['coreml', 'edge-tpu']
    """
    return {path.stem: read_chip(path) for path in sorted(_FOLDER.glob("*.toml"))}


def find_chip(name: str) -> Chip:
    """A profile by its name, or from a file ending in .toml.

    Raises:
        UsageError: If there is none of that name.
        SpecError: If the file is no profile.
    """
    if name.endswith(".toml"):
        return read_chip(Path(name))
    path = _FOLDER / f"{name}.toml"
    if path.parent != _FOLDER or not path.is_file():
        known = ", ".join(sorted(each.stem for each in _FOLDER.glob("*.toml")))
        raise UsageError(f'no chip "{name}"; choose one of {known}, or name a profile (.toml).')
    return read_chip(path)
