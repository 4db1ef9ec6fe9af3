# lade - build, test, install. `make help` lists the targets.
#
#   make run      install what is missing, build, open the chat on the bundled model
#   make check    the same, then every test

BUILD   ?= build
CC      ?= gcc
PREFIX  ?= /usr/local
OPT     ?= -O2
SAN     ?=
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wpointer-arith -Wvla
PKGS    := ncursesw readline openblas sqlite3 jansson libpcre2-8 libutf8proc
DEBIAN  := build-essential pkg-config libncurses-dev libreadline-dev libopenblas-dev \
           libsqlite3-dev libjansson-dev libpcre2-dev libutf8proc-dev libcmocka-dev tmux python3

PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
CFLAGS  := -std=gnu17 $(OPT) -g $(WARN) $(SAN) -I. -D_GNU_SOURCE -DLADE_PREFIX='"$(PREFIX)"' \
           -pthread -ffp-contract=off $(PKG_CFLAGS)
LDFLAGS := $(SAN) -pthread
LDLIBS  := $(PKG_LIBS) -lmd4c -lm -ldl

src = $(sort $(shell find $(1) -name '*.c' 2>/dev/null))
KERNELS := $(filter-out kernels/cuda/%,$(call src,kernels))
ENGINE  := $(call src,engine)
HISTORY := $(call src,history)
TUI     := $(filter-out tui/main.c,$(call src,tui))
TESTS   := $(sort $(wildcard tests/unit/test_*.c))
SUPPORT := $(call src,tests/support)
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))

LIBS := $(BUILD)/libtui.a $(BUILD)/libengine.a $(BUILD)/libkernels.a $(BUILD)/libhistory.a

# x86 instruction sets by file name; the table that picks them at run time is compiled plainly.
%_avx2.o: ISA = -mavx2 -mfma -mf16c
%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c

.PHONY: all run check deps asan tsan lint format install help clean unit tests
.DELETE_ON_ERROR:

all: $(BUILD)/lade

$(BUILD)/lade: $(BUILD)/tui/main.o $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libtui.a: $(call obj,$(TUI))
$(BUILD)/libengine.a: $(call obj,$(ENGINE))
$(BUILD)/libkernels.a: $(call obj,$(KERNELS))
$(BUILD)/libhistory.a: $(call obj,$(HISTORY))
$(BUILD)/libsupport.a: $(call obj,$(SUPPORT))
$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<

# Tests: each program links only the rooms it may know.
$(BUILD)/tests/unit/test_kernels%: $(BUILD)/tests/unit/test_kernels%.o $(BUILD)/libkernels.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/unit/test_history%: $(BUILD)/tests/unit/test_history%.o $(BUILD)/libhistory.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

tests: $(patsubst %.c,$(BUILD)/%,$(TESTS))

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
