#!/bin/sh
# How many jobs make runs: as many as there are processors, unless it is told. sh tests/make/run.sh [BUILD]
# Prints "ok NAME" or "not ok NAME", and ends with "N passed, N failed, 0 skipped".
set -u
cd "$(dirname "$0")/../.." || exit 2
unset MAKELEVEL MAKEFLAGS MFLAGS MAKE_TERMOUT MAKE_TERMERR
passed=0 failed=0
all=-j$(nproc)
more=$(mktemp)
trap 'rm -f "$more"' EXIT
cat >"$more" <<'end'
jobs: ; @echo "jobs" $(filter -j%,$(MAKEFLAGS))
deeper: ; @$(MAKE) -f Makefile -f $(MORE) jobs
end

# jobs NAME WANTED ARGUMENTS...: what -j make runs recipes with.
jobs() {
    name=$1 wanted=$2
    shift 2
    got=$(make --no-print-directory -f Makefile -f "$more" MORE="$more" "$@" 2>&1 | grep '^jobs\|warning')
    if [ "$got" = "jobs${wanted:+ $wanted}" ]; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "not ok $name"
        echo "    '$got' where '$wanted' was wanted"
    fi
}

jobs "all processors" "$all" jobs
jobs "and in the make of a recipe" "$all" deeper
jobs "beside other flags" "$all" -k jobs
jobs "as many as the caller says" -j3 -j3 jobs
jobs "and in the make of a recipe then" -j3 -j3 deeper
jobs "one, if the caller says so" -j1 -j1 jobs
jobs "goals one after another" "" help jobs
MAKEFLAGS=-j3
export MAKEFLAGS
jobs "as the environment says" -j3 jobs
jobs "and in the make of a recipe as well" -j3 deeper
MAKEFLAGS='-k --jobs=5'
jobs "as it says with a long option" -j5 jobs
MAKELEVEL=1 MAKEFLAGS=''
export MAKELEVEL
jobs "as the make says that called this one" "" jobs
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
