from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgeact.devices import DeviceProfile, list_profiles, load_profile
from tests.messages import names


@pytest.fixture(params=list_profiles())
def profile(request: pytest.FixtureRequest) -> DeviceProfile:
    return load_profile(request.param)


def test_every_value_has_its_provenance(profile: DeviceProfile) -> None:
    paths = {path for path, _ in profile.values()}

    assert paths == set(profile.provenance)
    assert {"sm", "bandwidth_gb_per_s", "supports_int8"} & paths
    assert {stamp.mark for stamp in profile.provenance.values()} <= {"seen", "inferred"}


@pytest.mark.parametrize("path", ["supports_int8", "modes.25W.watts", "tensorrt.jetpack-6.2.version"])
def test_a_value_without_provenance_is_refused(path: str) -> None:
    fields = load_profile("orin-nano-8gb").model_dump(exclude_unset=True)
    del fields["provenance"][path]

    with pytest.raises(ValidationError, check=names("no provenance for", path)):
        DeviceProfile.model_validate(fields)


def test_provenance_of_nothing_is_refused() -> None:
    fields = load_profile("t4").model_dump(exclude_unset=True)
    del fields["int8_tops_dense"]

    with pytest.raises(ValidationError, check=names("provenance without a value for int8_tops_dense")):
        DeviceProfile.model_validate(fields)


def test_an_int8_rate_without_int8_is_refused() -> None:
    fields = load_profile("t4").model_dump(exclude_unset=True) | {"supports_int8": False}

    with pytest.raises(ValidationError, check=names("states int8_tops_dense, but supports_int8 is false")):
        DeviceProfile.model_validate(fields)


def test_a_profile_cannot_be_changed(profile: DeviceProfile) -> None:
    with pytest.raises(ValidationError, check=names("frozen")):
        profile.supports_int8 = True


def test_rates_agree_with_each_other(profile: DeviceProfile) -> None:
    """A typing error in cores, clock or a rate violates one of these relations."""
    if profile.cuda_cores and profile.gpu_mhz_max and profile.fp32_tflops:
        assert profile.fp32_tflops == pytest.approx(2 * profile.cuda_cores * profile.gpu_mhz_max / 1e6, rel=0.02)
    if profile.fp16_tflops_dense and profile.int8_tops_dense:
        ratio = profile.int8_tops_dense / profile.fp16_tflops_dense
        assert ratio == pytest.approx(2, rel=0.05) or ratio == pytest.approx(4, rel=0.05)  # GeForce: FP32 accumulation
    if profile.fp32_tflops and profile.fp16_tflops_dense:
        assert profile.fp16_tflops_dense > profile.fp32_tflops
    for mode in profile.modes:
        assert (mode.gpu_mhz or 0) <= (profile.gpu_mhz_max or 1e9) * 1.001


def test_int8_follows_the_gpu(profile: DeviceProfile) -> None:
    assert profile.supports_int8 == (profile.sm not in ("5.3", "6.2"))
    assert all(dialect.qdq == profile.supports_int8 for dialect in profile.tensorrt)
    assert (profile.channel_multiple_int8 is None) == (profile.family != "cpu" and not profile.tensor_cores)


def test_dialects_follow_their_tensorrt(profile: DeviceProfile) -> None:
    for dialect in profile.tensorrt:
        major, minor = (int(part) for part in dialect.version.split(".")[:2])
        if dialect.product == "tensorrt-rtx":
            expected = ("strong", 19)
        elif major == 8:
            expected = ("weak", 13 if minor <= 2 else 17)
        else:
            expected = ("either", 17) if major == 10 else ("strong", 19)
        assert (dialect.typing, dialect.opset) == expected
        assert dialect.max_opset is None or dialect.opset <= dialect.max_opset


def test_dialects_are_newest_first(profile: DeviceProfile) -> None:
    plain = [dialect for dialect in profile.tensorrt if dialect.product == "tensorrt"]
    versions = [tuple(int(part) for part in dialect.version.split(".")) for dialect in plain]
    jetpacks = [tuple(int(part) for part in dialect.jetpack.split(".")) for dialect in plain if dialect.jetpack]

    assert versions == sorted(versions, reverse=True)
    assert jetpacks == sorted(jetpacks, reverse=True)
    assert len(jetpacks) == (len(plain) if profile.family == "jetson" else 0)


def test_backends_fit_the_board(profile: DeviceProfile) -> None:
    products = {dialect.product for dialect in profile.tensorrt}

    assert products == set(profile.backends) & {"tensorrt", "tensorrt-rtx"}
    assert profile.backends[-1] == "onnxruntime"
    assert "tensorrt-rtx" not in profile.backends or profile.sm in ("7.5", "8.6", "8.9", "12.0")
    assert ("openvino" in profile.backends) == (profile.family == "cpu")


def test_jetsons_share_their_memory_and_are_recognized_by_soc(profile: DeviceProfile) -> None:
    jetson = profile.family == "jetson"

    assert (profile.soc is not None) == jetson
    assert (profile.architecture == "aarch64") == jetson
    assert profile.memory_shared == (profile.family != "desktop")
    assert bool(profile.gpu_names) == (profile.family == "desktop")
