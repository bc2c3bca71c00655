%% SPDX-License-Identifier: Apache-2.0
%% Byte streams of applications over the connection to a node, beside the distribution traffic:
%% docs/streams.md. Names, arguments, results and events are those of upstream's quic_dist.
%%
%% A stream has an owner, who sends and gets the events:
%%
%%   {quic_dist_stream, Ref, {data, Binary, Fin}}    bytes in order; Fin: the peer sends no more
%%   {quic_dist_stream, Ref, {reset, Code}}          it was cut; 16#100: nobody wanted it there,
%%                                                   16#101: the connection ended
%%   {quic_dist_stream, Ref, closed}                 the last event, always: both directions have
%%                                                   arrived whole, or `reset' came before
%%   {quic_dist_stream, Ref, passive}                {active, N} is used up
%%   {quic_dist_stream, Ref, writable}               after {error, would_block}: there is room
%%
%% Options of open_stream/2, accept_streams/2 and setopts/2:
%%
%%   {priority, 16..255}   lower goes first (default 128); distribution goes before all
%%   {active, auto}        (default) as many `data' events as the owner consumes: 32 and 8 MB ahead
%%   {active, N}           N events, then `passive'; adds to what is left, as gen_tcp's
%%   {active, once | true | false}
%%   {mode, block}         (default) send/2 waits while 1 MB is queued
%%   {mode, nonblock}      it says {error, would_block} instead, and `writable' comes later
-module(quic_dist).

-export([open_stream/1, open_stream/2, send/2, send/3, close_stream/1, reset_stream/1,
         reset_stream/2, setopts/2, controlling_process/2]).
-export([accept_streams/1, accept_streams/2, stop_accepting/1]).
-export([list_streams/0, list_streams/1, get_controller/1]).
-export([set_connect_options/2, get_connect_options/1, clear_connect_options/1]).

-export_type([stream_ref/0, option/0]).

%% The number is the stream's id on the wire, and above ?ID_BITS the connection's: a reference is never
%% used again, also when the node is connected to anew.
-opaque stream_ref() :: {quic_dist_stream, node(), non_neg_integer()}.
-type option() :: {priority, integer()} | {active, boolean() | once | auto | integer()} |
                  {mode, block | nonblock}.
-type no_connection() :: not_connected | not_quic_connection.

-define(ID_BITS, 44).
-define(INLINE, 16384).         % longer writes go by reference

%% --- streams -------------------------------------------------------------------

-spec open_stream(node()) -> {ok, stream_ref()} | {error, no_connection() | stream_limit | enomem}.
open_stream(Node) ->
    open_stream(Node, []).

%% A new stream; the caller owns it. Nothing is on the wire until something is sent or closed.
%% `stream_limit': as many are open as the peer allows (239 with this carrier, 83 with upstream).
-spec open_stream(node(), [option()]) ->
          {ok, stream_ref()} | {error, no_connection() | stream_limit | enomem}.
open_stream(Node, Options) ->
    Opts = options(Options),
    with_port(Node, fun(Port) ->
        case barrel_p2p_drv_streams:open(Port, Opts) of
            {ok, Id} -> {ok, {quic_dist_stream, Node, Id}};
            {error, _} = Error -> error_of(Error)
        end
    end).

-spec send(stream_ref(), iodata()) ->
          ok | {error, not_owner | unknown_stream | closed | would_block | no_connection()}.
send(Ref, Data) ->
    send(Ref, Data, false).

%% Queues all of Data, however much, and waits as long as there is no room (see `mode'). With Fin
%% nothing more can be sent. `closed': this side has finished already; `unknown_stream': it is over.
-spec send(stream_ref(), iodata(), Fin :: boolean()) ->
          ok | {error, not_owner | unknown_stream | closed | would_block | no_connection()}.
send({quic_dist_stream, Node, Id}, Data, Fin) when is_boolean(Fin) ->
    with_port(Node, fun(Port) -> error_of(send(Port, Id, Data, iolist_size(Data), Fin)) end).

send(Port, Id, Data, Size, Fin) when Size =< ?INLINE ->
    case barrel_p2p_drv_streams:send(Port, Id, Fin, Data) of
        wait -> await_room(Port, Id, fun() -> send(Port, Id, Data, Size, Fin) end);
        Result -> Result
    end;
send(Port, Id, Data, Size, Fin) ->
    case barrel_p2p_drv_streams:reserve(Port, Id, Fin) of
        ok -> barrel_p2p_drv_streams:command(Port, Id, Data);
        wait -> await_room(Port, Id, fun() -> send(Port, Id, Data, Size, Fin) end);
        {error, _} = Error -> Error
    end.

await_room(Port, Id, Retry) ->
    Ref = monitor(port, Port),
    receive
        {'$barrel_p2p_room', Port, Id} ->
            demonitor(Ref, [flush]),
            Retry();
        {'DOWN', Ref, port, _, _} ->
            receive {'$barrel_p2p_room', Port, Id} -> ok after 0 -> ok end,
            {error, closed}
    end.

%% Nothing more will be sent; events go on until the peer has finished, too.
-spec close_stream(stream_ref()) -> ok | {error, not_owner | unknown_stream | no_connection()}.
close_stream({quic_dist_stream, Node, Id}) ->
    with_port(Node, fun(Port) -> error_of(barrel_p2p_drv_streams:close(Port, Id)) end).

-spec reset_stream(stream_ref()) -> ok | {error, not_owner | unknown_stream | no_connection()}.
reset_stream(Ref) ->
    reset_stream(Ref, 0).

