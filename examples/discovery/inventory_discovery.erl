%% SPDX-License-Identifier: Apache-2.0
%% Example: a discovery backend of your own. Nodes are lines of a text file that something else, say
%% your deployment, keeps: `name@host address port'. This node adds its own line.
%%
%%   {barrel_p2p, [{discovery_backends, [{inventory_discovery, #{file => "/etc/nodes.txt"}},
%%                                       barrel_p2p_discovery_file]}]}
%%
%% The module must be in the code path at boot (-pa). register/3 is called there, before there is a
%% file server: hence prim_file. A backend that needs an application fails at boot, which is logged
%% and does no harm, and is called again when the application barrel_p2p starts.
-module(inventory_discovery).
-behaviour(quic_discovery).

-export([init/1, register/3, unregister/2, lookup/2, list_nodes/1]).

%% lookup/2 and list_nodes/1 get no state: what they need is kept here.
init(#{file := File}) ->
    persistent_term:put(?MODULE, File),
    {ok, File};
init(_) ->
    {error, "the options are #{file => Name}"}.

register(Node, Port, File) ->
    {ok, Host} = inet:gethostname(),
    Line = [atom_to_list(Node), " ", Host, " ", integer_to_list(Port)],
    case write(File, [Line | [L || {N, L} <- lines(File), N =/= Node]]) of
        ok -> {ok, File};
        {error, Reason} -> {error, Reason}
    end.

unregister(Node, Port) ->
    File = persistent_term:get(?MODULE),
    case [P || {N, _, P} <- entries(File), N =:= Node] of
        [Port] -> write(File, [L || {N, L} <- lines(File), N =/= Node]);
        _ -> ok     % another life of this node has come meanwhile
    end.

%% The answer may be kept for 5 seconds.
lookup(Node, _Host) ->
    case [{Host, Port} || {N, Host, Port} <- entries(persistent_term:get(?MODULE)), N =:= Node] of
        [] -> {error, not_found};
        Addresses -> {ok, Addresses, 5}
    end.

list_nodes(_Host) ->
    {ok, [{Node, Port} || {Node, _, Port} <- entries(persistent_term:get(?MODULE))]}.

entries(File) ->
    [{Node, Host, list_to_integer(Port)}
     || {Node, Line} <- lines(File), [_, Host, Port] <- [string:lexemes(Line, " ")]].

lines(File) ->
    case prim_file:read_file(File) of
        {ok, Text} -> [{list_to_atom(hd(string:lexemes(L, " "))), L}
                       || L <- string:lexemes(binary_to_list(Text), "\n")];
        {error, enoent} -> []
    end.

write(File, Lines) ->
    Tmp = File ++ "." ++ os:getpid(),
    case prim_file:write_file(Tmp, lists:join("\n", Lines)) of
        ok -> prim_file:rename(Tmp, File);
        {error, _} = Error -> Error
    end.
