%% SPDX-License-Identifier: Apache-2.0
%% The driver's control command that asks DNS; it answers by a message that the caller waits for.
-module(barrel_p2p_drv_dns).

-export([resolve_host/4, resolve_srv/4]).

-import(barrel_p2p_drv_ctl, [node_control/2, result/1, tlv/2, text/1]).

-type error() :: barrel_p2p_drv:error().

-define(OP_RESOLVE, 17).

%% Asks DNS and waits: Servers is "" (the system's) or as c-ares reads it, Ms the time for a server's
%% first answer. A caller that gives up earlier gets the answer as a message.
-spec resolve_host(string(), auto | inet | inet6, string(), 1..60000) ->
          {ok, Ttl :: non_neg_integer(), [inet:ip_address()]} | error().
resolve_host(Host, Family, Servers, Ms) ->
    F = case Family of auto -> 0; inet -> 4; inet6 -> 6 end,
    case resolve([tlv(1, text(Host)), tlv(2, <<0>>), tlv(3, <<F>>)], Servers, Ms) of
        {ok, <<Ttl:32, Bin/binary>>} -> {ok, Ttl, [ip(A) || <<L, A:L/binary>> <= Bin]};
        {error, _} = Error -> Error
    end.

ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(Bin) -> list_to_tuple([N || <<N:16>> <= Bin]).

%% The SRV records of Host ("": of all nodes) in Domain, in the order in which to use them.
-spec resolve_srv(string(), string(), string(), 1..60000) ->
          {ok, Ttl :: non_neg_integer(), [{Target :: string(), inet:port_number()}]} | error().
resolve_srv(Host, Domain, Servers, Ms) ->
    case resolve([tlv(1, text(Domain)), tlv(2, <<1>>), [tlv(7, text(Host)) || Host =/= ""]],
                 Servers, Ms) of
        {ok, <<Ttl:32, Bin/binary>>} ->
            {ok, Ttl, [{binary_to_list(T), P}
                       || <<_Priority:16, _Weight:16, P:16, L, T:L/binary>> <= Bin]};
        {error, _} = Error ->
            Error
    end.

resolve(Args, Servers, Ms) ->
    Id = erlang:unique_integer([positive]),
    case node_control(?OP_RESOLVE, [Args, tlv(4, <<Id:64>>), tlv(5, text(Servers)),
                                    tlv(6, <<Ms:32>>)]) of
        {ok, _} ->
            receive
                {barrel_p2p_resolved, Id, Bin} -> result(Bin)
            end;
        {error, _} = Error ->
            Error
    end.
