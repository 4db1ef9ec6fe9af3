#!/bin/sh
# Runs every test and adds up: sh tests/run.sh [--programs] BUILD
#
# Programs are cmocka runners ($BUILD/tests/{unit,golden}/test_*); scripts (tests/*/run.sh) print
# "ok NAME", "not ok NAME" or "skip NAME: why" lines. A program that dies counts as one failure.
# Ends with one line: N passed, N failed, N skipped.
set -u
cd "$(dirname "$0")/.." || exit 2
only_programs=0
if [ "$1" = --programs ]; then
    only_programs=1
    shift
fi
build=$1
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# add NAME PASSED FAILED SKIPPED STATUS
add() {
    bad=$3
    if [ "$5" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        echo "  $1 ended with status $5"
    fi
    passed=$((passed + $2))
    failed=$((failed + bad))
    skipped=$((skipped + $4))
    printf '%-44s %3d passed, %d failed, %d skipped\n' "$1" "$2" "$bad" "$4"
    if [ "$bad" -ne 0 ]; then
        sed 's/^/  | /' "$log"
    elif [ "$4" -ne 0 ]; then
        grep -i skip "$log" | grep -v '^\[=*\]' | sort -u | sed 's/^/  /'
    fi
}

# Lines of the log that match, each once: cmocka names a failed or skipped test twice.
count() {
    grep "$1" "$log" | grep -v 'test(s)' | sort -u | wc -l
}

for program in "$build"/tests/unit/test_* "$build"/tests/golden/test_*; do
    case $program in *.o | *.d) continue ;; esac
    [ -x "$program" ] || continue
    "$program" >"$log" 2>&1
    status=$?
    add "${program#"$build"/tests/}" "$(count '^\[       OK \]')" \
        "$(count '^\[  FAILED  \]')" "$(count '^\[  SKIPPED \]')" "$status"
done

if [ "$only_programs" -eq 0 ]; then
    for script in tests/*/run.sh; do
        sh "$script" "$build" >"$log" 2>&1
        status=$?
        add "$script" "$(count '^ok ')" "$(count '^not ok ')" "$(count '^skip ')" "$status"
    done
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
