#!/bin/sh
# The chat screen in a real terminal (tmux), with a scripted engine: sh tests/screen/run.sh BUILD
#
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
passed=0 failed=0 skipped=0
work=$(mktemp -d)
unset TMUX NO_COLOR LADE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME
LC_ALL=C.UTF-8
export LC_ALL

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

# ---- what tests use ------------------------------------------------------------------------------

# start SCRIPT COLS ROWS [ARGS]: a chat in a new terminal; history is kept in $work/home.
start() {
    script=$1 cols=$2 rows=$3
    shift 3
    new_terminal
    tmux_ new-session -d -x "$cols" -y "$rows" \
        "env LADE_HOME=$work/home TERM=tmux-256color ${RUN_ENV:-} sh -c 'echo \$\$ >$work/pid; \
exec ${PROGRAM:-$build/lade-fake} chat -m ${MODEL:-$here/scripts/$script.script} $*'; code=\$?; \
echo; echo EXIT \$code; stty -a; sleep 1000" \; set -g window-size manual
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

# ---- tests ---------------------------------------------------------------------------------------

board() { # ROWS COLS
    fresh
    start board "$2" "$1" && see '42%' && see '✓ 3' && golden "board-$2x$1" "$1" "$2"
}
test_board_80x24() { board 24 80; }
test_board_120x40() { board 40 120; }
test_board_200x60() { board 60 200; }

chat() { # ROWS COLS
    fresh
    start chat "$2" "$1" && see 'Thinking is ready' && keys 'Why do ships float?' Enter && see 'tokens/s' &&
        see 'idle' && golden "chat-$2x$1" "$1" "$2"
}
test_chat_80x24() { chat 24 80; }
test_chat_120x40() { chat 40 120; }
test_chat_200x60() { chat 60 200; }
test_chat_40x10() { chat 10 40; }

# A question while most of the model is still on its way: the board is a line above the answer.
load() { # ROWS COLS NAME
    fresh
    start load "$2" "$1" && see 'Ask now' && see '60%' && keys 'Why do ships float?' Enter &&
        see 'the same depth' && keys '/anatomy' Enter && see 'experts in VRAM 1848/3072' &&
        see '44%' && golden "load-${3:-$2x$1}" "$1" "$2"
}
test_load_80x24() { load 24 80; }
test_load_120x40() { load 40 120; }
test_load_200x60() { load 60 200; }
test_load_no_color() {
    RUN_ENV='NO_COLOR=1'
    load 24 80 no-color && ! shot -e | grep -qE "$(printf '\033')\[([0-9]+;)*(3[0-8]|4[0-8])[;m]"
    status=$?
    RUN_ENV=
    return $status
}

test_everything_comes_home_while_chatting() {
    fresh
    start home 100 24 && see 'Ask now' && keys 'Why do ships float?' Enter && see 'all home' &&
        see 'tokens/s' && gone 'all home' && lacks 'is ready' && shows 'the same depth'
}

strategies() { # ROWS COLS
    fresh
    start load "$2" "$1" && see 'Ask now' && keys '/plan' Enter && see 'Now running' && keys Down &&
        see 'instead of' && golden "strategies-$2x$1" "$1" "$2"
}
test_strategies_80x24() { strategies 24 80; }
test_strategies_120x40() { strategies 40 120; }
test_strategies_200x60() { strategies 60 200; }
test_strategies_no_color() {
    RUN_ENV='NO_COLOR=1'
    strategies 24 80 && shot -e | grep 'cached-mmap' | grep -q "$(printf '\033')\[7m"
    status=$?
    RUN_ENV=
    return $status
}

test_strategy_changes_in_mid_answer() {
    fresh
    start load 80 24 && see 'Ask now' && keys 'Why do ships float?' Enter && see 'the same depth' &&
        keys '/strategy cach' Tab && see '❯ /strategy cached-mmap' && keys Enter &&
        see 'The strategy is now cached-mmap.' && keys '/strategy full-gpu' Enter &&
        see 'needs 41.4 GiB of VRAM' && keys '/strategy fastest' Enter && see 'is not a strategy' &&
        keys '/plan' Enter && see '✓ cached-mmap' && keys Down Enter &&
        see 'The strategy is now stream-aggressive.' && shows 'the same depth' &&
        keys '/plan' Enter && see 'Now running' && keys Escape && gone 'Now running'
}

# The real program on the model that comes with it.
test_bundled_model() {
    fresh
    new_terminal
    tmux_ new-session -d -x 80 -y 24 \
        "env LADE_HOME=$work/home TERM=tmux-256color sh -c 'exec $build/lade chat --greedy'; sleep 1000" \; \
        set -g escape-time 0 \; set -g status off || return 1
    see 'bundled is ready' && see 'small model that comes with lade' && see 'lade models' &&
        see 'lade pull REPO' && see 'lade -m NAME' && keys 'I have 16 GB of VRAM and 64 GB of RAM. ' \
        'Which strategy should I use?' Enter && see 'hybrid-heavy-cpu' && see 'thought for' &&
        see 'idle' && keys C-t && see 'RAM 64 GB' && keys 'Why?' Enter && see '❯ Why?' && see 'Because'
}

test_typing_while_loading() {
    fresh
    start board 80 24 && see '42%' && keys 'Hello' && see '❯ Hello' && keys Enter &&
        see 'will be sent when ready' && see 'loading 42%' && keys Escape &&
        gone 'will be sent' && see '❯ Hello'
}

test_load_failure_is_a_message() {
    fresh
    start fail 80 24 && see 'download the shard again' && see 'load failed' && alive &&
        keys '/help' Enter && see 'the keys and commands' && keys C-d && see 'EXIT 0'
}

# The real program: whatever is wrong with a model, the chat lives and says it.
broken() { # PATTERN ARGS...
    pattern=$1
    shift
    PROGRAM=$build/lade
    start none 80 24 "$@"
    PROGRAM=''
    see "$pattern" && keys 'anybody?' Enter && see 'no model is loaded' &&
        see '❯ anybody?' && alive && keys C-c && keys C-d && see 'EXIT 0'
}
test_broken_models_are_messages() {
    fresh
    tiny=$PWD/tests/fixtures/tiny-int4
    for kind in other-architecture missing-shard truncated-shard overlapping-offsets wrong-shape \
        wrong-dtype unknown-packing tokenizer-cut; do
        rm -rf "$work/broken"
        python3 tests/cli/break_model.py "$tiny" "$work/broken" "$kind" || return 1
        MODEL=$work/broken
        broken '✗' || { MODEL='' && return 1; }
    done
    head -c 60000 tests/fixtures/tiny-gguf/tiny-q8_0.gguf >"$work/cut.gguf"
    MODEL=$work/cut.gguf
    broken 'cut.gguf: ' && MODEL=$tiny && broken 'RAM' --cpu-memory 0.0001 && MODEL=$work/nowhere &&
        broken 'there is no such file'
    status=$?
    MODEL=''
    return $status
}

test_newer_database_is_a_message() {
    fresh
    mkdir -p "$work/home"
    start chat 80 24 && see 'Thinking is ready' && keys 'x' Enter && see 'tokens/s' && keys C-d &&
        see 'EXIT 0' && sqlite3 "$work/home/history.db" 'PRAGMA user_version = 99' &&
        start chat 80 24 && see 'Thinking is ready' && see 'not saved: ' && see 'newer lade' && keys 'y' Enter &&
        see 'tokens/s' && keys C-d && see 'EXIT 0' &&
        [ "$(sqlite3 "$work/home/history.db" 'SELECT count(*) FROM messages')" = 2 ]
}

test_history_that_cannot_be_kept() {
    fresh
    RUN_ENV='LADE_HOME=/proc/nowhere'
    start error 80 24 --resume && see 'not saved: /proc/nowhere' && see 'Thinking is ready' &&
        keys 'one' Enter && see 'check the drive' && keys '/resume' Enter &&
        see 'the history is not open' && keys 'two' Enter && see 'Still here.' && keys C-d &&
        see 'EXIT 0' && lacks 'Saved as'
    status=$?
    RUN_ENV=''
    return $status
}

test_error_is_a_message() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'one' Enter && see 'check the drive' &&
        keys 'two' Enter && see 'Still here.' && see 'idle' && golden error-80x24 24 80
}

