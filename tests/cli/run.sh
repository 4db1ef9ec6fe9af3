#!/bin/sh
# The built program from outside: sh tests/cli/run.sh BUILD. Prints `ok NAME`, `not ok NAME` and
# `skip NAME: why` lines, then one line with their numbers.
set -u
cd "$(dirname "$0")/../.." || exit 2
lade=$1/lade
case $lade in /*) ;; *) lade=$PWD/$lade ;; esac
tests=${lade%/lade}/tests # the plug-ins
fixtures=$PWD/tests/fixtures
tiny=$fixtures/tiny-int4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LADE_HOME="$work/home" LC_ALL=C.UTF-8
unset NO_COLOR
passed=0 failed=0 skipped=0

# result NAME STATUS: STATUS 0 is a pass; what was printed is shown otherwise.
result() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1"
        head -c 2000 "$work/out" "$work/err" | sed 's/^/    /'
    fi
}

# expect NAME CODE COMMAND...: runs it with output in $work/out and $work/err.
expect() {
    name=$1 code=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$code" ]
    result "$name" $?
}

# The last command's standard output (or error) has a line that matches.
says() {
    grep -Eq -- "$2" "$work/out"
    result "$1" $?
}

# fails NAME CODE PATTERN COMMAND...: one line on stderr that matches, nothing on stdout.
fails() {
    name=$1 code=$2 pattern=$3
    shift 3
    "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$code" ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" -eq 1 ] &&
        grep -Eq "^lade: .*($pattern).*" "$work/err" && grep -q '[;?]' "$work/err"
    result "$name" $?
}

# json NAME FIELDS... -- COMMAND...: exit 0, valid JSON with these fields.
json() {
    name=$1
    shift
    names=
    while [ "$1" != -- ]; do
        names="$names $1"
        shift
    done
    shift
    # shellcheck disable=SC2086
    "$@" >"$work/out" 2>"$work/err" </dev/null && [ ! -s "$work/err" ] &&
        python3 tests/cli/check.py fields "$work/out" $names 2>>"$work/err"
    result "$name" $?
}

check() {
    name=$1
    shift
    python3 tests/cli/check.py "$@" >"$work/out" 2>"$work/err"
    result "$name" $?
}

# ---- usage ----------------------------------------------------------------------------------------

expect "help" 0 "$lade" help
says "help lists the commands" '^  tokenize '
expect "--help" 0 "$lade" --help
expect "the bundled model by its name" 0 "$lade" inspect -m bundled
says "it is inspected" '^path .*/bundled$'
expect "--version" 0 "$lade" --version
says "version" '^lade [0-9]+\.[0-9]+'
for command in chat run serve logits tokenize detokenize inspect plan models pull bench history doctor help \
    version; do
    expect "help $command" 0 "$lade" help "$command"
done
expect "the manual page" 0 "$lade" help --man
says "it has every command" '^.SS detokenize'
says "and its options" '^.B \\-n, \\-\\-tokens'
check "completion in bash" completion "$lade"
check "completion in zsh and fish" completion_elsewhere "$lade"
fails "unknown command" 2 'did you mean inspect' "$lade" inspct
fails "unknown option" 2 'did you mean --greedy' "$lade" run --gredy
fails "missing value" 2 'needs a value' "$lade" run -p
fails "bad number" 2 'not a whole number' "$lade" run -n many -p x
fails "run without a prompt" 2 'needs a prompt' "$lade" run -m "$tiny"
fails "a port that is none" 2 'from 0 to 65535' "$lade" serve --port 65536
fails "logits without ids" 2 'needs token ids' "$lade" logits -m "$tiny"
for ids in "1 a" " " "-1" "1.5" 0x1 99999999999; do
    fails "logits of ids '$ids'" 2 'ids' "$lade" logits -m "$tiny" --ids "$ids"
done
fails "logits of an id that the model lacks" 1 'they are 0 to 1023' "$lade" logits -m "$tiny" --ids 1024
for repo in a/b/c/d a a/ /b :x a/b: - "a b/c" "a/b:$(printf '%0300d' 0)"; do
    fails "pull $(printf '%.20s' "$repo")" 2 'name' "$lade" pull "$repo"
