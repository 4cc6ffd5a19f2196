from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

import edgeact.devices
from edgeact.devices import ALIASES, list_profiles, load_profile, parse_profile
from edgeact.devices.registry import jetpack_of_l4t
from edgeact.errors import UnknownNameError
from tests.messages import names

_PROMISED = (
    *("orin-nano-8gb", "orin-nx-16gb", "agx-orin-64gb", "xavier-nx", "nano", "agx-thor"),
    *("rtx-3060", "rtx-4090", "t4", "intel-cpu"),
)
_MINIMAL = """
title = "A board"
family = "cpu"
[[facts]]
mark = "seen"
source = "its data sheet"
architecture = "x86_64"
memory_shared = true
supports_int8 = true
backends = ["onnxruntime"]
"""


def test_the_documented_boards_exist() -> None:
    assert set(_PROMISED) <= set(list_profiles())
    assert list_profiles() == tuple(sorted(list_profiles()))


@pytest.mark.parametrize(("alias", "profile_id"), sorted(ALIASES.items()))
def test_an_alias_gives_its_board(alias: str, profile_id: str) -> None:
    assert load_profile(alias) == load_profile(profile_id)
    assert load_profile(profile_id).id == profile_id


@pytest.mark.parametrize("name", ["orin-nano", "ORIN-NANO-8GB", "_releases", "../nano", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, check=names("unknown target")):
        load_profile(name)


def test_the_error_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, check=names("did you mean", "rtx-4090")):
        load_profile("rtx4090")


def test_a_minimal_profile_parses() -> None:
    profile = parse_profile("mine", _MINIMAL)

    assert profile.id == "mine"
    assert profile.provenance["supports_int8"].source == "its data sheet"
    assert profile.fp32_tflops is None


@pytest.mark.parametrize("line", ['mark = "seen"\n', 'source = "its data sheet"\n'])
def test_a_group_without_mark_or_source_is_refused(line: str) -> None:
    with pytest.raises(ValidationError, check=names("Field required")):
        parse_profile("mine", _MINIMAL.replace(line, ""))


def test_a_value_outside_the_groups_is_refused() -> None:
    with pytest.raises(ValidationError, check=names("no provenance for fp32_tflops")):
        parse_profile("mine", "fp32_tflops = 3.0\n" + _MINIMAL)


def test_a_value_stated_twice_is_refused() -> None:
    again = '[[facts]]\nmark = "inferred"\nsource = "a guess of mine"\nsupports_int8 = false\n'

    with pytest.raises(ValueError, check=names("'mine': supports_int8 is stated twice")):
        parse_profile("mine", _MINIMAL + again)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, check=names("cores")):
        parse_profile("mine", _MINIMAL + "cores = 4\n")


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(ValueError, check=names("unknown TensorRT release 'jetpack-9'")):
        parse_profile("mine", _MINIMAL + 'tensorrt = ["jetpack-9"]\n')


def test_a_board_without_int8_has_the_reason_for_no_qdq() -> None:
    nano = load_profile("nano")

    assert not nano.tensorrt[0].qdq
    assert nano.provenance["tensorrt.jetpack-4.6.1.qdq"] == nano.provenance["supports_int8"]


def test_modes_may_have_two_sources() -> None:
    stated = "[facts.modes]\n15W = { watts = 15 }\n"
    guessed = '[[facts]]\nmark = "inferred"\nsource = "a guess of mine"\n[facts.modes]\n15W = { gpu_mhz = 600 }\n'
    profile = parse_profile("mine", _MINIMAL + stated + guessed)

    assert [(mode.name, mode.watts, mode.gpu_mhz) for mode in profile.modes] == [("15W", 15, 600)]
    assert profile.provenance["modes.15W.watts"].mark == "seen"
    assert profile.provenance["modes.15W.gpu_mhz"].mark == "inferred"


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("32.6.1", "4.6"),
        ("32.7.4", "4.6.4"),
        ("35.4.1", "5.1.2"),
        ("36.4.3", "6.2"),
        ("38.2.0", "7.0"),
        ("99.0.0", None),
    ],
)
def test_l4t_names_its_jetpack(l4t: str, jetpack: str | None) -> None:
    assert jetpack_of_l4t(l4t) == jetpack


def test_every_profile_is_listed() -> None:
    folder = Path(edgeact.devices.__file__).parent

    assert {f"{name}.toml" for name in list_profiles()} | {"_releases.toml"} == {p.name for p in folder.glob("*.toml")}
