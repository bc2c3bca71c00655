%% SPDX-License-Identifier: Apache-2.0
%% Starts Common Test for scripts/run-tests; bp_ct_hook reports and counts.
-module(bp_ct_run).

-export([main/2]).

%% Suites that wait most of their time: for the network, ticks and ages.
-define(WAITING, ["wan_SUITE", "gc_SUITE", "lifecycle_SUITE", "member_SUITE", "keys_SUITE",
                  "idle_SUITE", "machine_SUITE", "monkey_SUITE"]).

%% What: ["all"], ["waiting"] and ["others"], which are all together, or suites as "dist_SUITE" or "dist_SUITE:case,case".
main(Work, What) ->
    Dir = filename:join(Work, "ebin"),
    Common = [{logdir, filename:join(Work, "logs")}, {auto_compile, false},
              {ct_hooks, [{bp_ct_hook, filename:join(Work, "count")}]}, {basic_html, true}],
    Totals = [run(Dir, Common, Work, W) || W <- expand(Dir, What)],
    {P, F, S} = lists:foldl(fun({P1, F1, S1}, {P0, F0, S0}) -> {P0 + P1, F0 + F1, S0 + S1} end,
                            {0, 0, 0}, Totals),
    ok = file:write_file(filename:join(Work, "count"), io_lib:format("~w ~w ~w~n", [P, F, S])),
    erlang:halt(case F of 0 -> 0; _ -> 1 end).

%% Quick suites first, so that what is broken shows early.
expand(Dir, ["all"]) ->
    Names = [filename:basename(F, ".beam") || F <- filelib:wildcard(Dir ++ "/*_SUITE.beam")],
    Order = ["boot_SUITE", "dist_SUITE", "auth_SUITE"],
    [{N, all} || N <- [N || N <- Order, lists:member(N, Names)] ++ (Names -- Order)];
expand(_, ["waiting"]) -> [{N, all} || N <- ?WAITING];
expand(Dir, ["others"]) -> [S || {N, _} = S <- expand(Dir, ["all"]), not lists:member(N, ?WAITING)];
expand(_, What) ->
    [case string:split(W, ":") of
         [Suite] -> {Suite, all};
         [Suite, Case] -> {Suite, Case}
     end || W <- What].

run(Dir, Common, Work, {Suite, Case}) ->
    Count = filename:join(Work, "count"),
    _ = file:delete(Count),
    Only = case Case of
        all -> [];
        _ -> [{testcase, [list_to_atom(C) || C <- string:lexemes(Case, ",")]}]
    end,
    Start = erlang:monotonic_time(millisecond),
    Result = ct:run_test([{dir, Dir}, {suite, list_to_atom(Suite)} | Only] ++ Common),
    bp_cluster:stop_everything(),
    Ms = erlang:monotonic_time(millisecond) - Start,
    io:format(standard_error, "  ~ts: ~w s~n", [Suite, Ms div 1000]),
    case file:read_file(Count) of
        {ok, Bin} ->
            [P, F, S] = [binary_to_integer(X) || X <- string:lexemes(Bin, " \n")],
            {P, F, S};
        {error, _} ->
            io:format(standard_error, "  FAILED  ~ts did not run: ~tp~n", [Suite, Result]),
            {0, 1, 0}
    end.
