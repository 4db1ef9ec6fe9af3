#!/bin/sh
# The kernels for 64-bit ARM: compiled with warnings as errors, then run against the portable ones;
# on other machines by the cross compiler and qemu-user. Usage: sh tests/arm64/run.sh BUILD
name='NEON kernels against the portable ones'
cc=aarch64-linux-gnu-gcc run='qemu-aarch64 -L /usr/aarch64-linux-gnu'
if [ "$(uname -m)" = aarch64 ]; then
    cc=${CC:-cc} run=
else
    for program in $cc qemu-aarch64; do
        command -v $program >/dev/null || {
            echo "skip $name: no $program; Debian: gcc-aarch64-linux-gnu, qemu-user"
            exit 0
        }
    done
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# In parallel, because isa_neon.c takes longer than all the others.
for file in kernels/*.c kernels/cpu/*.c tests/arm64/compare.c; do
    isa=
    [ $file = kernels/cpu/isa_neon.c ] && isa=-march=armv8.2-a+dotprod
    $cc -std=gnu17 -O1 -Wall -Wextra -Werror -ffp-contract=off -D_GNU_SOURCE -I. $isa -pthread \
        -c -o "$out/$(basename "$file" .c).o" "$file" 2>>"$out/log" &
done
wait
if $cc -pthread -o "$out/compare" "$out"/*.o -lm -ldl 2>>"$out/log" &&
    $run "$out/compare" >>"$out/log" 2>&1; then
    echo "ok $name"
else
    echo "not ok $name"
    head -n 20 "$out/log"
fi
