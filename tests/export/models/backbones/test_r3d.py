"""R3D-18 with MSF modules: options reach every block, and shipped weights keep their names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeact.export.models.backbones.msf import MsfBlock, MultiLevelSplit
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.network_config import NetworkConfig

_OPTIONS = NetworkConfig(5, 16, 4, (32, 32))


def _module(text: str) -> nn.Module:
    with torch.device("meta"):
        return parse_formula(text).build(_OPTIONS)


@pytest.mark.parametrize("groups", [3, 4, 5, 6])
def test_groups_reach_every_split(groups: int) -> None:
    splits = [layer for layer in _module(f"msf-r3d?groups={groups}").modules() if isinstance(layer, MultiLevelSplit)]
    assert len(splits) == 8
    widest = splits[-1]  # 128 channels, which every number of groups can cut
    assert len(widest.branches) == groups - 1


@pytest.mark.parametrize(("msl", "count"), [("a", 8), ("b", 8), ("c", 13), ("d", 8)])
def test_positions_reach_every_block(msl: str, count: int) -> None:
    modules = list(_module(f"msf-r3d?msl={msl}").modules())
    assert sum(isinstance(layer, MsfBlock) for layer in modules) == 8
    assert sum(isinstance(layer, MultiLevelSplit) for layer in modules) == count  # c keeps the three that shrink


def test_weights_keep_their_names() -> None:
    names = set(_module("msf-r3d+fsam").state_dict())
    assert {
        "stem.0.weight",
        "stages.0.0.conv.0.weight",
        "stages.0.0.msl.branches.2.0.weight",
        "stages.1.0.shortcut.1.0.weight",
        "stages.2.2.0.fc.0.weight",
        "stages.3.2.1.conv.weight",
        "classifier.weight",
    } <= names
