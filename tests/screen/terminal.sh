# What tests of the screen use: terminals, keys, and what is seen. For run.sh, which sets $work, $here and $build.

# Every terminal is a server of its own: one that is ending cannot take the next one with it. Its
# socket stays behind, and is kept where all of it is removed.
terminal=0
TMUX_TMPDIR=$work
export TMUX_TMPDIR
cat >"$work/tmux.conf" <<'end'
set -g default-shell /bin/sh
set -g escape-time 0
set -g status off
end
tmux_() { tmux -L "lade-test-$$-$terminal" -f "$work/tmux.conf" "$@"; }
new_terminal() {
    tmux_ kill-server 2>/dev/null
    terminal=$((terminal + 1))
}
cleanup() {
    tmux_ kill-server 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start SCRIPT COLS ROWS [ARGS]: a chat in a new terminal; history is kept in $work/home. SCRIPT - names no
# model.
start() {
    model="-m ${MODEL:-$here/scripts/$1.script}" cols=$2 rows=$3
    [ "$1" = - ] && model=''
    shift 3
    new_terminal
    tmux_ new-session -d -x "$cols" -y "$rows" \
        "env LADE_HOME=$work/home TERM=tmux-256color ${RUN_ENV:-} sh -c 'echo \$\$ >$work/pid; \
exec ${PROGRAM:-$build/lade-fake} chat $model $*'; code=\$?; \
echo; echo EXIT \$code; stty -a; sleep 1000" \; set -g window-size manual
}
# with_env 'NAME=VALUE...' COMMAND...: what COMMAND starts has that in its environment.
with_env() {
    RUN_ENV=$1
    shift
    "$@"
    status=$?
    RUN_ENV=
    return $status
}
keys() { tmux_ send-keys "$@"; }
shot() { tmux_ capture-pane -p "$@" 2>/dev/null; }

# until_ COMMAND...: waits until it succeeds; gives up after two minutes at the least.
until_() {
    n=0
    while ! "$@"; do
        [ $n -ge 2400 ] && { echo "# waited in vain: $*"; shot | sed 's/^/#   /'; return 1; }
        sleep 0.05
        n=$((n + 1))
    done
}
open_gate() { touch "$work/home/$1"; }
# In the database, as any other program would read it.
saved() { sqlite3 -readonly "$work/home/history.db" 'SELECT content FROM messages' 2>/dev/null | grep -qF -- "$1"; }
shows() { shot | grep -qF -- "$1"; }
lacks() { ! shows "$1"; }
see() { until_ shows "$1"; }
gone() { until_ lacks "$1"; }
# The screen is what it was a moment ago.
still() {
    a=$(shot)
    sleep 0.3
    [ "$a" = "$(shot)" ]
}
settle() { until_ still; }
alive() { kill -0 "$(cat "$work/pid")" 2>/dev/null; }

# mask ROWS COLS: the captured screen without the status area and without times.
mask() {
    lines=2
    [ "$1" -lt 20 ] && lines=1
    panel='' # the side panel is whatever is right of the last frame line
    [ "$2" -ge 160 ] && panel='s/ *│[^│]*$//' && lines=1
    head -n $(($1 - lines)) | sed -E -e "$panel" \
        -e 's/[0-9]+:[0-9]{2}( elapsed)/T\1/; s/(ready|all home) +in ([0-9]+:[0-9]{2}|–)/\1 in T/' \
        -e 's/[0-9.]+ [GM]B\/s( +([0-9.:]+( m?s)?|–))?/S/g; /elapsed/s/[▁▂▃▄▅▆▇█]+//g; /model-|all home/s/[━╸─]{5,}/BAR/; s/all home after [0-9.]+ m?s/all home after T/; /model-/s/([0-9] GB) +S$/\1/' \
        -e 's/thought for [0-9.]+ m?s/thought for T/; s/about [0-9]+ tokens/about N tokens/' \
        -e 's/GB in [0-9.]+ m?s/GB in T/; s/today [0-9]+:[0-9]+|yesterday/DAY/; s/ +$//; s/  +/  /g'
}

# golden NAME ROWS COLS: waits until the screen is the picture.
golden() {
    file=$here/golden/$1.txt
    if [ "${GENERATE:-0}" = 1 ]; then
        mkdir -p "$here/golden"
        settle && shot | mask "$2" "$3" >"$file"
    fi
    until_ same_as_file "$2" "$3" && [ -s "$file" ] && return
    diff -u "$file" "$work/now" | sed 's/^/# /'
    return 1
}
same_as_file() {
    shot | mask "$1" "$2" >"$work/now"
    cmp -s "$file" "$work/now"
}

fresh() { rm -rf "$work/home"; }
