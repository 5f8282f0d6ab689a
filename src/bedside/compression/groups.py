"""What hangs together in a network: channels that can only be taken away from all at once.

The structure is known from the spec, so the groups are written down and not traced: what
stands on the way of a channel is named by the path of a convolution with its norm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.model import CONV_BLOCKS

KINDS = ("hidden", "heads", "channels", "stem", "decoder", "blocks")
"""First word of a group's name."""


@dataclass(frozen=True)
class Group:
    """Units that may be taken away one by one, each of them everywhere.

    Attributes:
        name: "hidden.levels.1.0", "heads.levels.2.0", "channels.levels.1", "stem",
            "decoder" or "blocks.levels.2".
        units: How many there are.
        width: Channels of a unit.
        divisor: Runs of units of which equally many must stay: heads that share a window or a
            head of keys.
        outs: Convolutions with norm that make the channels; what they make beyond
            `units * width` channels is not of the group.
        norms: Norms of these channels that have no convolution before them.
        ins: Convolutions that read the channels.
        blocks: Of "blocks", the prefix of each one's weights.
    """

    name: str
    units: int
    width: int = 1
    divisor: int = 1
    outs: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    ins: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    def channels(self, units: torch.Tensor) -> torch.Tensor:
        """Number the channels of some units.

        Example:
            >>> Group("heads", units=4, width=2).channels(torch.tensor([0, 3])).tolist()
            [0, 1, 6, 7]
        """
        return (units[:, None] * self.width + torch.arange(self.width)).flatten()


def list_groups(network: TrainedNetwork) -> dict[str, Group]:
    """Find all groups of a network, by name.

    Example:
        >>> from bedside.models import create, named_spec
        >>> spec = named_spec("nano")
        >>> groups = list_groups(TrainedNetwork.of(create(spec), spec))
        >>> groups["hidden.levels.0.0"].ins
        ('levels.0.0.project',)
    """
    spec, found = network.spec, {}
    for path, units in hidden_widths(spec).items():
        found[f"hidden.{path}"] = _hidden_group(network, path, units)
    for path, units in query_heads(spec).items():
        found[f"heads.{path}"] = _heads_group(spec, path, units)
    for number in range(len(spec.levels)):
        found[f"channels.levels.{number}"] = _level_group(spec, number)
        found[f"blocks.levels.{number}"] = _blocks_group(spec, number)
    found["stem"] = Group("stem", spec.stem_channels, outs=("stem.0",), ins=("stem.1",))
    found["decoder"] = _decoder_group(spec)
    return {name: group for name, group in found.items() if group.units}


def find_group(network: TrainedNetwork, name: str) -> Group:
    """Find one group.

    Raises:
        UsageError: If the network has none of that name.
    """
    groups = list_groups(network)
    if name not in groups:
        raise UsageError(f'the network has no group "{name}"; choose one of {", ".join(groups)}.')
    return groups[name]


def hidden_widths(spec: ModelSpec) -> dict[str, int]:
    """Return the inner width of each block that has an MLP of its own, by path."""
    return spec.plain_hidden | dict(spec.hidden)


def query_heads(spec: ModelSpec) -> dict[str, int]:
    """Return the query heads of each block that has attention of its own, by path."""
    return spec.plain_heads | dict(spec.heads)


def level_of(path: str) -> int:
    """Number of the level that a block's path is in.

    Example:
        >>> level_of("levels.2.0")
        2
    """
    return int(path.split(".")[1])


def attention_path(spec: ModelSpec, block: str) -> str:
    """Path of what holds a block's projections; an exchange holds them itself."""
    return block if spec.levels[level_of(block)].block in CONV_BLOCKS else f"{block}.attention"


def _lent_to(level: LevelSpec, path: str, part: str) -> Iterator[str]:
    """Return the paths of all blocks that use the convolutions of one, itself first."""
    yield path
    number, block = path.split(".")[1:]
    if block == "0" and level.shared in (part, "both"):
        yield from (f"levels.{number}.{other}" for other in range(1, level.depth))


