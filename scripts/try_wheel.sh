#!/bin/sh
# Build the source archive of the last commit and from that alone the wheels for x86-64 and aarch64, into dist/; install the
# one for this machine without extras in a bare environment, and use it from elsewhere.
# $1: a Python that has the package `build`.
set -eu
python=$1
root=$(pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT

mkdir "$room/clone"
git -c safe.directory="$root" archive HEAD | tar -x -C "$room/clone"
"$python" -m build --outdir "$room/dist" "$room/clone" >"$room/build.log" 2>&1 ||
    { cat "$room/build.log"; exit 1; }
"$python" -m venv "$room/bare"
"$room/bare/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt "$room"/dist/*.whl
if [ "$(uname -sm)" = 'Linux x86_64' ] && [ -z "${EDGEACT_NO_NATIVE:-}" ]; then # where the compiler is
    EDGEACT_NATIVE_TARGET=aarch64 "$python" -m build --wheel --outdir "$room/dist" "$room"/dist/*.tar.gz \
        >"$room/build.log" 2>&1 || { cat "$room/build.log"; exit 1; }
    for machine in x86_64 aarch64; do
        "$python" scripts/wheel_machine.py "$room"/dist/*"$machine".whl "$machine"
    done
fi
mkdir -p dist
cp "$room"/dist/* dist/
cp scripts/wheel_smoke.py "$room/"
cp tests/bundle/golden/measured-1.0.edgeact "$room/sample.edgeact"
cd "$room"
PATH="$room/bare/bin:$PATH" python wheel_smoke.py
