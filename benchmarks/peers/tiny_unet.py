"""TinyU-Net, written here after its paper.

Source: Chen et al., TinyU-Net: Lighter Yet Better U-Net with Cascaded Multi-receptive Fields,
MICCAI 2024, doi:10.1007/978-3-031-72114-4_60.
"""

import torch
from torch import nn
from torch.nn import functional

_FIELDS = 8


class TinyUNet(nn.Module):
    """A U-Net of four levels, each of which is one cascade of depthwise convolutions.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        widths: Channels of the levels; the paper's unless told.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        below = (in_channels, *widths[:-1])
        self.downs = nn.ModuleList(
            _Cascade(low, high) for low, high in zip(below, widths, strict=True)
        )
        sources = (widths[-1], *reversed(widths[1:]))
        self.ups = nn.ModuleList(
            _Cascade(source + width, width)
            for source, width in zip(sources, reversed(widths), strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        skips = []
        for down in self.downs:
            skips.append(down(x))
            x = functional.max_pool2d(skips[-1], 2)
        for up in self.ups:
            x = functional.interpolate(x, scale_factor=2.0, mode="bicubic")
            x = up(torch.cat([x, skips.pop()], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


class _Cascade(nn.Module):
    """Few channels, convolved again and again; what each step gives is kept, then widened."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        narrow = out_channels // (2 * _FIELDS)
        self.squeeze = nn.Sequential(*_conv(in_channels, 2 * narrow, 1), nn.GELU())
        self.fields = nn.ModuleList(
            nn.Sequential(*_conv(narrow, narrow, 3, groups=narrow)) for _ in range(_FIELDS - 1)
        )
        self.widen = nn.Sequential(*_conv(_FIELDS * narrow, out_channels, 1), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        even, odd = x[:, 0::2], x[:, 1::2]
        kept, last = [even + odd], odd
        for field in self.fields:
            last = field(last)
            kept.append(last)
        y: torch.Tensor = self.widen(torch.cat(kept, dim=1))
        return y


def _conv(in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03),
    ]
