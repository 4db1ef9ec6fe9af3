#!/bin/sh
# The load board, the status lines and the side panel as a terminal (tmux) shows them, against
# tests/views/*.txt: sh tests/views/run.sh BUILD. With GENERATE=1 the pictures are written anew; look
# at them before committing them.
set -u
cd "$(dirname "$0")/../.." || exit 2
show=$1/tests/views/show_views
pictures=tests/views
if ! command -v tmux >/dev/null; then
    echo "skip views: tmux is not installed"
    exit 0
fi
if [ ! -x "$show" ]; then
    echo "not ok views: $show is not built"
    exit 1
fi
case $show in /*) ;; *) show=$PWD/$show ;; esac
run=$(mktemp -d)
TMUX_TMPDIR=$run # its socket stays behind
export TMUX_TMPDIR
tmux="tmux -L lade-views-$$ -f /dev/null -u"
trap '$tmux kill-server 2>/dev/null; rm -rf "$run"' EXIT
status=0
# The server ends with its last session, and a session that starts just then is lost.
$tmux new-session -d -s anchor 'exec sleep 1000'

# picture NAME COLSxROWS "ENVIRONMENT" ARGUMENTS...
picture() {
    name=$1 size=$2 environment=$3
    shift 3
    # shellcheck disable=SC2086 # the environment is a list of words
    $tmux new-session -d -s "$name" -x "${size%x*}" -y "${size#*x}" \
        "env -u NO_COLOR LC_ALL=C.UTF-8 TERM=screen-256color $environment $show $*; sleep 5"
    $tmux set -t "$name" status off
    $tmux resize-window -t "$name" -x "${size%x*}" -y "${size#*x}"
    # However slow the machine, in the end the picture is the one expected, or it never will be.
    # A new one is what stands still.
    : >"$run/now"
    n=0
    while [ $n -lt 600 ]; do
        sleep 0.2
        mv "$run/now" "$run/last"
        $tmux capture-pane -p -t "$name" | sed 's/ *$//' >"$run/now"
        if [ "${GENERATE:-0}" = 1 ]; then
            grep -q '^ >' "$run/now" && cmp -s "$run/now" "$run/last" && break
        else
            cmp -s "$run/now" "$pictures/$name.txt" && break
        fi
        n=$((n + 1))
    done
    $tmux kill-session -t "$name"
    if [ "${GENERATE:-0}" = 1 ]; then
        cp "$run/now" "$pictures/$name.txt"
    fi
    if diff -u "$pictures/$name.txt" "$run/now" >"$run/diff" 2>&1; then
        echo "ok $name"
    else
        echo "not ok $name"
        cat "$run/diff"
        status=1
    fi
}

picture board-40x10 40x10 ''
picture board-80x24 80x24 ''
picture board-120x40 120x40 '' gpu=24
picture board-200x60 200x60 '' shards=41 at=0.6 gpu=24
picture board-one-shard 80x24 '' shards=1 at=0.8
picture board-41-shards-80x24 80x24 '' shards=41 at=0.6
picture board-41-shards-40x10 40x10 '' shards=41 at=0.6
picture board-no-colour 80x24 NO_COLOR=1 shards=3
picture board-ascii 80x24 LC_ALL=C shards=3
picture board-vt100 80x24 'TERM=vt100' shards=3
picture status-idle 80x24 '' phase=idle
picture status-prefill 100x30 '' phase=prefill gpu=80
picture status-decode-60x16 60x16 '' phase=decode gpu=24
picture status-two-gpus-80x24 80x24 '' phase=decode gpu=24 cards=2
picture status-two-gpus-120x40 120x40 '' phase=idle gpu=24 cards=2
picture status-two-gpus-200x60 200x60 '' phase=decode gpu=24 cards=2
picture status-failed-40x10 40x10 '' phase=failed
exit $status
