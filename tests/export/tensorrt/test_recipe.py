"""Build recipes: the graph of every release, and build scripts, which run with a stand-in for trtexec."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from edgeact.devices import list_profiles, load_profile
from edgeact.errors import ConversionError, UnknownNameError
from edgeact.export.tensorrt.recipe import (
    EngineRecipe,
    RecipeGraph,
    ReleaseRecipe,
    build_recipe,
    recipe_json,
    trtexec_script,
    unsuited,
)
from edgeact.phrases import phrase
from edgeact.reasons import ReleaseUnsuited
from tests.export.graph.graphs import dialect
from tests.messages import names

MASTER = RecipeGraph("graphs/master.onnx", "int8", "weak", 17, "clip", (1, 3, 8, 112, 112))
STRONG = dataclasses.replace(MASTER, member="graphs/fp16.onnx", typing="strong", opset=19)
HALF = dataclasses.replace(MASTER, precision="fp16")
EXACT = dataclasses.replace(MASTER, precision="fp32")
HELD = dataclasses.replace(HALF, fp32_layers=("loud", "stage/2.conv"))
_OBEYED = "loud:fp32,stage/2.conv:fp32"
_CONSTRAINTS = ["--precisionConstraints=obey", f"--layerPrecisions={_OBEYED}", f"--layerOutputTypes={_OBEYED}"]


def _release(board: str, graph: RecipeGraph, name: str) -> ReleaseRecipe:
    return next(entry for entry in build_recipe(load_profile(board), graph).releases if entry.name == name)


@pytest.mark.parametrize(
    ("board", "graph", "name", "options"),
    [
        ("orin-nano-8gb", MASTER, "jetpack-5.1", ["--fp16", "--int8", "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", MASTER, "jetpack-6.0", ["--fp16", "--int8", "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", MASTER, "jetpack-6.2", ["--fp16", "--int8", "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", HALF, "jetpack-6.2", ["--fp16", "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", HELD, "jetpack-5.1", ["--fp16", *_CONSTRAINTS, "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", HELD, "jetpack-6.2", ["--fp16", *_CONSTRAINTS, "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", EXACT, "jetpack-6.2", ["--noTF32", "--memPoolSize=workspace:1024"]),
        ("orin-nano-8gb", STRONG, "jetpack-6.2", ["--stronglyTyped", "--memPoolSize=workspace:1024"]),
        ("agx-thor", STRONG, "jetpack-7.2.2", ["--memPoolSize=workspace:4096"]),
        ("orin-nano-4gb", MASTER, "jetpack-5.1", ["--fp16", "--int8", "--memPoolSize=workspace:512"]),
        ("nano", dataclasses.replace(HALF, opset=13), "jetpack-4.6.1", ["--fp16", "--workspace=512"]),
    ],
)
def test_options_follow_the_dialect(board: str, graph: RecipeGraph, name: str, options: list[str]) -> None:
    assert list(_release(board, graph, name).trtexec) == options


JETSONS = [name for name in list_profiles() if load_profile(name).family == "jetson"]
GRAPHS = [
    dataclasses.replace(graph, opset=opset)
    for graph, opsets in ((MASTER, (13, 17)), (HALF, (13, 17)), (EXACT, (13, 17)), (STRONG, (19,)))
    for opset in opsets
]


def _recipes(board: str) -> list[EngineRecipe]:
    recipes = []
    for graph in GRAPHS:
        with contextlib.suppress(ConversionError):
            recipes.append(build_recipe(load_profile(board), graph))
    return recipes


@pytest.mark.parametrize("board", JETSONS)
def test_every_release_of_every_board_is_built_by_some_recipe(board: str) -> None:
    covered = {entry.name for recipe in _recipes(board) for entry in recipe.releases}
    assert covered == {entry.name for entry in load_profile(board).tensorrt}


@pytest.mark.parametrize("board", JETSONS)
def test_recipes_never_mix_strong_typing_and_precision_flags(board: str) -> None:
    for recipe in _recipes(board):
        for entry in recipe.releases:
            flagged = {"--fp16", "--int8"} & set(entry.trtexec)
            assert not flagged or (recipe.typing == "weak" and not entry.tensorrt.startswith("11"))
            assert {f"--{flag.lower()}" for flag in entry.builder_flags} == flagged


def test_releases_that_cannot_take_the_graph_are_listed_with_the_reason() -> None:
    reasons = {
        ("agx-thor", "jetpack-7.2.2"): ReleaseUnsuited(requirement="typing", limit="strong", got="weak"),
        ("xavier-nx", "jetpack-4.6.1"): ReleaseUnsuited(requirement="opset", limit="13", got="17"),
    }
    for (board, release), reason in reasons.items():
        assert unsuited(dialect(board, release), MASTER) == reason
        assert build_recipe(load_profile(board), MASTER).not_for[release] == phrase(reason)
    new = build_recipe(load_profile("orin-nano-8gb"), STRONG)
    assert set(new.not_for) == {"jetpack-5.1", "jetpack-6.0"}


def test_layers_that_remain_in_fp32_are_reported_under_weak_typing_only() -> None:
    recipe = build_recipe(load_profile("orin-nano-8gb"), HELD)
    assert recipe.fp32_layers == ("loud", "stage/2.conv")
    assert recipe.releases[0].builder_flags == ("FP16", "OBEY_PRECISION_CONSTRAINTS")
    assert build_recipe(load_profile("orin-nano-8gb"), HALF).fp32_layers == ()
    typed = dataclasses.replace(STRONG, fp32_layers=HELD.fp32_layers)
    assert build_recipe(load_profile("agx-thor"), typed) == build_recipe(load_profile("agx-thor"), STRONG)


def test_a_release_that_cannot_keep_layers_in_fp32_is_not_served() -> None:
    old = dataclasses.replace(HELD, opset=13)
    recipe = build_recipe(load_profile("xavier-nx"), old)
    reason = ReleaseUnsuited(requirement="layer-precision", got="loud")
    assert recipe.not_for["jetpack-4.6.1"] == phrase(reason)
    assert [entry.name for entry in recipe.releases] == ["jetpack-5.1", "jetpack-5.0.2"]
    with pytest.raises(ConversionError, check=names("Jetson Nano", "cannot keep single layers in FP32", "use fp32")):
        build_recipe(load_profile("nano"), old)


@pytest.mark.parametrize("name", ["", "a:b", "a,b", "*", "it's", "Conv -> y", "a\nb"])
def test_names_that_trtexec_would_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(
        ConversionError, check=names("kept in FP32: expected a name that trtexec can read", "rename the layer")
    ):
        build_recipe(load_profile("orin-nano-8gb"), dataclasses.replace(HELD, fp32_layers=("good", name)))


def test_board_without_int8_gets_fp16_only() -> None:
    old = dataclasses.replace(MASTER, opset=13)
    with pytest.raises(ConversionError, check=names("Jetson Nano", "computes no INT8 on this GPU: use fp16")):
        build_recipe(load_profile("nano"), old)
    assert build_recipe(load_profile("nano"), dataclasses.replace(old, precision="fp16")).releases


def test_target_without_tensorrt_is_refused() -> None:
    with pytest.raises(ConversionError, check=names("the board has no TensorRT")):
        build_recipe(load_profile("intel-cpu"), MASTER)


def test_text_is_deterministic_and_reads_back() -> None:
    recipe = build_recipe(load_profile("orin-nano-8gb"), MASTER)
    text = recipe_json(recipe)
    assert EngineRecipe.model_validate_json(text) == recipe
    assert text == recipe_json(recipe)
    document = json.loads(text)
    assert list(document) == sorted(document)
    assert document["input"] == {"name": "clip", "shape": [1, 3, 8, 112, 112], "dtype": "float32"}
    assert document["fp32_layers"] == []
    strong = json.loads(recipe_json(build_recipe(load_profile("orin-nano-8gb"), STRONG)))
    assert "fp32_layers" not in strong


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Return a folder of stand-ins: dpkg-query lists libnvinfer10 10.3.0.30, trtexec records its arguments."""
    tools = tmp_path / "bin"
    tools.mkdir()
    _tool(tools / "dpkg-query", 'case "$*" in *libnvinfer10*) printf 10.3.0.30-1+cuda12.5 ;; *) exit 1 ;; esac')
    _tool(
        tools / "trtexec",
        f'echo "$@" > {tmp_path}/arguments; for a; do case $a in --saveEngine=*) '
        'echo engine > "${a#--saveEngine=}" ;; esac; done; test ! -e ' + f"{tmp_path}/fail",
    )
    (tmp_path / "my graph.onnx").touch()
    return tmp_path


