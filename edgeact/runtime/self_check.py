"""The self-check: an artifact is used on a machine only if it computes the bundle's logits of the golden clip there."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeact.bundle import Artifact, Bundle
from edgeact.errors import SelfCheckError
from edgeact.precision import Precision
from edgeact.runtime.backends.base import Array
from edgeact.runtime.check_cache import OpenedWith, read_check, write_check
from edgeact.runtime.choice import Candidate
from edgeact.runtime.session import Session
from edgeact.self_check_results import SelfCheck, StageResult

if TYPE_CHECKING:
    from edgeact.runtime.golden import GoldenInput

__all__ = ["Check", "SelfChecker", "int8_limit_db", "logits_snr_db", "network_limit_db"]

log = logging.getLogger("edgeact.runtime")

Check = Literal["auto", "always", "never"]
"""When artifacts are checked: 'auto' once for each machine, backend and version, 'always' at each load."""

_EXACT_DB = 160.0  # more than float32 resolves
_LIMITS_DB: dict[Precision, float] = {"fp32": 60.0, "fp16": 20.0, "int8": 20.0}
_LOWEST_DB = 10.0
_MARGIN_DB = 10.0


class SelfChecker:
    """Checks the artifacts of one bundle; results are kept for later loads of this user on this machine."""

    def __init__(self, bundle: Bundle, mode: Check, device: str | None, threads: int | None) -> None:
        self._bundle = bundle
        self._mode = mode
        self._device = device
        self._threads = threads

    def open(self, candidate: Candidate, opener: Callable[[Candidate], Session]) -> tuple[Session, SelfCheck | None]:
        """Open a candidate by `opener` and check it; the result is None if no check was wanted.

        Raises SelfCheckError if a stage fails, without opening if that is known from an earlier load.
        """
        if self._mode == "never" or not candidate.backend.computes:
            return opener(candidate), None
        known = read_check(self._key(candidate)) if self._mode == "auto" else None
        if known is not None:
            _raise_failure(known)
        session = opener(candidate)
        try:
            result = known or self._checked(candidate, session)
            _raise_failure(result)
        except BaseException:
            session.close()
            raise
        return session, result

    def check_once(self, candidate: Candidate, opener: Callable[[Candidate], Session]) -> SelfCheck:
        """Open a candidate by `opener`, check it whatever its backend, and close it."""
        with opener(candidate) as session:
            return self._checked(candidate, session)

    def _checked(self, candidate: Candidate, session: Session) -> SelfCheck:
        """Replay the golden clip through an opened candidate and keep the result; raises what `Session.run` raises."""
        artifact, backend = candidate.artifact, candidate.backend.name
        log.debug("checking %s on %s with the golden clip", artifact.name, backend)
        stages = (*self.golden.stages, self._network_result(artifact, session))
        result = SelfCheck(artifact=artifact.name, backend=backend, device=session.device, stages=stages)
        write_check(self._key(candidate), result)
        return result

    def _key(self, candidate: Candidate) -> OpenedWith:
        return OpenedWith(self._bundle.digest, candidate.artifact.name, candidate.backend, self._device, self._threads)

    @functools.cached_property
    def golden(self) -> GoldenInput:
        """The golden clip's network input, and the results of the stages before the network."""
        from edgeact.runtime.golden import golden_input  # most loads find their result in the cache

        return golden_input(self._bundle)

    def _network_result(self, artifact: Artifact, session: Session) -> StageResult:
        golden = self._bundle.manifest.golden
        if golden is None or self.golden.clip is None:
            return StageResult(stage="network", unchecked=self.golden.missing or "no-golden-clip")
        logits = session.run(self.golden.clip).logits[0]
        expected = artifact.golden_logits or golden.logits
        limit = network_limit_db(artifact, golden.logits)
        return StageResult(stage="network", figure=logits_snr_db(expected, logits), limit=limit)


def network_limit_db(artifact: Artifact, pytorch: Sequence[float]) -> float:
    """Return the smallest SNR of an artifact's logits on a device against its logits at the export.

    FP32 kernels differ in the order of sums, by less than 80 dB in every export; a faster algorithm costs two digits at
    most. FP16 weights are computed in FP16, BF16 or FP32, whatever the device has.

    Kernels that compute the integers of an INT8 graph exactly still round ties and float layers differently, and deep
    networks amplify that, up to the error of quantization itself. On 24 clips of 8 narrow registry models with random
    weights, OpenVINO (with this processor's kernels, and with those for AVX2) and ONNX Runtime agreed with the exact
    integers to 38 dB in the median; the worst were ResNeXt3D-101's 16.9 dB, where the graph has 19.0 dB against
    PyTorch, and 19.1 dB, where it has 25.0 dB. Kernels that do not compute the graph took the shipped model to 11.5 dB
    (OpenVINO's repeated quantization) and 1.0 dB (saturation without VNNI); it has 28 dB against PyTorch. So INT8 needs
    20 dB, or 10 dB less than the artifact's own SNR against PyTorch if that is lower, and never less than the 10 dB
    that an export asks for.

    An artifact whose logits were not recorded is compared with PyTorch, by the limits of an export of INT8.
    """
    if not artifact.golden_logits:
        return _LOWEST_DB
    if artifact.precision == "int8":
        return int8_limit_db(logits_snr_db(pytorch, artifact.golden_logits))
    return _LIMITS_DB[artifact.precision]


def int8_limit_db(own_snr_db: float | None = None) -> float:
    """Return the smallest SNR between exact kernels of an INT8 graph with `own_snr_db` against PyTorch; None: equal."""
    limit = _LIMITS_DB["int8"] if own_snr_db is None else min(_LIMITS_DB["int8"], own_snr_db - _MARGIN_DB)
    return max(round(limit, 1), _LOWEST_DB)


def logits_snr_db(expected: Sequence[float] | Array, logits: Sequence[float] | Array) -> float:
    """Return the SNR in dB of logits of the same shape, at most 160."""
    reference, actual = np.asarray(expected, np.float64), np.asarray(logits, np.float64)
    signal, noise = float(np.square(reference).sum()), float(np.square(actual - reference).sum())
    if noise <= signal * 10 ** (-_EXACT_DB / 10):
        return _EXACT_DB
    return round(10 * math.log10(max(signal, 1e-30) / noise), 2)


def _raise_failure(result: SelfCheck) -> None:
    if failure := result.failure:
        from edgeact.phrases import phrase  # most loads pass, and every import counts on a board

        raise SelfCheckError(f"{failure.artifact} on {failure.backend}: {phrase(failure)}", [failure])
