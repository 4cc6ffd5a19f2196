"""The bundle: one file with a model's artifacts, clip contract, golden clip and provenance."""

from edgeact.bundle.manifest import (
    FORMAT_VERSION,
    Artifact,
    BundleDraft,
    Calibration,
    Golden,
    Manifest,
    Member,
    ModelInfo,
)
from edgeact.bundle.reader import Bundle, open_bundle
from edgeact.bundle.trust import is_vouched, require_trust, vouch
from edgeact.bundle.writer import replace_measurements, write_bundle

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "Bundle",
    "BundleDraft",
    "Calibration",
    "Golden",
    "Manifest",
    "Member",
    "ModelInfo",
    "is_vouched",
    "open_bundle",
    "replace_measurements",
    "require_trust",
    "vouch",
    "write_bundle",
]
