#!/bin/sh
# Build the source archive of the last commit and the wheel from that alone, install the wheel without extras in a bare
# environment, and use it from elsewhere.
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
cp scripts/wheel_smoke.py "$room/"
cp tests/bundle/golden/measured-1.0.edgeact "$room/sample.edgeact"
cd "$room"
PATH="$room/bare/bin:$PATH" python wheel_smoke.py
