# nestbox. ./build.sh sets a machine up and calls this; on a machine that is set up, plain make works too.
#   make                out/nestbox, static and stripped, debug information in out/nestbox.debug
#   make check          unit tests, simulations, fuzz seeds replayed, lint: no root, seconds
#   make check-net      real programs in network namespaces (root)
#   make check-cross    check for each other processor that TARGET may name, under qemu (minutes)
#   make asan | fuzz    clang on glibc: the tests under ASan and UBSan; each fuzz harness for FUZZ_SECONDS
#   make bench          measurements; scripts/bench.sh says how to have some of them, or short; STOCK=DIR: against stock, too
#   make soak           the network tests at full length, then soak-tunnel: an hour at full rate
#   make lint | clean | distclean        (distclean also removes the built libraries)
# Everything made is under out/: out/gen (generated sources), out/TARGET/{deps,obj,test,log}.

# TARGET=aarch64, armv7, mips, mipsel or riscv64 makes out/TARGET/nestbox for that processor; so does TARGET=... ./build.sh.

VERSION := 0.1.0
FUZZ_SECONDS ?= 10
# A warning stops the build; WERROR= turns that off for a compiler we have not met.
WERROR ?= -Werror

NATIVE := $(shell uname -m)
TARGET ?= $(NATIVE)
CROSS := $(filter-out $(NATIVE),aarch64 armv7 mips mipsel riscv64)
O := out/$(TARGET)
D := $(O)/deps
Q := $(if $(V),,@)
# Programs for another processor run in its emulator, which takes its time.
ifneq ($(filter $(TARGET),$(CROSS)),)
EMULATOR := qemu-$(TARGET:armv7=arm)
export EMULATOR
export TEST_SECONDS ?= 600
endif
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(or $(JOBS),$(shell nproc)) --no-builtin-rules
endif

