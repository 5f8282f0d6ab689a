"""The table of networks that are compared: the classics from their libraries, and ours.

All start from random weights, ours as theirs: nothing is downloaded. Each gives logits at
full size, but for ours and those behind the stem of ours, at half size. MONAI's are of two or
three axes, as the input is; all others but ours are of two only.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import segmentation_models_pytorch as smp
import torch
from monai.networks.nets import UNETR, BasicUNet, SegResNet, SwinUNETR, UNet
from torch import nn
from torch.nn import functional

from bedside.errors import UsageError
from bedside.models import NAMES, create
from bedside.spec import ModelSpec, named_spec, read_recipe, shipped_recipes
from peers.cmunext import CMUNeXt
from peers.fast_scnn import FastSCNN
from peers.mk_unet import MKUNet
from peers.mobile_uvit import MobileUViT
from peers.names import OURS, RECIPES_OWN
from peers.shaped import SHAPED, shape_for_tiles
from peers.shufflenet import ShuffleUNet
from peers.strided import Strided
from peers.tiny_unet import TinyUNet
from peers.transunet import TransUNet
from peers.ultraseg import UltraSeg
from peers.unext import UNeXt

Factory = Callable[[int, int, tuple[int, ...]], nn.Module]
# What all of them can halve as often as they do.
_MULTIPLE = 32


@dataclass(frozen=True)
class Peer:
    """One classic network.

    Attributes:
        title: What people call it.
        source: The library that has it, and how it is set there.
        create: (num_classes, in_channels, size_px) -> network with random weights.
        transformer: Whether 8-bit quantization is to treat it as a Transformer.
        spatial_dims: Numbers of spatial axes that there is one for.
        logit_stride: Stride of its logits.
    """

    title: str
    source: str
    create: Factory
    transformer: bool = False
    spatial_dims: tuple[int, ...] = (2,)
    logit_stride: Literal[1, 2] = 1


@dataclass(frozen=True)
class Network:
    """A network to train or to time.

    Attributes:
        name: Key in the table, or "ours:" and the name of a spec.
        title: What people call it.
        source: Where it is from.
        model: The spec that the data way goes by: classes, channels, stride of the logits.
        create: Builds it with random weights.
        transformer: See `Peer`.
    """

    name: str
    title: str
    source: str
    model: ModelSpec
    create: Callable[[], nn.Module]
    transformer: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is one of ours."""
        return self.name.startswith(OURS)


