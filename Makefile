# SPDX-License-Identifier: Apache-2.0
# The only build. `make help` lists what it can do.
#
#   BUILD=release (default) | asan | tsan   variant, under build/$(BUILD)/
#   V=1                                     show the commands
#   CC CFLAGS CPPFLAGS LDFLAGS              honoured, our own flags are appended
#   ERL ERLC                                the Erlang/OTP to build against (>= 25)
#   IPSEC_MB=no                             packets by GnuTLS alone, also where libipsec-mb is there

BUILD ?= release
ERL ?= erl
ERLC ?= erlc
CLANG ?= clang
PKG_CONFIG ?= pkg-config
B := build/$(BUILD)
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

# --- flags -----------------------------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wvla -Walloca -Wundef \
  -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings \
  -Wformat=2 -Wnull-dereference -Wimplicit-fallthrough $(WARN_GCC)
ifeq ($(findstring clang,$(CC)),)
WARN_GCC := -Wduplicated-cond -Wlogical-op
endif

ifeq ($(BUILD),asan)
OPT := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN := -fsanitize=address,undefined
else ifeq ($(BUILD),tsan)
OPT := -O1 -g -fsanitize=thread
SAN := -fsanitize=thread
else
OPT := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong
endif
ifdef CI
OPT += -Werror
endif

