#!/bin/sh
# Build the native engine with AddressSanitizer and UndefinedBehaviorSanitizer, and run its tests and mutated programs on
# that build. $1: a Python with the packages of the tests, $2: how many mutated programs.
# CC is the compiler, by default gcc, else clang; the pinned one (zig) has no AddressSanitizer runtime.
set -eu
python=$1
mutations=$2
build=build/sanitize
cc=${CC:-$(command -v gcc || command -v clang || true)}
flags='-fsanitize=address,undefined,float-cast-overflow'
mkdir -p "$build"
echo 'int main(void) { return 0; }' >"$build/probe.c"
if [ -z "$cc" ] || ! "$cc" $flags "$build/probe.c" -o "$build/probe" 2>"$build/probe.log"; then
    echo "sanitize: no C compiler with AddressSanitizer; apt-get install gcc libc6-dev, or set CC; nothing was checked" >&2
    exit 1
fi
case $("$cc" --version) in
*clang*) runtime=$("$cc" -print-file-name=libclang_rt.asan-x86_64.so) flags="$flags -shared-libasan" ;;
*) runtime=$("$cc" -print-file-name=libasan.so) ;;
esac

"$cc" -std=gnu11 -fPIC -shared -pthread -march=x86-64-v3 -fvisibility=hidden -fno-math-errno -ffp-contract=off \
    -O1 -g -fno-omit-frame-pointer $flags -fno-sanitize-recover=all \
    -Iedgeact/runtime/native/csrc -Iedgeact/runtime/native/csrc/x86_64 \
    edgeact/runtime/native/csrc/*.c edgeact/runtime/native/csrc/x86_64/*.c -lm -o "$build/libedgeact_native.so"

# Python itself is not instrumented: the runtime must come first, and what the interpreter never frees is no leak of ours.
LD_PRELOAD=$runtime
ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_segv=1
UBSAN_OPTIONS=print_stacktrace=1
EDGEACT_TEST_NATIVE_LIBRARY=$build/libedgeact_native.so
export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS EDGEACT_TEST_NATIVE_LIBRARY
"$python" -m pytest -p no:cacheprovider tests/runtime/native
"$python" -W error -m tests.runtime.native.fuzz --mutations "$mutations" --log "$build/mutation" ||
    { echo "sanitize: mutation $(cat "$build/mutation") failed" >&2; exit 1; }
