# SPDX-License-Identifier: Apache-2.0
# Test, fuzz and check targets; included by the Makefile.

UNIT_SRC := $(wildcard tests/unit/test_*.c)
SIM_SRC := $(wildcard tests/sim/test_*.c)
DRVTEST_SRC := $(wildcard tests/driver/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
UNIT_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(UNIT_SRC))
SIM_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(SIM_SRC))
DRVTEST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(DRVTEST_SRC))
REPLAY_BIN := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(FUZZ_SRC))
SIM_LIB_SRC := $(filter-out $(SIM_SRC),$(wildcard tests/sim/*.c))
DRVTEST_LIB_SRC := $(filter-out $(DRVTEST_SRC),$(wildcard tests/driver/*.c))
WAN_SRC := $(filter-out tests/wan/test_%.c tests/wan/rig.c,$(wildcard tests/wan/*.c))
WAN_BIN := $(B)/tests/wan/wan
WANTEST_SRC := $(wildcard tests/wan/test_*.c)
WANTEST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(WANTEST_SRC))
CLITEST_SRC := $(wildcard tests/cli/test_*.c)
CLITEST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(CLITEST_SRC))
HOSTILE_SRC := $(wildcard tests/hostile/*.c)
HOSTILE_BIN := $(B)/tests/hostile/hostile
HPVTEST_SRC := $(wildcard tests/membership/test_*.c)
HPVTEST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(HPVTEST_SRC))
HPV_LIB_SRC := $(addprefix tests/membership/,overlay.c graph.c vtime.c digraph.c net.c baseline.c \
  cyclon.c scamp.c)
HPV_REPORT := $(B)/tests/membership/hyparview_report
CNODETEST_SRC := $(wildcard tests/cnode/test_*.c)
CNODETEST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(CNODETEST_SRC))
FUZZ_MAIN := $(B)/tests/fuzz/standalone_main.o

TEST_LIBS = $(call obj,$(SUPPORT_SRC)) $(CLI_LIB) $(CNODE_LIB) $(IO_LIB) $(CORE_LIB)
# Of what the command's parts need; --as-needed leaves out what a test does not use.
TEST_DEP_LIBS = -Wl,--as-needed $(DEP_LIBS) $(CLI_LIBS)
TERM_PORT := $(B)/tests/cli/term_port

$(UNIT_BIN): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(EI_LIB) $(TEST_DEP_LIBS) -lcmocka

$(SIM_BIN): $(B)/tests/sim/%: $(B)/tests/sim/%.o $(call obj,$(SIM_LIB_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

$(DRVTEST_BIN): $(B)/tests/driver/%: $(B)/tests/driver/%.o $(call obj,$(DRVTEST_LIB_SRC)) \
  $(call obj,$(DRV_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

$(REPLAY_BIN): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(FUZZ_MAIN) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(EI_LIB) $(TEST_DEP_LIBS)

$(WAN_BIN): $(call obj,$(WAN_SRC))
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDFLAGS)

$(HPVTEST_BIN): $(B)/tests/membership/%: $(B)/tests/membership/%.o $(call obj,$(HPV_LIB_SRC)) \
  $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka -lm

$(HPV_REPORT): $(call obj,$(addprefix tests/membership/,hyparview_report.c report_paper.c plot.c) \
  $(HPV_LIB_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lm

# Needs the emulator of the same build beside it.
$(WANTEST_BIN): $(B)/tests/wan/%: $(B)/tests/wan/%.o $(call obj,tests/wan/rig.c $(filter-out tests/wan/wan.c,$(WAN_SRC))) \
  $(TEST_LIBS) $(WAN_BIN)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

# Runs the command of the same build.
$(CLITEST_BIN): $(B)/tests/cli/%: $(B)/tests/cli/%.o $(B)/tests/cli/run.o $(TEST_LIBS) | $(CLI)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(EI_LIB) $(TEST_DEP_LIBS) -lcmocka

# Answers an Erlang node in cli_terms_SUITE.
$(TERM_PORT): $(B)/tests/cli/term_port.o $(CLI_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(EI_LIB) $(TEST_DEP_LIBS)

CNODE_RIG := $(call obj,tests/cnode/rig.c tests/cnode/relays.c tests/cnode/ei_side.c)
$(CNODETEST_BIN): $(B)/tests/cnode/%: $(B)/tests/cnode/%.o $(CNODE_RIG) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) $(EI_LIB) -lcmocka

# One allocation of the program's own objects fails.
NTH_ALLOC := $(B)/tests/faulty/nth_alloc.o
NTH_ALLOC_WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=ei_realloc
$(B)/tests/cnode/test_no_memory_cnode: $(NTH_ALLOC)
$(B)/tests/cnode/test_no_memory_cnode: override LDFLAGS += $(NTH_ALLOC_WRAP)

CLI_NTH_ALLOC := $(B)/tests/cli/barrel-p2p-nth-alloc
$(B)/tests/cli/test_no_memory_cli: | $(CLI_NTH_ALLOC)
$(CLI_NTH_ALLOC): $(B)/cli/barrel-p2p.o $(NTH_ALLOC) $(CLI_LIB) $(CNODE_LIB) $(IO_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDFLAGS) $(NTH_ALLOC_WRAP) $(EI_LIB) $(DEP_LIBS) $(CLI_LIBS)

# A C node for the Erlang suites; the shared library, as programs use it.
CNODE_PEER := $(B)/tests/cnode/cnode_peer
cnode-peer: $(CNODE_PEER)
$(CNODE_PEER): $(call obj,tests/cnode/peer.c tests/cnode/peer_ei.c tests/cnode/peer_loop.c \
  tests/cnode/peer_relay.c) \
  $(LIB_SHARED)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o,$^) -L$(B) -lbarrel_p2p -Wl,-rpath,'$$ORIGIN/../..' $(LDFLAGS) $(EI_LIB)

# What real nodes are attacked with; of the release build, since floods have a rate.
hostile: $(HOSTILE_BIN)
$(HOSTILE_BIN): $(call obj,$(HOSTILE_SRC)) $(IO_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS)

soak: soak-hostile
soak-hostile: deps-test
	@$(MAKE) --no-print-directory all hostile && BP_SOAK=1 scripts/run-tests --ct hostile_SUITE

soak: soak-membership
soak-membership: deps-test
	@$(MAKE) --no-print-directory build/release/tests/membership/test_overlay
	@SEEDS=$${SEEDS:-1000} build/release/tests/membership/test_overlay
	@$(MAKE) --no-print-directory report-membership

soak: soak-monkey
soak-monkey: deps-test
	@$(MAKE) --no-print-directory all asan-driver && for d in none asan; do \
	  DRIVER=$$d scripts/monkey $$(($(SOAK) * 6)) && DRIVER=$$d MONKEY_LASTING=1 scripts/monkey $$(($(SOAK) * 6)) \
	  || exit 1; done

MONKEY ?= 600
monkey: all asan-driver ## random operations on real nodes for MONKEY=600 seconds (DRIVER=asan)
	@scripts/monkey $(MONKEY)

report-membership: $(HPV_REPORT) ## HyParView at scale: the paper's experiments (minutes)
	@for m in table compare failures sizing churn partition loss scale; do $(HPV_REPORT) $$m || exit 1; done

# --- drivers that are wrong on purpose (tests/faulty/README.md) ------------

comma := ,
FAULTY := lossy wrong_order hung_files
faulty-drivers: $(foreach f,$(FAULTY),build/faulty/$(f)/priv/barrel_p2p_drv.so)

# What an object defines, the library is not asked for.
build/faulty/lossy/priv/barrel_p2p_drv.so: $(B)/tests/faulty/lossy_udp.o
build/faulty/wrong_order/priv/barrel_p2p_drv.so: $(B)/tests/faulty/lossy_udp.o \
  $(B)/tests/faulty/wrong_order.o
build/faulty/hung_files/priv/barrel_p2p_drv.so: $(B)/tests/faulty/hung_files.o
WRAPPED := bp_udp_send
build/faulty/hung_files/%: WRAPPED := bp_endpoint_file_read bp_endpoint_file_write bp_endpoint_file_delete \
  bp_endpoint_files_list bp_endpoint_file_known
build/faulty/%/priv/barrel_p2p_drv.so: $(call obj,$(DRV_SRC)) $(IO_LIB) $(CORE_LIB) $(BEAMS)
	@mkdir -p $(@D) build/faulty/$*/ebin
	$(call say,LD,$@)
	$(Q)cp ebin/* build/faulty/$*/ebin/
	$(Q)$(CC) -shared -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) \
	  $(addprefix -Wl$(comma)--wrap=,$(WRAPPED)) -Wl,--version-script=driver/exports.map -Wl,-z,now $(DEP_LIBS)

# For DRIVER=asan scripts/run-tests --ct ..., and for make monkey DRIVER=asan.
asan-driver:
	@$(MAKE) --no-print-directory BUILD=asan build/asan/barrel_p2p_drv.so

# All cores, unless -j says how many.
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# `make test` in a clean checkout: installs, builds, runs every tier. C tests run under ASan and UBSan.
test: deps-test ## install, build and run every test
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(MAKE) --no-print-directory $(PARALLEL) faulty-drivers hostile cnode-peer build/release/tests/wan/wan
	@$(MAKE) --no-print-directory $(PARALLEL) BUILD=asan c-tests
	@$(MAKE) --no-print-directory $(PARALLEL) static
	@scripts/run-tests --ct all $(patsubst build/release/%,build/asan/%,$(ALL_TEST_BIN))

SOAK ?= 100
soak: soak-wan ## what takes long: nodes on a bad network for an hour (SOAK=10: a tenth), floods
soak-wan: deps-test
	@$(MAKE) --no-print-directory all build/release/tests/wan/wan
	@SOAK=$(SOAK) scripts/run-tests --ct wan_SUITE

check: all ## the C tests only (seconds), under ASan and UBSan
	@$(MAKE) --no-print-directory $(PARALLEL) BUILD=asan c-tests
	@scripts/run-tests $(patsubst build/release/%,build/asan/%,$(ALL_TEST_BIN))

ALL_TEST_BIN := $(patsubst tests/%.c,build/release/tests/%,$(UNIT_SRC) $(SIM_SRC) $(DRVTEST_SRC) \
  $(CNODETEST_SRC) $(WANTEST_SRC) $(CLITEST_SRC) $(HPVTEST_SRC) $(FUZZ_SRC))

c-tests: unit-bins sim-bins driver-bins cnode-bins wan-bins cli-bins member-bins replay-bins idle-peers

# --- rules of the layers, checked without running anything -----------------

static: layering exports ## checks of the source: layers
layering: $(CORE_LIB)
	@scripts/check-layers $(CORE_LIB)

exports: $(LIB_SHARED) $(LIB_STATIC)
	@scripts/check-exports $(LIB_SHARED) $(LIB_STATIC) libbarrel_p2p.so.$(SOVERSION)

# --- fuzzing: make fuzz T=600 (seconds for each target) --------------------

T ?= 60
FUZZ_BIN := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))
fuzz: $(FUZZ_BIN) ## run each fuzz target for T seconds (needs clang)
	@for f in $(FUZZ_BIN); do \
	  n=$$(basename $$f); c=build/fuzz/corpus/$${n#fuzz_}; mkdir -p $$c; \
	  echo "  FUZZ    $$n ($(T) s)"; \
	  $$f -max_total_time=$(T) -print_final_stats=1 -artifact_prefix=build/fuzz/ \
	    $$c tests/fuzz/corpus/$${n#fuzz_} >build/fuzz/$$n.log 2>&1 \
	    || { tail -40 build/fuzz/$$n.log; exit 1; }; \
	  sed -n 's/^stat::number_of_executed_units: /          executions: /p' build/fuzz/$$n.log; \
	done

FUZZ_PARTS := $(CORE_SRC) $(IO_SRC) cli/key_text.c cli/relay_url.c cli/config_value.c cli/config_keys.c \
  $(wildcard cli/term_*.c) cnode/ei_stream.c
build/fuzz/%: tests/fuzz/%.c $(FUZZ_PARTS) $(SUPPORT_SRC)
	@mkdir -p $(@D)
	$(call say,CLANG,$@)
	$(Q)$(CLANG) -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	  -D_GNU_SOURCE $(CPPFLAGS) -o $@ $< $(FUZZ_PARTS) $(EI_LIB) $(TEST_DEP_LIBS)

# --- measuring -------------------------------------------------------------

IDLE_PEERS := $(B)/bench/idle_peers
idle-peers: $(IDLE_PEERS)
$(IDLE_PEERS): $(B)/bench/idle_peers.o $(IO_LIB) $(CORE_LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS)

# C nodes as programs have them: the shared library.
C_NODE := $(B)/bench/c_node
c-node-bench: $(C_NODE)
$(C_NODE): $(B)/bench/c_node.o $(LIB_SHARED)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o,$^) -L$(B) -lbarrel_p2p -Wl,-rpath,'$$ORIGIN/..' $(LDFLAGS) $(EI_LIB)

# What a packet costs, step by step.
PACKETS := $(B)/bench/packets
packets: $(PACKETS)
$(PACKETS): $(B)/bench/packets.o $(call obj,$(SIM_LIB_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

bench: deps-test ## speed of TCP, TLS and this carrier, interleaved (ARGS="--quick")
	@$(MAKE) --no-print-directory all c-node-bench
	@bench/run $(ARGS)
	@BENCH_MAIN=bp_bench_cnode bench/run

bench-idle: deps-test ## memory of an idle connection, CPU of 200
	@$(MAKE) --no-print-directory all idle-peers
	@bench/idle_memory $(ARGS)

.PHONY: test asan-driver c-node-bench packets hostile cnode-peer cnode-bins soak soak-hostile soak-wan soak-membership soak-monkey monkey report-membership faulty-drivers check \
  c-tests static layering exports fuzz bench bench-idle idle-peers unit-bins sim-bins driver-bins \
  wan-bins cli-bins member-bins replay-bins

unit-bins: $(UNIT_BIN)
sim-bins: $(SIM_BIN)
driver-bins: $(DRVTEST_BIN)
wan-bins: $(WANTEST_BIN)
cli-bins: $(CLITEST_BIN) $(CLI) $(TERM_PORT)
cnode-bins: $(CNODETEST_BIN)
member-bins: $(HPVTEST_BIN)
replay-bins: $(REPLAY_BIN)