def _tool(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _build(board: Path, release: str) -> subprocess.CompletedProcess[str]:
    script = board / "build.sh"
    script.write_text(trtexec_script(build_recipe(load_profile("orin-nano-8gb"), MASTER), release))
    command = ["/bin/sh", str(script), str(board / "my graph.onnx"), str(board / "my.engine")]
    environment = {"PATH": f"{board / 'bin'}:/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_script_builds_the_engine(board: Path) -> None:
    done = _build(board, "jetpack-6.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert (board / "my.engine").read_text() == "engine\n"
    assert not (board / "my.engine.part").exists()
    arguments = (board / "arguments").read_text()
    assert arguments == (
        f"--onnx={board}/my graph.onnx --saveEngine={board}/my.engine.part --fp16 --int8 --memPoolSize=workspace:1024\n"
    )


def test_script_stops_on_a_board_with_another_release(board: Path) -> None:
    done = _build(board, "jetpack-5.1")
    assert done.returncode == 1
    assert "expected TensorRT 8.5.2 (libnvinfer8), found 'none'" in done.stderr
    assert not (board / "my.engine").exists()


def test_script_leaves_nothing_half_written(board: Path) -> None:
    (board / "fail").touch()
    assert _build(board, "jetpack-6.2").returncode != 0
    assert not list(board.glob("*.engine*"))


def test_unknown_release_names_the_nearest() -> None:
    recipe = build_recipe(load_profile("orin-nano-8gb"), MASTER)
    with pytest.raises(UnknownNameError, check=names("jetpack-6.2")):
        trtexec_script(recipe, "jetpack-6.22")
