%% SPDX-License-Identifier: Apache-2.0
%% Streams by name: who opens one says a tag, and gets to whoever has registered it on the other
%% node (docs/streams.md; the wire is WIRE 6.2). The application barrel_p2p must run.
%%
%% The handler of a tag gets, for each stream that a node opens,
%%
%%   {mstream, Ref, opened, FromNode}
%%
%% and owns it from then on: the events of quic_dist follow. Tags are dispatched in the driver; this
%% process knows who has which, and puts them back when the carrier has started anew.
-module(barrel_p2p_streams).
-behaviour(gen_server).

-export([start_link/0, register_acceptor/2, unregister_acceptor/1, open/2, open/3,
         list_acceptors/0, carrier_up/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type tag() :: <<_:8, _:_*8>>.  % 1 to 255 bytes

-define(RESERVED, "barrel_p2p:").

%% Tag => {Pid, Monitor}
-record(state, {tags = #{} :: #{binary() => {pid(), reference()}}}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Pid handles streams with that tag, on all connections, until it ends. One process per tag; a
%% process may have several. `reserved': tags that begin with "barrel_p2p:" are ours.
-spec register_acceptor(tag(), pid()) -> ok | {error, conflict | reserved | badarg | limit}.
register_acceptor(<<?RESERVED, _/binary>>, Pid) when is_pid(Pid) ->
    {error, reserved};
register_acceptor(Tag, Pid)
  when is_binary(Tag), byte_size(Tag) > 0, byte_size(Tag) < 256, is_pid(Pid) ->
    gen_server:call(?MODULE, {register, Tag, Pid}).

%% Streams that were opened stay with the handler.
-spec unregister_acceptor(tag()) -> ok.
unregister_acceptor(Tag) when is_binary(Tag) ->
    gen_server:call(?MODULE, {unregister, Tag}).

-spec list_acceptors() -> [{tag(), pid()}].
list_acceptors() ->
    gen_server:call(?MODULE, list).

-spec open(tag(), node()) -> {ok, quic_dist:stream_ref()} | {error, term()}.
open(Tag, Node) ->
    open(Tag, Node, []).

%% A stream to the handler of Tag on Node, which is connected to if need be. The caller owns it; when
%% nobody has that tag there, it gets {reset, 16#100}. Options are quic_dist:open_stream/2's.
-spec open(tag(), node(), [quic_dist:option()]) ->
          {ok, quic_dist:stream_ref()} |
          {error, reserved | not_connected | not_quic_connection | stream_limit | term()}.
open(<<?RESERVED, _/binary>>, _Node, _Options) ->
    {error, reserved};
open(Tag, Node, Options) when is_binary(Tag), byte_size(Tag) > 0, byte_size(Tag) < 256 ->
    case open_stream(Node, Options) of
        {ok, Ref} ->
            case quic_dist:send(Ref, <<(byte_size(Tag)), Tag/binary>>) of
                ok -> {ok, Ref};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

open_stream(Node, Options) ->
    case quic_dist:open_stream(Node, Options) of
        {error, not_connected} when Node =/= node() ->
            case net_kernel:connect_node(Node) of
                true -> quic_dist:open_stream(Node, Options);
                _ -> {error, not_connected}
            end;
        Result ->
            Result
    end.

%% @private The driver has just been loaded: it knows no tags.
carrier_up() ->
    gen_server:cast(?MODULE, carrier_up).

%% --- gen_server --------------------------------------------------------------------

%% @private
init([]) ->
    {ok, sync(#state{})}.

%% @private
handle_call({register, Tag, Pid}, _From, #state{tags = Tags} = S) ->
    case Tags of
        #{Tag := _} ->
            {reply, {error, conflict}, S};
        _ ->
            case add(Tag, Pid) of
                ok ->
                    {reply, ok, S#state{tags = Tags#{Tag => {Pid, monitor(process, Pid)}}}};
                {error, _} = Error ->
                    {reply, Error, S}
            end
    end;
handle_call({unregister, Tag}, _From, S) ->
    {reply, ok, remove(Tag, S)};
handle_call(list, _From, #state{tags = Tags} = S) ->
    {reply, lists:sort([{Tag, Pid} || {Tag, {Pid, _}} <- maps:to_list(Tags)]), S}.

%% @private
handle_cast(carrier_up, S) ->
    {noreply, sync(S)};
handle_cast(_, S) ->
    {noreply, S}.

%% @private
handle_info({'DOWN', Ref, process, _, _}, #state{tags = Tags} = S) ->
    {noreply, maps:fold(fun(Tag, {_, R}, Acc) when R =:= Ref -> remove(Tag, Acc);
                           (_, _, Acc) -> Acc
                        end, S, Tags)};
handle_info(_, S) ->
    {noreply, S}.

%% Without the carrier they are only noted: carrier_up/0 comes later.
add(_Tag, Pid) when node(Pid) =/= node() ->
    {error, badarg};
add(Tag, Pid) ->
    case whereis(barrel_p2p_node) of
        undefined -> ok;
        _ ->
            case barrel_p2p_drv_streams:tag_add(Tag, Pid) of
                ok -> ok;
                {error, {closed, _}} -> ok;
                {error, {Err, _}} -> {error, Err}
            end
    end.

remove(Tag, #state{tags = Tags} = S) ->
    case maps:take(Tag, Tags) of
        {{_, Ref}, Rest} ->
            demonitor(Ref, [flush]),
            _ = barrel_p2p_drv_streams:tag_remove(Tag),
            S#state{tags = Rest};
        error ->
            S
    end.

sync(#state{tags = Tags} = S) ->
    _ = barrel_p2p_drv_streams:tag_clear(),
    maps:foreach(fun(Tag, {Pid, _}) -> add(Tag, Pid) end, Tags),
    S.
