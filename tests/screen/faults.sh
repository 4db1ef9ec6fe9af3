# What goes wrong is a message, and the chat lives; what ends it leaves the terminal as it was.

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

test_error_is_a_message() {
    fresh
    start error 80 24 && see 'Thinking is ready' && keys 'one' Enter && see 'check the drive' &&
        keys 'two' Enter && see 'Still here.' && see 'idle' && golden error-80x24 24 80
}

# The real program on a simulated GPU, which is lost in an answer: one line says so, the answer goes on
# where it was, and the next question is answered.
test_a_gpu_is_lost() {
    fresh
    PROGRAM=$build/lade MODEL=$PWD/tests/fixtures/tiny8-int4-mixed
    with_env LADE_SIM_LOSE_CALL=400 start none 200 50 --gpu-plugin "$build/tests/lade-sim.so" --max-tokens 40 --greedy
    PROGRAM='' MODEL=''
    see 'is ready' && see 'full-gpu' && keys 'Tell me a story' Enter && see 'GPU 0 was lost' &&
        see 'Until then lade goes on with cpu-' && see ' tokens/s · first' &&
        keys '/clear' Enter && keys 'And another one' Enter && see '❯ And another one' && see ' tokens/s · first' &&
        gone 'was lost' && keys C-d && see 'EXIT 0'
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
