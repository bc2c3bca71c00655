%% SPDX-License-Identifier: Apache-2.0
%% The driver's control commands for user streams (driver/stream_ops.c) and tags (driver/tag_ops.c),
%% on connection ports and the node port. Owner operations are those of the calling process.
-module(barrel_p2p_drv_streams).

-export([open/2, send/4, reserve/3, command/3, close/2, reset/3, setopts/3, hold/2, owner/3,
         accept/2, stop/1, list/1, resume/2, node_name/2]).
-export([create_table/0, connected/3, disconnected/3, port/1]).
-export([tag_add/2, tag_remove/1, tag_clear/0, watcher/0]).

-import(barrel_p2p_drv_ctl, [control/3, node_control/2, ok/1]).

-export_type([opts/0]).

-type opts() :: #{active => boolean() | once | auto | integer(), priority => 16..255,
                  mode => block | nonblock}.
-type error() :: barrel_p2p_drv:error().

-define(TABLE, barrel_p2p_ports).
-define(DRIVER, "barrel_p2p_drv").

-define(OP_STREAM_OPEN, 80).
-define(OP_STREAM_SEND, 81).
-define(OP_STREAM_RESERVE, 82).
-define(OP_STREAM_CLOSE, 83).
-define(OP_STREAM_RESET, 84).
-define(OP_STREAM_OPTS, 85).
-define(OP_STREAM_HOLD, 86).
-define(OP_STREAM_OWNER, 87).
-define(OP_STREAM_ACCEPT, 88).
-define(OP_STREAM_STOP, 89).
-define(OP_STREAM_LIST, 90).
-define(OP_STREAM_RESUME, 91).
-define(OP_STREAM_NODE, 92).
-define(OP_TAG_ADD, 100).
-define(OP_TAG_REMOVE, 101).
-define(OP_TAG_CLEAR, 102).
-define(OP_STREAM_WATCHER, 103).

-spec open(port(), opts()) -> {ok, non_neg_integer()} | error().
open(Port, Opts) ->
    case control(Port, ?OP_STREAM_OPEN, opts(Opts)) of
        {ok, <<Id:64>>} -> {ok, Id};
        {error, _} = Error -> Error
    end.

