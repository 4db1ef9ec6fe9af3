#!/bin/sh
# Memory by the kernel's count, on the bundled model and a GGUF file: sh tests/memory/run.sh BUILD
# Larger models and a ballast beside them: promise.py and pressure.py, by hand.
build=$1
export PYTHONDONTWRITEBYTECODE=1
command -v python3 >/dev/null || {
    echo "skip memory by the kernel's count: no python3"
    exit 0
}
python3 tests/memory/promise.py "$build/lade" engine/bundled tests/fixtures/tiny-gguf/tiny-q8_0.gguf \
    --context 512 --words 8 --tokens 24 --tests
