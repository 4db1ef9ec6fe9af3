#!/bin/sh
# The chat screen in a real terminal (tmux), with a scripted engine: sh tests/screen/run.sh BUILD
#
# The tests are in the files beside this one, by what they are about; terminal.sh is what they use.
# Prints "ok NAME", "not ok NAME" or "skip NAME: why", and ends with "N passed, N failed, N skipped".
# Goldens are in tests/screen/golden; GENERATE=1 rewrites them. ONLY=NAME runs the tests whose names
# contain NAME. What depends on the machine or on time is taken out before comparing (see mask).
#
# No test depends on how fast the machine is: each step waits for what it needs to see, for minutes
# if it must, and a script's gates hold the answer until the test has seen enough (open_gate).
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${1:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
here=$PWD/tests/screen
files='tests/screen/pictures.sh tests/screen/talk.sh tests/screen/kept.sh tests/screen/faults.sh
tests/screen/remote.sh'
passed=0 failed=0 skipped=0
work=$(mktemp -d)
unset TMUX NO_COLOR LADE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME
LC_ALL=C.UTF-8
export LC_ALL

. tests/screen/terminal.sh
for file in $files; do . "$file"; done

tests=$(sed -n 's/^test_\([a-z0-9_]*\)() .*/\1/p' $files)
for t in $tests; do
    case $t in *${ONLY:-}*) ;; *) continue ;; esac
    if ! command -v tmux >/dev/null; then
        echo "skip $t: tmux is not installed"
        skipped=$((skipped + 1))
        continue
    fi
    if "test_$t" >"$work/log" 2>&1; then
        echo "ok $t"
        passed=$((passed + 1))
    else
        echo "not ok $t"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
