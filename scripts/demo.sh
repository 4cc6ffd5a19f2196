#!/bin/sh
# The main job on what the repository ships; `make demo` calls it with `edgeact` on the path. $1: folder for the results.
set -eu
out=$1
# Accuracy on 120 videos instead of 240: one video is less than a point, and the demo takes less than 3 minutes.
step() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

step "The data: stick figures, rendered into mp4 files on first use"
show edgeact data --out "$out/videos"

step "A bundle for this CPU"
show edgeact export --target cpu --videos 120 -o "$out/cpu.edgeact"

step "A bundle for a Jetson: no engine travels, the board builds its own"
show edgeact export --target jetson --videos 120 -o "$out/jetson.edgeact"

step "What is in a bundle"
show edgeact inspect "$out/cpu.edgeact"

step "Labels for a video of a person who was in no training clip"
show edgeact run "$out/cpu.edgeact" "$out/videos/00-sit-down.mp4"

step "Accuracy against latency, on one page"
show edgeact report "$out/cpu.edgeact" "$out/jetson.edgeact" -o "$out/report.html"

step "Everything lies in $out/"
printf '  %s\n' "cpu.edgeact     runs here: edgeact run $out/cpu.edgeact VIDEO" \
    "jetson.edgeact  copy it to the board: edgeact run jetson.edgeact VIDEO" \
    "videos/         one clip of each action" \
    "report.html     open it in a browser"
