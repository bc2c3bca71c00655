%% SPDX-License-Identifier: Apache-2.0
%% The driver's control commands on connection ports (driver/conn_ctl.c); streams and paths have
%% their own modules.
-module(barrel_p2p_drv_conn).

-export([connect/6, peer/1, recv/1, send/2, tick/1, pre_nodeup/1, post_nodeup/1, setopts/2,
         getopts/2]).
-export([getstat/1, stats/1]).
-export([auth_send/3, auth_recv/1, auth_done/3, peer_certificate/1]).
-export([idle_ask/3, idle_answer/3, idle_close/1]).

-export_type([dist_option/0]).

-import(barrel_p2p_drv_ctl, [control/3, ok/1, counters/1, tlv/2, untlv/1, encode/2, text/1]).

-type error() :: barrel_p2p_drv:error().
-type dist_option() :: {priority | tos | recbuf | sndbuf, non_neg_integer()} | {nodelay, boolean()}.
-type use() :: idle | not_up | not_ours | doubtful | live | used | young | streams | unsent.

-define(OP_CONNECT, 20).
-define(OP_PEER, 21).
-define(OP_RECV, 22).
-define(OP_PRE_NODEUP, 23).
-define(OP_POST_NODEUP, 24).
-define(OP_GETSTAT, 25).
-define(OP_SETOPTS, 26).
-define(OP_GETOPTS, 27).
-define(OP_AUTH_SEND, 28).
-define(OP_AUTH_RECV, 29).
-define(OP_PEERCERT, 30).
-define(OP_AUTH_DONE, 31).
-define(OP_CONN_STATS, 32).
-define(OP_IDLE_ASK, 70).
-define(OP_IDLE_ANSWER, 71).
-define(OP_IDLE_CLOSE, 72).

%% --- setting up ---------------------------------------------------------------

%% Starts dialling Node at Ip:Port; later the port's owner gets `{Port, {authenticated, Name, Fp}}',
%% `{Port, {tls_connected}}' or `{Port, {failed, Err, Text}}'.
%% Relay: barrel_p2p_relay:arguments/1.
-spec connect(port(), iodata(), {inet:ip_address(), inet:port_number()}, pos_integer(), iodata(),
              pos_integer() | undefined) -> ok | error().
connect(Port, Node, {Ip, UdpPort}, TimeoutMs, Relay, MaxDatagram) ->
    ok(control(Port, ?OP_CONNECT,
               [tlv(1, text(Node)), tlv(2, text(inet:ntoa(Ip))), tlv(3, <<UdpPort:16>>),
                tlv(4, <<TimeoutMs:32>>), [tlv(5, <<MaxDatagram:16>>) || MaxDatagram =/= undefined],
                Relay])).

%% Who is at the other end: name (may be empty), ip, port, fingerprint, state.
-spec peer(port()) -> {ok, #{name := binary(), ip := inet:ip_address() | undefined,
                             port := inet:port_number(), fingerprint := binary(),
                             state := needs_auth | authenticated}} | error().
peer(Port) ->
    case control(Port, ?OP_PEER, <<>>) of
        {ok, Bin} ->
            {ok, lists:foldl(fun peer_item/2,
                             #{name => <<>>, ip => undefined, port => 0, fingerprint => <<>>,
                               state => needs_auth}, untlv(Bin))};
        {error, _} = Error ->
            Error
    end.

peer_item({1, Name}, M) -> M#{name := Name};
peer_item({2, Text}, M) ->
    case inet:parse_address(binary_to_list(Text)) of
        {ok, Ip} -> M#{ip := Ip};
        {error, _} -> M
    end;
peer_item({3, <<Port:16>>}, M) -> M#{port := Port};
peer_item({4, Fp}, M) -> M#{fingerprint := Fp};
peer_item({5, <<1>>}, M) -> M#{state := authenticated};
peer_item(_, M) -> M.

%% --- of a dist connection -----------------------------------------------------------

%% One message of the dist handshake: there now, or coming as `{Port, {hs, Msg}}' or
%% `{Port, {failed, Err, Text}}' (`wait'). One at a time.
-spec recv(port()) -> {ok, binary()} | wait | error().
recv(Port) ->
    case control(Port, ?OP_RECV, <<>>) of
        {ok, <<1, Msg/binary>>} -> {ok, Msg};
        {ok, <<0>>} -> wait;
        {error, _} = Error -> Error
    end.

%% Sends one message of the dist handshake.
-spec send(port(), iodata()) -> ok | {error, closed}.
send(Port, Data) ->
    command(Port, Data, []).

-spec tick(port()) -> ok | {error, closed}.
tick(Port) ->
    command(Port, [], [force]).

command(Port, Data, Options) ->
    try port_command(Port, Data, Options) of
        _ -> ok
    catch
        error:_ -> {error, closed}
    end.

-spec pre_nodeup(port()) -> ok | error().
pre_nodeup(Port) ->
    ok(control(Port, ?OP_PRE_NODEUP, <<>>)).

