"""Estimates for boards that are not at hand: by the board's rates, the layer's precision, and nothing measured."""

from __future__ import annotations

import pytest

from edgeact.devices import DeviceProfile, load_profile
from edgeact.errors import UsageError
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.search.estimate import estimate_ms
from tests.messages import names

MODEL = load_model("msf-r3d-fsam", LoadRequest(random_weights=True, width=8, clip_frames=4, size=32))


def _estimate(profile: DeviceProfile, int8: tuple[str, ...] = ()) -> float:
    shape = MODEL.clip.input_shape
    return estimate_ms(MODEL.module, shape, profile, lambda layer: "int8" if layer.startswith(int8) else "fp16")


def test_faster_boards_have_lower_estimates() -> None:
    assert _estimate(load_profile("rtx-4090")) < _estimate(load_profile("orin-nano-8gb"))


def test_stages_in_int8_count_by_themselves() -> None:
    """What each saves adds up to what all save."""
    profile = load_profile("orin-nano-8gb")
    plain, whole = _estimate(profile), _estimate(profile, ("stem", "stages", "classifier"))
    saved = [plain - _estimate(profile, (stage,)) for stage in ("stem", "stages", "classifier")]
    assert plain - whole == pytest.approx(sum(saved))
    assert all(saved)


def test_unknown_rates_are_reported() -> None:
    profile = load_profile("orin-nano-8gb").model_copy(update={"bandwidth_gb_per_s": None})
    with pytest.raises(UsageError, check=names("no peak rate in fp16 is known")):
        _estimate(profile)
