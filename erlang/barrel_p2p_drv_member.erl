%% SPDX-License-Identifier: Apache-2.0
%% The driver's control commands of membership (driver/member_ops.c).
-module(barrel_p2p_drv_member).

-export([start/1, step/1, views/0, needs/1, stats/0, stop/0]).

-import(barrel_p2p_drv_ctl, [node_control/2, ok/1, counters/1, tlv/2]).

-type error() :: barrel_p2p_drv:error().
-type args() :: [{byte(), iodata()}].
-type msg() :: {atom(), Ttl :: byte(), Flag :: 0 | 1, Subject :: binary(),
                [{binary(), AgeMs :: non_neg_integer()}]}.
-type effect() :: joined | left | {connect | release | peer_up, binary()} |
                    {peer_down, binary(), atom()} | {send, binary(), msg()}.

-define(OP_MEMBER_START, 60).
-define(OP_MEMBER_STEP, 61).
-define(OP_MEMBER_VIEWS, 62).
-define(OP_MEMBER_STATS, 63).
-define(OP_MEMBER_STOP, 64).
-define(OP_MEMBER_NEEDS, 65).

%% Starts the state machine anew; result: ms until the first tick.
-spec start(args()) -> {ok, non_neg_integer()} | error().
start(Args) ->
    case node_control(?OP_MEMBER_START, args(Args)) of
        {ok, <<Ms:32>>} -> {ok, Ms};
        {error, _} = Error -> Error
    end.

%% One event; result: ms until the next tick, and what is to be done, in order.
-spec step(args()) -> {ok, {non_neg_integer(), [effect()]}} | error().
step(Args) ->
    case node_control(?OP_MEMBER_STEP, args(Args)) of
        {ok, <<Ms:32, Effects/binary>>} -> {ok, {Ms, effects(Effects)}};
        {error, _} = Error -> Error
    end.

-spec views() -> {ok, {[binary()], [binary()]}} | error().
views() ->
    case node_control(?OP_MEMBER_VIEWS, <<>>) of
        {ok, <<NActive:16, _:16, Names/binary>>} ->
            {ok, lists:split(NActive, [N || <<L, N:L/binary>> <= Names])};
        {error, _} = Error ->
            Error
    end.

%% Does a link, an attempt or a reply go over the channel to Node?
-spec needs(binary()) -> {ok, boolean()} | error().
needs(Node) ->
    case node_control(?OP_MEMBER_NEEDS, Node) of
        {ok, <<Needs>>} -> {ok, Needs =/= 0};
        {error, _} = Error -> Error
    end.

-spec stats() -> {ok, #{binary() => non_neg_integer()}} | error().
stats() ->
    counters(node_control(?OP_MEMBER_STATS, <<>>)).

-spec stop() -> ok | error().
stop() ->
    ok(node_control(?OP_MEMBER_STOP, <<>>)).

args(Args) ->
    [tlv(Key, iolist_to_binary(Value)) || {Key, Value} <- Args].

effects(<<1, _, L, Name:L/binary, Kind, Ttl, Flag, SL, Subject:SL/binary, N, Rest/binary>>) ->
    {Peers, Rest1} = peers(N, Rest, []),
    [{send, Name, {kind(Kind), Ttl, Flag, Subject, Peers}} | effects(Rest1)];
effects(<<Effect, Reason, L, Name:L/binary, Rest/binary>>) ->
    [effect(Effect, Name, Reason) | effects(Rest)];
effects(<<>>) ->
    [].

peers(0, Rest, Acc) -> {lists:reverse(Acc), Rest};
peers(N, <<Age:32, L, Name:L/binary, Rest/binary>>, Acc) ->
    peers(N - 1, Rest, [{Name, Age} | Acc]).

effect(0, Name, _) -> {connect, Name};
effect(2, Name, _) -> {release, Name};
effect(3, Name, _) -> {peer_up, Name};
effect(4, Name, Reason) -> {peer_down, Name, reason(Reason)};
effect(5, _, _) -> joined;
effect(6, _, _) -> left.

reason(0) -> dropped;
reason(1) -> graceful;
reason(2) -> nodedown;
reason(3) -> connect_failed.

kind(0) -> join;
kind(1) -> forward_join;
kind(2) -> disconnect;
kind(3) -> neighbor;
kind(4) -> neighbor_reply;
kind(5) -> shuffle;
kind(6) -> shuffle_reply.