-spec post_nodeup(port()) -> ok | error().
post_nodeup(Port) ->
    ok(control(Port, ?OP_POST_NODEUP, <<>>)).

-spec setopts(port(), [dist_option()]) -> ok | error().
setopts(Port, Opts) ->
    ok(control(Port, ?OP_SETOPTS,
               [begin {N, Type} = option(K), tlv(N, encode(Type, V)) end || {K, V} <- Opts])).

-spec getopts(port(), [atom()]) -> {ok, [dist_option()]} | error().
getopts(Port, Names) ->
    Keys = << <<(element(1, option(K)))>> || K <- Names >>,
    case control(Port, ?OP_GETOPTS, Keys) of
        {ok, Bin} -> {ok, [option_value(K, V) || {K, V} <- untlv(Bin)]};
        {error, _} = Error -> Error
    end.

option(priority) -> {1, u32};
option(tos) -> {2, u32};
option(recbuf) -> {3, u32};
option(sndbuf) -> {4, u32};
option(nodelay) -> {5, bool}.

option_value(1, <<V:32>>) -> {priority, V};
option_value(2, <<V:32>>) -> {tos, V};
option_value(3, <<V:32>>) -> {recbuf, V};
option_value(4, <<V:32>>) -> {sndbuf, V};
option_value(5, <<V>>) -> {nodelay, V =/= 0}.

%% --- statistics ---------------------------------------------------------------------

%% Frames and ticks received, sent, and the bytes that wait.
-spec getstat(port()) -> {ok, non_neg_integer(), non_neg_integer(), non_neg_integer()} | error().
getstat(Port) ->
    case control(Port, ?OP_GETSTAT, <<>>) of
        {ok, <<In:64, Out:64, Pending:64>>} -> {ok, In, Out, Pending};
        {error, _} = Error -> Error
    end.

-spec stats(port()) -> {ok, #{binary() => non_neg_integer()}} | error().
stats(Port) ->
    counters(control(Port, ?OP_CONN_STATS, <<>>)).

%% --- the byte channel of a user's auth callback --------------------------------

-spec auth_send(port(), boolean(), iodata()) -> ok | error().
auth_send(Port, Fin, Data) ->
    ok(control(Port, ?OP_AUTH_SEND, [encode(bool, Fin), Data])).

%% Bytes now, or later as `{Port, {auth_data, Data, Fin}}' or `{Port, {failed, Err, Text}}'.
-spec auth_recv(port()) -> {ok, binary(), boolean()} | wait | error().
auth_recv(Port) ->
    case control(Port, ?OP_AUTH_RECV, <<>>) of
        {ok, <<1, Fin, Data/binary>>} -> {ok, Data, Fin =/= 0};
        {ok, <<0>>} -> wait;
        {error, _} = Error -> Error
    end.

%% The callback's verdict; Name is the peer's node name or empty. `false' closes the connection.
-spec auth_done(port(), boolean(), iodata()) -> ok | error().
auth_done(Port, Ok, Name) ->
    Bin = text(Name),
    ok(control(Port, ?OP_AUTH_DONE, [encode(bool, Ok), byte_size(Bin), Bin])).

%% The peer's TLS certificate, DER.
-spec peer_certificate(port()) -> {ok, binary()} | error().
peer_certificate(Port) ->
    control(Port, ?OP_PEERCERT, <<>>).

%% --- connections that nobody uses (driver/idle_ops.c) ---------------------------

%% Asks the other end to close the connection if nobody uses it (`idle'; else why it may not be
%% closed): idle and at least as old as MinAgeMs, or, Temporary, never used by a process at all.
-spec idle_ask(port(), boolean(), non_neg_integer()) -> {ok, use()} | error().
idle_ask(Port, Temporary, MinAgeMs) ->
    use(control(Port, ?OP_IDLE_ASK, [encode(bool, Temporary), <<MinAgeMs:32>>])).

%% Answers the other end's question, `{NodePort, {idle_asked, Port}}' to the node port's owner.
%% `idle': we have agreed.
-spec idle_answer(port(), boolean(), non_neg_integer()) -> {ok, use()} | error().
idle_answer(Port, Allowed, MinAgeMs) ->
    use(control(Port, ?OP_IDLE_ANSWER, [encode(bool, Allowed), <<MinAgeMs:32>>])).

%% The other end has agreed, `{NodePort, {idle_due, Port}}': closes the connection unless a message
%% came meanwhile. `again': the VM may have had one waiting.
-spec idle_close(port()) -> {ok, closed | called_off | again} | error().
idle_close(Port) ->
    case control(Port, ?OP_IDLE_CLOSE, <<(os:system_time(microsecond)):64>>) of
        {ok, <<0>>} -> {ok, called_off};
        {ok, <<1>>} -> {ok, closed};
        {ok, <<2>>} -> {ok, again};
        {error, _} = Error -> Error
    end.

use({ok, <<Use>>}) ->
    {ok, lists:nth(Use + 1, [idle, not_up, not_ours, doubtful, live, used, young, unsent,
                             streams])};
use({error, _} = Error) ->
    Error.
