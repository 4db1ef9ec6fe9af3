# A conversation: what is typed, what an answer shows, the commands, and what runs beside it.

test_everything_comes_home_while_chatting() {
    fresh
    start home 100 24 && see 'Ask now' && keys 'Why do ships float?' Enter && see 'all home' &&
        see 'tokens/s' && gone 'all home' && lacks 'is ready' && shows 'the same depth'
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

# The real program, from VRAM to the drive and back, in mid-answer and between two: the words are those of
# a program that stayed where it was, and the conversation goes on.
answers() { # what is kept of them
    sqlite3 -readonly "$work/home/history.db" \
        "SELECT reasoning, content FROM messages WHERE role = 'assistant' AND state = 'complete'"
}
answered() { [ "$(answers | grep -c '|')" -eq "$1" ]; }
first_of_two() { # KEYS...: the first answer, after whose question KEYS are typed
    fresh
    PROGRAM=$build/lade MODEL=bundled
    start none 80 24 --greedy --gpu-plugin "$build/tests/lade-sim.so"
    PROGRAM='' MODEL=''
    see 'bundled is ready' && see 'full-gpu' &&
        keys 'I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?' Enter "$@" &&
        until_ answered 1
}
test_strategy_changes_in_the_real_program() {
    first_of_two && keys 'Why?' Enter && until_ answered 2 && see 'Because' || return 1
    stayed=$(answers)
    first_of_two '/strategy mmap' Enter && see 'The strategy is now mmap.' &&
        keys '/strategy full-gpu' Enter && see 'The strategy is now full-gpu.' &&
        keys 'Why?' Enter && until_ answered 2 && see 'Because' && [ "$(answers)" = "$stayed" ]
}

test_typing_while_loading() {
    fresh
    start board 80 24 && see '42%' && keys 'Hello' && see '❯ Hello' && keys Enter &&
        see 'will be sent when ready' && see 'loading 42%' && keys Escape &&
        gone 'will be sent' && see '❯ Hello'
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

test_editor() {
    fresh
    cat >"$work/editor" <<'end'
#!/bin/sh
echo EDITING
until [ -e "$LADE_HOME/written" ]; do sleep 0.1; done
printf ' and\r\nmo\033re 日\177本\n\n' >>"$2"
end
    chmod +x "$work/editor"
    with_env "EDITOR='$work/editor --wait'" start stream 80 24 && see 'Thinking is ready' &&
        keys 'Go' Enter && see 'Paragraph 12' && keys 'first' && keys C-g &&
        see 'EDITING' && lacks 'Paragraph 12' && open_gate first && until_ saved 'Paragraph 20' &&
        lacks 'Paragraph' && open_gate written && see '❯ first and' && see '  more 日本' &&
        see 'Paragraph 20' && keys Escape && see 'stopped ·' && keys '!' && see 'more 日本!' &&
        [ -z "$(ls "$work/home/cache" | grep message)" ]
}

test_editor_fails() {
    fresh
    with_env 'EDITOR=false VISUAL=' start chat 80 24 && see 'Thinking is ready' && keys 'kept' &&
        keys C-g && see 'false ended with status 1' && see '❯ kept'
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

test_title_follows_the_branch() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'first' Enter && see 'check the drive' &&
        keys '/edit' Enter && gone 'interrupted here' && see '❯ first' && keys ' again' Enter &&
        see 'Still here.' && see '── first again ──' && keys '/branch previous' Enter &&
        see '── first ──' && lacks 'again' && keys '/branch next' Enter && see '── first again ──' &&
        see 'Still here.'
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
        keys ' done' && see '❯ half done' && tmux_ resize-window -x 40 -y 9 && see 'too small' && keys C-z &&
        see 'Stopped' && keys 'fg' Enter && see 'too small' && tmux_ resize-window -x 80 -y 24 && see '❯ half done'
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
