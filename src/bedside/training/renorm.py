"""Batch norms of small batches that have the same statistics in training as in use."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.conv import NORMS

_BEGIN, _END = 0.05, 0.25
"""Parts of the training between which norms turn from statistics of a batch to running ones."""
_MOST_SCALE, _MOST_SHIFT = 3.0, 5.0
"""Largest correction once they have turned."""
_MOMENTUM = 0.02


class _Renorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose output in training is that of its running statistics.

    The gradient is a batch norm's, so that training stays as steady.
    """

    most_scale, most_shift = 1.0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize; in training within the correction that is allowed so far."""
        if not self.training or self.most_scale == 1.0:
            return super().forward(x)
        running_mean = cast(torch.Tensor, self.running_mean)
        with torch.no_grad():
            _, mean, inverse = torch.native_batch_norm(
                x.detach(), None, None, None, None, True, 0.0, self.eps
            )
            running = (cast(torch.Tensor, self.running_var) + self.eps).rsqrt()
            scale = (running / inverse).clamp(1 / self.most_scale, self.most_scale)
            shift = ((mean - running_mean) * running).clamp(-self.most_shift, self.most_shift)
        return functional.batch_norm(
            x,
            running_mean,
            self.running_var,
            self.weight * scale,
            self.weight * shift + self.bias,
            training=True,
            momentum=_MOMENTUM,
            eps=self.eps,
        )


class _Renorm2d(_Renorm, nn.BatchNorm2d):
    """In two axes."""


class _Renorm3d(_Renorm, nn.BatchNorm3d):
    """In three axes."""


_RENORMS: dict[type[nn.Module], type[_Renorm]] = {NORMS[2]: _Renorm2d, NORMS[3]: _Renorm3d}


def use_renorm(model: nn.Module) -> None:
    """Let all batch norms of a network turn to their running statistics in training.

    Names and weights stay the same, and so does what they do in use.

    Source:
        Ioffe, Batch Renormalization, NeurIPS 2017.
    """
    for module in model.modules():
        if type(module) in _RENORMS:
            module.__class__ = _RENORMS[type(module)]


def set_renorm(model: nn.Module, *, progress: float) -> None:
    """Allow the correction that is due after a part of the training, in [0, 1]."""
    share = min(max((progress - _BEGIN) / (_END - _BEGIN), 0.0), 1.0)
    for module in model.modules():
        if isinstance(module, _Renorm):
            module.most_scale = 1 + share * (_MOST_SCALE - 1)
            module.most_shift = share * _MOST_SHIFT
