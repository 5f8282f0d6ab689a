"""A torch model as a runtime session, to validate by the inference pipeline."""

import numpy as np
import torch
from torch import nn

from bedside.runtime.checks import check_out, check_tensor
from bedside.runtime.contract import Session


class TorchSession(Session):
    """A model in evaluation mode as a session.

    Args:
        model: From (B, C, H, W) to logits; set to evaluation mode.
        device: Where it runs.
    """

    backend = "torch"
    precision = "f32"

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.threads = torch.get_num_threads()

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns."""
        self.check_open()
        # A model takes any size; only the bundle's graph has one of its own.
        tensor = check_tensor(tensor, np.shape(tensor)[1:])
        with torch.inference_mode():
            logits: torch.Tensor = self.model(torch.from_numpy(tensor).to(self.device))
        found = logits.float().cpu().numpy()
        if out is None:
            return np.array(found)
        check_out(out, found.shape, tensor)[...] = found
        return out
