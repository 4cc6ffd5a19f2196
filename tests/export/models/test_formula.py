"""Formulas: one text for one model, options to the part that has them, and what is wrong said clearly."""

from __future__ import annotations

import itertools

import pytest
import torch

from edgeact.errors import EdgeactError, UnknownNameError, UsageError
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS, find_model
from tests.messages import names

_COMBINATIONS = [*BACKBONES, *("+".join(pair) for pair in itertools.product(BACKBONES, ATTENTIONS))]


@pytest.mark.slow
@pytest.mark.parametrize("text", _COMBINATIONS)
def test_every_attention_stands_in_every_backbone(text: str) -> None:
    options = NetworkConfig(5, 16, 4, (32, 32))
    with torch.device("meta"):
        module = parse_formula(text).build(options)
        assert module(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 5)
        if "+" in text:
            backbone = parse_formula(text.partition("+")[0]).build(options)
            assert len(list(module.modules())) > len(list(backbone.modules()))


@pytest.mark.parametrize("text", _COMBINATIONS)
def test_str_of_a_formula_is_its_text(text: str) -> None:
    assert str(parse_formula(text)) == text


@pytest.mark.parametrize("pair", list(itertools.product(BACKBONES, ATTENTIONS)), ids="+".join)
def test_no_option_belongs_to_two_parts(pair: tuple[str, str]) -> None:
    own, other = BACKBONES[pair[0]].options.model_fields, ATTENTIONS[pair[1]].options.model_fields
    assert not set(own) & set(other)


def test_options_are_written_in_one_order_and_defaults_left_out() -> None:
    assert str(parse_formula("msf-r3d+fsam?stages=4&parts=8")) == "msf-r3d+fsam?parts=8&stages=4"
    assert str(parse_formula("msf-r3d+fsam?stages=3,4&parts=16")) == "msf-r3d+fsam"


def test_a_row_and_its_formula_are_one_model() -> None:
    assert find_model("msf-r3d+fsam?stages=3,4") is MODELS["msf-r3d-fsam"]


def test_stages_say_if_the_module_stands() -> None:
    module = parse_formula("r3d-18+fsam?stages=2").build(NetworkConfig(5, 16, 4, (32, 32)))
    assert {name.split(".")[1] for name, _ in module.named_parameters() if ".fc." in name} == {"1"}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("r3d-81", UnknownNameError, ("unknown backbone 'r3d-81'; did you mean r3d-18",)),
        ("r3d-18+fsma", UnknownNameError, ("unknown attention 'fsma'; did you mean fsam",)),
        ("r3d-18+fsam?part=3", UnknownNameError, ("unknown option of 'r3d-18+fsam' 'part'; did you mean parts",)),
        ("r3d-18+fsam?parts=99", UsageError, ("option parts:", "less than or equal to 32, got '99'")),
        ("r3d-18+fsam?parts=3&parts=4", UsageError, ("expected every option once",)),
        ("r3d-18+fsam?stages=4,5", UsageError, ("expected stages within 1 to 4, got 4,5",)),
        ("r3d-18+fsam?parts", UsageError, ("expected option=value&option=value",)),
    ],
)
def test_malformed_formula_is_refused(text: str, kind: type[EdgeactError], message: tuple[str, ...]) -> None:
    with pytest.raises(kind, check=names(*message)):
        parse_formula(text)
