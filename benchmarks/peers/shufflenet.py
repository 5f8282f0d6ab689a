"""A U-Net over ShuffleNetV2, which no library has whole: torchvision's encoder, smp's decoder."""

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn
from torchvision.models import shufflenet_v2_x1_0

# As segmentation-models-pytorch sets them for all its U-Nets.
_DECODER = (256, 128, 64, 32, 16)


class ShuffleUNet(nn.Module):
    """ShuffleNetV2 x1.0 without its last 1x1 convolution, and the decoder of smp's U-Net.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        net = shufflenet_v2_x1_0(weights=None)
        stem = net.conv1[0].out_channels
        net.conv1[0] = nn.Conv2d(in_channels, stem, 3, 2, 1, bias=False)
        self.conv1, self.maxpool = net.conv1, net.maxpool
        self.stages = nn.ModuleList([net.stage2, net.stage3, net.stage4])
        widths = (in_channels, stem, stem, *net._stage_out_channels[1:4])
        self.decoder = UnetDecoder(widths, _DECODER)
        self.head = SegmentationHead(_DECODER[-1], num_classes, kernel_size=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        features = [x, self.conv1(x)]
        features.append(self.maxpool(features[-1]))
        for stage in self.stages:
            features.append(stage(features[-1]))
        logits: torch.Tensor = self.head(self.decoder(features))
        return logits
