#!/bin/sh
# What tests/gpu/run does on a machine with a GPU, here: every strategy with a GPU against the CPU,
# on the simulated GPU and on the CUDA plug-in that is emulated; then every row on a tiny model.
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
