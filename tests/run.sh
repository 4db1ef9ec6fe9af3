#!/bin/sh
# Runs every test and adds up: sh tests/run.sh [--programs] BUILD [NAME...]
#
# Programs are cmocka runners ($BUILD/tests/{unit,golden}/test_*); scripts (tests/*/run.sh) print
# "ok NAME", "not ok NAME" or "skip NAME: why" lines. A program that dies counts as one failure.
# --programs leaves the scripts out; with NAMEs (unit/test_engine, tests/cli/run.sh), only those run.
# One more runs at a time than there are processors: the screen's tests mostly wait.
# Ends with one line: N passed, N failed, N skipped.
set -u
cd "$(dirname "$0")/.." || exit 2

# Lines of the log that match, each once: cmocka names a failed or skipped test twice.
count() {
    grep "$1" "$log" | grep -v 'test(s)' | sort -u | wc -l
}

# Runs one, in a process of its own, reports, and leaves "PASSED FAILED SKIPPED" in $results.
run_one() { # BUILD RESULTS PROGRAM-OR-SCRIPT
    build=$1 results=$2 name=$3
    own=$(echo "$name" | tr / .) # not a process's number: those come again in a long run
    log=$results/log.$own
    case $name in
    tests/*.sh)
        sh "$name" "$build" >"$log" 2>&1
        status=$? ok='^ok ' bad='^not ok ' skip='^skip '
        ;;
    *)
        "$build/tests/$name" >"$log" 2>&1
        status=$? ok='^\[       OK \]' bad='^\[  FAILED  \]' skip='^\[  SKIPPED \]'
        ;;
    esac
    passed=$(count "$ok") failed=$(count "$bad") skipped=$(count "$skip")
    {
        if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
            failed=1
            echo "  $name ended with status $status" | tee "$results/bad.$own"
        else
            grep "$bad" "$log" | grep -v 'test(s)' | sort -u | sed "s|^|  $name: |" >"$results/bad.$own"
        fi
        printf '%-44s %3d passed, %d failed, %d skipped\n' "$name" "$passed" "$failed" "$skipped"
        if [ "$failed" -ne 0 ]; then
            sed 's/^/  | /' "$log"
        elif [ "$skipped" -ne 0 ]; then
            grep -i skip "$log" | grep -v '^\[=*\]' | sort -u | sed 's/^/  /'
        fi
    } >"$log.report"
    flock "$results" cat "$log.report"
    echo "$passed $failed $skipped" >"$results/sum.$own"
}

if [ "$1" = --one ]; then
    shift
    run_one "$@"
    exit 0
fi

scripts=$(echo tests/*/run.sh)
if [ "$1" = --programs ]; then
    scripts=
    shift
fi
build=$1
shift
programs=$*
if [ -n "$programs" ]; then
    scripts=
else
    programs=$(cd "$build/tests" && find unit golden -name 'test_*' -type f ! -name '*.[od]' | sort)
fi
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM

# The longest first, so that no processor waits for one that began last. The others as they come.
long="tests/gpu/run.sh golden/test_golden_models unit/test_kernels_attention unit/test_kernels_matmul \
    unit/test_tiers unit/test_kernels_moe unit/test_kernels_deltanet tests/cli/run.sh unit/test_lost unit/test_claims \
    unit/test_kept unit/test_changes unit/test_cards"
for name in $scripts $programs; do echo "$name"; done |
    awk -v long="$long" '
        BEGIN { n = split(long, name, " "); for (i = 1; i <= n; i++) turn[name[i]] = i }
        { print ($0 in turn ? turn[$0] : n + 1), $0 }' |
    sort -s -n -k 1,1 | cut -d ' ' -f 2 |
    xargs -n 1 -P $(($(nproc) + 1)) sh tests/run.sh --one "$build" "$results"
set -- $scripts $programs
cat "$results"/bad.* # once more, by name: who sees only the end of a long output sees these
cat "$results"/sum.* | awk -v tests=$# '
    { passed += $1; failed += $2; skipped += $3 }
    END {
        if (NR != tests) failed += tests - NR
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0 || passed == 0
    }'
