# lade - build, test, install. `make help` lists the targets.

# As many jobs as there are processors, unless the caller says: -j there wins over this one, and make shows
# it here only if it came in the environment. Goals after one another (`make clean all`) are made one after
# another.
ifeq ($(MAKELEVEL)$(filter -j% --jobs%,$(shell echo "$$MAKEFLAGS"))$(word 2,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

BUILD   ?= build
PREFIX  ?= /usr/local
OPT     ?= -O2
SAN     ?=
ifeq ($(origin CC),default)
CC      := gcc
endif
ifeq ($(origin CXX),default)
CXX     := g++
endif

# Every library beyond libc, and the Debian packages that bring them and the tools.
PKGS    := ncursesw readline sqlite3 jansson libpcre2-8 libutf8proc libcurl nettle liburing libxxhash libmicrohttpd
DEBIAN  := gcc libc6-dev make pkg-config libncurses-dev libreadline-dev \
           libsqlite3-dev libjansson-dev libpcre2-dev libutf8proc-dev libmd4c-dev \
           libcurl4-openssl-dev nettle-dev liburing-dev libxxhash-dev libmicrohttpd-dev
DEBIAN_CHECK := $(DEBIAN) g++ libcmocka-dev tmux python3 sqlite3
DEBIAN_LINT  := clang clang-tidy clang-format cppcheck

WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wpointer-arith -Wvla
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# Reports of sanitizers need lines, not where variables are, which takes a third of such a build's time.
DEBUG   := $(if $(SAN),-g1,-g)
# No contraction: a*b+c rounds the same on every instruction set unless a kernel says fma. Objects
# serve the program and the plug-ins.
CFLAGS   = -std=gnu17 $(OPT) $(DEBUG) $(WARN) $(SAN) -I. -D_GNU_SOURCE -DLADE_PREFIX='"$(PREFIX)"' \
           -fPIC -fvisibility=hidden -pthread -ffp-contract=off $(PKG_CFLAGS)
LDFLAGS := $(SAN) -pthread
LDLIBS  := $(PKG_LIBS) -lmd4c -lm -ldl

src = $(sort $(shell find $(1) -name '*.c' 2>/dev/null))
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
KERNELS := $(call src,kernels)
CUDA    := $(sort $(wildcard kernels/cuda/*.cu))
ENGINE  := $(call src,engine)
HISTORY := $(call src,history)
TUI     := $(filter-out tui/main.c,$(call src,tui))
TESTS   := $(sort $(wildcard tests/unit/test_*.c tests/golden/test_*.c))
TEST_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(TESTS))
FAKE    := $(sort $(wildcard tests/support/fake_*.c))
SCREEN_C := $(FAKE) $(sort $(wildcard tests/views/*.c))
SCREEN_PROGRAMS := $(BUILD)/lade-fake $(patsubst %.c,$(BUILD)/%,$(filter tests/views/%,$(SCREEN_C)))
SUPPORT := $(sort $(wildcard tests/support/support_*.c))
# For tests of kernels: a GPU as if its memory were the host's, and where plug-ins are.
VIEW    := tests/support/host_view.c tests/support/plugins.c
FUZZERS := $(patsubst %.c,$(BUILD)/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
LIBS    := $(BUILD)/libtui.a $(BUILD)/libengine.a $(BUILD)/libkernels.a $(BUILD)/libhistory.a

.PHONY: all run check deps deps-check tests screen-programs asan tsan fuzz bench lint format install clean help
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
.SECONDARY:

help:
	@echo 'make run      install what is missing, build, open the chat on the bundled model'
	@echo 'make check    the same, then every test; ends with "N passed, N failed, N skipped"'
	@echo 'make          build $(BUILD)/lade, and $(BUILD)/lade-cuda.so where nvcc is, for CUDA_ARCHS="$(CUDA_ARCHS)"'
	@echo 'make deps     install the libraries (as root or with sudo), or name those missing'
	@echo 'make asan     unit and golden tests under AddressSanitizer and UBSan'
	@echo 'make tsan     those of the threads under ThreadSanitizer'
	@echo 'make fuzz     each fuzz harness for FUZZ_SECONDS (60)'
	@echo 'make bench    the kernels and the bundled model, measured'
	@echo 'make lint     gcc and clang with -Werror, clang-tidy, cppcheck'
	@echo 'make format   clang-format over all sources'
	@echo 'make install  to PREFIX ($(PREFIX))'

# Where there is no card, nobody waits for the plug-in.
run: deps
	@$(MAKE) --no-print-directory $(if $(wildcard /dev/nvidia[0-9] /dev/dxg),all,$(BUILD)/lade)
	@$(BUILD)/lade

check: deps-check
	@$(MAKE) --no-print-directory all tests screen-programs
	@sh tests/run.sh $(BUILD)

# ---- the program --------------------------------------------------------------------------------

$(BUILD)/lade: $(BUILD)/tui/main.o $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The same program with a scripted engine, for tests of the screen: tests/support/fake_engine.c.
$(BUILD)/lade-fake: $(BUILD)/tui/main.o $(call obj,$(FAKE)) $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libtui.a: $(call obj,$(TUI))
$(BUILD)/libengine.a: $(call obj,$(ENGINE))
$(BUILD)/libkernels.a: $(call obj,$(KERNELS))
$(BUILD)/libhistory.a: $(call obj,$(HISTORY))
$(BUILD)/libsupport.a: $(call obj,$(SUPPORT))
$(BUILD)/libview.a: $(call obj,$(VIEW))
$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

# Instruction sets beyond the baseline go by file name; device.c picks one at run time.
%_avx2.o: ISA = -mavx2 -mfma -mf16c
%_avxvnni.o: ISA = -mavx2 -mfma -mf16c -mavxvnni
%_neon.o: ISA = $(if $(findstring aarch64,$(shell $(CC) -dumpmachine)),-march=armv8.2-a+dotprod)
%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c
# Their kernels are inlined into each other: where variables are takes gcc as long as all the rest, and
# "optimized out" is what a debugger then says. Lines stay; the code is the same.
$(BUILD)/kernels/cpu/isa_%.o: DEBUG = -g1

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<

# ---- the CUDA plug-in: kernels/cuda, where nvcc is ----------------------------------------------

# Machine code of these compute capabilities; one of the same first digit runs on later ones of it
# (8.0 on 8.6 and 8.9, 12.0 on 12.1). Later generations compile the PTX when the program starts; so do
# those that an older nvcc does not know yet.
NVCC := $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_KNOWN := $(if $(NVCC),$(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code 2>/dev/null)))
CUDA_ARCHS ?= $(filter $(or $(CUDA_KNOWN),%),75 80 90 100 110 120)
CUDA_PLUGIN := $(and $(NVCC),$(CUDA),$(BUILD)/lade-cuda.so)
CUDA_GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
    -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
CUDA_HOST := $(addprefix -Xcompiler ,-Wall -Wextra -Werror -fPIC -fvisibility=hidden -fno-exceptions \
    -fno-rtti -ffp-contract=off)
# What the plug-in takes of the C kernels.
CUDA_C := $(addprefix $(BUILD)/kernels/,error.o matrix.o blocks.o codebooks.o)

all: $(BUILD)/lade $(CUDA_PLUGIN)
	$(if $(CUDA_PLUGIN),,@echo 'no nvcc here: without lade-cuda.so, lade runs on the CPU')

$(BUILD)/lade-cuda.so: $(patsubst %.cu,$(BUILD)/%.o,$(CUDA)) $(CUDA_C)
	$(CXX) -shared -pthread -static-libstdc++ -static-libgcc -Wl,--no-undefined \
	    -Wl,--exclude-libs,ALL -o $@ $^ $(dir $(NVCC))../lib64/libcudart_static.a -ldl -lrt -lm
	@echo "$@: $$(stat -c %s $@) bytes for compute capabilities $(CUDA_ARCHS); exports" \
	    $$(nm -D --defined-only $@ | sed 's/.* //')

$(BUILD)/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(NVCC) -std=c++17 -O3 -I. $(CUDA_GENCODE) -Werror all-warnings $(CUDA_HOST) \
	    -MMD -MP -c -o $@ $<

# ---- tests --------------------------------------------------------------------------------------

# Each test links only the rooms it may know.
$(BUILD)/tests/unit/test_kernels%: $(BUILD)/tests/unit/test_kernels%.o $(BUILD)/libview.a $(BUILD)/libkernels.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/bench/bench_kernel%: $(BUILD)/tests/bench/bench_kernel%.o $(BUILD)/libkernels.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/tests/gpu/bench_gpu: $(BUILD)/tests/gpu/bench_gpu.o $(BUILD)/tests/gpu/bench_model.o $(BUILD)/libkernels.a
	$(CC) $(LDFLAGS) -o $@ $^ -lm -ldl
$(BUILD)/tests/unit/test_history%: $(BUILD)/tests/unit/test_history%.o $(BUILD)/libhistory.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libsupport.a $(BUILD)/libview.a $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

# The simulated GPU: the CPU's ops behind the rules of a GPU. tests/support/sim_gpu/sim_gpu.h
SIM := $(call src,tests/support/sim_gpu)
$(BUILD)/tests/lade-sim.so: $(call obj,$(KERNELS) $(SIM))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -shared -o $@ $^ -lm -ldl

$(BUILD)/tests/lade-other.so: $(BUILD)/tests/support/other_plugin.o $(BUILD)/kernels/error.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -shared -o $@ $^

PLUGINS := $(BUILD)/tests/lade-sim.so $(BUILD)/tests/lade-other.so \
    $(BUILD)/tests/lade-cuda-emulated.so

# The CUDA plug-in compiled by the host's compiler for a GPU that is emulated, so that its own
# sources are tested where there is none: tests/support/cuda_emulator/cuda_runtime.h.
EMULATOR := $(sort $(wildcard tests/support/cuda_emulator/*.cc))
EMULATED := -std=gnu++17 $(OPT) $(DEBUG) -Wall -Wextra -Wno-unknown-pragmas -Werror -I. \
    $(SAN) $(if $(SAN),-Wno-maybe-uninitialized) \
    -Itests/support/cuda_emulator -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread -ffp-contract=off
# -fsanitize=thread: its calls before each access, which hazards.h takes; no library.
$(BUILD)/emulated/%.o: %.cu
	@mkdir -p $(@D)
	$(CXX) -x c++ $(EMULATED) $(if $(SAN),,-fsanitize=thread) -MMD -MP -c -o $@ $<
$(BUILD)/emulated/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(EMULATED) -MMD -MP -c -o $@ $<
$(BUILD)/tests/lade-cuda-emulated.so: $(patsubst %.cu,$(BUILD)/emulated/%.o,$(CUDA)) \
    $(patsubst %.cc,$(BUILD)/emulated/%.o,$(EMULATOR)) $(CUDA_C)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) -shared -Wl,--no-undefined -o $@ $^ -lm -ldl

# What tests/screen and tests/views run in a terminal.
screen-programs: $(SCREEN_PROGRAMS)

tests: $(TEST_PROGRAMS) $(BUILD)/lade-fake $(PLUGINS)

asan: deps-check
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan OPT=-O1 \
	    SAN='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' tests
	@sh tests/run.sh --programs $(BUILD)/asan

# The tests in which threads meet: the pool and the kernels it runs, the movers, the session.
THREADED := $(addprefix unit/test_,cards changes claims decode_allocates engine kernels_attention kernels_deltanet \
    kernels_moe kept links look lost packed probe promises pull_bars remote session tiers)
tsan: deps-check
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan OPT=-O1 SAN=-fsanitize=thread \
	    $(addprefix $(BUILD)/tsan/tests/,$(THREADED)) $(BUILD)/tsan/tests/lade-sim.so
	@TSAN_OPTIONS=halt_on_error=1 \
	    sh tests/run.sh --programs $(BUILD)/tsan $(THREADED)

# Fuzzers link the rooms that they fuzz, and are not measured themselves: no coverage of theirs.
FUZZ_SECONDS ?= 60
FUZZED := $(foreach d,engine/checkpoint engine/tokenizer engine/hub tui/text,$(call src,$(d))) \
    $(filter-out kernels/plugin.c,$(wildcard kernels/*.c)) engine/clock.c engine/curl.c tui/theme_file.c \
    tui/colour.c tui/stop.c $(addprefix tui/serve/,question.c body.c offer.c guard.c calls.c typed.c) \
    engine/remote/sse.c engine/remote/reply.c
FUZZ_CC := clang $(CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=all
$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(if $(filter tests/%,$<),,-fsanitize=fuzzer-no-link) -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/libfuzzed.a: $(patsubst %.c,$(BUILD)/fuzz/%.o,$(FUZZED))
$(BUILD)/fuzz/tests/fuzz/%: $(BUILD)/fuzz/tests/fuzz/%.o $(BUILD)/fuzz/libfuzzed.a
	clang -fsanitize=fuzzer,address,undefined -pthread -o $@ $^ $(LDLIBS)
fuzz: deps-check
	$(call need,clang)
	@$(MAKE) --no-print-directory $(FUZZERS)
	@python3 tests/fuzz/seeds.py $(BUILD)/fuzz/seeds
	@for f in $(FUZZERS); do \
	    mkdir -p $$f.corpus; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -malloc_limit_mb=64 -rss_limit_mb=1024 -timeout=10 \
	        -print_final_stats=1 $$f.corpus $(BUILD)/fuzz/seeds/$${f##*/} || exit 1; \
	done

bench: deps
	@$(MAKE) --no-print-directory all $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/bench_*.c))
	@for b in $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/bench_*.c)); do $$b || exit 1; done
	@$(BUILD)/lade bench