test_scrolling_stops_following() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'Go' Enter && see 'Paragraph 12' &&
        keys PPage && see 'End follows' && gone 'Paragraph 12' && settle || return 1
    top=$(shot | head -3)
    open_gate first
    see 'new lines · End follows' || return 1
    rule=$(shot | grep 'End follows')
    open_gate second
    until_ lacks "$rule" && [ "$top" = "$(shot | head -3)" ] &&
        keys End && gone 'End follows' && see 'Paragraph 40' && keys Escape && see 'stopped ·' &&
        see 'idle'
}

test_wheel_scrolls() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'Go' Enter && see 'Paragraph 12' &&
        keys Escape && see 'stopped ·' || return 1
    n=0
    while [ $n -lt 5 ]; do
        printf '\033[<64;10;5M' | tmux_ load-buffer - && tmux_ paste-buffer -r
        n=$((n + 1))
    done
    see 'lines below · End follows'
}

test_thinking_folds() {
    fresh
    start think 80 24 && see 'Thinking is ready' && keys 'Think' Enter && see 'Thought 12' &&
        lacks 'Thought 2 ' && keys C-t && see 'Thought 2 ' && keys C-t && gone 'Thought 2 ' &&
        keys Escape && see '▸ thought for'
}

test_paste_of_lines_is_one_message() {
    fresh
    start chat 80 24 && see 'Thinking is ready' || return 1
    printf 'first line\nsecond 日本語\n\nfourth 🚢' | tmux_ load-buffer - && tmux_ paste-buffer -p
    see 'fourth 🚢' && see '❯ first line' && lacks 'thought' && keys M-Enter && keys 'fifth' &&
        see '  fifth' && golden paste-80x24 24 80 && keys Enter && see 'tokens/s' && see 'idle' &&
        [ "$(tmux_ capture-pane -p -S - | grep -c 'tokens/s')" = 1 ]
}

