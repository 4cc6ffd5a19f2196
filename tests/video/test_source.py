"""Live sources against a real camera server on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from edgeact.errors import UsageError, VideoError
from edgeact.video import Frame, LiveOptions, LiveSource, RecordedSource, open_source, write_video
from edgeact.video.source import _without_password
from tests.messages import names
from tests.video.clips import motion, motion_image

QUICK = LiveOptions(reconnects=3, backoff_s=0.05, timeout_s=3.0)


class Camera(ThreadingHTTPServer):
    """An MJPEG camera that hangs up after `frames_a_visit` frames and lets `visits` visitors in."""

    daemon_threads = True

    def __init__(self, frames_a_visit: int, visits: int) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.frames_a_visit = frames_a_visit
        self.visits_left = visits
        self.recording = b""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/camera.mjpg"


class _Visit(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        if self.path.endswith(".mp4"):
            self._send(self.server.recording, "video/mp4")
            return
        self.server.visits_left -= 1
        if self.server.visits_left < 0:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        self.end_headers()
        try:
            self._send_frames()
        except OSError:
            return  # the visitor left

    def _send_frames(self) -> None:
        for index in range(self.server.frames_a_visit):
            jpeg = cv2.imencode(".jpg", motion_image(index / 50))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.02)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def camera() -> Iterator[Camera]:
    with Camera(frames_a_visit=12, visits=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_lost_camera_is_reconnected_a_limited_number_of_times(camera: Camera) -> None:
    notes: list[str] = []
    frames: list[Frame] = []
    with open_source(camera.address, options=QUICK, on_note=notes.append) as source:
        assert isinstance(source, LiveSource)
        with pytest.raises(VideoError, check=names("connection lost, no frame after 3 reconnections")):
            frames.extend(source)
    assert {frame.image.shape for frame in frames} == {(48, 96, 3)}
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))
    assert times[0] == 0.0
    assert len(times) > 12
    assert source.losses == 2
    assert len(notes) == 4
    assert "reconnecting in 0.05 s (1 of 3)" in notes[0]
    assert "reconnecting in 0.2 s (3 of 3)" in notes[3]


def test_a_slow_reader_gets_fresh_frames_with_true_times(camera: Camera) -> None:
    camera.frames_a_visit = 200
    options = LiveOptions(queue_frames=2, timeout_s=3.0)
    with open_source(camera.address, options=options) as source:
        assert isinstance(source, LiveSource)
        first = next(source).time_s
        time.sleep(0.6)
        second = next(source).time_s
        assert source.dropped_frames > 3
    assert second - first > 0.3


def test_closing_ends_the_thread_and_the_iteration(camera: Camera) -> None:
    camera.frames_a_visit = 500
    source = open_source(camera.address, options=QUICK)
    assert isinstance(source, LiveSource)
    next(source)
    source.close()
    source.close()
    assert not source._thread.is_alive()
    assert len(list(source)) <= QUICK.queue_frames


def test_a_recording_behind_an_address_is_read_once(camera: Camera, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, motion(25, 1.0), 25)
    camera.recording = path.read_bytes()
    with open_source(camera.address.replace("camera.mjpg", "video.mp4"), options=QUICK) as source:
        assert isinstance(source, RecordedSource)
        assert [frame.time_s for frame in source] == pytest.approx([index / 25 for index in range(25)])


def test_an_address_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(VideoError, check=names("cannot open 'http://***@127.0.0.1:9/x'")):
        open_source("http://user:secret@127.0.0.1:9/x", options=QUICK)


@pytest.mark.parametrize("source", [77, "77"])
def test_a_camera_that_does_not_exist(source: int | str) -> None:
    with pytest.raises(VideoError, check=names("cannot open 'camera 77'")):
        open_source(source)


@pytest.mark.parametrize("field", ["reconnects", "backoff_s", "queue_frames", "timeout_s"])
def test_options_out_of_range(field: str) -> None:
    with pytest.raises(UsageError, check=names(f"{field}=-1")):
        LiveOptions(**{field: -1})


def test_a_negative_index() -> None:
    with pytest.raises(UsageError, check=names("index of 0 or more, got -1")):
        open_source(-1)


@pytest.mark.skipif(
    cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer, so the message cannot come"
)
def test_a_pipeline_without_gstreamer() -> None:
    with pytest.raises(VideoError, check=names("built without GStreamer")):
        open_source("videotestsrc ! videoconvert ! appsink")


def test_a_file_may_have_an_exclamation_mark(tmp_path: Path) -> None:
    path = tmp_path / "stop!.mp4"
    write_video(path, motion(25, 0.2), 25)
    with open_source(str(path)) as source:
        assert len(list(source)) == 5


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://camera/1@2", "rtsp://camera/1@2"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert _without_password(address) == shown