class Padded(nn.Module):
    """A network that wants multiples of a size, for any one size.

    Args:
        network: What it is, made for `larger`.
        size_px: Size of the input.
        larger: What it is padded to, with zeros at its ends.
    """

    def __init__(
        self, network: nn.Module, size_px: tuple[int, ...], larger: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network, self.size_px = network, size_px
        pairs = zip(reversed(size_px), reversed(larger), strict=True)
        self.padding = [pad for size, wanted in pairs for pad in (0, wanted - size)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, *S) into logits of the same size."""
        logits: torch.Tensor = self.network(functional.pad(x, self.padding))
        return logits[(..., *(slice(size) for size in self.size_px))]


def _monai_unet(channels: tuple[int, ...], *, residual_units: int) -> Factory:
    """MONAI's UNet with batch norm, as in its spleen tutorial: unlike the default, it folds."""
    return lambda num_classes, in_channels, size_px: UNet(
        spatial_dims=len(size_px),
        in_channels=in_channels,
        out_channels=num_classes,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=residual_units,
        norm="batch",
    )


def _basic_unet(features: tuple[int, ...]) -> Factory:
    """MONAI's U-Net of pooling and two convolutions a level, the first level at full size."""
    return lambda num_classes, in_channels, size_px: BasicUNet(
        len(size_px), in_channels, num_classes, features=features, norm="batch"
    )


def _strided_unet(channels: tuple[int, ...], *, residual_units: int) -> Factory:
    """MONAI's UNet at a quarter of the size, between the stem of ours and logits at half of it."""

    def make(num_classes: int, in_channels: int, size_px: tuple[int, ...]) -> nn.Module:
        inside = _monai_unet(channels, residual_units=residual_units)
        return Strided(
            inside(4 * num_classes, channels[0], size_px),
            in_channels=in_channels,
            channels=channels[0],
        )

    return make


def _plain(network: Callable[[int, int], nn.Module]) -> Factory:
    """A network that is the same for every size."""
    return lambda num_classes, in_channels, size_px: network(num_classes, in_channels)


def _smp(architecture: Callable[..., nn.Module], encoder: str) -> Factory:
    return lambda num_classes, in_channels, size_px: architecture(
        encoder, encoder_weights=None, in_channels=in_channels, classes=num_classes
    )


PEERS = {
    "unet": Peer(
        "U-Net",
        "MONAI UNet, 16 to 256 channels, strided, batch norm",
        _monai_unet((16, 32, 64, 128, 256), residual_units=0),
        spatial_dims=(2, 3),
    ),
    "basic-unet": Peer(
        "U-Net at full size",
        "MONAI BasicUNet, 32 to 256 channels, batch norm",
        _basic_unet((32, 32, 64, 128, 256, 32)),
        spatial_dims=(2, 3),
    ),
    "basic-unet-narrow": Peer(
        "U-Net at full size, half as wide",
        "MONAI BasicUNet, 16 to 128 channels, batch norm",
        _basic_unet((16, 16, 32, 64, 128, 16)),
        spatial_dims=(2, 3),
    ),
    "residual-unet": Peer(
        "Residual U-Net",
        "MONAI UNet, 16 to 256 channels, 2 residual units, batch norm",
        _monai_unet((16, 32, 64, 128, 256), residual_units=2),
        spatial_dims=(2, 3),
    ),
    "residual-unet-narrow": Peer(
        "Residual U-Net, half as wide",
        "MONAI UNet, 8 to 128 channels, 2 residual units, batch norm",
        _monai_unet((8, 16, 32, 64, 128), residual_units=2),
        spatial_dims=(2, 3),
    ),
    "segresnet": Peer(
        "SegResNet",
        "MONAI, 16 filters",
        lambda num_classes, in_channels, size_px: SegResNet(
            len(size_px), init_filters=16, in_channels=in_channels, out_channels=num_classes
        ),
        spatial_dims=(2, 3),
    ),
    "mobilenetv3-unet": Peer(
        "MobileNetV3-small U-Net",
        "segmentation-models-pytorch Unet, timm's mobilenetv3_small_100",
        _smp(smp.Unet, "tu-mobilenetv3_small_100"),
    ),
    "shufflenetv2-unet": Peer(
        "ShuffleNetV2 U-Net",
        "torchvision's shufflenet_v2_x1_0 under segmentation-models-pytorch's U-Net decoder",
        lambda num_classes, in_channels, size_px: ShuffleUNet(num_classes, in_channels),
    ),
    "deeplabv3plus": Peer(
        "DeepLabV3+ MobileNetV2",
        "segmentation-models-pytorch DeepLabV3Plus, mobilenet_v2",
        _smp(smp.DeepLabV3Plus, "mobilenet_v2"),
    ),
    "segformer-b0": Peer(
        "SegFormer-B0",
        "segmentation-models-pytorch Segformer, mit_b0",
        _smp(smp.Segformer, "mit_b0"),
        transformer=True,
    ),
    "unetr": Peer(
        "UNETR",
        "MONAI, ViT-B, defaults",
        lambda num_classes, in_channels, size_px: UNETR(
            in_channels, num_classes, size_px, spatial_dims=len(size_px)
        ),
        transformer=True,
        spatial_dims=(2, 3),
    ),
    "swinunetr": Peer(
        "SwinUNETR-24",
        "MONAI, feature size 24",
        lambda num_classes, in_channels, size_px: SwinUNETR(
            in_channels, num_classes, feature_size=24, spatial_dims=len(size_px)
        ),
        transformer=True,
        spatial_dims=(2, 3),
    ),
    "transunet": Peer(
        "TransUNet R50-ViT-B/16",
        "timm's vit_base_r50_s16_224 under a decoder of our own after the paper",
        TransUNet,
        transformer=True,
    ),
    "unet-stride4": Peer(
        "U-Net behind our stem",
        "MONAI UNet, 32 to 256 channels, batch norm, at stride 4, logits at half size",
        _strided_unet((32, 64, 128, 256), residual_units=0),
        logit_stride=2,
    ),
    "residual-unet-stride4": Peer(
        "Residual U-Net behind our stem",
        "MONAI UNet, 32 to 256 channels, 2 residual units, at stride 4, logits at half size",
        _strided_unet((32, 64, 128, 256), residual_units=2),
        logit_stride=2,
    ),
    "fast-scnn": Peer(
        "Fast-SCNN",
        "written here after Poudel et al. 2019, without its auxiliary head",
        FastSCNN,
    ),
    "unext-s": Peer(
        "UNeXt-S",
        "written here after Valanarasu and Patel 2022, 8 to 128 channels",
        _plain(UNeXt),
    ),
    "unext": Peer(
        "UNeXt",
        "written here after Valanarasu and Patel 2022, 16 to 256 channels",
        _plain(functools.partial(UNeXt, widths=(16, 32, 128, 160, 256))),
    ),
    "cmunext-s": Peer(
        "CMUNeXt-S",
        "written here after Tang et al. 2023, 8 to 128 channels, kernels of 3 to 9",
        _plain(CMUNeXt),
    ),
    "tiny-unet": Peer(
        "TinyU-Net",
        "written here after Chen et al. 2024, 64 to 512 channels",
        _plain(TinyUNet),
    ),
    "mk-unet": Peer(
        "MK-UNet",
        "written here after Rahman and Marculescu 2025, 16 to 160 channels, one logit map",
        _plain(MKUNet),
    ),
    "ultraseg-130k": Peer(
        "UltraSeg-130K",
        "written here after Gao et al. 2026, who do not count its 16,384 learned table entries",
        _plain(UltraSeg),
    ),
    "mobile-uvit": Peer(
        "Mobile U-ViT",
        "written here after Tang et al. 2025, 16 to 128 channels, without stochastic depth",
        _plain(MobileUViT),
        transformer=True,
    ),
}
"""The classics, by the name on the command line."""


def find_network(name: str, base: ModelSpec, size_px: tuple[int, ...]) -> Network:
    """Find a network of the table, or one of ours.

    Args:
        name: A key of `PEERS`, "ours:" and the name of a spec or of a shipped recipe, or
            "ours:recipe" for the network that `base` describes.
        base: A recipe's own network: says how many channels and classes are wanted.
        size_px: Size of its input.

    Raises:
        UsageError: If there is none of that name, or not for so many axes.
    """
    if name.startswith(OURS):
        return _find_ours(name, base)
    if name not in PEERS:
        known = ", ".join([*PEERS, *(f"{OURS}{own}" for own in (*NAMES, SHAPED, "recipe"))])
        raise UsageError(f'no network "{name}"; choose one of {known}.')
    peer = PEERS[name]
    if len(size_px) not in peer.spatial_dims:
        raise UsageError(f'"{name}" takes no input of {len(size_px)} axes.')
    return Network(
        name=name,
        title=peer.title,
        source=peer.source,
        model=replace(base, logit_stride=peer.logit_stride),
        create=lambda: _create(peer, base, size_px),
        transformer=peer.transformer,
    )


def _create(peer: Peer, base: ModelSpec, size_px: tuple[int, ...]) -> nn.Module:
    """Build a classic network for an input of any size."""
    larger = tuple(-(-size // _MULTIPLE) * _MULTIPLE for size in size_px)
    network = peer.create(base.num_classes, base.in_channels, larger)
    return network if larger == size_px else Padded(network, size_px, larger)


def _fit_ends(spec: ModelSpec, base: ModelSpec) -> ModelSpec:
    """Give a network the channels and classes of another, of as many axes."""
    if spec.spatial_dims != base.spatial_dims:
        raise UsageError(
            f"a network of {spec.spatial_dims} axes takes no input of {base.spatial_dims}."
        )
    return replace(spec, in_channels=base.in_channels, num_classes=base.num_classes)


def _find_ours(name: str, base: ModelSpec) -> Network:
    """Take one of our named networks for the recipe's channels and classes."""
    own = name.removeprefix(OURS)
    if name == RECIPES_OWN:
        spec = base
    elif own == SHAPED:
        spec = _fit_ends(shape_for_tiles(), base)
    elif own in {path.stem for path in shipped_recipes()}:
        spec = _fit_ends(read_recipe(own).deployment.model, base)
    else:
        spec = named_spec(
            own,
            spatial_dims=base.spatial_dims,
            in_channels=base.in_channels,
            num_classes=base.num_classes,
        )
    return Network(
        name=name,
        title=f"bedside {own}",
        source="bedside, this repository",
        model=spec,
        create=lambda: create(spec),
    )
