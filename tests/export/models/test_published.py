"""The papers' own figures: parameters within 0.5 %, multiply-accumulates within 2 %, or the reason why not."""

from __future__ import annotations

import functools

import pytest
import torch

from edgeact.export.models.cost import Cost, measure_cost
from edgeact.export.models.published import Figure, published_figures
from edgeact.export.models.registry import find_model
from edgeact.export.models.spec import resized_clip

_FIGURES = published_figures()
_PARAMETERS, _GMACS = 0.005, 0.02


def _name(figure: Figure) -> str:
    return f"{figure.source}: {figure.model}, {figure.clip_frames} frames"


@functools.cache
def _cost(figure: Figure) -> Cost:
    spec = find_model(figure.model)
    options = spec.config(figure.classes, clip=resized_clip(spec.clip, clip_frames=figure.clip_frames))
    with torch.device("meta"):  # shapes alone, nothing is computed
        return measure_cost(spec.build(options), options.input_shape)


@pytest.mark.slow
@pytest.mark.parametrize("figure", [figure for figure in _FIGURES if figure.parameters_m], ids=_name)
def test_parameters_are_the_published_ones(figure: Figure) -> None:
    found = _cost(figure).parameters / 1e6 == pytest.approx(figure.parameters_m, rel=_PARAMETERS)
    assert found == (figure.why_parameters is None)  # a reason that is not needed is wrong


@pytest.mark.slow
@pytest.mark.parametrize("figure", [figure for figure in _FIGURES if figure.gmacs], ids=_name)
def test_multiply_accumulates_are_the_published_ones(figure: Figure) -> None:
    found = _cost(figure).macs / 1e9 == pytest.approx(figure.gmacs, rel=_GMACS)
    assert found == (figure.why_gmacs is None)  # a reason that is not needed is wrong


@pytest.mark.parametrize("name", ["msf-r3d", "msf-r3d+fsam"])
def test_the_msf_paper_is_met_to_the_last_digit(name: str) -> None:
    figure = next(figure for figure in _FIGURES if figure.model == name)
    assert round(_cost(figure).parameters / 1e6, 2) == figure.parameters_m


def test_published_figures_are_unique() -> None:
    keys = [(figure.model, figure.source, figure.clip_frames) for figure in _FIGURES]
    assert len(keys) == len(set(keys))