done
long=$(printf '%0120d' 0)
fails "an unknown theme" 2 'there is none of this name' "$lade" chat --theme "no$long"
fails "a theme's path is kept whole" 2 "/$long.theme: " "$lade" --theme "/$long.theme"
fails "8 bits of what is exact" 2 'add --fast' "$lade" run -m "$tiny" -p x --kv-q8 --exact
fails "bench with bad depths" 2 'depth' "$lade" bench -m "$tiny" --depth 1,,2
fails "no such model" 1 'there is no such file' "$lade" run -m "$work/nowhere" -p x
fails "chat without a terminal" 1 'terminal' "$lade" -m "$tiny"
fails "and without a model" 1 'nowhere: there is no such file' "$lade" -m "$work/nowhere"
fails "an import of nothing" 1 "standard input: is not JSON" "$lade" history import -
check "names do not drive the terminal" names_do_not_drive_the_terminal "$lade" "$tiny"
check "chat on a terminal that cannot move the cursor" refused_terminal "$lade" "$tiny"

# ---- run ------------------------------------------------------------------------------------------

expect "run" 0 "$lade" run -m "$tiny" -p "hello" -n 12 --greedy
cp "$work/out" "$work/first"
[ ! -s "$work/err" ]
result "run is quiet on stderr" $?
expect "run again" 0 "$lade" run -m "$tiny" -p "hello" -n 12 --greedy
cp "$work/out" "$work/second"
expect "greedy repeats itself" 0 cmp "$work/second" "$work/first"
expect "run with a seed" 0 "$lade" run -m "$tiny" -p "hello" -n 12 --seed 5
cp "$work/out" "$work/first"
expect "run with the same seed" 0 "$lade" run -m "$tiny" -p "hello" -n 12 --seed 5
cp "$work/out" "$work/second"
expect "a seed repeats itself" 0 cmp "$work/second" "$work/first"
expect "no escape sequences in a pipe" 1 grep -q "$(printf '\033')" "$work/second"
printf 'hello\n' | "$lade" run -m "$tiny" -p - -n 12 --seed 5 >"$work/out" 2>"$work/err"
cmp -s "$work/out" "$work/first"
result "prompt from standard input" $?
printf 'hello\n' | "$lade" run -m "$tiny" -n 12 --seed 5 >"$work/out" 2>"$work/err"
cmp -s "$work/out" "$work/first"
result "a pipe alone is the prompt" $?
asks() { # NAME PROMPT ARGS...: with "b c" on standard input, ARGS ask PROMPT
    name=$1
    "$lade" run -m "$tiny" -n 12 --seed 5 -p "$2" >"$work/wanted" 2>"$work/err" </dev/null
    shift 2
    printf 'b c\n' | "$lade" run -m "$tiny" -n 12 --seed 5 "$@" >"$work/out" 2>>"$work/err"
    cmp -s "$work/out" "$work/wanted" && [ ! -s "$work/err" ]
    result "$name" $?
}
asks "a prompt without -p" hello hello
asks "words and a pipe" "$(printf 'what is\n\nb c\n\nhere now')" what is - here now
asks "-p, words and a pipe" "$(printf 'What is\n\nb c')" -p 'What' is -
asks "a pipe that is not asked for is not read" 'What is' -p 'What is'
expect "a model and a question, as others write it" 0 "$lade" run "$tiny" "b c" -n 12 --seed 5
"$lade" run -m "$tiny" -n 12 --seed 5 -p "b c" >"$work/wanted" 2>"$work/err" </dev/null
cmp -s "$work/wanted" "$work/out"
result "asks that model" $?
fails "a model nobody has and a question" 2 'intel: is taken for a model' "$lade" run intel "b c"
for called in llama3 phi:mini Org/Name model.gguf; do
    fails "$called and a word" 2 "$called: is taken for a model" "$lade" run "$called" hi
    fails "$called alone" 2 "$called: is taken for a model" "$lade" run "$called"