test_history_of_input() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'first message' Enter && see 'check the drive' &&
        keys 'second message' Enter && see 'Still here.' && keys Up && see '❯ second message' &&
        keys Up && see '❯ first message' && keys Down Down && see '❯ Message, or' && keys C-r && keys 'irst' && see "(reverse-i-search)\`irst': first message" && keys C-g &&
        gone 'reverse-i' && keys C-d && see 'EXIT 0' &&
        start error 80 24 && see 'Thinking is ready' && keys Up && see '❯ second message'
}

test_completion() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && keys '/' && see 'go on with a saved conversation' &&
        keys 'th' && gone 'go on with' && see 'whether the model reasons' && keys 'e' Tab &&
        see 'monochrome' && keys 'mono' Tab && see '❯ /theme monochrome' && keys Enter &&
        gone '/theme monochrome' && keys '/re' && see '/rename' && keys Down && keys Down &&
        keys Tab && see '❯ /rename' && keys 'x' && see '❯ /rename x'
}

picker() { # ROWS COLS
    start chat "$2" "$1" && see 'Thinking is ready' && keys '/resume' Enter && see 'type to filter' &&
        golden "picker-$2x$1" "$1" "$2"
}
three_conversations() {
    [ -d "$work/home" ] && [ -f "$work/three" ] && return
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'About the sea' Enter && see 'check the drive' &&
        keys '/new' Enter && gone 'check the drive' && keys 'Über die Schiffe 船 🚢' Enter &&
        see 'Still here.' && lacks ' 0/262k' && keys '/new' Enter && gone 'Still here.' &&
        see ' 0/262k' &&
        keys 'A rather long first message that will not fit into a narrow list of titles at all' \
            Enter && see 'check the drive' && keys C-d && see 'EXIT 0' && touch "$work/three"
}
test_picker_80x24() { rm -f "$work/three"; three_conversations && picker 24 80; }
test_picker_120x40() { three_conversations && picker 40 120; }
test_picker_200x60() { three_conversations && picker 60 200; }
test_picker_chooses_and_deletes() {
    three_conversations && start chat 80 24 && see 'Thinking is ready' && keys '/resume' Enter &&
        see 'type to filter' && keys 'sea' && see '1 of 3' && keys Enter && gone 'filter' &&
        see '❯ About the sea' && see 'interrupted here' && keys '/resume' Enter &&
        see 'type to filter' && keys Up Up DC && see 'for good?' && keys n && gone 'for good?' &&
        see 'A rather long' && keys DC && see 'for good?' && keys y && gone 'A rather long' &&
        keys 'dy' && see 'filter: dy' && keys Escape && see '❯ About the sea'
    status=$?
    rm -f "$work/three"
    return $status
}

