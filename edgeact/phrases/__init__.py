"""English for every typed reason.

The types are in `edgeact.reasons`, `edgeact.layer_reasons`, `edgeact.pruning_reasons` and `edgeact.self_check_results`.
"""

from edgeact.phrases import _decisions as _decisions
from edgeact.phrases import _layers as _layers
from edgeact.phrases import _loading as _loading
from edgeact.phrases import _pruning as _pruning
from edgeact.phrases import _self_check as _self_check
from edgeact.phrases import _verdicts as _verdicts
from edgeact.phrases._phrase import phrase, phrases

__all__ = ["phrase", "phrases"]