done
fails "a model where the question should be" 2 'is a model, which -m names' "$lade" run "$tiny"
expect "words are a question" 0 "$lade" run -n 1 --greedy hello there you
expect "with a number among them, too" 0 "$lade" run -n 1 --greedy H2O boils when
expect "and sums" 0 "$lade" run -n 1 --greedy '12*3=?'
fails "a pipe asked for twice" 2 'give - once' "$lade" run -m "$tiny" -p - -
json "run --json" text reasoning stop prompt_tokens tokens load_s ttft_s prefill_tps decode_tps \
    rss_peak_bytes vram_peak_bytes strategy -- "$lade" run -m "$tiny" -p hi -n 5 --json
json "run --json of a thinking model" text reasoning -- \
    "$lade" run -m "$fixtures/tiny-thinking" -p hi -n 5 --json
expect "a dry run of what would be opened" 0 "$lade" run --dry-run
says "it is the bundled model" '^bundled on '
expect "run under a system message" 0 "$lade" run -m "$tiny" -p hi -n 3 --system "Be brief."
fails "a mistyped command of the history" 2 'did you mean show' "$lade" history shw
# A GPU that is lost while the model is loaded, in the prompt, in the answer: the answer is the CPU's.
"$lade" run -m "$tiny" -p hello -n 12 --greedy --exact >"$work/first" 2>"$work/err"
for call in 5 40 90 200; do
    LADE_SIM_LOSE_CALL=$call "$lade" run -m "$tiny" -p hello -n 12 --greedy --exact \
        --gpu-plugin "$tests/lade-sim.so" >"$work/out" 2>"$work/err"
    cmp -s "$work/out" "$work/first" && [ "$(wc -l <"$work/err")" = 1 ] &&
        grep -q '^lade: .*GPU 0 was lost; .*Until then lade goes on with cpu-' "$work/err"
    result "a GPU is lost at call $call of a run" $?
done
LADE_SIM_LOSE_CALL=90 "$lade" run -m "$tiny" -p hi -n 5 --json --gpu-plugin "$tests/lade-sim.so" \
    >"$work/out" 2>"$work/err" && grep -q '"notice": ".*GPU 0 was lost' "$work/out" &&
    python3 tests/cli/check.py fields "$work/out" text notice strategy
result "run --json tells of a lost GPU" $?
LADE_SIM_LOSE_CALL=90 "$lade" bench -m "$tiny" -p 8 -n 8 -r 1 --gpu-plugin "$tests/lade-sim.so" \
    >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -q '^lade: .*GPU 0 was lost; start lade again' "$work/err"
result "bench does not mix devices" $?
fails "unknown instruction set" 2 'mmx' "$lade" run -m "$tiny" -p hi --isa mmx
fails "no question" 1 'standard input: is empty' "$lade" run -m "$tiny" -p -
expect "an answer that is all reasoning" 0 "$lade" run -p hi -n 3 --greedy
[ "$(cat "$work/out")" = '' ] && grep -q 'went into reasoning; raise -n' "$work/err"
result "it is said why nothing is there" $?
"$lade" version >&- 2>"$work/err"
[ $? -eq 1 ] && grep -q 'Bad file descriptor; open it' "$work/err"
result "no standard output" $?
fails "unknown strategy" 2 'nowhere' "$lade" run -m "$tiny" -p hi --strategy nowhere
fails "more context than the model has" 1 'context' "$lade" run -m "$tiny" -p hi --context 9999999
fails "less memory than the model needs" 1 '.' "$lade" run -m "$tiny" -p hi --cpu-memory 0.0001
"$lade" run -m "$work/nowhere" -p x --json >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ ! -s "$work/out" ] && python3 tests/cli/check.py fields "$work/err" error
result "run --json fails as an object" $?
"$lade" run -n many --json >"$work/out" 2>"$work/err"
[ $? -eq 2 ] && [ ! -s "$work/out" ] && python3 tests/cli/check.py fields "$work/err" error
result "so does wrong usage, before --json too" $?
"$lade" run -m "$(printf 'no \377 UTF-8')" -p x --json >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && [ ! -s "$work/out" ] && python3 tests/cli/check.py fields "$work/err" error
result "and a name that is no UTF-8" $?
if [ -w /dev/full ]; then
    "$lade" run -m "$tiny" -p x -n 5 >/dev/full 2>"$work/err"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ]
    result "a full disk is an error" $?