test_resize_storm() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && keys 'Why do ships float?' Enter || return 1
    n=0
    while [ $n -lt 200 ]; do
        tmux_ resize-window -x $((20 + n * 37 % 180)) -y $((4 + n * 17 % 60)) || return 1
        n=$((n + 1))
    done
    tmux_ resize-window -x 80 -y 24
    see 'tokens/s' && see 'idle' && keys End && alive && golden chat-80x24 24 80
}

test_too_small_and_back() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && keys 'typed before' && see 'typed before' &&
        tmux_ resize-window -x 39 -y 9 && see '39x9 is too small' && see 'needs 40x10' &&
        tmux_ resize-window -x 3 -y 2 && settle && tmux_ resize-window -x 80 -y 24 &&
        see '❯ typed before' && lacks 'is too small'
}

test_no_color() {
    fresh
    RUN_ENV='NO_COLOR=1'
    start chat 80 24 && see 'Thinking is ready' && keys 'Why?' Enter && see 'tokens/s' && settle
    status=$?
    RUN_ENV=
    [ $status = 0 ] && ! shot -e | grep -qE "$(printf '\033')\[([0-9]+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]" &&
        shot -e | grep -q "$(printf '\033')\[1m"
}

test_no_locale() {
    fresh
    RUN_ENV='LC_ALL=C'
    start chat 80 24 && see 'is ready' && keys '日本 🚢' && see '❯ 日本 🚢' && keys BSpace BSpace &&
        gone '🚢' && see '❯ 日本'
    status=$?
    RUN_ENV=
    return $status
}

test_colours() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && shot -e | grep -qE "$(printf '\033')\[[0-9;]*38;5;"
}

# The colours of the model's name in the status lines.
colours() { shot -e | tail -n 2 | sed -n 's/Qwen3-Next.*//p'; }
other_colours() { c=$(colours) && [ -n "$c" ] && [ "$c" != "$1" ]; }
same_colours() { [ "$(colours)" = "$1" ]; }
test_theme_picker_previews() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && settle || return 1
    before=$(colours)
    [ -n "$before" ] && keys '/theme' Enter && see 'monochrome' && keys Down &&
        until_ other_colours "$before" && keys Escape && gone 'type to filter' &&
        until_ same_colours "$before" && keys '/theme light' Enter &&
        until_ other_colours "$before" && keys C-d && see 'EXIT 0' &&
        grep -q '"theme": "light"' "$work/home/settings.json"
}

test_kill_and_resume() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'A long story' Enter && see 'Paragraph 12:' &&
        until_ saved 'Paragraph 12:' && kill -9 "$(cat "$work/pid")" && see 'EXIT 137' &&
        start stream 80 24 --resume && see 'interrupted here' && see 'Paragraph 12:' &&
        keys 'And now?' Enter && until_ saved 'And now?' && gone 'interrupted here' &&
        gone 'And now?' && see 'Paragraph 12:' && keys Escape && see 'stopped ·'
}

# Two programs on one conversation: who speaks second goes on in a copy, and nothing is mixed.
test_two_programs_on_one_conversation() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'Why?' Enter && see 'check the drive' || return 1
    one=$terminal terminal=$((terminal + 1000))
    start error 80 24 --resume && see '❯ Why?' && keys 'of the second' Enter &&
        see 'check the drive' && until_ saved 'of the second'
    status=$? two=$terminal terminal=$one
    [ $status = 0 ] && keys 'of the first' Enter && see 'Another lade goes on with conversation 1.' &&
        see 'Still here.' && keys C-d && see 'EXIT 0' && terminal=$two && lacks 'Another lade' &&
        keys 'more' Enter && see 'Still here.' && keys C-d && see 'EXIT 0'
    status=$?
    terminal=$one
    tmux_ kill-server 2>/dev/null
    terminal=$two
    [ $status = 0 ] || return 1
    LADE_HOME=$work/home "$build/lade" history show 1 >"$work/1"
    LADE_HOME=$work/home "$build/lade" history show 2 >"$work/2"
    grep -q 'Why?' "$work/1" && grep -q 'of the second' "$work/1" && grep -q 'more' "$work/1" &&
        ! grep -q 'of the first' "$work/1" && grep -q 'Why? (copy)' "$work/2" &&
        grep -q 'of the first' "$work/2" && ! grep -q 'of the second' "$work/2"
}

