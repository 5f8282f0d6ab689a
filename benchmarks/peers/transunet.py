"""TransUNet, which no library that installs here has: timm's hybrid encoder, our decoder.

The encoder is timm's R50 + ViT-B/16, the network that TransUNet starts from; what it adds, a
cascade of doublings that takes in the ResNet's features, is written here after the paper.

Source: Chen et al., TransUNet, arXiv:2102.04306; widths of its R50-ViT-B_16 configuration.
"""

import timm
import torch
from timm.layers import StdConv2dSame
from torch import nn
from torch.nn import functional

# Of the ResNet's stem (stride 2) and first two stages (strides 4 and 8), coarse to fine.
_SKIPS = (512, 256, 64, 0)
_WIDTHS = (256, 128, 64, 16)
_ENTRY = 512


class TransUNet(nn.Module):
    """A ResNet, a Transformer over its coarsest features, and doublings back to full size.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        size_px: (height, width), multiples of 16; the positions are learned for it.
    """

    def __init__(self, num_classes: int, in_channels: int, size_px: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            "vit_base_r50_s16_224",
            img_size=size_px,
            in_chans=in_channels,
            class_token=False,
            global_pool="",
            num_classes=0,
        )
        self.entry = _conv(self.encoder.embed_dim, _ENTRY)
        below = (_ENTRY, *_WIDTHS[:-1])
        self.doublings = nn.ModuleList(
            nn.Sequential(_conv(lower + skip, width), _conv(width, width))
            for lower, skip, width in zip(below, _SKIPS, _WIDTHS, strict=True)
        )
        self.head = nn.Conv2d(_WIDTHS[-1], num_classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        vit = self.encoder
        backbone = vit.patch_embed.backbone
        stem = backbone.stem[:-1](x)  # all but the pooling, which leads to stride 4
        first = backbone.stages[0](backbone.stem[-1](stem))
        second = backbone.stages[1](first)
        coarse = vit.patch_embed.proj(backbone.norm(backbone.stages[2](second)))
        tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(coarse.flatten(2).mT)))
        tokens = vit.norm(vit.blocks(tokens))
        x = self.entry(tokens.mT.unflatten(2, coarse.shape[2:]))
        for doubling, skip in zip(self.doublings, (second, first, stem, None), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = doubling(x if skip is None else torch.cat([x, skip], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def freeze_standardized(model: nn.Module) -> nn.Module:
    """Put plain convolutions in the place of weight-standardized ones, which they equal.

    Graphs need it: what is standardized at every call would be a batch norm in them.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, StdConv2dSame):
                setattr(module, name, _Standardized(child))
    return model


class _Standardized(nn.Module):
    """A weight-standardized convolution with its weights as they come out, fixed."""

    def __init__(self, conv: StdConv2dSame) -> None:
        super().__init__()
        self.stride, self.kernel = conv.stride, conv.kernel_size
        axes = (1, 2, 3)
        mean = conv.weight.mean(axes, keepdim=True)
        spread = (conv.weight.var(axes, keepdim=True, unbiased=False) + conv.eps).rsqrt()
        self.weight = nn.Parameter((conv.weight - mean) * spread, requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads = [total // 2, total - total // 2, *pads]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride)


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