else
    skipped=$((skipped + 1))
    echo "skip a full disk is an error: there is no /dev/full"
fi
"$lade" run -m "$tiny" -p x --seed 1 2>"$work/err" | head -c 1 >"$work/out"
[ ! -s "$work/err" ]
result "a closed pipe ends it" $?
check "Ctrl-C" interrupt "$lade" "$fixtures/tiny-bf16"
check "Ctrl-C with --json" interrupt_json "$lade" "$fixtures/tiny-bf16"

# ---- the bundled model ----------------------------------------------------------------------------

question='I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?'
expect "the bundled model answers" 0 "$lade" run --greedy -p "$question"
says "it names the strategy" '`hybrid-heavy-cpu`'
says "and a reason" 'because .*\.$'
cp "$work/out" "$work/first"
expect "the same with --exact" 0 "$lade" run --greedy --exact -p "$question"
cp "$work/out" "$work/second"
expect "word for word" 0 cmp "$work/second" "$work/first"
expect "the same without drafts" 0 "$lade" run --greedy --no-draft -p "$question"
cp "$work/out" "$work/second"
expect "word for word, too" 0 cmp "$work/second" "$work/first"
expect "the same with a KV cache of 8 bits" 0 "$lade" run --greedy --cpu --kv-q8 -p "$question"
says "names it too" '`hybrid-heavy-cpu`'
fails "which is not exact" 2 'kv-q8' "$lade" run --exact --kv-q8 -p "$question"
expect "without thinking" 0 "$lade" run --greedy --no-think -p "What is lade?"
says "it knows lade" 'terminal'
for seed in 1 2 3; do
    expect "at its own temperature, seed $seed" 0 "$lade" run --seed $seed -p "$question"
    says "the strategy, seed $seed" '`hybrid-heavy-cpu`'
done
expect "an answer ends before a text, its thoughts do not" 0 \
    "$lade" run --greedy "What is lade?" --stop " is a terminal pro" --stop ' is the ' --show-thinking
[ "$(tail -n 1 "$work/out")" = lade ] && grep -q 'what lade is\.' "$work/out"
result "the text is left out" $?
json "its thoughts are apart" text reasoning -- "$lade" run --greedy -p "$question" --json
mkdir -p "$work/prefix/bin" "$work/prefix/share/lade"
cp "$lade" "$work/prefix/bin"
cp -r engine/bundled "$work/prefix/share/lade"
installed() (cd / && "$work/prefix/bin/lade" run --greedy -p "$question")
expect "an installed program finds its own" 0 installed
cp "$work/out" "$work/second"
expect "and answers the same" 0 cmp "$work/second" "$work/first"

# ---- logits, tokens -------------------------------------------------------------------------------