%% Takes the bytes, or says that the caller gets `{'$barrel_p2p_room', Port, Id}' when there is room.
-spec send(port(), non_neg_integer(), boolean(), iodata()) -> ok | wait | error().
send(Port, Id, Fin, Data) ->
    sent(control(Port, ?OP_STREAM_SEND, [<<Id:64, (flag(Fin))>>, Data])).

%% The same for bytes that command/3 brings, by reference.
-spec reserve(port(), non_neg_integer(), boolean()) -> ok | wait | error().
reserve(Port, Id, Fin) ->
    sent(control(Port, ?OP_STREAM_RESERVE, <<Id:64, (flag(Fin))>>)).

-spec command(port(), non_neg_integer(), iodata()) -> ok | {error, closed}.
command(Port, Id, Data) ->
    try port_command(Port, [<<0, Id:64>> | Data], [force]) of
        true -> ok
    catch
        error:_ -> {error, closed}
    end.

sent({ok, <<0>>}) -> ok;
sent({ok, <<1>>}) -> wait;
sent({error, _} = Error) -> Error.

%% No more will be sent.
-spec close(port(), non_neg_integer()) -> ok | error().
close(Port, Id) ->
    ok(control(Port, ?OP_STREAM_CLOSE, <<Id:64>>)).

-spec reset(port(), non_neg_integer(), non_neg_integer()) -> ok | error().
reset(Port, Id, Code) ->
    ok(control(Port, ?OP_STREAM_RESET, <<Id:64, Code:64>>)).

-spec setopts(port(), non_neg_integer(), opts()) -> ok | error().
setopts(Port, Id, Opts) ->
    ok(control(Port, ?OP_STREAM_OPTS, [<<Id:64>>, opts(Opts)])).

%% From now on the owner gets no events, until owner/3.
-spec hold(port(), non_neg_integer()) -> ok | error().
hold(Port, Id) ->
    ok(control(Port, ?OP_STREAM_HOLD, <<Id:64>>)).

-spec owner(port(), non_neg_integer(), pid()) -> ok | error().
owner(Port, Id, Pid) ->
    ok(control(Port, ?OP_STREAM_OWNER, <<Id:64, (barrel_p2p_nif:pid_number(Pid)):64>>)).

%% The caller takes streams that the peer opens, with these options.
-spec accept(port(), opts()) -> ok | error().
accept(Port, Opts) ->
    ok(control(Port, ?OP_STREAM_ACCEPT, opts(Opts))).

-spec stop(port()) -> ok | error().
stop(Port) ->
    ok(control(Port, ?OP_STREAM_STOP, <<>>)).

-spec list(port()) -> {ok, [{Id :: non_neg_integer(), Owner :: pid(), Priority :: 16..255,
                             RecvFin :: boolean(), SendFin :: boolean()}]} | error().
list(Port) ->
    Token = erlang:unique_integer([positive]),
    case control(Port, ?OP_STREAM_LIST, <<Token:64>>) of
        {ok, _} ->
            receive
                {'$barrel_p2p_streams', Token, List} -> {ok, lists:sort(List)}
            end;
        {error, _} = Error ->
            Error
    end.

%% The owner has consumed what it got.
-spec resume(port(), non_neg_integer()) -> ok | error().
resume(Port, Id) ->
    ok(control(Port, ?OP_STREAM_RESUME, <<Id:64>>)).

%% The peer's name, where it is another one than that which it authenticated with.
-spec node_name(port(), node()) -> ok | error().
node_name(Port, Node) ->
    ok(control(Port, ?OP_STREAM_NODE, atom_to_binary(Node, utf8))).

%% --- the ports of connections ----------------------------------------------------

%% By barrel_p2p_node: {Node, Port, OwnerOfThePort}.
create_table() ->
    ets:new(?TABLE, [named_table, public, {read_concurrency, true}]).

-spec connected(node(), port(), pid()) -> true.
connected(Node, Port, Pid) ->
    ets:insert(?TABLE, {Node, Port, Pid}).

-spec disconnected(node(), port(), pid()) -> true.
disconnected(Node, Port, Pid) ->
    ets:delete_object(?TABLE, {Node, Port, Pid}).

-spec port(node()) -> {ok, port()} | {error, not_connected | not_quic_connection}.
port(Node) ->
    try ets:lookup(?TABLE, Node) of
        [{_, Port, _}] -> {ok, Port};
        [] -> fresh_port(Node)
    catch
        error:badarg when is_atom(Node) -> fresh_port(Node)
    end.

%% A connection is up for the VM a moment before it is in the table.
fresh_port(Node) ->
    case lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)) of
        {_, Port} when is_port(Port) ->
            case erlang:port_info(Port, name) of
                {name, ?DRIVER ++ _} -> {ok, Port};
                _ -> {error, not_quic_connection}
            end;
        {_, _} -> {error, not_quic_connection};
        false -> {error, not_connected}
    end.

%% --- of the node ---------------------------------------------------------------

-spec tag_add(binary(), pid()) -> ok | error().
tag_add(Tag, Pid) ->
    ok(node_control(?OP_TAG_ADD, <<(barrel_p2p_nif:pid_number(Pid)):64, Tag/binary>>)).

-spec tag_remove(binary()) -> ok | error().
tag_remove(Tag) ->
    ok(node_control(?OP_TAG_REMOVE, Tag)).

-spec tag_clear() -> ok | error().
tag_clear() ->
    ok(node_control(?OP_TAG_CLEAR, <<>>)).

%% The caller gets `{'$barrel_p2p_watch', Port, Id, Owner}' and says resume/2 when Owner has consumed.
-spec watcher() -> ok | error().
watcher() ->
    ok(node_control(?OP_STREAM_WATCHER, <<>>)).

%% --- encoding --------------------------------------------------------------------

flag(true) -> 1;
flag(false) -> 0.

opts(Opts) ->
    [opt(K, V) || {K, V} <- maps:to_list(Opts)].

opt(active, false) -> <<1, 0, 0:16>>;
opt(active, once) -> <<1, 1, 0:16>>;
opt(active, true) -> <<1, 2, 0:16>>;
opt(active, auto) -> <<1, 3, 0:16>>;
opt(active, N) -> <<1, 4, N:16>>;
opt(priority, P) -> <<2, P>>;
opt(mode, block) -> <<3, 0>>;
opt(mode, nonblock) -> <<3, 1>>.
