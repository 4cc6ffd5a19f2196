"""Compare the logits of an artifact with those of PyTorch FP32 on the same clips."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from edgeact.errors import InputError
from edgeact.precision import Precision
from edgeact.records import Parity, ParityLimits

__all__ = ["LIMITS", "compare_logits"]

Array = npt.NDArray[np.float32]

_SIGNIFICANCE = 0.025  # of the binomial test of top-1 agreement
# FP32 allows rounding noise only. FP16 carries 11 bits of mantissa through some forty layers. The limits of INT8 only
# reject broken artifacts: its accuracy drop has a budget of its own.
LIMITS: dict[Precision, ParityLimits] = {
    "fp32": ParityLimits(max_abs_error=1e-3, snr_db=80.0, top1_agreement=1.0),
    "fp16": ParityLimits(max_abs_error=None, snr_db=35.0, top1_agreement=0.98),
    "int8": ParityLimits(max_abs_error=None, snr_db=10.0, top1_agreement=0.9),
}


def compare_logits(reference: Array, candidate: Array, precision: Precision, *, trained: bool = True) -> Parity:
    """Compare logits, float32 `(clips, classes)`, and check them against the limits of `precision`.

    Top-1 agreement fails if it is significantly below its limit, by a one-sided exact binomial test: on few clips, even
    a good artifact scatters. The agreement of an untrained model is recorded but not limited. In FP32, two classes
    whose reference logits differ by less than twice the largest error count as the same decision. Raises InputError if
    the shapes differ or if logits are NaN or infinite.
    """
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise InputError(f"logits of the artifact: expected shape {reference.shape}, got {candidate.shape}")
    if not np.isfinite(reference).all():
        raise InputError("logits of PyTorch: expected finite values, got NaN or infinity; check the model's weights")
    if not np.isfinite(candidate).all():
        raise InputError(
            "logits of the artifact: expected finite values, got NaN or infinity; an activation overflowed"
        )
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
    """Return the number of clips with the same top-1 class; `tie` is the largest error of a logit."""
    rows = np.arange(len(reference))
    best, other = reference.argmax(axis=1), candidate.argmax(axis=1)
    gap = reference[rows, best] - reference[rows, other]
    return int(((best == other) | (gap <= 2 * tie)).sum())