for fixture in "$fixtures"/*/; do
    model=$(basename "$fixture")
    [ -f "tests/golden/models/$model.json" ] || continue
    check "logits of $model" logits "$lade" "$fixtures/$model"
    check "logits of $model, fast" logits "$lade" "$fixtures/$model" --fast
done
check "logits in small batches" logits "$lade" "$tiny" --batch 7
check "logits, portable" logits "$lade" "$tiny" --isa portable --threads 1
check "logits of the last token" last_row "$lade" "$tiny"
expect "logits as text" 0 "$lade" logits -m "$tiny" --ids "1 2 3"
[ "$(wc -l <"$work/out")" -eq 10 ]
result "ten of them" $?
expect "logits into a file" 0 "$lade" logits -m "$tiny" --ids "1 2 3" -o "$work/logits"
expect "of the right size" 0 test "$(wc -c <"$work/logits")" -eq 4096
json "logits --json" position id top -- "$lade" logits -m "$tiny" --ids "1 2" --all --json
fails "logits of a wrong id" 1 "'1024' is not a token id" "$lade" logits -m "$tiny" --ids "1 1024"
fails "logits of words" 2 "'two' is not a token id" "$lade" logits -m "$tiny" --ids "1 two"
fails "logits of nothing" 2 'no ids' "$lade" logits -m "$tiny" --ids " "
fails "logits into a missing directory" 1 'No such file' \
    "$lade" logits -m "$tiny" --ids 1 -o "$work/no/where"
check "tokenize and detokenize" tokens "$lade" "$fixtures/tiny-bf16"
mkdir "$work/only"
cp "$tiny/tokenizer.json" "$work/only"
expect "tokenize needs only tokenizer.json" 0 "$lade" tokenize -m "$work/only"
printf '<|im_end|>' | "$lade" tokenize -m "$tiny" --special >"$work/out" 2>"$work/err"
says "a special token is one" '^[0-9]+$'
printf '<|im_end|>' | "$lade" tokenize -m "$tiny" >"$work/out" 2>"$work/err"
says "and without --special it is text" '^[0-9]+ [0-9]+'
head -c 67108865 /dev/zero | "$lade" tokenize -m "$tiny" >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'standard input: more than 64 MiB; give it in parts' "$work/err"
result "more text than anybody counts is refused" $?
echo 99999 | "$lade" detokenize -m "$tiny" >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'not a token id' "$work/err"
result "detokenize of a wrong id" $?

# ---- inspect, bench, doctor, plan -----------------------------------------------------------------

for fixture in "$fixtures"/*/; do
    [ -f "$fixture/config.json" ] || continue
    expect "inspect $(basename "$fixture")" 0 "$lade" inspect -m "$fixture"
done
says "inspect shows the layers" '^ +[0-9]+  (attention|delta-net)'
says "inspect says what belongs to them" '^tokenizer +[0-9]+ tokens, chat template (instruct|thinking)'
json "inspect --json" name format quantization shape components layers shards tokens template missing -- \
    "$lade" inspect -m "$tiny" --json
expect "bench" 0 "$lade" bench -m "$tiny" -p 16 -n 4 -r 2 --depth 0,32
json "bench --json" model strategy threads depth n_prompt n_gen prefill_tps decode_tps load_s \
    bytes_per_token gbps peak_gbps rss_peak_bytes -- \
    "$lade" bench -m "$tiny" -p 16 -n 4 -r 1 --json
fails "bench beyond the context" 1 'context' "$lade" bench -m "$tiny" -p 100000
expect "doctor" 0 "$lade" doctor -m bundled
says "doctor tells how fast files become weights" '^ok +loading +packs at [0-9.]+ [GM]B/s'
says "doctor names the processor" '^ok +processor'
expect "doctor, a model that is none" 1 "$lade" doctor -m /nowhere
says "doctor names the model" '^bad +model +/nowhere: '
expect "bench of nothing" 0 "$lade" bench -m "$tiny" -p 0 -n 0
says "what was not measured is no number" ' 0 +- +0 +- +[0-9.]+ +- +-$'
json "doctor --json" ok checks -- "$lade" doctor --json
json "plan --json" chosen rows -- "$lade" plan --json

# ---- models, pull ---------------------------------------------------------------------------------

