# What the screen looks like, in every size: pictures, colours, and what a change of size leaves.

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
    start load "$2" "$1" && see 'Ask now' && see '26.0 of 43.2 GB' && keys 'Why do ships float?' Enter &&
        see 'the same depth' && keys '/anatomy' Enter && see 'experts in VRAM 1848/3072' &&
        see '44%' && golden "load-${3:-$2x$1}" "$1" "$2"
}
test_load_80x24() { load 24 80; }
test_load_120x40() { load 40 120; }
test_load_200x60() { load 60 200; }
test_load_no_color() {
    with_env NO_COLOR=1 load 24 80 no-color &&
        ! shot -e | grep -qE "$(printf '\033')\[([0-9]+;)*(3[0-8]|4[0-8])[;m]"
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
    with_env NO_COLOR=1 strategies 24 80 &&
        shot -e | grep 'cached-mmap' | grep -q "$(printf '\033')\[7m"
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
    with_env NO_COLOR=1 start chat 80 24 && see 'Thinking is ready' && keys 'Why?' Enter && see 'tokens/s' &&
        settle && ! shot -e | grep -qE "$(printf '\033')\[([0-9]+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]" &&
        shot -e | grep -q "$(printf '\033')\[1m"
}

test_no_locale() {
    fresh
    with_env LC_ALL=C start chat 80 24 && see 'is ready' && keys '日本 🚢' && see '❯ 日本 🚢' &&
        keys BSpace BSpace && gone '🚢' && see '❯ 日本'
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
