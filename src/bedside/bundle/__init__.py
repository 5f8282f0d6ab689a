"""The deployable file: spec, graphs, checksums, split, card; training and inference meet here.

A bundle `NAME.bedside` is a zip with fixed members and nothing executable in it. Every
byte is distrusted until it is read: sizes are capped, names are known, hashes agree.
"""

from bedside.bundle.graph_guard import GraphSignature, check_graph
from bedside.bundle.shipped import find_bundle, shipped_bundles
from bedside.bundle.store import (
    SUFFIX,
    Bundle,
    check_machine_rule,
    read_bundle,
    sign_bundle,
    write_bundle,
    write_with_card,
    write_with_confidence,
    write_with_gate,
)
from bedside.bundle.trust import TrustedKeys, read_trusted_keys

__all__ = [
    "SUFFIX",
    "Bundle",
    "GraphSignature",
    "TrustedKeys",
    "check_graph",
    "check_machine_rule",
    "find_bundle",
    "read_bundle",
    "read_trusted_keys",
    "shipped_bundles",
    "sign_bundle",
    "write_bundle",
    "write_with_card",
    "write_with_confidence",
    "write_with_gate",
]