DEPS_PC := libngtcp2_crypto_gnutls libngtcp2 gnutls jansson libcares
ifneq ($(filter-out deps deps-test help clean demo test soak bench bench-idle ci,$(or $(MAKECMDGOALS),all)),)
DEP_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(DEPS_PC)))
DEP_LIBS := $(shell $(PKG_CONFIG) --libs $(DEPS_PC)) -lresolv
CLI_LIBS := $(shell $(PKG_CONFIG) --libs gnutls jansson gmp libcares) -lresolv -lm
# Optional: AES-GCM that uses vector AES (core/quic/packet_crypt.h). It has no .pc file.
ifneq ($(IPSEC_MB),no)
IPSEC_MB := $(shell printf '\043include <intel-ipsec-mb.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes || echo no)
endif
ifeq ($(IPSEC_MB),yes)
DEP_CFLAGS += -DBP_HAVE_IPSEC_MB
DEP_LIBS += -lIPSec_MB
endif
endif
# The command needs of Erlang only libei, and that to be built: `make cli` runs no erl.
ifneq ($(filter-out cli install deps deps-test help clean demo test soak bench bench-idle ci,$(or $(MAKECMDGOALS),all)),)
ERL_ROOT := $(shell $(ERL) -noinput -boot start_clean -eval 'io:put_chars(code:root_dir()), halt().')
endif
ERL_INC ?= $(if $(ERL_ROOT),$(ERL_ROOT)/usr/include)
# libei: its header is beside erl_driver.h; the library is static, so nothing of OTP is needed at run time.
EI_ROOT := $(or $(ERL_ROOT),$(firstword $(wildcard /usr/lib/erlang /usr/local/lib/erlang)))
EI_INC ?= $(if $(EI_ROOT),$(EI_ROOT)/usr/include)
EI_LIB ?= $(if $(EI_ROOT),$(EI_ROOT)/usr/lib/libei.a)

override CFLAGS += -std=c11 $(OPT) $(WARN) -fPIC -fvisibility=hidden -pthread
override CPPFLAGS += -D_DEFAULT_SOURCE -Icore -I. -Itests -Iinclude $(addprefix -isystem ,$(sort $(ERL_INC) $(EI_INC))) $(DEP_CFLAGS)
override LDFLAGS += $(SAN) -pthread

# --- sources ---------------------------------------------------------------

CORE_SRC := $(wildcard core/*/*.c)
IO_SRC := $(wildcard io/*.c)
DRV_SRC := $(wildcard driver/*.c)
CLI_SRC := $(wildcard cli/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
obj = $(patsubst %.c,$(B)/%.o,$(1))
CORE_LIB := $(B)/libcore.a
IO_LIB := $(B)/libio.a
CLI_LIB := $(B)/libcli.a
CLI := $(B)/cli/barrel-p2p
VERSION := $(shell sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' erlang/barrel_p2p.app.src)
DRIVER := priv/barrel_p2p_drv.so
BEAMS := $(patsubst erlang/%.erl,ebin/%.beam,$(wildcard erlang/*.erl))

all: check-deps driver erlang cli ## ebin/ and priv/, which a node needs, and the command
driver: $(DRIVER) ## priv/barrel_p2p_drv.so
erlang: $(BEAMS) ebin/barrel_p2p.app ## ebin/*.beam
cli: bin/barrel-p2p ## the command; needs libei to be built, and no Erlang to run

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/io/%.o $(B)/driver/%.o $(B)/cli/%.o $(B)/tests/%.o $(B)/bench/%.o: override CPPFLAGS += -D_GNU_SOURCE

$(CORE_LIB): $(call obj,$(CORE_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(IO_LIB): $(call obj,$(IO_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# One exported symbol: no clash with other drivers or with another ngtcp2 in the VM.
$(B)/barrel_p2p_drv.so: $(call obj,$(DRV_SRC)) $(IO_LIB) $(CORE_LIB) driver/exports.map
	$(call say,LD,$@)
	$(Q)$(CC) -shared -o $@ $(filter %.o %.a,$^) $(LDFLAGS) \
	  -Wl,--version-script=driver/exports.map -Wl,-z,now $(DEP_LIBS)

# All but the program itself, so that tests can take a part.
$(CLI_LIB): $(filter-out %/barrel-p2p.o,$(call obj,$(CLI_SRC)))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/cli/options.o: override CPPFLAGS += -DBP_VERSION='"$(VERSION)"'
$(B)/cli/options.o: erlang/barrel_p2p.app.src

$(CLI): $(B)/cli/barrel-p2p.o $(CLI_LIB) $(IO_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDFLAGS) $(EI_LIB) $(CLI_LIBS)

bin/barrel-p2p: build/release/cli/barrel-p2p
	@mkdir -p bin
	$(Q)cp $< $@.tmp && mv -f $@.tmp $@

# Renamed into place: a running node keeps the file that it has loaded.
$(DRIVER): build/release/barrel_p2p_drv.so
	@mkdir -p priv
	$(Q)cp $< $@.tmp && mv -f $@.tmp $@

ebin/%.beam: erlang/%.erl $(wildcard erlang/*.hrl)
	@mkdir -p ebin
	$(call say,ERLC,$<)
	$(Q)$(ERLC) +debug_info -Wall $(if $(CI),-Werror) -pa ebin -I erlang -o ebin $<

# A behaviour is compiled before those who have it.
$(patsubst %,ebin/barrel_p2p_discovery_%.beam,file static dns): ebin/quic_discovery.beam

ebin/barrel_p2p.app: erlang/barrel_p2p.app.src $(wildcard erlang/*.erl) scripts/make-app
	@mkdir -p ebin
	$(call say,APP,$@)
	$(Q)scripts/make-app erlang/barrel_p2p.app.src $@ $(wildcard erlang/*.erl)

# Fails early and in words where a package is missing, instead of in the compiler.
check-deps:
	@$(PKG_CONFIG) --exists $(DEPS_PC) gmp 2>/dev/null && [ -n '$(ERL_ROOT)' ] || scripts/deps check

# --- installing ------------------------------------------------------------

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions

install: bin/barrel-p2p ## the command, its man page and completion (DESTDIR= PREFIX=)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(COMPLETIONDIR)
	install -m 755 bin/barrel-p2p $(DESTDIR)$(BINDIR)/barrel-p2p
	install -m 644 cli/man/barrel-p2p.1 $(DESTDIR)$(MANDIR)/man1/barrel-p2p.1
	install -m 644 cli/completion/barrel-p2p.bash $(DESTDIR)$(COMPLETIONDIR)/barrel-p2p

# --- setting up, trying out ------------------------------------------------

deps: ## install what building and running needs (Debian)
	@scripts/deps run

deps-test: ## install what testing needs as well
	@scripts/deps test

demo: deps ## two nodes find each other, talk, and one is killed
	@$(MAKE) --no-print-directory all
	@scripts/demo

docs: erlang ## docs/configuration.md and cli/config_keys.def from the table of keys
	@mkdir -p docs
	$(call make_text,markdown) >docs/configuration.md
	$(call make_text,c_table) >cli/config_keys.def

make_text = $(Q)$(ERL) -noinput -boot start_clean -pa ebin -eval \
  'io:setopts([{encoding, unicode}]), io:put_chars(barrel_p2p_config_keys:$(1)()), halt().'

clean: ## remove everything that was built
	rm -rf build ebin priv bin

help: ## this text
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# --- tests -----------------------------------------------------------------

include tests/tests.mk

-include $(shell find build -name '*.d' 2>/dev/null)

.PHONY: docs all driver erlang cli install check-deps deps deps-test demo clean help
