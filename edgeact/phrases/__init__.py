"""English for every typed reason and decision of `edgeact.reasons` and `edgeact.layer_reasons`."""

from edgeact.phrases import _decisions as _decisions
from edgeact.phrases import _layers as _layers
from edgeact.phrases import _verdicts as _verdicts
from edgeact.phrases._phrase import phrase, phrases

__all__ = ["phrase", "phrases"]
