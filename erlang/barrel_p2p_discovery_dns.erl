%% SPDX-License-Identifier: Apache-2.0
%% Discovery by DNS. With `{quic, [{dist, [{dns_domain, Domain}]}]}' first the SRV records
%% `_erlang-dist._quic.<host>.<Domain>' (one node) and `_erlang-dist._quic.<Domain>' (all nodes, told
%% apart by their targets), as upstream publishes them; then the addresses of the host part of the
%% node's name, with our own configured port, else 4433.
-module(barrel_p2p_discovery_dns).
-behaviour(quic_discovery).

-export([lookup/2, list_nodes/1]).

-define(DEFAULT_PORT, 4433).

-spec lookup(string(), string()) -> quic_discovery:found().
lookup(Node, Host) ->
    case domain() of
        undefined ->
            by_host(Host);
        Domain ->
            %% At the same time: a silent server costs its time once.
            Found = barrel_p2p_discovery:parallel(
                      [fun() -> barrel_p2p_resolver:srv(Host, Domain) end,
                       fun() -> by_target(Node, Host, Domain) end,
                       fun() -> by_host(Host) end]),
            case [F || {ok, _, _} = F <- Found] of
                [First | _] -> First;
                [] -> hd([E || E <- Found, E =/= {error, not_found}] ++ [{error, not_found}])
            end
    end.

by_target(Node, Host, Domain) ->
    [Name | _] = string:split(Node, "@"),
    case barrel_p2p_resolver:srv("", Domain) of
        {ok, Records, Ttl} ->
            case [R || {Target, _} = R <- Records, is_node(Target, Name, Host, Domain)] of
                [] -> {error, not_found};
                Mine -> {ok, Mine, Ttl}
            end;
        {error, _} = Error ->
            Error
    end.

%% As bp_dns_srv_is_node: the host, the host in that domain, or name.host.
is_node(Target, Name, Host, Domain) ->
    lists:member(Target, [string:lowercase(N) || N <- [Host, Host ++ "." ++ Domain,
                                                       Name ++ "." ++ Host]]).

%% Our own host has no other node on our port.
by_host(Host) ->
    case barrel_p2p_epmd:is_own_host(Host) of
        true ->
            {error, not_found};
        false ->
            Port = case barrel_p2p_config:dist_listen_port() of
                       0 -> ?DEFAULT_PORT;
                       Configured -> Configured
                   end,
            case inet:parse_address(Host) of
                {ok, Ip} ->
                    {ok, [{Ip, Port}], 0};
                {error, _} ->
                    Family = barrel_p2p_config:dist(family, auto),
                    case barrel_p2p_resolver:addresses(Host, Family) of
                        {ok, Ips, Ttl} -> {ok, [{Ip, Port} || Ip <- Ips], Ttl};
                        {error, _} = Error -> Error
                    end
            end
    end.

%% The targets of the domain's records, as upstream names nodes there: a.b.c is a@b.c.
-spec list_nodes(string()) -> {ok, [{string(), inet:port_number()}]} | {error, term()}.
list_nodes(_Host) ->
    case domain() of
        undefined ->
            {ok, []};
        Domain ->
            case barrel_p2p_resolver:srv("", Domain) of
                {ok, Records, _} ->
                    {ok, [{Name ++ "@" ++ Host, Port}
                          || {Target, Port} <- Records, [Name, Host] <- [string:split(Target, ".")]]};
                {error, not_found} -> {ok, []};
                {error, _} = Error -> Error
            end
    end.

domain() ->
    case barrel_p2p_config:get(dns_domain) of
        undefined -> undefined;
        Domain -> unicode:characters_to_list(Domain)
    end.
