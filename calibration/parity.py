"""Agreement of an artifact with PyTorch FP32 on the same clips."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from edgeact.errors import InputError
from edgeact.records import Parity, ParityLimits, Precision

__all__ = ["LIMITS", "compare_logits"]

Array = npt.NDArray[np.float32]

# FP32 must be rounding noise. FP16 carries 11 bits of mantissa through some forty layers. INT8 is judged by what it
# decides: its accuracy has a budget of its own, this only catches a broken artifact.
# On a few clips the agreement of a good artifact scatters: it fails where one that agrees on as many clips as the limit
# says would come out so low less often than this.
_SIGNIFICANCE = 0.025
LIMITS: dict[Precision, ParityLimits] = {
    "fp32": ParityLimits(max_abs_error=1e-3, snr_db=80.0, top1_agreement=1.0),
    "fp16": ParityLimits(max_abs_error=None, snr_db=35.0, top1_agreement=0.98),
    "int8": ParityLimits(max_abs_error=None, snr_db=10.0, top1_agreement=0.9),
}


def compare_logits(reference: Array, candidate: Array, precision: Precision, *, trained: bool = True) -> Parity:
    """Compare logits `(clips, classes)` and judge them by the limits of `precision`.

    An untrained model decides nothing, so its top-1 agreement is told but not limited. A limited one fails where it is
    significantly below the limit (one-sided exact binomial test): few clips of a hesitant model prove nothing.

    In FP32 two classes whose reference logits differ by less than twice the largest error count as the same decision.
    Raises InputError where shapes differ or one of them holds NaN or infinity.
    """
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise InputError(f"expected logits of shape {reference.shape}, got {candidate.shape}")
    if not np.isfinite(reference).all():
        raise InputError("expected finite logits of PyTorch, got NaN or infinity; check the model's weights")
    if not np.isfinite(candidate).all():
        raise InputError("the artifact returned NaN or infinity; its range overflowed")
    limits = LIMITS[precision] if trained else LIMITS[precision].model_copy(update={"top1_agreement": 0.0})
    error = candidate.astype(np.float64) - reference.astype(np.float64)
    max_abs_error = float(np.abs(error).max())
    noise, signal = float((error**2).sum()), float((reference.astype(np.float64) ** 2).sum())
    snr_db = None if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)
    agreeing = _agreeing(reference, candidate, max_abs_error if precision == "fp32" else 0.0)
    passed = (
        (limits.max_abs_error is None or max_abs_error <= limits.max_abs_error)
        and (snr_db is None or snr_db >= limits.snr_db)
        and bool(binomtest(agreeing, len(reference), limits.top1_agreement, "less").pvalue >= _SIGNIFICANCE)
    )
    return Parity(
        clips=len(reference),
        max_abs_error=max_abs_error,
        snr_db=snr_db,
        top1_agreement=agreeing / len(reference),
        limits=limits,
        passed=passed,
    )


def _agreeing(reference: Array, candidate: Array, tie: float) -> int:
    """Clips of the same decision."""
    rows = np.arange(len(reference))
    best, other = reference.argmax(axis=1), candidate.argmax(axis=1)
    gap = reference[rows, best] - reference[rows, other]
    return int(((best == other) | (gap <= 2 * tie)).sum())
