"""Data sets: labeled videos in splits; videos of one group stay in one split."""

from edgeact.calibration.datasets.base import Dataset, VideoItem, require_disjoint_groups
from edgeact.calibration.datasets.registry import DATASETS, LOADING_STEP, absolute_spec, load_dataset
from edgeact.calibration.datasets.stick_actions import StickActionsConfig, generate_stick_actions, render_clip

__all__ = [
    "DATASETS",
    "LOADING_STEP",
    "Dataset",
    "StickActionsConfig",
    "VideoItem",
    "absolute_spec",
    "generate_stick_actions",
    "load_dataset",
    "render_clip",
    "require_disjoint_groups",
]
