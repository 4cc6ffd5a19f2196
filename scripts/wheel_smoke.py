"""What must work with nothing but the base install; scripts/try_wheel.sh runs it in a bare environment."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script that the wheel installed."""
    script = Path(sys.executable).with_name("edgeact")
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, check=False)


def check(truth: bool, what: str) -> None:
    """End the program where it is not so."""
    if not truth:
        sys.exit(f"wheel: {what}")


def native(package: Path) -> str:
    """What the wheel says it is for; its native engine must be there and load exactly where it names a machine."""
    wheel = importlib.metadata.distribution("edgeact").read_text("WHEEL") or ""
    tags = [line.removeprefix("Tag: ") for line in wheel.splitlines() if line.startswith("Tag: ")]
    able = (sys.platform, platform.machine(), platform.libc_ver()[0]) == ("linux", "x86_64", "glibc")
    has = able and not os.environ.get("EDGEACT_NO_NATIVE")
    check(tags == ["py3-none-manylinux_2_28_x86_64" if has else "py3-none-any"], f"its tags are {tags}")
    libraries = [path for path in package.rglob("*.so") if path.is_file()]
    check([path.name for path in libraries] == ["libedgeact_native.so"] * has, f"it has the libraries {libraries}")
    for library in libraries:
        ctypes.CDLL(str(library))
    check(not [*package.rglob("*.c"), *package.rglob("*.h")], "C sources travelled in it")
    return tags[0]


def main() -> None:
    """Import, list, and meet every extra that is missing."""
    for module in ("torch", "onnx", "cv2", "onnxruntime", "openvino", "jinja2"):
        check(importlib.util.find_spec(module) is None, f"this environment is not bare: it has {module}")

    import edgeact.bundle
    import edgeact.devices
    import edgeact.runtime

    check("site-packages" in str(edgeact.__file__), f"imported from {edgeact.__file__}, not from the wheel")
    shown = command("--version").stdout
    check(shown == f"edgeact {edgeact.__version__}\n", f"--version says {shown!r}")
    boards = json.loads(command("targets", "--json").stdout)["targets"]
    check(len(boards) == len(edgeact.devices.list_profiles()) > 10, f"only {len(boards)} boards travelled in the wheel")
    check(command("targets", "jetson").returncode == 0, "edgeact targets jetson failed")
    files = {path.name for path in Path(str(edgeact.__file__)).parent.rglob("*") if path.is_file()}
    tag = native(Path(str(edgeact.__file__)).parent)
    for name in ("py.typed", "page.html.j2", "style.css", "orin-nano-8gb.toml"):
        check(name in files, f"{name} did not travel in the wheel")
    check("msf-r3d-fsam" in command("inspect", "sample.edgeact").stdout, "edgeact inspect does not show the sample")
    for extra, arguments in (
        ("export", ("export", "--target", "cpu")),
        ("export", ("train", "msf-r3d", "--data", "folder:/tmp", "--out", "weights.safetensors")),
        ("video", ("data", "folder:/tmp")),
        ("report", ("report", "sample.edgeact")),
        ("onnxruntime", ("run", "sample.edgeact", "0")),
    ):
        done = command(*arguments)
        says_how = f"pip install 'edgeact[{extra}]'" in done.stderr
        check(
            says_how and "Traceback" not in done.stderr, f"edgeact {arguments[0]} without its extra says: {done.stderr}"
        )
    print(f"wheel: edgeact {shown.split()[1]}-{tag} works without any extra, {len(boards)} boards, {len(files)} files")


if __name__ == "__main__":
    main()
