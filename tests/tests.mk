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
FUZZ_MAIN := $(B)/tests/fuzz/standalone_main.o

TEST_LIBS = $(call obj,$(SUPPORT_SRC)) $(IO_LIB) $(CORE_LIB)

$(UNIT_BIN): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

$(SIM_BIN): $(B)/tests/sim/%: $(B)/tests/sim/%.o $(call obj,$(SIM_LIB_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

$(DRVTEST_BIN): $(B)/tests/driver/%: $(B)/tests/driver/%.o $(call obj,$(DRVTEST_LIB_SRC)) \
  $(call obj,$(DRV_SRC)) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS) -lcmocka

$(REPLAY_BIN): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(FUZZ_MAIN) $(TEST_LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter %.o %.a,$^) $(LDFLAGS) $(DEP_LIBS)

unit-bins: $(UNIT_BIN)
sim-bins: $(SIM_BIN)
driver-bins: $(DRVTEST_BIN)
replay-bins: $(REPLAY_BIN)
