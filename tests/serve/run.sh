#!/bin/sh
# `lade serve` as its clients see it: sh tests/serve/run.sh BUILD. Prints `ok NAME`, `not ok NAME` and
# `skip NAME: why` lines.
set -u
cd "$(dirname "$0")/../.." || exit 2
if ! command -v python3 >/dev/null; then
    echo "skip serve: python3 is not installed"
    exit 0
fi
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
LADE_HOME=$home LC_ALL=C.UTF-8 python3 tests/serve/serve.py "$1/lade" "$1/lade-fake"
