%% SPDX-License-Identifier: Apache-2.0
%% The driver's control commands that find nodes: endpoint files and DNS. Both answer by a
%% message that the caller waits for.
-module(barrel_p2p_drv_lookup).

-export([endpoint_files/2]).
-export([resolve_host/4, resolve_srv/4]).

-export_type([file_request/0, file_result/0]).

-import(barrel_p2p_drv_ctl, [node_control/2, result/1, tlv/2, text/1]).

-type error() :: barrel_p2p_drv:error().

%% On the endpoint file of a node in a directory, which `write' creates (WIRE 9); a term holds the first
%% address only. A file is deleted only if its first address has that port, or `any'.
-type file_request() :: {write, Dir :: iodata(), Node :: iodata(),
                         [{Host :: iodata(), inet:port_number()}, ...], json | term}
                      | {read, Dir :: iodata(), Node :: iodata()}
                      | {delete, Dir :: iodata(), Node :: iodata(), any | inet:port_number()}
                      | {list, Dir :: iodata()}.
%% read: addresses; list: nodes with their first one. {hung, _}: no answer in time; {timeout, _}: the
%% directory has hung before and was not waited for.
-type file_result() :: ok | {ok, [{Host :: string(), inet:port_number()}, ...]}
                     | {ok, [{Node :: string(), Host :: string(), inet:port_number()}]} | error().

-define(OP_ENDPOINT_WRITE, 5).
-define(OP_ENDPOINT_READ, 6).
-define(OP_ENDPOINT_DELETE, 7).
-define(OP_ENDPOINT_LIST, 8).
-define(OP_RESOLVE, 17).

%% --- endpoint files -------------------------------------------------------------

%% Does all requests at the same time, by threads that may hang in the file system, and waits at most
%% Ms milliseconds; results in the order of requests. In a process of its own, because an answer that
%% comes late must not stay in somebody's mailbox.
-spec endpoint_files([file_request()], pos_integer()) -> [file_result()].
endpoint_files([], _Ms) ->
    [];
endpoint_files(Requests, Ms) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({?MODULE, do_endpoint_files(Requests, Ms)}) end),
    receive
        {'DOWN', Ref, process, Pid, {?MODULE, Results}} -> Results;
        {'DOWN', Ref, process, Pid, Reason} ->
            Text = unicode:characters_to_binary(io_lib:format("~tp", [Reason])),
            [{error, {crashed, Text}} || _ <- Requests]
    end.

do_endpoint_files(Requests, Ms) ->
    Until = erlang:monotonic_time(millisecond) + Ms,
    Asked = [{R, ask_file(R)} || R <- Requests],
    [case Answer of
         {ok, Id} -> file_result(R, Id, Until);
         {error, _} = Error -> Error
     end || {R, Answer} <- Asked].

ask_file(Request) ->
    {Op, Args} = file_args(Request),
    Id = erlang:unique_integer([positive]),
    case node_control(Op, [Args, tlv(6, <<Id:64>>)]) of
        {ok, _} -> {ok, Id};
        {error, _} = Error -> Error
    end.

file_args({write, Dir, Node, Addresses, Format}) ->
    {?OP_ENDPOINT_WRITE,
     [tlv(1, text(Dir)), tlv(2, text(Node)),
      [[tlv(3, text(Host)), tlv(4, <<Port:16>>)] || {Host, Port} <- Addresses],
      tlv(5, case Format of json -> <<0>>; term -> <<1>> end)]};
file_args({read, Dir, Node}) ->
    {?OP_ENDPOINT_READ, [tlv(1, text(Dir)), tlv(2, text(Node))]};
file_args({delete, Dir, Node, Port}) ->
    {?OP_ENDPOINT_DELETE,
     [tlv(1, text(Dir)), tlv(2, text(Node)), [tlv(7, <<Port:16>>) || Port =/= any]]};
file_args({list, Dir}) ->
    {?OP_ENDPOINT_LIST, [tlv(1, text(Dir))]}.

file_result(Request, Id, Until) ->
    receive
        {barrel_p2p_file, Id, Bin} ->
            case {result(Bin), element(1, Request)} of
                {{error, _} = Error, _} -> Error;
                {{ok, Found}, read} ->
                    {ok, [{binary_to_list(H), P} || <<P:16, L, H:L/binary>> <= Found]};
                {{ok, Found}, list} ->
                    {ok, [{binary_to_list(N), binary_to_list(H), P}
                          || <<NL, N:NL/binary, P:16, HL, H:HL/binary>> <= Found]};
                {{ok, _}, _} -> ok
            end
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        {error, {hung, <<"no answer in time">>}}
    end.

%% --- DNS ------------------------------------------------------------------------

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
