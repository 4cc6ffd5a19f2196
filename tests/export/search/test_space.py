"""What there is to choose: stages by the model's own names, and only what can be chosen."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from edgeact.errors import ModelError
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import resized_clip
from edgeact.export.prune import PruneRequest, plan_pruning
from edgeact.export.search.space import Config, Space, groups_of, prunable
from tests.export.colours import ColourNet
from tests.export.search.making import SPACE
from tests.messages import names


def _narrow(name: str) -> nn.Module:
    """The model without its weights' values: only names are looked at."""
    spec = find_model(name)
    with torch.device("meta"):
        return spec.build(spec.config(5, width=8, clip=resized_clip(spec.clip, clip_frames=4, size=32)))


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_belongs_to_one_stage(name: str) -> None:
    module = _narrow(name)
    groups = groups_of(module)
    layers = [one for one, layer in module.named_modules() if isinstance(layer, (nn.Conv3d, nn.Linear))]
    assert all(sum(group.holds(layer) for group in groups) == 1 for layer in layers)
    assert 2 <= len(groups) <= 8
    assert len({group.name for group in groups}) == len(groups)


def test_stages_have_the_models_names() -> None:
    module = _narrow("msf-r3d-fsam")
    names = [group.name for group in groups_of(module)]
    assert names == ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "classifier"]
    assert [group.name for group in groups_of(ColourNet())] == ["stem", "body", "head"]


def test_many_modules_are_put_together_in_their_order() -> None:
    layers: OrderedDict[str, nn.Module] = OrderedDict((f"layer{index}", nn.Conv3d(4, 4, 1)) for index in range(20))
    groups = groups_of(nn.Sequential(layers))
    assert len(groups) == 8
    assert [module for group in groups for module in group.modules] == list(layers)
    assert groups[0].name == "layer0..layer2"
    assert not groups[0].holds("layer10")


def test_a_model_without_layers_has_nothing_to_search() -> None:
    with pytest.raises(ModelError, check=names("expected a convolution or linear layer")):
        groups_of(nn.ReLU())


def test_every_ratio_of_the_space_is_a_plan() -> None:
    model = load_model("cnn3d-gate", LoadRequest(random_weights=True, width=8, clip_frames=4, size=32))
    groups = groups_of(model.module)
    found, multiple = prunable(model.module, model.clip.input_shape, groups, 16)
    assert found
    assert multiple in (2, 4, 8)  # stages of 8 channels have none of 16 to spare
    space = Space(groups=groups, prunable=found, channel_multiple=multiple, int8=False, clips=SPACE.clips)
    params = {name: values[-1] for name, values in space.choices.items()}
    request = PruneRequest(0.0, ratios=space.pruning(space.config(params)), channel_multiple=multiple)
    assert plan_pruning(model.module, model.clip.input_shape, request).macs[1] > 0


def test_choices_and_configurations() -> None:
    assert set(SPACE.choices) == {"prune.stem", "prune.body", "precision.stem", "precision.body", "clip"}
    assert SPACE.size == 7 * 7 * 2 * 2 * 2 == len(list(SPACE.all()))
    config = SPACE.config(
        {"prune.stem": 0.25, "prune.body": 0.0, "precision.stem": "float", "precision.body": "int8", "clip": "2x32"}
    )
    assert config == Config(ratios={"stem": 0.25, "body": 0.0}, int8=("body",), clip=SPACE.clips[1])
    assert config.pruned == {"stem": 0.25}
    assert config.summary == "prune stem 0.25; int8 body; clips 2x32"
    assert SPACE.pruning(config) == {"stem": 0.25, "body": 0.0}


def test_what_is_drawn_and_begun_with_is_of_the_space() -> None:
    rng = np.random.default_rng(0)
    for params in [*SPACE.first(), *(SPACE.drawn(rng) for _ in range(20))]:
        assert params.keys() == SPACE.choices.keys()
        assert all(value in SPACE.choices[name] for name, value in params.items())
    first = [SPACE.config(params) for params in SPACE.first()]
    assert first[0].pruned == {}
    assert first[0].int8 == ()


def test_a_space_of_one_point_is_refused() -> None:
    nothing = SPACE.model_copy(update={"prunable": {}, "int8": False, "clips": SPACE.clips[:1]})
    with pytest.raises(ModelError, check=names("nothing to search")):
        _ = nothing.choices
