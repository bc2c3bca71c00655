%% SPDX-License-Identifier: Apache-2.0
%% Starts Common Test for scripts/run-tests; bp_ct_hook reports and counts.
-module(bp_ct_run).

-export([main/2]).

%% Quick suites first, so that what is broken shows early; then those that compute most.
-define(FIRST, ["boot_SUITE", "dist_SUITE", "auth_SUITE", "hostile_SUITE", "discovery_SUITE", "cnode_SUITE",
                "order_SUITE", "cli_remote_SUITE", "streams_SUITE"]).
%% Suites that wait most of their time, for the network, ticks and ages; the longest are the last.
-define(LAST, ["idle_SUITE", "monkey_SUITE", "keys_SUITE", "machine_SUITE", "member_SUITE",
               "discovery_dirs_SUITE", "path_watch_SUITE", "lifecycle_SUITE", "relay_SUITE",
               "migrate_SUITE", "gc_SUITE", "wan_SUITE"]).

%% What: ["all"], suites as "dist_SUITE" or "dist_SUITE:case,case", or ["first"] or ["last"], which run beside
%% each other: both take what the other has not, from the list's beginning and from its end.
main(Work, What) ->
    Dir = filename:join(Work, "ebin"),
    Common = [{logdir, filename:join(Work, "logs")}, {auto_compile, false},
              {ct_hooks, [{bp_ct_hook, filename:join(Work, "count")}]}, {basic_html, true}],
    Totals = [run(Dir, Common, Work, W) || {Suite, _} = W <- expand(Dir, What), take(Suite)],
    {P, F, S} = lists:foldl(fun({P1, F1, S1}, {P0, F0, S0}) -> {P0 + P1, F0 + F1, S0 + S1} end,
                            {0, 0, 0}, Totals),
    ok = file:write_file(filename:join(Work, "count"), io_lib:format("~w ~w ~w~n", [P, F, S])),
    erlang:halt(case F of 0 -> 0; _ -> 1 end).

expand(Dir, ["all"]) ->
    Names = [filename:basename(F, ".beam") || F <- filelib:wildcard(Dir ++ "/*_SUITE.beam")],
    [] = (?FIRST ++ ?LAST) -- Names,
    [{N, all} || N <- ?FIRST ++ ((Names -- ?FIRST) -- ?LAST) ++ ?LAST];
expand(Dir, ["first"]) -> expand(Dir, ["all"]);
expand(Dir, ["last"]) -> lists:reverse(expand(Dir, ["all"]));
expand(_, What) ->
    [case string:split(W, ":") of
         [Suite] -> {Suite, all};
         [Suite, Case] -> {Suite, Case}
     end || W <- What].

%% False: the other one has it.
take(Suite) ->
    case os:getenv("BP_CT_TAKEN") of
        false -> true;
        Taken ->
            case file:make_dir(filename:join(Taken, Suite)) of
                ok -> true;
                {error, eexist} -> false
            end
    end.

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
