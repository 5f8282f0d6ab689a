"""Classic networks beside ours: same data, same training, same way of measuring.

torchvision's CPU-only wheel has no compiled operators next to a CPU torch, and refuses to be
imported without their schemas. They are declared here, before anything imports it; no
network in this package ever calls them.
"""

import torch

_SCHEMAS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
