"""Layers shared by the backbones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HalvingMaxPool", "SelfInitialized", "channel_mlp", "conv_bn", "initialize", "spatial_mean"]

Triple = tuple[int, int, int]


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int | Triple = 3,
    stride: int | Triple = 1,
    *,
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Return Conv3d without bias, with 'same' padding at stride 1, then batch norm and, if `relu`, ReLU."""
    sizes = (kernel, kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sizes[0] // 2, sizes[1] // 2, sizes[2] // 2)
    layers: list[nn.Module] = [
        nn.Conv3d(inputs, outputs, sizes, stride, padding, groups=groups, bias=False),
        nn.BatchNorm3d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def channel_mlp(channels: int, reduction: int) -> nn.Sequential:
    """Return two linear layers without bias, ReLU between, and a bottleneck of `channels // reduction`, at least 1."""
    hidden = max(channels // reduction, 1)
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=False)
    )


class HalvingMaxPool(nn.Module):
    """Max pooling that halves T, H and W and rounds up, as a 3x3x3 convolution of stride 2 does.

    An axis of length 1 is not pooled: OpenVINO and TensorRT refuse a kernel larger than its axis.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, T, H, W)` to `(N, C, ceil(T / 2), ceil(H / 2), ceil(W / 2))`."""
        kernel = [min(2, edge) for edge in x.shape[2:]]
        return functional.max_pool3d(x, kernel, ceil_mode=True)


class SelfInitialized(nn.Module):
    """A module that initializes its own parameters, in any backbone."""

    def initialize_parameters(self) -> None:
        """Initialize the parameters; called after the backbone has initialized all layers."""
        raise NotImplementedError


def spatial_mean(x: Tensor) -> Tensor:
    """Return the mean over T, H and W: `(N, C, T, H, W)` -> `(N, C)`."""
    return x.mean(dim=(2, 3, 4))


def initialize(module: nn.Module) -> None:
    """Initialize as torchvision's video ResNets, Kaiming-normal and unit batch norms; then every `SelfInitialized`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        if isinstance(layer, (nn.Conv3d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, SelfInitialized):
            layer.initialize_parameters()
