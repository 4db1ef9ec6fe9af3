#!/bin/sh
# What tests/gpu/run does on a machine with a GPU, here: every strategy with a GPU against the CPU,
# on the simulated GPU and on the CUDA plug-in that is emulated; then every row on a tiny model. And
# whether a barrier that is left out of a kernel is missed.
# Usage: sh tests/gpu/run.sh BUILD
build=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# step NAME PLUGIN STEPS
step() {
    if python3 tests/gpu/run --tiny --bin "$build" --plugin "$build/tests/$2" --only "$3" \
        --scratch "$out" --out "$out" >"$out/log" 2>&1; then
        echo "ok $1"
    else
        echo "not ok $1"
        grep FAILED "$out/log" || tail -n 5 "$out/log"
    fi
}
step 'every strategy and row on the simulated GPU' lade-sim.so strategies,answers,rows
step 'every strategy on the CUDA plug-in, emulated' lade-cuda-emulated.so strategies
if python3 tests/gpu/mutants --build "$build" --least 30 record >"$out/log" 2>&1; then
    echo 'ok barriers that are left out are missed'
else
    echo 'not ok barriers that are left out are missed'
    tail -n 5 "$out/log"
fi