hub=$work/hub
mkdir -p "$hub/Org/Tiny-Next" "$hub/Org/Tiny-GGUF"
cp "$tiny"/* "$hub/Org/Tiny-Next"
head -c 100000 "$tiny/model-00001-of-00002.safetensors" >"$hub/Org/Tiny-GGUF/Tiny-Q8_0.gguf"
cp "$hub/Org/Tiny-GGUF/Tiny-Q8_0.gguf" "$hub/Org/Tiny-GGUF/Tiny-Q4_0.gguf"
mkfifo "$work/stop"
python3 tests/support/hub_server.py "$hub" <"$work/stop" >"$work/ports" &
exec 9>"$work/stop" # the server ends when this closes
server=$!
# Waits for something the server prints, unless it has ended.
until_server() { until "$@"; do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done; }
until_server [ -s "$work/ports" ]
HF_ENDPOINT=http://127.0.0.1:$(cut -d ' ' -f 1 "$work/ports")
HF_HUB_CACHE=$work/no-cache
export HF_ENDPOINT HF_HUB_CACHE
unset HF_TOKEN HF_TOKEN_PATH
expect "models of nothing" 0 env HOME="$work" "$lade" models
says "it says how to get one" 'lade pull'
fails "pull without a name" 2 'ORG/NAME' "$lade" pull
fails "pull of no repository name" 2 'ORG/NAME' "$lade" pull tiny
fails "pull of what is not there" 1 'nobody/none: .*404' "$lade" pull nobody/none
fails "pull of one among several" 1 'Q4_0 .*Q8_0' "$lade" pull Org/Tiny-GGUF
echo '[{"match": "model-", "pace": 1000}]' >&9
until_server grep -q ok "$work/ports"
check "Ctrl-C while pulling" interrupt_pull "$lade" Org/Tiny-Next "$hub/log"
fails "run of a model half fetched" 1 'lade pull Org/Tiny-Next' "$lade" run -m tiny-next -p x
echo '[]' >&9
twice_ok() { [ "$(grep -c ok "$work/ports")" -eq 2 ]; }
until_server twice_ok
json "pull --json goes on" repo path files bytes fetched seconds -- \
    "$lade" pull Org/Tiny-Next --json
cmp -s "$LADE_HOME/models/Org/Tiny-Next/model-00002-of-00002.safetensors" \
    "$tiny/model-00002-of-00002.safetensors"
result "the shards are the hub's" $?
expect "pull again" 0 "$lade" pull Org/Tiny-Next
says "the path goes to standard output" '^/.*/models/Org/Tiny-Next$'
expect "pull of a GGUF model" 0 "$lade" pull Org/Tiny-GGUF:q8_0
says "its path is the file" '/Org/Tiny-GGUF@Q8_0/Tiny-Q8_0.gguf$'
expect "models" 0 env HOME="$work" "$lade" models
says "models lists what was fetched" '^Org/Tiny-Next +safetensors +int4.* lade +ready$'
says "and counts the others" '^1 of other'
json "models --json" models -- env HOME="$work" "$lade" models --all --json
expect "run by a short name" 0 "$lade" run -m tiny-n -p hi -n 3 --greedy
expect "run by the whole name" 0 "$lade" run -m Org/Tiny-Next -p hi -n 3 --greedy
fails "run of an unknown name" 1 'no model of this name' "$lade" run -m tiny-x -p hi

# ---- a server that has the model ------------------------------------------------------------------

mkfifo "$work/stop-model"
python3 tests/support/model_server.py "$work/asked" <"$work/stop-model" >"$work/model-port" &
exec 8>"$work/stop-model" # it ends when this closes
server=$!
until_server [ -s "$work/model-port" ]
at=http://127.0.0.1:$(cat "$work/model-port")
expect "run at a server" 0 "$lade" run -m "$at/plain/v1" Why do ships float?
says "its answer" '^Ships float because of Archimedes\.$'
expect "with its reasoning" 0 "$lade" run "$at/tags/v1" "Why do ships float?" --show-thinking
says "which is apart" '^Water <b>$'
json "run --json at a server" text reasoning stop prompt_tokens kept_tokens tokens load_s ttft_s \
    prefill_tps decode_tps rss_peak_bytes vram_peak_bytes strategy model device -- \
    "$lade" run -m "$at/several/v1#two/three" --json -n 5 -t 0.5 --no-think "Why?"