# The real program on a simulated GPU, which is lost in an answer: one line says so, the answer goes on
# where it was, and the next question is answered.
test_a_gpu_is_lost() {
    fresh
    PROGRAM=$build/lade MODEL=$PWD/tests/fixtures/tiny8-int4-mixed RUN_ENV=LADE_SIM_LOSE_CALL=400
    start none 200 50 --gpu-plugin "$build/tests/lade-sim.so" --max-tokens 40 --greedy
    PROGRAM='' MODEL='' RUN_ENV=''
    see 'is ready' && shows 'full-gpu' && keys 'Tell me a story' Enter && see 'GPU 0 was lost' &&
        see 'Until then lade goes on with cpu-' && see ' tokens/s · first' &&
        keys '/clear' Enter && keys 'And another one' Enter && see '❯ And another one' && see ' tokens/s · first' &&
        lacks 'was lost' && keys C-d && see 'EXIT 0'
}

# What is wrong at the start stands below the conversation that goes on, and is not cleared with it.
test_faults_beside_a_resumed_conversation() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'A long story' Enter && see 'Paragraph 12:' &&
        keys Escape && see 'stopped ·' && keys C-d && see 'EXIT 0' || return 1
    echo '{"theme": ' >"$work/home/settings.json"
    PROGRAM=$build/lade MODEL=/nowhere
    start none 160 24 --resume && see '/nowhere: there is no such file' && see 'stopped ·' &&
        see 'settings.json: not a JSON object'
    status=$?
    PROGRAM='' MODEL=''
    return $status
}

test_control_characters_stay_text() {
    fresh
    start hostile 100 24 && see 'Thinking is ready' && keys 'x' Enter && see 'tokens/s' &&
        see 'red ␛[31mtext␛[0m bell ␇ title ␛]0;owned␇ eight-bit \x9B31m bad \xFF\xFE end' &&
        lacks 'OpenBLAS' && grep -q 'OpenBLAS warning' "$work/home/cache/lade.log" &&
        keys C-d && see 'EXIT 0' && lacks 'OpenBLAS'
}

test_crash_restores_the_terminal() {
    fresh
    start chat 80 24 && see 'Thinking is ready' && kill -SEGV "$(cat "$work/pid")" &&
        see 'lade: the program failed (signal 11)' && see ' icanon ' && see ' echo ' &&
        lacks 'Thinking is ready'
}

test_terminate_saves() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'A long story' Enter && see 'Paragraph 12:' &&
        kill -TERM "$(cat "$work/pid")" && see 'EXIT 143' && see ' icanon ' &&
        start stream 80 24 --resume && see 'Paragraph 12:' && see 'stopped'
}

# The terminal is closed in the middle of an answer: the program ends, and what it had is kept.
stopped() {
    sqlite3 -readonly "$work/home/history.db" "SELECT state FROM messages WHERE state = 'stopped'
        AND content LIKE '%Paragraph 12:%'" 2>/dev/null | grep -q stopped
}
test_closed_terminal_saves() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'A long story' Enter && see 'Paragraph 12:' &&
        tmux_ kill-server && until_ stopped &&
        start stream 80 24 --resume && see 'Paragraph 12:' && see 'stopped'
}

