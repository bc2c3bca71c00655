%% SPDX-License-Identifier: Apache-2.0
%% Discovery from the configuration: `{quic, [{dist, [{nodes, Entries}]}]}' (or `-quic_dist nodes
%% Entries'), each `{Node, {Host, Port}}' or `{Node, Host, Port}'; Host is a name, an address as
%% text or an address tuple. A node may have several entries: they are tried in that order.
-module(barrel_p2p_discovery_static).
-behaviour(quic_discovery).

-export([lookup/2, lookup_all/2, list_nodes/1]).

-spec lookup(string(), string()) -> {ok, barrel_p2p_discovery:address()} | {error, not_found}.
lookup(Node, Host) ->
    case lookup_all(Node, Host) of
        {ok, [Address | _]} -> {ok, Address};
        {error, _} = Error -> Error
    end.

-spec lookup_all(string(), string()) ->
          {ok, [barrel_p2p_discovery:address(), ...]} | {error, not_found}.
lookup_all(Node, _Host) ->
    case [Address || {N, Address} <- entries(), N =:= to_list(Node)] of
        [] -> {error, not_found};
        Addresses -> {ok, Addresses}
    end.

-spec list_nodes(string()) -> {ok, [{string(), inet:port_number()}]}.
list_nodes(_Host) ->
    {ok, [{Node, Port} || {Node, {_, Port}} <- entries()]}.

entries() ->
    lists:append([entry(E) || E <- barrel_p2p_config:nodes()]).

entry({Node, {Host, Port}}) when is_integer(Port), Port > 0, Port < 65536 ->
    [{to_list(Node), {unbracket(Host), Port}}];
entry({Node, Host, Port}) ->
    entry({Node, {Host, Port}});
entry(Other) ->
    barrel_p2p_node:report(warning, bad_config, <<"any">>, nodes,
                           io_lib:format("ignored in {quic,[{dist,[{nodes,_}]}]}: ~tp; an entry is "
                                         "{Node,{Host,Port}}", [Other])),
    [].

%% "[2001:db8::1]" is how people write an IPv6 address that has a port.
unbracket("[" ++ Rest = Host) ->
    case string:split(Rest, "]") of
        [Address, ""] -> Address;
        _ -> Host
    end;
unbracket(<<"[", _/binary>> = Host) ->
    unbracket(binary_to_list(Host));
unbracket(Host) ->
    Host.

to_list(V) when is_atom(V) -> atom_to_list(V);
to_list(V) when is_binary(V) -> binary_to_list(V);
to_list(V) -> V.