says "its strategy" '"strategy": "remote"'
says "its tokens" '"tokens": 4,'
grep -q '"model": "two/three".*"temperature": 0.5, "max_tokens": 5, .*"enable_thinking": false' "$work/asked"
result "what was set is sent" $?
grep -q '"org/served-8b".*"include_usage": true}, "key": null' "$work/asked"
result "and nothing else" $?
echo secret-key >"$work/key"
expect "with its key" 0 "$lade" run -m "$at/key/v1" --key-file "$work/key" Why?
fails "without its key" 1 'wants a key \(401\).*--key-file' "$lade" run -m "$at/key/v1" Why?
fails "with a key that is not there" 1 'No such file' "$lade" run -m "$at/key/v1" --key-file "$work/no" Why?
fails "one of several" 1 'has 2 models; choose one with #NAME' "$lade" run -m "$at/several/v1" Why?
fails "nobody there" 1 'nothing answers there' "$lade" run -m http://127.0.0.1:1 Why?
fails "a page" 1 'OpenAI-compatible' "$lade" run -m "$at/page/v1" Why?
fails "inspect of a server" 2 'needs the files of a model' "$lade" inspect -m "$at/plain/v1"
fails "--threads for a server" 2 'run on this machine' "$lade" run -m "$at/plain/v1" --threads 2 Why?
expect "an answer that is cut" 1 "$lade" run -m "$at/cut/v1" Why?
says "what came is printed" '^Ships float$'
json "plan for a server" chosen rows -- "$lade" plan -m "$at/plain/v1" --json
says "it is the choice" '"chosen": "remote"'
exec 8>&-

# ---- history --------------------------------------------------------------------------------------

db=$LADE_HOME/history.db
expect "history of nothing" 0 "$lade" history list
check "an export to import" conversation "$work/in.json"
expect "history import" 0 "$lade" history import "$work/in.json"
says "import says the number" 'imported 1, from number 1 on'
expect "the database is private" 0 test "$(stat -c %a "$db")" = 600
expect "its directory too" 0 test "$(stat -c %a "$LADE_HOME")" = 700
expect "history list" 0 "$lade" history list
says "list shows title and number" '^ +1 .* 2  Über 北京'
json "history list --json" id title created updated messages -- "$lade" history list --json
expect "history show" 0 "$lade" history show 1
says "show has the question" 'Wo liegt 北京'
expect "history search" 0 "$lade" history search CHINA
says "search finds the answer" '^ +1  assistant  In China'
json "history search --json" conversation message role excerpt -- "$lade" history search 北京 --json
expect "history rename" 0 "$lade" history rename 1 A new title
expect "list after rename" 0 "$lade" history list new
says "it is renamed" 'A new title'
expect "history export" 0 "$lade" history export -o "$work/a.json"
expect "import it elsewhere" 0 env LADE_HOME="$work/other" "$lade" history import "$work/a.json"
expect "and export it there" 0 env LADE_HOME="$work/other" "$lade" history export 1 -o "$work/b.json"
check "the exports are equal" same_export "$work/a.json" "$work/b.json"
expect "export as Markdown" 0 "$lade" history export 1 --markdown
says "with a heading" '^# A new title'
expect "Markdown in a file" 0 "$lade" history export 1 --markdown -o "$work/a.md"
expect "drives no terminal that shows it" 1 grep '[[:cntrl:]]' "$work/a.md"
export LADE_HOME="$work/other"
expect "a long title" 0 "$lade" history rename 1 "$(printf '北京%.0s' 1 2 3 4 5 6 7 8 9)"
check "fits into the line" long_title_fits "$lade"
expect "and is whole in a pipe" 0 "$lade" history list
says "to its end" '京北京$'
check "a model that is gone" sql "$LADE_HOME/history.db" \
    "UPDATE conversations SET model = 'x', model_path = '/nowhere/x.gguf'"
fails "is said where there is no screen" 1 '/nowhere/x.gguf' "$lade" --resume
export LADE_HOME="$work/home"
fails "show of a wrong number" 1 'conversation 9: there is none' "$lade" history show 9
for words in "show first" "show 0" "export 1x" "rename x y" "delete 1 x" "delete 99999999999999999999"; do
    # shellcheck disable=SC2086
    fails "history $words" 2 'not the number' "$lade" history $words
done
expect "a number of two is none: nothing is deleted" 0 "$lade" history show 1
for words in ' ' '	
'; do
    fails "history search '$words'" 2 'nothing but blanks' "$lade" history search "$words" ' '
done
fails "show without a number" 2 'too few' "$lade" history show
fails "unknown history command" 2 'list, show' "$lade" history erase
fails "import of no JSON" 1 'is not JSON' "$lade" history import "$tiny/../../cli/run.sh"
fails "import of other JSON" 1 'not an export' "$lade" history import "$tiny/config.json"

