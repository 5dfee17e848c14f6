#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh PYTHON OUT: the fuzzers OUT/query and OUT/response, with AddressSanitizer and UBSan.
# Needs clang with its runtime, and PYTHON's headers and library. CLANG names another compiler.
set -eu

python=$1
out=$2
clang=${CLANG:-}
if [ -z "$clang" ]; then
    for name in clang clang-14 clang-15 clang-16 clang-17 clang-18 clang-19; do
        command -v "$name" >/dev/null && clang=$name && break
    done
fi
[ -n "$clang" ] || { echo "fuzz: needs clang (apt-get install clang)" >&2; exit 3; }

mkdir -p "$out"
flags="-g -O1 -std=gnu11 -fno-omit-frame-pointer -fno-strict-aliasing -D_GNU_SOURCE -Ifastdns -w
    -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
includes=$("$python" -c 'import sysconfig as s; print("-I" + s.get_path("include"), "-I" + s.get_path("platinclude"))')
libraries=$("$python" - <<'PY'
import sysconfig
v = sysconfig.get_config_var
print(f"-L{v('LIBPL')} -L{v('LIBDIR')} -Wl,-rpath,{v('LIBDIR')} -lpython{v('LDVERSION')} {v('LIBS')} {v('SYSLIBS')}")
PY
)

objects=
for module in fastdns/_name fastdns/_wire fastdns/_response fastdns/_compress fastdns/_answer \
        fastdns/coordinator/_rotation tests/fuzz/_targets; do
    name=${module##*/}
    "$python" -m cython -3 -X boundscheck=False -X wraparound=False -X cdivision=True -X initializedcheck=False \
        -I . --module-name "$(echo "$module" | sed 's|tests/fuzz/||; s|/|.|g')" -o "$out/$name.c" "$module.pyx"
    # shellcheck disable=SC2086
    "$clang" $flags $includes -c "$out/$name.c" -o "$out/$name.o"
    objects="$objects $out/$name.o"
done
for target in query response; do
    # shellcheck disable=SC2086
    "$clang" $flags $includes -DFUZZ_TARGET=fuzz_$target -c tests/fuzz/fuzz_main.c -o "$out/main_$target.o"
    # shellcheck disable=SC2086
    "$clang" -g -fsanitize=fuzzer,address,undefined -rdynamic $objects "$out/main_$target.o" $libraries -o "$out/$target"
done
