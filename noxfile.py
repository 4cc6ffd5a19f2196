"""Test every supported Python: `nox` runs all that are installed, `nox -s tests-3.12` runs one.

`make test` is the same for one Python; the versions of the dependencies are those of constraints.txt.
"""

from __future__ import annotations

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
EXTRAS = "video,onnxruntime,openvino,tensorrt-rtx,evaluate,export,search,cluster,report,docs,dev"

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the whole test suite; arguments after `--` go to pytest."""
    session.install("-c", "constraints.txt", "-e", f".[{EXTRAS}]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS)
def light(session: nox.Session) -> None:
    """Run the tests of a device's install: no torch, no exporter."""
    session.install("-c", "constraints.txt", ".[video,onnxruntime,evaluate]", "pytest", "pytest-timeout", "hypothesis")
    session.run("python", "-m", "pytest", "tests/video", "tests/devices", "tests/bundle", *session.posargs)