# As somebody who may read it and not write it.
mkdir "$work/fixed" && cp "$db" "$work/fixed" && chmod 755 "$work" && chmod 444 "$work/fixed/history.db" &&
    chmod 555 "$work/fixed"
reader="env LADE_HOME=$work/fixed"
[ "$(id -u)" != 0 ] || reader="setpriv --reuid 65534 --clear-groups $reader"
if $reader test -x "$lade" 2>"$work/err" && ! $reader test -w "$work/fixed"; then
    for call in list "show 1" "search CHINA" export; do
        # shellcheck disable=SC2086
        expect "history $call, read only" 0 $reader "$lade" history $call
        says "it finds something" 'China|new title'
    done
    for call in "rename 1 x" "delete 1"; do
        # shellcheck disable=SC2086
        fails "history $call, read only" 1 'writable for you' $reader "$lade" history $call
    done
    [ "$(ls "$work/fixed")" = history.db ] && cmp -s "$db" "$work/fixed/history.db"
    result "nothing is made there" $?
else
    skipped=$((skipped + 1))
    echo "skip a history that can only be read: root cannot be somebody else here"
fi
chmod 755 "$work/fixed"

mkdir -p "$LADE_HOME/cache/timelines"
: >"$LADE_HOME/cache/timelines/0123456789abcdef"
expect "history delete" 0 "$lade" history delete 1
expect "nothing that may be of it is kept" 1 test -e "$LADE_HOME/cache/timelines/0123456789abcdef"
fails "delete again" 1 'there is none' "$lade" history delete 1
printf 'this is no database, but long enough to be taken for one: %0512d' 1 >"$work/garbage"
for kind in newer junk cut; do
    home=$work/$kind
    mkdir -p "$home"
    cp "$db" "$home/history.db"
    case $kind in
    newer) python3 tests/cli/check.py sql "$home/history.db" "PRAGMA user_version = 99" ;;
    junk) cp "$work/garbage" "$home/history.db" ;;
    cut) head -c 5000 "$db" >"$home/history.db" ;;
    esac
    cp "$home/history.db" "$work/before"
    fails "history, $kind database" 1 "$kind/history.db" env LADE_HOME="$home" "$lade" history list
    expect "it is left as it was" 0 cmp "$work/before" "$home/history.db"
    expect "doctor, $kind database" 1 env LADE_HOME="$home" "$lade" doctor
    says "doctor says so" '^bad +history'
done

check "kill -9 of the chat, 50 times" kill_chat "$lade" "$fixtures/tiny8-int4-mixed"

# ---- broken checkpoints -----------------------------------------------------------------------------

fails "a file is not a model" 1 'config.json' "$lade" inspect -m "$tiny/config.json"
python3 tests/cli/break_model.py | while IFS="$(printf '\t')" read -r kind pattern; do
    python3 tests/cli/break_model.py "$tiny" "$work/broken-$kind" "$kind" || exit 2
    printf '%s\t%s\n' "$kind" "$pattern"
done >"$work/kinds"
while IFS="$(printf '\t')" read -r kind pattern <&3; do
    fails "run, $kind" 1 "$pattern" "$lade" run -m "$work/broken-$kind" -p hi
done 3<"$work/kinds"
for kind in missing-shard overlapping-offsets other-architecture; do
    fails "inspect, $kind" 1 '.' "$lade" inspect -m "$work/broken-$kind"
    fails "logits, $kind" 1 '.' "$lade" logits -m "$work/broken-$kind" --ids 1
done
for kind in no-tokenizer tokenizer-cut tokenizer-of-another-kind; do
    fails "tokenize, $kind" 1 'tokenizer.json' "$lade" tokenize -m "$work/broken-$kind"
    expect "inspect, $kind" 0 "$lade" inspect -m "$work/broken-$kind"
    says "inspect names what is missing, $kind" '^missing +.*tokenizer.json: .*; '
done

exec 9>&-
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
