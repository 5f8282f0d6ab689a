"""Turns off the usage reports of the libraries that bedside uses.

Called when bedside is imported, before any of them is: each reads its switch as it loads.
"""

import os
import sys

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
