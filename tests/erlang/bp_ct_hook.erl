%% SPDX-License-Identifier: Apache-2.0
%% Common Test hook: prints one readable line per case on standard error, counts them in a file.
-module(bp_ct_hook).

-export([init/2, post_end_per_testcase/5, on_tc_fail/4, on_tc_skip/4, terminate/1]).

-record(st, {file, passed = 0, failed = 0, skipped = 0}).

init(_Id, File) ->
    {ok, #st{file = File}}.

post_end_per_testcase(Suite, Case, Config, Return, St) ->
    Failed = is_tuple(Return) andalso lists:member(element(1, Return), [fail, failed, 'EXIT']),
    case proplists:get_value(tc_status, Config) of
        ok when not Failed ->
            say("ok      ~ts:~ts", [Suite, Case]),
            {Return, St#st{passed = St#st.passed + 1}};
        _ ->
            {Return, St}
    end.

on_tc_fail(Suite, Name, Reason, St) ->
    say("FAILED  ~ts:~ts~n~ts", [Suite, name(Name), indent(Reason)]),
    St#st{failed = St#st.failed + 1}.

%% A case whose init_per_testcase failed has failed; Common Test calls it skipped.
on_tc_skip(Suite, Name, {tc_auto_skip, {failed, {_, init_per_testcase, Reason}}}, St) ->
    on_tc_fail(Suite, Name, {init_per_testcase, Reason}, St);
on_tc_skip(Suite, Name, {_, Reason}, St) ->
    case lists:member(name(Name), ["init_per_suite", "end_per_suite"]) of
        true ->
            St;
        false ->
            say("skipped ~ts:~ts (~ts)", [Suite, name(Name), short(Reason)]),
            St#st{skipped = St#st.skipped + 1}
    end.

terminate(#st{file = File, passed = P, failed = F, skipped = S}) ->
    ok = file:write_file(File, io_lib:format("~w ~w ~w~n", [P, F, S])).

name({Name, Group}) -> io_lib:format("~ts (~p)", [Name, Group]);
name(Name) when is_atom(Name) -> atom_to_list(Name);
name(Name) -> io_lib:format("~tp", [Name]).

short({failed, {Suite, Function, _}}) -> io_lib:format("~ts:~ts failed", [Suite, Function]);
short(Reason) when is_list(Reason) -> io_lib:format("~ts", [Reason]);
short(Reason) -> io_lib:format("~0tp", [Reason], [{chars_limit, 300}]).

indent(Reason) ->
    Text = lists:flatten(io_lib:format("~tp", [Reason], [{chars_limit, 3000}])),
    lists:join($\n, ["          " ++ Line || Line <- string:split(Text, "\n", all)]).

say(Format, Args) ->
    io:format(standard_error, "  " ++ Format ++ "~n", Args).
