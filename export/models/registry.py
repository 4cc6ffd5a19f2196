"""All models by name: one literal table, and every combination of a backbone with an attention module besides."""

from __future__ import annotations

from edgeact.errors import UnknownNameError
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.spec import ModelSpec

__all__ = ["MODELS", "find_model"]

_FORMULAS = {
    "r3d-18": "r3d-18",
    "msf-r3d": "msf-r3d",
    "msf-r3d-fsam": "msf-r3d+fsam",
    "resnet3d-18": "resnet3d-18",
    "resnet3d-50": "resnet3d-50",
    "resnet3d-50+eam": "resnet3d-50+eam",
    "resnext3d-101": "resnext3d-101",
    "resnext3d-101+eam": "resnext3d-101+eam",
    "se-sa-resnet18": "resnet3d-18+se-sa",
    "se-sa-resnext101": "resnext3d-101+se-sa",
    "c3d": "c3d",
    "msf-c3d": "msf-c3d",
    "msf-c3d-fsam": "msf-c3d+fsam?stages=3,5",
    "3drfnet-18": "3drfnet-18",
    "3drfnet-50": "3drfnet-50",
    "cnn3d": "cnn3d",
    "cnn3d-gate": "cnn3d+gate",
}
"""Formulas of the papers' models, by name."""


_SE_SA = "Action Recognition Using Deep 3D CNNs with Sequential Feature Aggregation and Attention"
_PAPERS = {"se-sa-resnet18": _SE_SA, "se-sa-resnext101": _SE_SA}
"""Papers of models that differ from the backbone's paper."""


def _row(name: str, text: str) -> ModelSpec:
    formula = parse_formula(text)
    return ModelSpec(name, formula, formula.backbone.clip, _PAPERS.get(name, formula.backbone.paper))


MODELS: dict[str, ModelSpec] = {name: _row(name, text) for name, text in _FORMULAS.items()}


def find_model(name: str) -> ModelSpec:
    """Return the model called `name`, a row of the table or a formula; a formula that equals a row's gives the row.

    Raises UnknownNameError, which names the nearest.
    """
    if name in MODELS:
        return MODELS[name]
    backbone = name.partition("?")[0].partition("+")[0]
    if backbone not in BACKBONES:
        raise UnknownNameError("model", name, [*MODELS, *BACKBONES])
    text = str(parse_formula(name))
    return next((row for row in MODELS.values() if str(row.formula) == text), None) or _row(text, text)