def _hidden_group(network: TrainedNetwork, path: str, units: int) -> Group:
    """Inner channels of a block's MLP, or of all blocks that share it."""
    name = f"hidden.{path}"
    level = None if path.startswith("fusions") else network.spec.levels[level_of(path)]
    if level is None or level.block in CONV_BLOCKS:
        spatial, norms = _spatial_of(network.weights, f"{path}.spatial")
        made = (f"{path}.expand", *spatial)
        return Group(name, units, outs=made, norms=norms, ins=(f"{path}.project",))
    users = list(_lent_to(level, path, "mlp"))
    outs, ins = (tuple(f"{user}.{part}" for user in users) for part in ("expand", "project"))
    return Group(name, units, outs=outs, ins=ins)


def _spatial_of(
    weights: Mapping[str, torch.Tensor], path: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the convolutions of a depthwise one, one or parallel, and the norms without any."""
    if f"{path}.identity.weight" not in weights:
        return (path,), ()
    count = sum(name.startswith(f"{path}.branches.") and name.endswith(".0.weight")
                for name in weights)  # fmt: skip
    return tuple(f"{path}.branches.{n}" for n in range(count)), (f"{path}.identity",)


def _heads_group(spec: ModelSpec, path: str, units: int) -> Group:
    """Query heads of a block, or of all blocks that share its attention."""
    level = spec.levels[level_of(path)]
    of_windows = 1 if level.block in CONV_BLOCKS else len(level.windows)
    users = [attention_path(spec, user) for user in _lent_to(level, path, "attention")]
    return Group(
        f"heads.{path}",
        units,
        width=level.head_dim,
        # Heads of keys are shared out over windows evenly, so one number divides the other.
        divisor=max(level.kv_heads, of_windows),
        outs=tuple(f"{user}.project_in" for user in users),
        ins=tuple(f"{user}.project_out" for user in users),
    )


def block_paths(spec: ModelSpec, number: int) -> list[str]:
    """List the blocks of a level, its exchange last."""
    level = spec.levels[number]
    extra = level.block in CONV_BLOCKS and level.exchange_window > 0
    return [f"levels.{number}.{block}" for block in range(level.depth + extra)]


def update_paths(spec: ModelSpec, block: str) -> list[str]:
    """List the convolutions whose results a block adds to what it was given."""
    level = spec.levels[level_of(block)]
    if level.block not in CONV_BLOCKS:
        return [f"{block}.attention.project_out", f"{block}.project"]
    is_exchange = int(block.rsplit(".", 1)[1]) == level.depth
    return [f"{block}.project_out" if is_exchange else f"{block}.project"]


def _blocks_group(spec: ModelSpec, number: int) -> Group:
    """Whole blocks of a level."""
    paths = tuple(block_paths(spec, number))
    return Group(f"blocks.levels.{number}", len(paths), blocks=paths)


def _level_group(spec: ModelSpec, number: int) -> Group:
    """Channels of a level: those of all that is added up in it."""
    level = spec.levels[number]
    outs = ["stem.1" if number == 0 else f"downs.{number - 1}"]
    ins = [f"laterals.{number}"]
    if number < len(spec.levels) - 1:
        ins.append(f"downs.{number}")
    for block in block_paths(spec, number):
        outs += update_paths(spec, block)
        if level.block not in CONV_BLOCKS:
            outs.append(f"{block}.spatial")
            ins += [f"{block}.attention.project_in", f"{block}.expand"]
        else:
            is_exchange = update_paths(spec, block)[0].endswith("project_out")
            ins.append(f"{block}.project_in" if is_exchange else f"{block}.expand")
    name = f"channels.levels.{number}"
    return Group(name, level.channels, outs=tuple(outs), ins=tuple(ins))


def _decoder_group(spec: ModelSpec) -> Group:
    """Channels of the decoder, and of all heads that read it."""
    fusions = range(len(spec.levels) - 1)
    outs = [f"laterals.{n}" for n in range(len(spec.levels))]
    outs += [f"fusions.{n}.project" for n in fusions]
    ins = ["head", *(f"fusions.{n}.expand" for n in fusions)]
    ins += [f"auxiliary.{n}" for n in fusions if spec.deep_supervision]
    ins += ["boundary"] if spec.boundary else []
    return Group("decoder", spec.decoder_channels, outs=tuple(outs), ins=tuple(ins))
