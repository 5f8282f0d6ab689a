"""A test of a precision means nothing on a processor that does not compute in it."""

import pytest

from bedside.runtime import open_graph
from bedside.runtime.execution_modes import has_int8_products
from bedside.runtime.openvino import native_precisions
from models_for_tests import make_graph

NEEDS_INT8 = pytest.mark.skipif(
    not has_int8_products(), reason="sums of products of 8 bits saturate on this processor"
)
COMPUTES_BF16 = open_graph(make_graph(), backend="openvino", precision="bf16").precision == "bf16"
NEEDS_BF16 = pytest.mark.skipif(
    not COMPUTES_BF16, reason="OpenVINO computes in f32 on this processor, not in bfloat16"
)
NEEDS_NATIVE_BF16 = pytest.mark.skipif(
    "bf16" not in native_precisions(), reason="this processor has no products of bfloat16"
)
