#!/bin/sh
# Run the native engine for ARM under emulation: record the convolution, pooling and program tests on x86-64, replay every
# recording with plain NEON, with dot product and with i8mm, and compare all memory bit by bit. No speed is measured.
# $1: a Python with the packages of the tests. Installs qemu-user-static (Debian, as root) and the pinned compiler if absent.
set -eu
python=$1
build=build/arm
mkdir -p "$build"
command -v qemu-aarch64-static >/dev/null || apt-get install -y --no-install-recommends qemu-user-static
"$python" -c 'import ziglang' 2>/dev/null || {
    [ -d "$build/zig/ziglang" ] || "$python" -m pip install -q --disable-pip-version-check --target "$build/zig" \
        "$("$python" -c 'import re; print(re.search("ziglang==[0-9.]+", open("pyproject.toml").read())[0])')"
    PYTHONPATH="$build/zig${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
}
rm -rf "$build/recordings"
mkdir "$build/recordings"
EDGEACT_TEST_NATIVE_RECORDINGS=$build/recordings "$python" -m pytest -p no:cacheprovider \
    tests/runtime/native/test_engine.py tests/runtime/native/test_engine_conv.py tests/runtime/native/test_arm.py
"$python" -m tests.runtime.native.emulation "$build/recordings"
