# A chat with a model behind a server (tests/support/model_server.py).

serve() { # starts the server; ends with it: stop_serving
    mkfifo "$work/stop"
    python3 tests/support/model_server.py "$work/asked" <"$work/stop" >"$work/port" &
    exec 9>"$work/stop" # it ends when this closes
    until_ [ -s "$work/port" ] && at=http://127.0.0.1:$(cat "$work/port")
}
stop_serving() {
    status=$?
    exec 9>&-
    rm -f "$work/stop" "$work/port" "$work/asked"
    PROGRAM='' MODEL=''
    return $status
}
talk_to() { # BEHAVIOUR [COLS ROWS]
    PROGRAM=$build/lade MODEL=$at/$1/v1
    start none "${2:-80}" "${3:-24}"
}

test_a_model_behind_a_server() {
    fresh
    serve && talk_to loading && see 'is still loading its model' && see 'org/served-8b is ready' &&
        see 'vllm at 127.0.0.1' && see 'remote 127.0.0.1' && lacks 'VRAM' && keys 'Why?' Enter &&
        see 'Ships float because of Archimedes.' && see '8 reused' && see '24/4096' &&
        keys '/plan' Enter && see '✓ remote' && see 'needs the files of the model' && keys Escape &&
        gone '✓ remote' && keys '/strategy mmap' Enter && see 'behind a server, which decides' &&
        keys '/set' Enter && see "the server's" && keys '/stats' Enter && see 'Server  ' &&
        until_ saved 'Archimedes' && sqlite3 -readonly "$work/home/history.db" \
        'SELECT model_path, strategy FROM conversations' | grep -q '^http://127.*/loading/v1|remote$'
    stop_serving
}

test_a_server_that_stops_in_the_middle() {
    fresh
    serve && talk_to slow 120 40 && see 'is ready' && keys 'Slowly' Enter && see 'Ships float' &&
        keys Escape && see 'stopped' && talk_to cut && see 'is ready' && keys 'Why?' Enter &&
        see 'the connection was cut' && see 'interrupted here' && shows 'Ships float' &&
        talk_to reasoning && see 'is ready' && keys 'Why?' Enter && see 'They float.' &&
        see 'thought' && keys C-t && see 'place water' && talk_to several && see 'has 2 models' &&
        talk_to key && see 'wants a key (401)'
    stop_serving
}