%% Cuts the stream in both directions; what was sent may or may not have arrived.
-spec reset_stream(stream_ref(), Code :: non_neg_integer()) ->
          ok | {error, not_owner | unknown_stream | no_connection()}.
reset_stream({quic_dist_stream, Node, Id}, Code)
  when is_integer(Code), Code >= 0, Code < 1 bsl 62 ->
    with_port(Node, fun(Port) -> error_of(barrel_p2p_drv_streams:reset(Port, Id, Code)) end).

-spec setopts(stream_ref(), [option()]) ->
          ok | {error, not_owner | unknown_stream | no_connection()}.
setopts({quic_dist_stream, Node, Id}, Options) ->
    Opts = options(Options),
    with_port(Node, fun(Port) -> error_of(barrel_p2p_drv_streams:setopts(Port, Id, Opts)) end).

%% Pid becomes the owner; events that the caller has not received yet move along. `badarg': no
%% living process of this node.
-spec controlling_process(stream_ref(), pid()) ->
          ok | {error, not_owner | unknown_stream | badarg | no_connection()}.
controlling_process(_, Pid) when node(Pid) =/= node() ->
    {error, badarg};
controlling_process({quic_dist_stream, Node, Id} = Ref, Pid) ->
    with_port(Node, fun(Port) ->
        case barrel_p2p_drv_streams:hold(Port, Id) of
            ok ->
                %% A process that has ended must not get them.
                case is_process_alive(Pid) of
                    true when Pid =/= self() -> move(Ref, Pid);
                    _ -> ok
                end,
                error_of(barrel_p2p_drv_streams:owner(Port, Id, Pid));
            {error, _} = Error ->
                error_of(Error)
        end
    end).

move(Ref, Pid) ->
    receive
        {quic_dist_stream, Ref, _} = Event ->
            Pid ! Event,
            move(Ref, Pid)
    after 0 ->
        ok
    end.

%% --- accepting -------------------------------------------------------------------

-spec accept_streams(node()) -> ok | {error, no_connection()}.
accept_streams(Node) ->
    accept_streams(Node, []).

%% The caller joins those who take streams that Node opens on the present connection, one after the
%% other: the first `data' event makes it the owner. Streams that begin with a registered tag go to
%% its handler instead (barrel_p2p_streams).
-spec accept_streams(node(), [option()]) -> ok | {error, no_connection()}.
accept_streams(Node, Options) ->
    Opts = options(Options),
    with_port(Node, fun(Port) -> error_of(barrel_p2p_drv_streams:accept(Port, Opts)) end).

-spec stop_accepting(node()) -> ok | {error, no_connection()}.
stop_accepting(Node) ->
    with_port(Node, fun(Port) -> error_of(barrel_p2p_drv_streams:stop(Port)) end).

%% --- looking -----------------------------------------------------------------------

%% The streams of all connections that somebody here owns.
-spec list_streams() -> [map()].
list_streams() ->
    lists:append([list_streams(Node) || {Node, _} <- lists:sort(erlang:system_info(dist_ctrl))]).

%% Maps with the keys ref, node, stream_id, owner, priority, recv_fin and send_fin.
-spec list_streams(node()) -> [map()].
list_streams(Node) ->
    case with_port(Node, fun barrel_p2p_drv_streams:list/1) of
        {ok, List} ->
            [#{ref => {quic_dist_stream, Node, Id}, node => Node,
               stream_id => Id band (1 bsl ?ID_BITS - 1), owner => Owner,
               priority => Priority, recv_fin => RecvFin, send_fin => SendFin}
             || {Id, Owner, Priority, RecvFin, SendFin} <- List];
        {error, _} ->
            []
    end.

%% The process that runs the connection.
-spec get_controller(node()) -> {ok, pid()} | {error, no_connection()}.
get_controller(Node) ->
    with_port(Node, fun(Port) ->
        case erlang:port_info(Port, connected) of
            {connected, Pid} -> {ok, Pid};
            undefined -> {error, not_connected}
        end
    end).

%% --- options and errors --------------------------------------------------------------

options(Options) ->
    maps:from_list([option(O) || O <- Options]).

option({priority, P}) when is_integer(P) -> {priority, min(255, max(16, P))};
option({active, A}) when is_boolean(A); A =:= once; A =:= auto -> {active, A};
option({active, N} = O) when is_integer(N), N >= -32768, N =< 32767 -> O;
option({mode, M} = O) when M =:= block; M =:= nonblock -> O;
option(Other) -> erlang:error({bad_option, Other}).

error_of({error, {closed, _}}) -> {error, not_connected};       % the port is
error_of({error, closed}) -> {error, not_connected};
error_of({error, {bad_state, _}}) -> {error, not_connected};
error_of({error, {send_closed, _}}) -> {error, closed};
error_of({error, {Err, _}}) -> {error, Err};
error_of(Result) -> Result.

with_port(Node, Fun) ->
    case barrel_p2p_drv_streams:port(Node) of
        {ok, Port} -> Fun(Port);
        {error, _} = Error -> Error
    end.

%% --- the next dial -------------------------------------------------------------

%% Options of the next time that this node dials Node, once (docs/relay.md).
-spec set_connect_options(node(), barrel_p2p_relay:options()) ->
          ok | {error, {bad_option, term()} | not_running}.
set_connect_options(Node, Options) ->
    barrel_p2p_relay:set_connect_options(Node, Options).

-spec get_connect_options(node()) -> barrel_p2p_relay:options().
get_connect_options(Node) ->
    barrel_p2p_relay:get_connect_options(Node).

-spec clear_connect_options(node()) -> ok.
clear_connect_options(Node) ->
    barrel_p2p_relay:clear_connect_options(Node).
