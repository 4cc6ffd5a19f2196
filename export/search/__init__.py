"""The search: which pruning, precision and clip give the best latency at which accuracy, within budgets."""

from edgeact.export.search.front import shortfall
from edgeact.export.search.replay import export_trial
from edgeact.export.search.search import SearchRequest, TrialFinished, search
from edgeact.export.search.study import Budgets

__all__ = ["Budgets", "SearchRequest", "TrialFinished", "export_trial", "search", "shortfall"]
