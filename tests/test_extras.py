from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeact import extras
from edgeact.errors import MissingExtraError
from tests.messages import names


def test_what_is_installed_is_imported() -> None:
    assert extras.require("json", "video").loads("[1]") == [1]
    extras.need("video", "json", "xml.dom")
    assert extras.is_installed("xml.dom")


@pytest.mark.parametrize("module", ["edgeact_absent", "edgeact_absent.child", "json.absent"])
def test_what_is_absent_says_what_to_install(module: str) -> None:
    assert not extras.is_installed(module)
    with pytest.raises(MissingExtraError, match=rf"^'{module}' is not installed; run: pip install 'edgeact\[video\]'$"):
        extras.require(module, "video")
    with pytest.raises(MissingExtraError, match=rf"^'{module}' "):
        extras.need("video", "json", module)


def test_need_imports_nothing() -> None:
    program = "import sys; from edgeact.extras import need; need('export', 'sqlite3'); print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_an_error_inside_an_installed_module_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeact_broken.py").write_text("import edgeact_absent")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, check=names("edgeact_absent")):
        extras.require("edgeact_broken", "video")


def test_on_a_jetson_nobody_is_reported_to_install_pips_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.4\n")
    monkeypatch.setattr(extras, "_L4T", release)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, check=names("--system-site-packages")) as caught:
        extras.require("cv2", "video")
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "absent", "extra"),
    [
        ("edgeact.export", "torch", "export"),
        ("edgeact.export", "safetensors", "export"),
        ("edgeact.calibration", "cv2", "video"),
        ("edgeact.calibration", "scipy", "evaluate"),
    ],
)
def test_rooms_that_need_an_extra_say_so_when_imported(module: str, absent: str, extra: str) -> None:
    program = f"import sys; sys.modules['{absent}'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"'{absent}' is not installed; run: pip install 'edgeact[{extra}]'" in done.stderr.splitlines()[-1]
