"""Light convolutions in two or three dimensions whose batch norm folds away at export."""

import copy
from typing import cast

import torch
from torch import nn

from bedside.layers.conv3d import DepthwiseConv3d, PointwiseConv3d

Conv = nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm2d | nn.BatchNorm3d
CONVOLUTIONS: dict[int, type[Conv]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[Norm]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MEMORY_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def choose_convolution(
    spatial_dims: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False
) -> type[Conv]:
    """Convolution class that trains fast; names of weights and results are the same.

    Example:
        >>> choose_convolution(3, kernel=3, depthwise=True).__name__
        'DepthwiseConv3d'
    """
    if spatial_dims == 3 and stride == 1 and depthwise:
        return DepthwiseConv3d
    if spatial_dims == 3 and stride == kernel == 1:
        return PointwiseConv3d
    return CONVOLUTIONS[spatial_dims]


class SharedConv(nn.Module):
    """A convolution that belongs to another block and is used here as well.

    It is no submodule: its weights are named, counted and saved once, where it belongs.

    Args:
        shared_with: The convolution with its norm, of which only the convolution is used.
    """

    def __init__(self, shared_with: "ConvNorm") -> None:
        super().__init__()
        self._owner = (shared_with,)

    @property
    def owner(self) -> "ConvNorm":
        """The `ConvNorm` that owns it."""
        return self._owner[0]

    @property
    def shared_with(self) -> nn.Module:
        """The convolution itself."""
        return self.owner[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the convolution."""
        result: torch.Tensor = self.shared_with(x)
        return result


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, and optionally a ReLU: one operation once exported.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Kernel size, odd; the padding keeps the size at stride 1, and rounds up
            at others.
        stride: Stride.
        groups: Groups of the convolution.
        activation: Whether a ReLU follows.
        spatial_dims: Spatial axes, 2 or 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
        spatial_dims: int = 2,
    ) -> None:
        convolution = choose_convolution(
            spatial_dims,
            kernel=kernel,
            stride=stride,
            depthwise=1 < groups == in_channels == out_channels,
        )(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            bias=False,
        )
        layers: list[nn.Module] = [convolution, NORMS[spatial_dims](out_channels)]
        if activation:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)

    @property
    def norm(self) -> Norm:
        """The batch norm."""
        return cast(Norm, self[1])

    def share_weights(self, shared_with: "ConvNorm") -> None:
        """Use the convolution of another one of the same shape; the norm stays its own.

        One norm for both would average two statistics that fit neither.
        """
        self[0] = SharedConv(shared_with)


class BranchedConvNorm(nn.Module):
    """A depthwise convolution trained as parallel branches, and one convolution once folded.

    The branches are kernels of the full size, one of size 1, and the identity, each with
    a batch norm; a ReLU may follow their sum.

    Args:
        channels: Channels in and out.
        kernel: Kernel size, odd.
        branches: Number of branches of the full size.
        activation: Whether a ReLU follows.
        spatial_dims: Spatial axes, 2 or 3.

    Source:
        Ding et al., RepVGG, CVPR 2021; several branches as in Vasu et al., MobileOne,
        CVPR 2023.

    Example:
        >>> layer = BranchedConvNorm(4).eval()
        >>> x = torch.rand(1, 4, 6, 6)
        >>> bool((layer.fold()(x) - layer(x)).abs().max() < 1e-6)
        True
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel: int = 3,
        branches: int = 2,
        activation: bool = True,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        kernels = [kernel] * branches + [1]
        self.branches = nn.ModuleList(
            ConvNorm(
                channels,
                channels,
                kernel=k,
                groups=channels,
                activation=False,
                spatial_dims=spatial_dims,
            )
            for k in kernels
        )
        self.identity = NORMS[spatial_dims](channels)
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, *S) into the same shape."""
        total: torch.Tensor = self.identity(x)
        for branch in self.branches:
            total = total + branch(x)
        result: torch.Tensor = self.activation(total)
        return result

    @torch.no_grad()
    def fold(self) -> nn.Sequential:
        """Return one convolution, with the activation, that does the same in evaluation mode."""
        first = cast(Conv, cast(ConvNorm, self.branches[0])[0])
        weight = torch.zeros_like(first.weight, dtype=torch.float64)
        bias = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
        parts = [
            (cast(Conv, cast(ConvNorm, branch)[0]).weight, cast(ConvNorm, branch).norm)
            for branch in self.branches
        ]
        one = torch.ones_like(parts[-1][0])
        for kernel, norm in [*parts, (one, self.identity)]:
            scale, shift = _scale_and_shift(norm)
            scaled = kernel.double() * scale.reshape(-1, *[1] * (kernel.ndim - 1))
            margin = (weight.shape[-1] - kernel.shape[-1]) // 2
            weight += nn.functional.pad(scaled, [margin] * (2 * self.spatial_dims))
            bias += shift
        folded = CONVOLUTIONS[self.spatial_dims](
            first.in_channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
            groups=first.groups,
        ).to(first.weight)
        folded.weight.copy_(weight)
        cast(torch.Tensor, folded.bias).copy_(bias)
        return nn.Sequential(folded, self.activation).train(self.training)


def fold_branches(model: nn.Module) -> nn.Module:
    """Replace, in place, all branched convolutions inside a model by single ones.

    Shared convolutions become copies: the norm behind each folds into its own.

    Args:
        model: A model in evaluation mode; what it computes does not change.

    Returns:
        The model.
    """
    for name, child in model.named_children():
        if isinstance(child, BranchedConvNorm):
            setattr(model, name, child.fold())
        elif isinstance(child, SharedConv):
            setattr(model, name, copy.deepcopy(child.shared_with))
        else:
            fold_branches(child)
    return model


class InvertedResidual(nn.Module):
    """Widen by 1x1, mix space by depthwise 3x3, narrow by 1x1, and add to the input.

    Args:
        channels: Channels in and out.
        mlp_ratio: Inner width over `channels`.
        hidden: Inner width itself, if it is not to be that.
        branched: Whether the depthwise convolution is trained as parallel branches.
        spatial_dims: Spatial axes, 2 or 3.

    Source:
        Sandler et al., MobileNetV2, CVPR 2018.
    """

    def __init__(
        self,
        channels: int,
        *,
        mlp_ratio: int = 2,
        hidden: int | None = None,
        branched: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        hidden = hidden or channels * mlp_ratio
        self.expand = ConvNorm(channels, hidden, spatial_dims=spatial_dims)
        self.spatial: nn.Module = (
            BranchedConvNorm(hidden, spatial_dims=spatial_dims)
            if branched
            else ConvNorm(hidden, hidden, kernel=3, groups=hidden, spatial_dims=spatial_dims)
        )
        self.project = ConvNorm(hidden, channels, activation=False, spatial_dims=spatial_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, *S) into the same shape."""
        update: torch.Tensor = self.project(self.spatial(self.expand(x)))
        return x + update


def _scale_and_shift(norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a batch norm in evaluation mode, in float64."""
    mean, variance = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - mean.double() * scale
