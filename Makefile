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
OBJCOPY ?= objcopy
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

DEPS_PC := libngtcp2_crypto_gnutls libngtcp2 gnutls libsodium jansson libcares
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
ifneq ($(filter-out cli install-cli install-lib examples deps deps-test help clean demo test soak bench bench-idle ci,$(or $(MAKECMDGOALS),all)),)
ERL_ROOT := $(shell command -v $(ERL) >/dev/null && $(ERL) -noinput -boot start_clean -eval 'io:put_chars(code:root_dir()), halt().')
endif
# Beams of another OTP are compiled anew: OTP 29 does not load all that OTP 25 made, nor 25 those of 29.
ifneq ($(filter all erlang,$(or $(MAKECMDGOALS),all)),)
ERL_IS := $(ERL_ROOT) $(wildcard $(ERL_ROOT)/releases/*/OTP_VERSION)
$(if $(ERL_ROOT),$(shell echo '$(ERL_IS)' | cmp -s - ebin/.otp || { mkdir -p ebin; rm -f ebin/*.beam; echo '$(ERL_IS)' >ebin/.otp; }))
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
CNODE_SRC := $(wildcard cnode/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
obj = $(patsubst %.c,$(B)/%.o,$(1))
CORE_LIB := $(B)/libcore.a
IO_LIB := $(B)/libio.a
CLI_LIB := $(B)/libcli.a
CNODE_LIB := $(B)/libcnode.a
CLI := $(B)/cli/barrel-p2p
VERSION := $(shell sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' erlang/barrel_p2p.app.src)
DRIVER := priv/barrel_p2p_drv.so
# The number of the shared library's interface; another one where programs must be built again.
SOVERSION := 0
LIB_SHARED := $(B)/libbarrel_p2p.so
LIB_STATIC := $(B)/libbarrel_p2p.a
BEAMS := $(patsubst erlang/%.erl,ebin/%.beam,$(wildcard erlang/*.erl))

all: check-deps driver erlang cli ## ebin/ and priv/, which a node needs, and the command
driver: $(DRIVER) ## priv/barrel_p2p_drv.so
lib: $(LIB_SHARED) $(LIB_STATIC) ## libbarrel_p2p for C programs, in build/release/
erlang: $(BEAMS) ebin/barrel_p2p.app ## ebin/*.beam
cli: bin/barrel-p2p ## the command; needs libei to be built, and no Erlang to run

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/io/%.o $(B)/driver/%.o $(B)/cnode/%.o $(B)/cli/%.o $(B)/tests/%.o $(B)/bench/%.o: override CPPFLAGS += -D_GNU_SOURCE

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

# --- libbarrel_p2p -----------------------------------------------------------

$(B)/cnode/node.o: override CPPFLAGS += -DBP_VERSION='"$(VERSION)"'
$(B)/cnode/node.o: erlang/barrel_p2p.app.src

# For tests, which look inside.
$(CNODE_LIB): $(call obj,$(CNODE_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(LIB_SHARED).$(SOVERSION): $(call obj,$(CNODE_SRC)) $(IO_LIB) $(CORE_LIB) cnode/exports.map
	$(call say,LD,$@)
	$(Q)$(CC) -shared -o $@ $(filter %.o %.a,$^) $(LDFLAGS) -Wl,-soname,$(notdir $@) \
	  -Wl,--version-script=cnode/exports.map -Wl,-z,now $(DEP_LIBS)

$(LIB_SHARED): $(LIB_SHARED).$(SOVERSION)
	$(Q)ln -sf $(notdir $<) $@

# One object in which only the interface is global: what is inside cannot clash with a program's
# own symbols, or with those of another library.
$(LIB_STATIC): $(call obj,$(CNODE_SRC)) $(IO_LIB) $(CORE_LIB)
	$(call say,AR,$@)
	$(Q)$(LD) -r -o $(B)/barrel_p2p.o $(filter %.o,$^) --start-group $(filter %.a,$^) --end-group
	$(Q)$(OBJCOPY) --localize-hidden $(B)/barrel_p2p.o
	$(Q)rm -f $@ && ar rcs $@ $(B)/barrel_p2p.o

# All but the program itself, so that tests can take a part.
$(CLI_LIB): $(filter-out %/barrel-p2p.o,$(call obj,$(CLI_SRC)))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/cli/options.o: override CPPFLAGS += -DBP_VERSION='"$(VERSION)"'
$(B)/cli/options.o: erlang/barrel_p2p.app.src

$(CLI): $(B)/cli/barrel-p2p.o $(CLI_LIB) $(CNODE_LIB) $(IO_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDFLAGS) $(EI_LIB) $(DEP_LIBS) $(CLI_LIBS)

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
# Not from the environment: erl sets one for its children.
BINDIR := $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
ERLLIBDIR ?= $(LIBDIR)/erlang/lib
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
APPDIR := $(ERLLIBDIR)/barrel_p2p-$(VERSION)
RELEASE_LIB := build/release/libbarrel_p2p

# In a recipe: each word would be a place of its own, and pkg-config files hold PREFIX.
sane_paths = $(if $(word 2,$(DESTDIR)),$(error DESTDIR must not hold blanks: $(DESTDIR)))$\
  $(if $(word 2,$(PREFIX)),$(error PREFIX must not hold blanks: $(PREFIX)))$\
  $(if $(filter /%,$(PREFIX)),,$(error PREFIX must be an absolute path: $(PREFIX)))

# The OTP application is left out where there is no Erlang.
install: install-cli install-lib $(if $(ERL_ROOT),install-app) ## all of it (DESTDIR= PREFIX=)

install-cli: bin/barrel-p2p ## the command, its man page and completion
	$(sane_paths)install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(COMPLETIONDIR)
	install -m 755 bin/barrel-p2p $(DESTDIR)$(BINDIR)/barrel-p2p
	install -m 644 cli/man/barrel-p2p.1 $(DESTDIR)$(MANDIR)/man1/barrel-p2p.1
	install -m 644 cli/completion/barrel-p2p.bash $(DESTDIR)$(COMPLETIONDIR)/barrel-p2p

fill_pc = sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
  -e 's|@VERSION@|$(VERSION)|; s|@LIBS@|$(DEP_LIBS) -pthread|' \
  -e 's|@EI_INC@|$(EI_INC)|; s|@EI_LIBDIR@|$(patsubst %/,%,$(dir $(EI_LIB)))|'

install-lib: $(RELEASE_LIB).so.$(SOVERSION) $(RELEASE_LIB).a ## the library, headers, pkg-config files
	$(sane_paths)install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(PKGCONFIGDIR) $(DESTDIR)$(INCLUDEDIR)/barrel_p2p \
	  $(DESTDIR)$(MANDIR)/man3
	install -m 755 $(RELEASE_LIB).so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/
	ln -sf libbarrel_p2p.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libbarrel_p2p.so
	install -m 644 $(RELEASE_LIB).a $(DESTDIR)$(LIBDIR)/
	install -m 644 include/barrel_p2p/*.h $(DESTDIR)$(INCLUDEDIR)/barrel_p2p/
	install -m 644 cnode/man/libbarrel_p2p.3 $(DESTDIR)$(MANDIR)/man3/
	$(fill_pc) cnode/barrel_p2p.pc.in >$(DESTDIR)$(PKGCONFIGDIR)/barrel_p2p.pc
	$(fill_pc) cnode/barrel_p2p_ei.pc.in >$(DESTDIR)$(PKGCONFIGDIR)/barrel_p2p_ei.pc
	@# programs find a library in /usr/local/lib through its cache only
	@[ -n '$(DESTDIR)' ] || [ ! -w /etc/ld.so.cache ] || PATH=$$PATH:/usr/sbin:/sbin ldconfig

# For a node's code path: below OTP's own lib/, or ERL_LIBS=$(ERLLIBDIR).
install-app: driver erlang ## the OTP application
	$(sane_paths)install -d $(DESTDIR)$(APPDIR)/ebin $(DESTDIR)$(APPDIR)/priv
	install -m 644 $(BEAMS) ebin/barrel_p2p.app $(DESTDIR)$(APPDIR)/ebin/
	install -m 755 $(DRIVER) $(DESTDIR)$(APPDIR)/priv/

# --- examples --------------------------------------------------------------

EXAMPLES := $(patsubst %.c,build/release/%,$(wildcard examples/cnode/*.c))
examples: $(EXAMPLES) ## C nodes, in build/release/examples/cnode/
$(EXAMPLES): build/release/%: %.c build/release/libbarrel_p2p.so
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -std=c11 -O2 -g $(WARN) $(if $(CI),-Werror) -Iinclude -isystem $(EI_INC) -o $@ $< \
	  -Lbuild/release -lbarrel_p2p -Wl,-rpath,'$$ORIGIN/../..' $(EI_LIB) -pthread

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

.PHONY: docs all driver lib erlang cli examples install install-cli install-lib install-app check-deps deps deps-test demo clean help
