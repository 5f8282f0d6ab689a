"""Names of schema version 1, so that its recipes and bundles can still be read."""

from collections.abc import Mapping
from typing import Any

FORMER_KEYS: Mapping[str, Mapping[str, str]] = {"ModelSpec": {"axes": "spatial_dims"}}
"""By dataclass: former key to present one."""

FORMER_VALUES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "LevelSpec": {"shared": {"nothing": "none"}},
    "ComponentCount": {"step": {"components": "component_count"}},
    "Surrounds": {"step": {"encloses": "surrounds"}},
    "NotTouching": {"step": {"apart": "not_touching"}},
}
"""By dataclass and key: former value to present one."""

DROPPED_KEYS: Mapping[str, tuple[str, ...]] = {"NonLocalMeans": ("slices",)}
"""By dataclass: former keys that mean nothing any more."""

REMOVED_STEPS: Mapping[str, str] = {
    "dense_crf": "local_crf loses less Dice and takes a fortieth of the time. Use that, or none."
}
"""Steps that are refused, and what to do instead."""


def to_present(kind: type, mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a mapping of settings with former keys and values replaced.

    A former key is kept if the present one is there too, and is then refused as unknown.
    """
    keys = FORMER_KEYS.get(kind.__name__, {})
    values = FORMER_VALUES.get(kind.__name__, {})
    present = {}
    for key, value in mapping.items():
        if key in DROPPED_KEYS.get(kind.__name__, ()):
            continue
        new = keys.get(key, key)
        known = values.get(new, {})
        present[key if new in mapping else new] = (
            known.get(value, value) if isinstance(value, str) else value
        )
    return present
