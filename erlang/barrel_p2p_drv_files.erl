%% SPDX-License-Identifier: Apache-2.0
%% The driver's control operations on endpoint files (driver/endpoint_ops.c).
-module(barrel_p2p_drv_files).

-export([run/2]).

-export_type([request/0, result/0]).

-import(barrel_p2p_drv_ctl, [node_control/2, result/1, tlv/2, text/1]).

%% On the endpoint file of a node in a directory, which `write' creates (WIRE 9); a term holds the first
%% address only. A file is deleted only if its first address has that port, or `any'.
-type request() :: {write, Dir :: iodata(), Node :: iodata(),
                    [{Host :: iodata(), inet:port_number()}, ...], json | term}
                 | {read, Dir :: iodata(), Node :: iodata()}
                 | {delete, Dir :: iodata(), Node :: iodata(), any | inet:port_number()}
                 | {list, Dir :: iodata()}.
%% read: addresses; list: nodes with their first one. {hung, _}: no answer in time; {timeout, _}: the
%% directory has hung before and was not waited for.
-type result() :: ok | {ok, [{Host :: string(), inet:port_number()}, ...]}
                | {ok, [{Node :: string(), Host :: string(), inet:port_number()}]}
                | barrel_p2p_drv:error().

-define(OP_ENDPOINT_WRITE, 5).
-define(OP_ENDPOINT_READ, 6).
-define(OP_ENDPOINT_DELETE, 7).
-define(OP_ENDPOINT_LIST, 8).
-define(OP_ENDPOINT_KNOWN, 18).

%% Does all requests at the same time, by threads that may hang in the file system, and waits at most
%% Ms milliseconds; results in the order of requests. What was read before and has not changed is known
%% at once, where no mount has to be asked for that.
-spec run([request()], pos_integer()) -> [result()].
run([], _Ms) ->
    [];
run(Requests, Ms) ->
    case known(Requests, []) of
        {ok, Results} -> Results;
        unknown -> run_bounded(Requests, Ms)
    end.

known([{read, Dir, Node} | Rest], Acc) ->
    case node_control(?OP_ENDPOINT_KNOWN, [tlv(1, text(Dir)), tlv(2, text(Node))]) of
        {ok, Found} -> known(Rest, [{ok, addresses(Found)} | Acc]);
        {error, {not_found, _}} = Error -> known(Rest, [Error | Acc]);
        {error, _} -> unknown
    end;
known([], Acc) ->
    {ok, lists:reverse(Acc)};
known(_, _) ->
    unknown.

%% In a process of its own, because an answer that comes late must not stay in somebody's mailbox.
run_bounded(Requests, Ms) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({?MODULE, do_run(Requests, Ms)}) end),
    receive
        {'DOWN', Ref, process, Pid, {?MODULE, Results}} -> Results;
        {'DOWN', Ref, process, Pid, Reason} ->
            Text = unicode:characters_to_binary(io_lib:format("~tp", [Reason])),
            [{error, {crashed, Text}} || _ <- Requests]
    end.

do_run(Requests, Ms) ->
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
                {{ok, Found}, read} -> {ok, addresses(Found)};
                {{ok, Found}, list} ->
                    {ok, [{binary_to_list(N), binary_to_list(H), P}
                          || <<NL, N:NL/binary, P:16, HL, H:HL/binary>> <= Found]};
                {{ok, _}, _} -> ok
            end
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        {error, {hung, <<"no answer in time">>}}
    end.

addresses(Found) ->
    [{binary_to_list(H), P} || <<P:16, L, H:L/binary>> <= Found].