# --- sources
SRC   := $(sort $(wildcard src/*.c src/*/*.c))
PROTO := $(sort $(wildcard src/proto/*.proto))
UNIT  := $(sort $(wildcard tests/unit/*_test.c tests/sim/*_test.c))
FUZZ  := $(sort $(wildcard tests/fuzz/*_fuzz.c))
BENCH := $(sort $(wildcard tests/bench/*_bench.c))
NET   := $(sort $(wildcard tests/net/*.c))
# Other C files beside the tests are helpers that any test may use.
HELP  := $(filter-out $(UNIT) $(FUZZ) $(BENCH) tests/fuzz/replay.c, \
           $(sort $(wildcard tests/unit/*.c tests/sim/*.c tests/bench/*.c)))

GEN_C := $(PROTO:src/proto/%.proto=out/gen/proto/%.pb-c.c)
GEN_H := $(GEN_C:.c=.h) out/gen/applets.h

OBJ      := $(SRC:%.c=$(O)/obj/%.o) $(GEN_C:out/%.c=$(O)/obj/%.o)
MAIN     := $(O)/obj/src/main.o
LIB      := $(O)/libnestbox.a
HELP_LIB := $(O)/libtesthelp.a
TESTS    := $(UNIT:tests/%.c=$(O)/test/%)
REPLAYS  := $(FUZZ:tests/fuzz/%_fuzz.c=$(O)/test/fuzz/%_seeds)
FUZZERS  := $(FUZZ:tests/fuzz/%_fuzz.c=$(O)/fuzz/%)
BENCHES  := $(BENCH:tests/%.c=$(O)/test/%)
NETPROGS := $(NET:tests/%.c=$(O)/test/%)

# --- flags
CC := $(O)/tc/cc
CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DNGHTTP2_STATICLIB \
            -iquote src -iquote out/gen -isystem $(D)/include
WARN := -Wall -Wextra -Wmissing-prototypes -Wshadow -Wstrict-prototypes -Wvla $(WERROR)
# System headers mix signs in macros, which only gcc forgives; gcc looks at our own code.
WARN += $(if $(filter $(TARGET),$(CROSS)),-Wno-sign-compare)
# zig turns assertions off when it optimizes.
CPPFLAGS += $(if $(filter $(TARGET),$(CROSS)),-UNDEBUG)
CFLAGS := -std=gnu11 -g -ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=.
LDLIBS := -L$(D)/lib -lnghttp2 -lllhttp -lprotobuf-c -ljansson -lyaml -llmdb -lmaxminddb -lminiupnpc \
          -lbearssl -lsodium -lev -lz -lm
ifeq ($(TARGET),asan)
PROGRAM := $(O)/nestbox
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined
LDFLAGS := -fsanitize=address,undefined
OPT :=
else
PROGRAM := $(if $(filter $(NATIVE),$(TARGET)),out,$(O))/nestbox
CFLAGS += -fPIE -fstack-protector-strong -fstack-clash-protection -fno-unwind-tables -fno-asynchronous-unwind-tables
# The stack size is that of threads; musl's own 128 KB leave no room for a 64 KB packet or two.
LDFLAGS := -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack,-z,stack-size=1048576,--build-id=sha1
# Small everywhere, fast where each packet passes.
OPT = $(if $(filter src/wg/% src/filter/% src/crypto/% $(PACKETS),$<),-O2,-Os)
PACKETS := src/run/path.c src/os/dgram.c src/os/tun.c src/base/addr.c
endif

.PHONY: all lib check check-net check-cross asan fuzz lint bench soak clean distclean FORCE
.DELETE_ON_ERROR:
.SECONDARY:
all: $(PROGRAM)
lib: $(LIB)

# --- tools and libraries of the target
$(O)/tc/cc: scripts/toolchain.sh
	$(Q)scripts/toolchain.sh $(TARGET) && touch $@

$(D)/lib/libnghttp2.a:
	@echo "The libraries of $(TARGET) are not built yet: run ./build.sh deps" \
	      "(or link a finished out/$(TARGET)/deps here)" >&2; exit 1

# --- generated sources
# Written again only when the set of files changes, so that a removed file leaves the archive and the table.
out/gen/sources: FORCE
	@mkdir -p out/gen; echo '$(SRC) $(PROTO) $(HELP)' | cmp -s - $@ || echo '$(SRC) $(PROTO) $(HELP)' >$@

out/gen/applets.h: $(wildcard src/applets/*.c) out/gen/sources
	$(Q)cat $(wildcard src/applets/*.c) /dev/null | sed -n '/^APPLET(/p' | LC_ALL=C sort >$@

out/gen/proto/%.pb-c.c out/gen/proto/%.pb-c.h: src/proto/%.proto
	@echo "  PROTO   $<"
	$(Q)mkdir -p out/gen/proto && protoc-c -I src/proto --c_out=out/gen/proto $<

# --- objects
$(O)/obj/gen/%.o: out/gen/%.c Makefile | $(O)/tc/cc $(GEN_H) $(D)/lib/libnghttp2.a
	@echo "  CC      $<"
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(if $(OPT),-Os) -MMD -MP -c $< -o $@

$(O)/obj/%.o: %.c Makefile | $(O)/tc/cc $(GEN_H) $(D)/lib/libnghttp2.a
	@echo "  CC      $<"
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(OPT) $(WARN) -MMD -MP -c $< -o $@

$(O)/obj/tests/%.o: private CPPFLAGS += -iquote tests $(if $(EMULATOR),-D_UINTPTR_T=1)
$(O)/obj/tests/fuzz/%.o: private WARN += -Wno-missing-prototypes

# Our version and the build's date, the same for everybody who builds the same commit.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),$(shell stat -c %Y Makefile))
$(O)/version: FORCE
	@mkdir -p $(O); echo '$(VERSION) $(EPOCH)' | cmp -s - $@ || echo '$(VERSION) $(EPOCH)' >$@
$(O)/obj/src/base/version.o: $(O)/version
$(O)/obj/src/base/version.o: private CPPFLAGS += -DNB_VERSION='"$(VERSION)"' -DNB_BUILD_EPOCH=$(EPOCH)
$(MAIN): out/gen/applets.h

$(LIB): $(filter-out $(MAIN),$(OBJ)) out/gen/sources
	@echo "  AR      $@"
	$(Q)rm -f $@ && $(O)/tc/ar rcsD $@ $(filter %.o,$^)

$(HELP_LIB): $(HELP:%.c=$(O)/obj/%.o) out/gen/sources
	$(Q)mkdir -p $(@D) && rm -f $@ && $(O)/tc/ar rcsD $@ $(filter %.o,$^)

# --- the program
$(O)/nestbox.full: $(MAIN) $(LIB)
	@echo "  LINK    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

ifeq ($(TARGET),asan)
$(PROGRAM): $(O)/nestbox.full
	$(Q)ln -f $< $@
else
$(PROGRAM): $(O)/nestbox.full
	$(Q)$(O)/tc/objcopy --only-keep-debug $< $@.debug
	$(Q)$(O)/tc/strip -R .pdr -o $@.new $<
	$(Q)cd $(@D) && $(abspath $(O)/tc/objcopy) --add-gnu-debuglink=nestbox.debug nestbox.new
	$(Q)scripts/check-binary.sh $@.new && mv $@.new $@
	@echo "  DONE    $@, $$(stat -c %s $@) bytes"
endif

# --- tests
$(O)/test/fuzz/%_seeds: $(O)/obj/tests/fuzz/%_fuzz.o $(O)/obj/tests/fuzz/replay.o $(LIB)
	@echo "  LINK    $@"
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(O)/test/%: $(O)/obj/tests/%.o $(HELP_LIB) $(LIB)
	@echo "  LINK    $@"
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

$(O)/fuzz/%: $(O)/obj/tests/fuzz/%_fuzz.o $(LIB)
	@echo "  LINK    $@"
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -o $@

check: $(PROGRAM) $(TESTS) $(REPLAYS)
	$(Q)scripts/run-tests.sh $(O) $(TESTS) $(REPLAYS)
	$(Q)NM=$(O)/tc/nm scripts/lint.py $(if $(filter asan,$(TARGET)),,$(O)/obj)

check-net: $(PROGRAM) $(NETPROGS)
	$(Q)scripts/check-net.sh

soak: $(PROGRAM) $(NETPROGS)
	$(Q)NB_SOAK=1 scripts/check-net.sh
	$(Q)$(MAKE) --no-print-directory soak-tunnel

# The tunnel alone, an hour at full rate; NB_SOAK_SECONDS and NB_SOAK_KIND=agents change that.
.PHONY: soak-tunnel
soak-tunnel: $(PROGRAM)
	$(Q)scripts/setup.sh net
	$(Q)out/venv/bin/python tests/bench/soak_tunnel.py

.PHONY: cross-targets
cross-targets:
	@echo $(CROSS)

check-cross:
	$(Q)for t in $(CROSS); do echo "== $$t"; $(MAKE) --no-print-directory TARGET=$$t check || bad="$$bad $$t"; done; \
		[ -z "$$bad" ] || { echo "check-cross: failed for$$bad" >&2; exit 1; }

asan:
	$(Q)$(MAKE) --no-print-directory TARGET=asan check

fuzz:
	$(Q)$(MAKE) --no-print-directory TARGET=asan FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz-run
.PHONY: fuzz-run
fuzz-run: $(FUZZERS)
	$(Q)scripts/run-fuzz.sh $(FUZZ_SECONDS) $(FUZZERS)

bench: $(PROGRAM) $(BENCHES) $(NETPROGS)
	$(Q)scripts/bench.sh $(if $(STOCK),--stock $(STOCK)) $(BENCHES)
.PHONY: bench-list
bench-list: $(BENCHES)
	$(Q)scripts/bench.sh --list $(BENCHES)

lint: $(OBJ)
	$(Q)NM=$(O)/tc/nm scripts/lint.py $(O)/obj

clean:
	rm -rf out/gen out/nestbox out/nestbox.debug out/*/obj out/*/test out/*/fuzz out/*/lib*.a out/*/nestbox out/*/nestbox.debug \
		out/*/nestbox.full
distclean:
	rm -rf out

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)