test_editor() {
    fresh
    cat >"$work/editor" <<'end'
#!/bin/sh
echo EDITING
until [ -e "$LADE_HOME/written" ]; do sleep 0.1; done
printf ' and\r\nmo\033re 日\177本\n\n' >>"$2"
end
    chmod +x "$work/editor"
    RUN_ENV="EDITOR='$work/editor --wait'"
    start stream 80 24
    RUN_ENV=
    see 'Thinking is ready' && keys 'Go' Enter && see 'Paragraph 12' && keys 'first' && keys C-g &&
        see 'EDITING' && lacks 'Paragraph 12' && open_gate first && until_ saved 'Paragraph 20' &&
        lacks 'Paragraph' && open_gate written && see '❯ first and' && see '  more 日本' &&
        see 'Paragraph 20' && keys Escape && see 'stopped ·' && keys '!' && see 'more 日本!' &&
        [ -z "$(ls "$work/home/cache" | grep message)" ]
}

test_editor_fails() {
    fresh
    RUN_ENV='EDITOR=false VISUAL='
    start chat 80 24
    RUN_ENV=
    see 'Thinking is ready' && keys 'kept' && keys C-g && see 'false ended with status 1' &&
        see '❯ kept'
}

test_another_try() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'first' Enter && see 'check the drive' &&
        keys '/retry' Enter && see 'Still here.' && gone 'interrupted here' && keys '/retry' Enter &&
        gone 'Still here.' && see 'interrupted here' && keys '/edit' Enter &&
        gone 'interrupted here' && see '❯ first' && keys ' again' Enter && see 'Still here.' &&
        keys '/fork' Enter && see 'conversation 2' && keys 'next' Enter && see 'interrupted here' &&
        keys C-d && see 'EXIT 0' && start error 80 24 --resume 1 && see '❯ first again' &&
        see 'Still here.' && lacks 'next'
}

# Answers to one question: the mark says which one is shown, and the others can be gone back to.
test_branches() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'first' Enter && see 'check the drive' &&
        keys '/retry' Enter && see 'Still here.' && see ' 2/2 ·' && keys '/branch prev' Tab &&
        see '❯ /branch previous' && keys Enter && see 'interrupted here · 1/2' &&
        lacks 'Still here.' && keys '/branch' Enter && see 'Branches, by what was said last' &&
        see 'Still here.' && keys Up Enter && gone 'type to filter' && see ' 2/2 ·' &&
        keys C-d && see 'EXIT 0' || return 1
    LADE_HOME=$work/home "$build/lade" history show 1 >"$work/1"
    LADE_HOME=$work/home "$build/lade" history show 1 --branches >"$work/2"
    grep -q 'version 2 of 2' "$work/1" && grep -q 'other branches: 1; lade history show 1 --br' "$work/1" &&
        ! grep -q 'version 1 of 2' "$work/1" && grep -q 'version 1 of 2' "$work/2" &&
        grep -q 'version 2 of 2' "$work/2" && grep -q 'Still here.' "$work/2"
}

test_suspend() {
    fresh
    new_terminal
    tmux_ new-session -d -x 80 -y 24 "env LADE_HOME=$work/home PS1='shell> ' bash --norc --noprofile -i"
    see 'shell>' && keys "$build/lade-fake -m $here/scripts/chat.script" Enter && see 'Thinking is ready' &&
        keys 'half' && see '❯ half' && keys C-z && see 'Stopped' && keys 'fg' Enter && see '❯ half' &&
        keys ' done' && see '❯ half done'
}

# The whole program, with the real engine, is left alone with its model: how often does it wake up?
# That says how much an idle chat costs and, unlike processor time, does not depend on the machine.
wakes() { cat /proc/"$(cat "$work/pid")"/task/*/status | awk '/^voluntary/ {n += $2} END {print n}'; }
uptime_ms() { awk '{printf "%d\n", $1 * 1000}' /proc/uptime; }
test_idle_costs_nothing() {
    fresh
    PROGRAM=$build/lade MODEL=$PWD/tests/fixtures/tiny-int4
    start none 80 24 && see 'is ready' && settle
    status=$?
    PROGRAM='' MODEL=''
    [ $status = 0 ] || return 1
    wakes=$(wakes) began=$(uptime_ms)
    sleep 6
    wakes=$(($(wakes) - wakes)) took=$(($(uptime_ms) - began))
    echo "# $wakes wakes in $took ms"
    [ $((wakes * 1000)) -le $((3 * took)) ]
}

# ---- the run -------------------------------------------------------------------------------------

tests=$(sed -n 's/^test_\([a-z0-9_]*\)() .*/\1/p' "$0")
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
