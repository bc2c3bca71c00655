%% SPDX-License-Identifier: Apache-2.0
%% Runs what the documentation recommends: its blocks marked ```erlang and ```config.
-module(bp_recipes).

-export([read/1, run/3, config_ok/2]).

%% [{erlang | config, Text}] of docs/File.
-spec read(string()) -> [{erlang | config, string()}].
read(File) ->
    {ok, Bin} = file:read_file(filename:join([bp_cluster:root(), "docs", File])),
    {match, Found} = re:run(Bin, "^```(erlang|config)\\n(.*?)^```",
                            [global, dotall, multiline, {capture, all_but_first, list}]),
    [{list_to_atom(Kind), Text} || [Kind, Text] <- Found].

%% Evaluates it in a node; a match in the text that fails is an error.
-spec run(term(), string(), [{atom(), term()}]) -> true.
run(Node, Text, Bindings) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    bp_cluster:run(Node, fun() ->
        {value, _, _} = erl_eval:exprs(Exprs, Bindings),
        true
    end).

%% Whether the node's boot would take `{Key, Value}'.
-spec config_ok(term(), string()) -> true.
config_ok(Node, Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, {Key, Value}} = erl_parse:parse_term(Tokens),
    {ok, #{type := Type}} = bp_cluster:call(Node, barrel_p2p_config_keys, find, [Key]),
    true = bp_cluster:call(Node, barrel_p2p_config_keys, check, [Type, Value]).