# ---- tools --------------------------------------------------------------------------------------

ALL_C = $(KERNELS) $(ENGINE) $(HISTORY) tui/main.c $(TUI) $(TESTS) $(SUPPORT) $(SCREEN_C) $(SIM) $(VIEW) tests/support/other_plugin.c

# One clang-tidy for each file, so that -j shares them out.
TIDY := $(addprefix tidy/,$(filter-out %_avx2.c %_avxvnni.c %_avx512.c,$(KERNELS) $(ENGINE) $(HISTORY) \
    tui/main.c $(TUI)))
.PHONY: cppcheck $(TIDY)
$(TIDY): tidy/%:
	@clang-tidy --quiet $* -- $(CFLAGS)
cppcheck:
	cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,performance \
	    --suppressions-list=tests/support/cppcheck.supp -I. kernels engine history tui

# Clang's warnings come before any code: nothing is made.
.PHONY: clang
clang: $(call obj,$(ALL_C) $(sort $(wildcard tests/bench/*.c tests/fuzz/*.c tests/gpu/*.c)))

lint: deps-check
	$(call need,$(DEBIAN_LINT))
	@$(MAKE) --no-print-directory all tests
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC='clang -fsyntax-only' clang
	@$(MAKE) --no-print-directory cppcheck $(TIDY)

format:
	clang-format -i $(ALL_C) $(shell git ls-files '*.h')

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/lade/themes
	install -m 755 $(BUILD)/lade $(DESTDIR)$(PREFIX)/bin/lade
	if [ -f $(BUILD)/lade-cuda.so ]; then \
	    install -d $(DESTDIR)$(PREFIX)/lib/lade && \
	    install -m 755 $(BUILD)/lade-cuda.so $(DESTDIR)$(PREFIX)/lib/lade; fi
	install -m 644 themes/*.theme $(DESTDIR)$(PREFIX)/share/lade/themes
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man1 bash-completion/completions \
	    zsh/site-functions fish/vendor_completions.d)
	$(BUILD)/lade help --man > $(DESTDIR)$(PREFIX)/share/man/man1/lade.1
	$(BUILD)/lade help --bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/lade
	$(BUILD)/lade help --zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_lade
	$(BUILD)/lade help --fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/lade.fish
	if [ -d engine/bundled ]; then \
	    install -d $(DESTDIR)$(PREFIX)/share/lade/bundled && \
	    install -m 644 engine/bundled/* $(DESTDIR)$(PREFIX)/share/lade/bundled; fi

clean:
	rm -rf $(BUILD)

# ---- what must be installed ---------------------------------------------------------------------

# Installs the Debian packages of $(1) that are not there: as root, or through sudo where it asks
# for no password. Otherwise names them and stops. Other systems: what pkg-config misses is named.
define need
	@if command -v dpkg-query >/dev/null; then \
	    missing=; \
	    for p in $(1); do \
	        dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	    done; \
	    test -z "$$missing" && exit 0; \
	    if [ "$$(id -u)" = 0 ]; then as_root=; \
	    elif sudo -n true 2>/dev/null; then as_root=sudo; \
	    else echo "missing:$$missing"; echo "run: sudo apt-get install$$missing"; exit 1; fi; \
	    echo "installing:$$missing"; \
	    $$as_root apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
	    missing=; \
	    for p in $(PKGS); do pkg-config --exists $$p || missing="$$missing $$p"; done; \
	    test -z "$$missing" || { echo "missing libraries (pkg-config names):$$missing"; exit 1; }; \
	fi
endef

deps:
	$(call need,$(DEBIAN))
deps-check:
	$(call need,$(DEBIAN_CHECK))

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
