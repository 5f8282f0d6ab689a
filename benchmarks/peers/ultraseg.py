"""UltraSeg-130K, written here after its paper.

Source: Gao, Deng, Gong and Ma, Enabling Real-Time Colonoscopic Polyp Segmentation on Commodity
CPUs via Ultra-Lightweight Architecture, 2026, arXiv:2602.04381.
"""

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import ChannelNorm, FreeNorm, double

_WIDTHS = (8, 16, 48, 64, 96)
_RATES = (1, 2, 3)
_PARTS = 4
_TABLE = 8


class UltraSeg(nn.Module):
    """Plain and dilated convolutions down, learned tables of weights up, gates between.

    The gates' own masks and borders are not trained on, as every network here has one loss.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        one, two, three, four, five = _WIDTHS
        self.downs = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(in_channels, one, 3, padding=1), *_halve(one)),
                nn.Sequential(nn.Conv2d(one, two, 3, padding=1), *_halve(two)),
                nn.Sequential(
                    nn.Conv2d(two, three, 3, padding=1),
                    _Dilated(three),
                    _Dilated(three),
                    *_halve(three),
                ),
                nn.Sequential(
                    _Tables(three, four), nn.GroupNorm(_PARTS, four), nn.MaxPool2d(2), nn.GELU()
                ),
            ]
        )
        self.fusion = _Fusion(three, four)
        self.bottleneck = nn.Conv2d(four, five, 3, padding=1)
        self.attention = nn.Parameter(torch.tensor(0.3))
        self.ups = nn.ModuleList(
            [
                _Tables(five, four),
                _Tables(four, three),
                _Tables(three, two),
                nn.Conv2d(two, one, 3, padding=1),
            ]
        )
        levels = (four, three, two, one)
        self.norms = nn.ModuleList(nn.GroupNorm(_PARTS, width) for width in levels)
        self.gates = nn.ModuleList(_Gate(width, borders=width != four) for width in levels)
        self.head = nn.Conv2d(one, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        x = self.bottleneck(self.fusion(skips[2], x))
        attended = x * x.mean(1, keepdim=True).sigmoid()
        x = (1 - self.attention) * x + self.attention * attended
        for index, (up, norm, gate) in enumerate(
            zip(self.ups, self.norms, self.gates, strict=True)
        ):
            x = norm(up(x))
            x = gate(functional.gelu(double(x) if index else x), skips.pop())
        return double(self.head(x))


class _Dilated(nn.Module):
    """Grouped convolutions at three rates, a third of the channels each, added by a weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // len(_RATES)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, part, 3, padding=rate, dilation=rate, groups=part)
            for rate in _RATES
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.cat([conv(x) for conv in self.convs], dim=1)
        y: torch.Tensor = x + self.mix(parts) * self.weight
        return y


class _Tables(nn.Module):
    """Quarters of the channels times learned tables that do not depend on the image, shuffled."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        part = in_channels // _PARTS
        self.tables = nn.ParameterList(torch.ones(1, part, _TABLE, _TABLE) for _ in range(_PARTS))
        self.convs = nn.ModuleList(_separable(part, part) for _ in range(_PARTS))
        self.before, self.after = (ChannelNorm(in_channels, eps=1e-6) for _ in range(2))
        self.last = _separable(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        parts = [
            part * conv(functional.interpolate(table, size, mode="bilinear", align_corners=True))
            for part, conv, table in zip(
                self.before(x).chunk(_PARTS, dim=1), self.convs, self.tables, strict=True
            )
        ]
        shuffled = torch.cat([parts[1], parts[3], parts[0], parts[2]], dim=1)
        y: torch.Tensor = self.last(self.after(shuffled))
        return y


class _Fusion(nn.Module):
    """Two levels at the coarser one's size, weighed place by place."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(fine, coarse, 1)
        self.weigh = nn.Sequential(
            nn.Conv2d(2 * coarse, coarse // 4, 3, padding=1),
            nn.BatchNorm2d(coarse // 4),
            nn.GELU(),
            nn.Conv2d(coarse // 4, 2, 1),
        )

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        fine = functional.interpolate(fine, coarse.shape[2:], mode="bilinear", align_corners=True)
        fine = self.widen(fine)
        weights = self.weigh(torch.cat([fine, coarse], dim=1)).softmax(1)
        y: torch.Tensor = weights[:, :1] * fine + weights[:, 1:] * coarse
        return y


class _Gate(nn.Module):
    """Amplify where a mask, and a border if there is one, is foreseen; then take in the skip."""

    def __init__(self, channels: int, *, borders: bool) -> None:
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.mask_weight = nn.Parameter(torch.tensor(0.3))
        self.border = nn.Conv2d(channels, 1, 1) if borders else None
        self.border_weight = nn.Parameter(torch.tensor(0.1)) if borders else None
        narrow = max(channels // 8, 4)
        self.adapt: nn.Module = nn.Identity()
        if channels > 16:
            self.adapt = nn.Sequential(
                nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1)
            )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        mask = self.mask(x).sigmoid()
        gain, weight = 1 + mask, 1 + mask * self.mask_weight
        if self.border is not None:
            border = self.border(x).sigmoid()
            gain, weight = gain + border, weight + border * self.border_weight
        y: torch.Tensor = self.adapt(x * gain) + skip * weight
        return y


def _halve(channels: int) -> list[nn.Module]:
    return [
        nn.GroupNorm(_PARTS, channels),
        FreeNorm(channels),
        nn.Conv2d(channels, channels, 2, 2),
        nn.GELU(),
    ]


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels),
        nn.GELU(),
        nn.Conv2d(in_channels, out_channels, 1),
    )
