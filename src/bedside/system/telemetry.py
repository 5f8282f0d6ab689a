"""Turns off the usage reports of the libraries that bedside uses.

Called when bedside is imported, before any of them is: each reads its switch as it loads.
"""

import os
import sys

# `importlib.machinery` would take as long to import as all of bedside; type checkers know it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SWITCHES = {
    # ONNX Runtime would write a device id and a queue of events below ~/.cache, and send them.
    "ORT_DISABLE_TELEMETRY": "1",
    # NNCF would send an event for every call, even if OpenVINO's package was loaded before us.
    "NNCF_CI": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# OpenVINO has no switch: on import it writes ids below HOME and looks its host up. Without this
# package it falls back to a stub of its own.
_OPENVINO_TELEMETRY = "openvino_telemetry"


def turn_telemetry_off() -> None:
    """Turn off the usage reports of OpenVINO, NNCF, ONNX Runtime and Ray.

    Holds for this process and for those it starts. A library that was imported before is left
    as it is, apart from ONNX Runtime, whose sessions of ours are not reported either; see
    `bedside.runtime.onnx`.
    """
    os.environ.update(_SWITCHES)
    sys.modules.setdefault(_OPENVINO_TELEMETRY, None)  # type: ignore[arg-type]
    if not any(finder is _DownloadFinder for finder in sys.meta_path):
        sys.meta_path.insert(0, _DownloadFinder)


class _DownloadFinder:
    """Loads pydicom's download of test files without `requests`, which opens a socket on import.

    pydicom imports it with every DICOM file where it is installed, and uses urllib where it is not.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Return the module's own spec, whose loader hides `requests` while it runs."""
        if name != "pydicom.data.download" or "requests" in sys.modules:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_without(module: "ModuleType") -> None:
            hidden = sys.modules.setdefault("requests", None)  # type: ignore[arg-type]
            try:
                execute(module)
            finally:
                if hidden is None and sys.modules.get("requests") is None:
                    sys.modules.pop("requests", None)

        spec.loader.exec_module = execute_without  # type: ignore[method-assign]
        return spec
