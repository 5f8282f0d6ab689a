"""The budget on the command line: options that `compress` and `search` have in common."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.chips import find_chip
from bedside.cli.amounts import parse_bytes
from bedside.cli.arguments import option
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.autopilot.target import Target


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """Runtime, size and caches of a run towards a budget."""

    threads: int = option(help="threads of the runtime", default=1)
    backend: str = option(help="runtime whose latency counts", default="openvino")
    max_size: str | None = option(help="size of the bundle, such as 300kB", default=None)
    cache: Path | None = option(
        help="folder to keep preprocessed cases in (default: none)", default=None
    )
    chip: str | None = option(
        help="edge chip (bedside chips), or a profile: widths become multiples of its channels",
        default=None,
    )
    torch_threads: int | None = option(
        help="threads of the training (default: torch's choice)", default=None
    )


def read_target(
    options: BudgetOptions, target_ms: float | None, max_drop: float | None = None
) -> "Target":
    """Budget that the command line asks for.

    Raises:
        BudgetError: If it means nothing.
        UsageError: If a size or a number cannot be read, or no runtime has that name.
        BackendError: If the runtime is not installed.
    """
    from bedside.autopilot.target import Target
    from bedside.runtime import find_backend

    return Target(
        target_ms,
        None if options.max_size is None else parse_bytes(options.max_size),
        Target.max_drop if max_drop is None else max_drop,
        options.threads,
        find_backend(options.backend).name,
    )


def read_multiple(options: BudgetOptions) -> int | None:
    """Channels that widths are multiples of; None without a chip.

    Raises:
        UsageError: If there is no such chip, or its alignment is unknown.
    """
    if options.chip is None:
        return None
    chip = find_chip(options.chip)
    multiple = chip.multiple()
    if multiple is None:
        raise UsageError(
            f"the profile of {chip.name} does not know how channels are aligned; leave out --chip."
        )
    return multiple


def show_reading() -> Callable[[int, int], None]:
    """Make a function that shows how many images are read, on a terminal."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\rreading {done} of {total}" + ("\n" if done == total else ""))
            sys.stderr.flush()

    return show
