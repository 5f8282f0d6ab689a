"""Medical image segmentation with low latency on CPUs.

    import bedside

    model = bedside.load("camus-4ch")
    result = model.segment("image.dcm")
    result.save("out")

The data way is `bedside.segment`, the model way `bedside.build`; they meet at
`bedside.spec` and `bedside.bundle`. Research use, not a medical device.
"""

from bedside.system.telemetry import turn_telemetry_off
from bedside.version import __version__

__all__ = ["Model", "ModelPool", "Result", "__version__", "load", "segment_file"]

# Imported when they are first asked for.
_LAZY = {
    "Model": "bedside.segment",
    "ModelPool": "bedside.pool",
    "Result": "bedside.result",
    "load": "bedside.segment",
    "segment_file": "bedside.segment",
}

turn_telemetry_off()

# `typing` would take longer to import than all of this; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from bedside.pool import ModelPool
    from bedside.result import Result
    from bedside.segment import Model, load, segment_file
else:

    def __getattr__(name):
        """Import what is asked for.

        Raises:
            AttributeError: If there is nothing of that name.
        """
        if name not in _LAZY:
            raise AttributeError(f"module 'bedside' has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = getattr(import_module(_LAZY[name]), name)
        return globals()[name]

    def __dir__():
        """List the front door, imported or not, and the rest of the module."""
        return sorted({*globals(), *_LAZY})
