"""The options that say how a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from edgeact.cli.loading import ChannelOrderChoice, ClipOptions, ClipSize, ModelOptions, load_request
from edgeact.cli.main import app
from edgeact.errors import UsageError
from edgeact.export.models.loading import LoadRequest
from tests.messages import names

LOADING = {"weights", "labels", "width", "clip_frames", "size", "fps", "resize", "mean", "std", "channel_order"}


@pytest.mark.parametrize("verb", ["export", "calibrate", "search"])
def test_a_verb_that_takes_a_users_model_takes_all_of_them(verb: str) -> None:
    """Else a model that one verb loads would be another one, or none, to the next."""
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # the app is a group
    assert {parameter.name for parameter in command.params} >= LOADING


def test_what_is_not_given_is_left_to_the_weights_and_the_paper() -> None:
    assert load_request(ModelOptions(), ClipSize(), ClipOptions()) == LoadRequest()


def test_texts_become_values(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("run\nwalk\n")
    request = load_request(
        ModelOptions(labels=tmp_path / "labels.txt", width=8),
        ClipSize(clip_frames=4, size=64),
        ClipOptions(fps=8.0, resize="70x80", mean="0.1,0.2,0.3", channel_order=ChannelOrderChoice.bgr),
        random_weights=True,
        seed=7,
    )
    assert (request.labels, request.resize) == (("run", "walk"), (70, 80))
    assert (request.width, request.clip_frames, request.size, request.fps) == (8, 4, 64, 8.0)
    assert (request.pixels.mean, request.pixels.channel_order) == ((0.1, 0.2, 0.3), "bgr")
    assert (request.random_weights, request.seed) == (True, 7)


def test_a_text_that_is_no_size_is_refused() -> None:
    with pytest.raises(UsageError, check=names("64by64")):
        load_request(ModelOptions(), ClipSize(), ClipOptions(resize="64by64"))
