"""Multilevel spatio-temporal feature fusion: the MSL split and the MSF module, for any backbone that takes blocks.

Paper: Multilevel Spatiotemporal Feature Fusion with FSAM ("MSF-R3D"), section 3.1 with figure 2, and figure 8 with
tables 1 and 2 for the variants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.export.models.layers import HalvingMaxPool, conv_bn
from edgeact.export.models.part_options import PartOptions
from edgeact.export.models.pruning.plan import LayerCut

__all__ = ["MsfBlock", "MsfOptions", "MultiLevelSplit"]


class MsfOptions(PartOptions):
    """Options of the MSF module."""

    groups: int = Field(default=4, ge=3, le=6)
    """Number of groups that MSL splits the channels into (S of table 2)."""
    msl: Literal["a", "b", "c", "d"] = "b"
    """Position of MSL in the block (figure 8, table 1); see `MsfBlock`."""


class MultiLevelSplit(nn.Module):
    """MSL: channel groups convolved in a cascade, each fed half of the one before (section 3.1, eq. 2 to 4).

    y1 = x1; y_i = conv(cat[x_i, second half of y_(i-1)]); the output is cat[x1, first halves, last y].
    The second half of y1 is not fed on, and groups are those of `torch.chunk`: all of one size but a smaller last one.
    Of the readings of the text, this one gives the paper's parameter counts: within 0.1 % for every S.
    A width that `chunk` cannot cut into so many groups gets fewer.
    """

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        sizes = [len(part) for part in torch.arange(channels).chunk(groups)]
        branches, carried = [], 0
        self.carries: list[int] = []
        """Number of channels that each branch but the last passes to the next; pruning may lower them."""
        for size in sizes[1:]:
            width = size + carried
            branches.append(conv_bn(width, width))
            carried = width // 2
            self.carries.append(carried)
        del self.carries[-1:]
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, T, H, W)` to the same shape."""
        # Sizes are read from the convolutions, which pruning may have cut.
        convs = [layer for layer in self.branches.modules() if isinstance(layer, nn.Conv3d)]
        sizes = [conv.in_channels - carry for conv, carry in zip(convs, [0, *self.carries], strict=True)]
        first, *pieces = torch.split(x, [x.shape[1] - sum(sizes), *sizes], dim=1)
        outputs: list[Tensor] = [first]
        carried: Tensor | None = None
        for index, (branch, piece) in enumerate(zip(self.branches, pieces, strict=True)):
            y = branch(piece if carried is None else torch.cat([piece, carried], dim=1))
            kept, carried = y, None
            if index < len(self.carries) and self.carries[index]:  # nothing is split off
                kept, carried = torch.split(y, [y.shape[1] - self.carries[index], self.carries[index]], dim=1)
            outputs.append(kept)
        return torch.cat(outputs, dim=1)

    def layers_cut(self, cuts: Mapping[str, LayerCut]) -> None:
        """Recount the carried channels, the last of each branch (`CutListener`)."""
        for index, carried in enumerate(self.carries):
            cut = cuts.get(f"branches.{index}.0")
            if cut and cut.outputs:
                first = cut.outputs.before - carried
                self.carries[index] = sum(channel >= first for channel in cut.outputs.indices)


class MsfBlock(nn.Module):
    """The MSF module: ReLU(X + Y + shortcut), X computed from the input, Y from X (section 3.1, figure 2).

    Figure 8 is not described in full; these are the readings that give table 1's parameters within 0.1 %:

    * b, the paper's own: X by a 3x3x3 convolution, Y by MSL;
    * a: X by MSL, Y by a 3x3x3 convolution. MSL keeps shape and channels, and its convolutions have stride 1 by the
      text, so if the block changes either, the input is first pooled and projected, as on the shortcut;
    * c: b, with MSL for X too if the block changes neither;
    * d: b, with X by a temporal 3x1x1 and then a spatial 1x3x3 convolution. The other order needs 1.0 M less than
      printed.

    The shortcut shrinks by max pooling, which keeps more texture than a strided 1x1x1 convolution, then projects; it
    projects if channels change or if `project` is set. The submodules are named as in b: `conv` computes X, `msl` Y.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, options: MsfOptions | None = None, *, project: bool = False
    ) -> None:
        super().__init__()
        options = options or MsfOptions()
        self.conv = _first(inputs, outputs, stride, options)
        self.msl: nn.Module
        if options.msl == "a":
            self.msl = conv_bn(outputs, outputs, relu=False)
        else:
            self.msl = MultiLevelSplit(outputs, options.groups)
        same = stride == 1 and inputs == outputs and not project
        self.shortcut = nn.Identity() if same else _resized(inputs, outputs, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, T, H, W)` to `(N, outputs, T / stride, H / stride, W / stride)`."""
        y = self.conv(x)
        return torch.relu(y + self.msl(y) + self.shortcut(x))


def _first(inputs: int, outputs: int, stride: int, options: MsfOptions) -> nn.Module:
    """Return the layers that compute X."""
    if options.msl == "d":
        return nn.Sequential(
            conv_bn(inputs, outputs, (3, 1, 1), (stride, 1, 1)),
            conv_bn(outputs, outputs, (1, 3, 3), (1, stride, stride)),
        )
    same = stride == 1 and inputs == outputs
    if options.msl == "b" or (options.msl == "c" and not same):
        return conv_bn(inputs, outputs, stride=stride)
    split = MultiLevelSplit(outputs, options.groups)
    return split if same else nn.Sequential(_resized(inputs, outputs, stride, relu=True), split)


def _resized(inputs: int, outputs: int, stride: int, *, relu: bool) -> nn.Sequential:
    """Return a 1x1x1 projection, behind max pooling if the stride is not 1."""
    projection = conv_bn(inputs, outputs, 1, relu=relu)
    return projection if stride == 1 else nn.Sequential(HalvingMaxPool(), projection)
