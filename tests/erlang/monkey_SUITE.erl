%% SPDX-License-Identifier: Apache-2.0
%% A little of what `make monkey' does for long: random operations on real nodes (bp_monkey).
-module(monkey_SUITE).

-include_lib("common_test/include/ct.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([random_operations/1]).

suite() -> [{timetrap, {seconds, 400}}].

all() -> [random_operations].

init_per_suite(Config) ->
    case bp_cluster:only(quic) of
        %% bp_relay has a behaviour of ours
        ok -> bp_cluster:init_with_ebin(Config);
        Skip -> Skip
    end.

end_per_suite(_) -> bp_cluster:end_with_ebin().

init_per_testcase(Case, Config) ->
    bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% One round of operations; nothing may be wrong, and what was done must be what was wanted.
random_operations(Config) ->
    Seed = list_to_integer(os:getenv("SEED", integer_to_list(erlang:system_time(second) rem 100000))),
    #{done := Done, sums := Sums} = bp_monkey:run(Config, #{nodes => 4, seconds => 1, seed => Seed}),
    40 = lists:sum(maps:values(Done)),
    true = maps:get(messages, Sums) > 100.
