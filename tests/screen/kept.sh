# What is kept of a conversation when the program ends in the middle, or another one writes it, too.

test_newer_database_is_a_message() {
    fresh
    mkdir -p "$work/home"
    start chat 80 24 && see 'Thinking is ready' && keys 'x' Enter && see 'tokens/s' && keys C-d &&
        see 'EXIT 0' && sqlite3 "$work/home/history.db" 'PRAGMA user_version = 99' &&
        start chat 80 24 && see 'Thinking is ready' && see 'not saved: ' && see 'newer lade' && keys 'y' Enter &&
        see 'tokens/s' && keys C-d && see 'EXIT 0' &&
        [ "$(sqlite3 "$work/home/history.db" 'SELECT count(*) FROM messages')" = 2 ]
}

why_stands_above() { shot | awk '/not saved:/ {why = NR} /see the message above/ {exit !why}'; }
test_history_that_cannot_be_kept() {
    fresh
    with_env LADE_HOME=/proc/nowhere start error 80 24 --resume && see 'not saved: /proc/nowhere' &&
        see 'see the message above' && why_stands_above && see 'Thinking is ready' &&
        keys 'one' Enter && see 'check the drive' && keys '/resume' Enter &&
        see 'the history is not open' && keys 'two' Enter && see 'Still here.' && keys C-d &&
        see 'EXIT 0' && lacks 'Saved as'
}

test_kill_and_resume() {
    fresh
    start stream 80 24 && see 'Thinking is ready' && keys 'A long story' Enter && see 'Paragraph 12:' &&
        until_ saved 'Paragraph 12:' && kill -9 "$(cat "$work/pid")" && see 'EXIT 137' &&
        start stream 80 24 --resume && see 'interrupted here' && see 'Paragraph 12:' &&
        keys 'And now?' Enter && until_ saved 'And now?' && gone 'interrupted here' &&
        gone 'And now?' && see 'Paragraph 12:' && keys Escape && see 'stopped ·'
}

# A conversation that is resumed goes on with the model it was held with, from wherever the program is
# started; where that is gone, it can be read, and nothing else answers in its place.
test_resume_with_its_model() {
    fresh
    cp "$here/scripts/error.script" "$work/its.script"
    root=$PWD MODEL=./its.script
    cd "$work" && start error 80 24
    MODEL='' && cd "$root" && see 'Thinking is ready' && keys 'Why?' Enter && see 'check the drive' &&
        keys C-d && see 'EXIT 0' &&
        start - 80 24 --resume && see 'Thinking is ready' && see '❯ Why?' && lacks 'was held with' &&
        keys C-d && see 'EXIT 0' && rm "$work/its.script" && start - 100 24 --resume 1 &&
        see 'its.script: there is no such file' && see '❯ Why?' && keys 'And?' Enter && see 'no model is loaded'
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
