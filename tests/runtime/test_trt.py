"""TensorRT's side as far as it goes without a GPU: the real TensorRT for RTX parses, builds, serializes, refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgeact.errors import BackendUnavailableError, BundleSchemaError, ConversionError, DeviceError
from edgeact.runtime import Session, get_backend
from edgeact.runtime.backends._cuda import Cuda
from edgeact.runtime.backends._trt import BuildOptions, _network_flags, build_engine, deserialize
from edgeact.runtime.backends.tensorrt import build_options
from tests.runtime.making import request, tiny_onnx

STRONG = BuildOptions(strongly_typed=True, compute_capability="SM89")


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


@pytest.fixture
def no_gpu() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed")
    try:
        gpus = Cuda().gpus()
    except DeviceError:
        return
    pytest.skip(f"there is a GPU: {gpus}")


def test_a_conv3d_graph_becomes_an_engine(rtx: Any) -> None:
    engine = build_engine(rtx, tiny_onnx(), STRONG)
    assert len(engine) > 10_000
    assert engine != build_engine(rtx, tiny_onnx(seed=1), STRONG)


def test_options_are_taken_by_the_real_api(rtx: Any) -> None:
    options = BuildOptions(True, allow_tf32=False, workspace_bytes=64 << 20, compute_capability="SM120")
    assert build_engine(rtx, tiny_onnx(), options)


def test_a_refused_node_is_named(rtx: Any) -> None:
    with pytest.raises(ConversionError, match=r"tensorrt_rtx 1\.\d.* refuses the graph: .*node spectrum \(DFT\)"):
        build_engine(rtx, tiny_onnx(bad_node=True), STRONG)


@pytest.mark.parametrize("graph", [b"", b"no graph"])
def test_garbage_is_refused(rtx: Any, graph: bytes) -> None:
    with pytest.raises(ConversionError, match="refuses the graph"):
        build_engine(rtx, graph, STRONG)


@pytest.mark.parametrize("engine", [b"", b"garbage" * 100])
def test_a_broken_engine_is_a_device_error(rtx: Any, engine: bytes) -> None:
    with pytest.raises(DeviceError, match=r"does not open the engine: .*build it again from the graph"):
        deserialize(rtx, engine)


@pytest.mark.usefixtures("no_gpu")
def test_a_real_engine_needs_a_gpu(rtx: Any) -> None:
    with pytest.raises(DeviceError, match="CUDA driver version is insufficient"):
        deserialize(rtx, build_engine(rtx, tiny_onnx(), STRONG))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_backend_says_so(rtx: Any) -> None:
    backend = get_backend("tensorrt-rtx")
    assert "tensorrt-rtx needs an NVIDIA RTX GPU with its driver: CUDA: cudaGetDeviceCount" in str(
        backend.why_unavailable()
    )
    with pytest.raises(DeviceError, match="cudaGetDeviceCount failed"):
        Session(backend, request())


def test_tensorrt_is_never_installed_by_pip_on_a_jetson() -> None:
    reason = get_backend("tensorrt").why_unavailable()
    if reason is None:
        pytest.skip("TensorRT is here")
    assert "python3-libnvinfer" in reason
    assert "--system-site-packages" in reason
    assert "pip install" not in reason


def _names(*names: str) -> Any:
    return SimpleNamespace(__members__={name: index for index, name in enumerate(names)})


RELEASES = {
    "8.5": SimpleNamespace(
        __version__="8.5.2.2",
        BuilderFlag=_names("FP16", "INT8"),
        NetworkDefinitionCreationFlag=_names("EXPLICIT_BATCH"),
    ),
    "10.3": SimpleNamespace(
        __version__="10.3.0.30",
        BuilderFlag=_names("FP16", "INT8", "TF32"),
        NetworkDefinitionCreationFlag=_names("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    ),
    "11.0": SimpleNamespace(
        __version__="11.0.0", BuilderFlag=_names("TF32"), NetworkDefinitionCreationFlag=_names("STRONGLY_TYPED")
    ),
}
WEAK, TYPED = b'{"typing": "weak", "workspace_mib": 1024}', b'{"typing": "strong", "workspace_mib": null}'


@pytest.mark.parametrize(
    ("release", "precision", "recipe", "strong", "flags"),
    [
        ("8.5", "int8", None, False, ("FP16", "INT8")),
        ("8.5", "fp16", WEAK, False, ("FP16",)),
        ("8.5", "fp32", WEAK, False, ()),
        ("10.3", "int8", WEAK, False, ("FP16", "INT8")),
        ("10.3", "fp16", TYPED, True, ()),
        ("11.0", "fp16", TYPED, True, ()),
        ("11.0", "int8", None, True, ()),
        ("11.0", "fp32", WEAK, False, ()),
    ],
)
def test_every_release_gets_what_it_knows(
    release: str, precision: str, recipe: bytes | None, strong: bool, flags: tuple[str, ...]
) -> None:
    options = build_options(RELEASES[release], request(precision=precision, recipe=recipe))
    assert (options.strongly_typed, options.builder_flags) == (strong, flags)
    assert options.workspace_bytes == (1 << 30 if recipe is WEAK else None)


@pytest.mark.parametrize(("release", "recipe"), [("8.5", TYPED), ("11.0", WEAK)])
def test_a_recipe_for_another_release_is_refused(release: str, recipe: bytes) -> None:
    with pytest.raises(BackendUnavailableError, match=r"typing, which .* does not have"):
        build_options(RELEASES[release], request(precision="fp16", recipe=recipe))


@pytest.mark.parametrize(
    "recipe", [b"", b"[]", b"{}", b'{"typing": "loose"}', b'{"typing": "weak", "workspace_mib": "x"}']
)
def test_broken_recipes(recipe: bytes) -> None:
    with pytest.raises(BundleSchemaError, match="'typing' is 'weak' or 'strong'"):
        build_options(RELEASES["10.3"], request(recipe=recipe))


def test_network_flags_by_release() -> None:
    strong, weak = BuildOptions(True), BuildOptions(False)
    assert _network_flags(RELEASES["8.5"], weak) == 0b1
    assert _network_flags(RELEASES["10.3"], strong) == 0b11
    assert _network_flags(RELEASES["10.3"], weak) == 0b1
    assert _network_flags(RELEASES["11.0"], strong) == 0b1
