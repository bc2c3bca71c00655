%% SPDX-License-Identifier: Apache-2.0
%% Tagged streams between real nodes (barrel_p2p_streams).
-module(tags_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([opened_and_the_rest/1, registry/1, reserved_and_bad_tags/1, two_tags_of_one_process/1,
         handler_death/1, unknown_tag/1, tag_in_pieces/1, dials_on_demand/1, beside_plain_acceptors/1,
         parked_are_limited/1, parked_have_a_deadline/1, at_once_after_connect/1,
         carrier_starts_anew/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-import(bp_streams, [counter/2, proc/1, do/3, name/1, mirror/3, accept/3, next/3]).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [opened_and_the_rest, registry, reserved_and_bad_tags, two_tags_of_one_process, handler_death,
     unknown_tag, tag_in_pieces, dials_on_demand, beside_plain_acceptors, parked_are_limited,
     parked_have_a_deadline, at_once_after_connect, carrier_starts_anew].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_Case, Config) ->
    bp_cluster:end_case(Config).

%% --- tools -------------------------------------------------------------------------

%% Two nodes with the application, not connected.
nodes_up(Config) -> nodes_up(Config, []).

nodes_up(Config, Env) ->
    Nodes = bp_cluster:start_many(Config, [#{name => N, config => [{barrel_p2p, Env}]} || N <- [a, b]]),
    [{ok, _} = bp_cluster:call(N, application, ensure_all_started, [barrel_p2p]) || N <- Nodes],
    Nodes.

pair(Config) -> pair(Config, []).

pair(Config, Env) ->
    [A, B] = nodes_up(Config, Env),
    true = bp_cluster:connect(A, B),
    {A, B}.

register_tag(N, Tag, Pid) -> bp_cluster:call(N, barrel_p2p_streams, register_acceptor, [Tag, Pid]).

open(N, P, Tag, To) -> do(N, P, fun() -> barrel_p2p_streams:open(Tag, To) end).

%% What the handler gets first.
opened(N, Q) ->
    do(N, Q, fun() ->
        receive {mstream, Ref, opened, From} -> {Ref, From}
        after 30000 -> error({not_opened, process_info(self(), messages)})
        end
    end).

%% --- cases --------------------------------------------------------------------------

opened_and_the_rest(Config) ->
    {A, B} = pair(Config),
    {P, Q} = {proc(A), proc(B)},
    {AName, BName} = {name(A), name(B)},
    [begin
         ok = register_tag(B, Tag, Q),
         {ok, Ref} = open(A, P, Tag, BName),
         {Peer, AName} = opened(B, Q),
         ?EQ(Peer, mirror(Ref, A, B)),
         ok = do(A, P, fun() -> quic_dist:send(Ref, <<"payload">>, true) end),
         ?EQ({7, crypto:hash(sha256, "payload"), fin}, do(B, Q, fun() -> bp_stream_proc:read(Peer) end)),
         ok = do(B, Q, fun() -> quic_dist:send(Peer, <<"answer">>, true) end),
         ?EQ({data, <<"answer">>, true}, next(A, P, Ref)),
         ?EQ(closed, next(A, P, Ref)),
         ?EQ(closed, next(B, Q, Peer))
     end || Tag <- [<<"t">>, <<"a tag">>, binary:copy(<<255>>, 255), <<0, 1, 2>>]],
    %% the upstream way of opening: preamble, payload and end in one write
    {ok, R2} = do(A, P, fun() ->
        {ok, R} = quic_dist:open_stream(BName),
        ok = quic_dist:send(R, <<5, "a tag", "all at once">>, true),
        {ok, R}
    end),
    {Peer2, AName} = opened(B, Q),
    ?EQ(Peer2, mirror(R2, A, B)),
    ?EQ({data, <<"all at once">>, true}, next(B, Q, Peer2)),
    %% nothing but the tag and the end
    {ok, R3} = open(A, P, <<"a tag">>, BName),
    ok = do(A, P, fun() -> quic_dist:close_stream(R3) end),
    {Peer3, AName} = opened(B, Q),
    ?EQ({data, <<>>, true}, next(B, Q, Peer3)).

registry(Config) ->
    [A, _] = nodes_up(Config),
    {P, Q} = {proc(A), proc(A)},
    Call = fun(F, Args) -> bp_cluster:call(A, barrel_p2p_streams, F, Args) end,
    ?EQ([], Call(list_acceptors, [])),
    ok = register_tag(A, <<"b">>, P),
    ok = register_tag(A, <<"a">>, Q),
    ?EQ({error, conflict}, register_tag(A, <<"b">>, Q)),
    ?EQ({error, conflict}, register_tag(A, <<"b">>, P)),
    ?EQ([{<<"a">>, Q}, {<<"b">>, P}], Call(list_acceptors, [])),
    ok = Call(unregister_acceptor, [<<"b">>]),
    ok = Call(unregister_acceptor, [<<"b">>]),
    ok = Call(unregister_acceptor, [<<"never was">>]),
    ok = register_tag(A, <<"b">>, Q),
    ?EQ([{<<"a">>, Q}, {<<"b">>, Q}], Call(list_acceptors, [])).

reserved_and_bad_tags(Config) ->
    {A, B} = pair(Config),
    P = proc(A),
    ?EQ({error, reserved}, register_tag(A, <<"barrel_p2p:x">>, P)),
    ?EQ({error, reserved}, register_tag(A, <<"barrel_p2p:">>, P)),
    ?EQ({error, reserved}, open(A, P, <<"barrel_p2p:x">>, name(B))),
    ok = register_tag(A, <<"barrel_p2p">>, P),
    [?EQ(function_clause, bp_cluster:run(A, fun() ->
                              try barrel_p2p_streams:register_acceptor(Tag, P)
                              catch error:Reason -> Reason
                              end
                          end))
     || Tag <- [<<>>, binary:copy(<<"x">>, 256), "text", atom]],
    ?EQ({error, badarg}, register_tag(A, <<"elsewhere">>, proc(B))).

%% WIRE 11, C12: upstream's server crashes on the first, and forgets the second.
two_tags_of_one_process(Config) ->
    {A, B} = pair(Config),
    {P, Q} = {proc(A), proc(B)},
    To = name(B),
    [ok = register_tag(B, T, Q) || T <- [<<"one">>, <<"two">>, <<"three">>]],
    ok = bp_cluster:call(B, barrel_p2p_streams, unregister_acceptor, [<<"one">>]),
    {ok, R1} = open(A, P, <<"one">>, To),
    ?EQ({reset, 16#100}, next(A, P, R1)),
    {ok, R2} = open(A, P, <<"two">>, To),
    {Peer, _} = opened(B, Q),
    ok = do(A, P, fun() -> quic_dist:send(R2, <<"x">>) end),
    ?EQ({data, <<"x">>, false}, next(B, Q, Peer)),
    ok = bp_cluster:call(B, bp_stream_proc, stop, [Q]),
    ?EQ([{reset, 0}, closed], [next(A, P, R2) || _ <- "xx"]),
    bp_cluster:until(fun() -> [] =:= bp_cluster:call(B, barrel_p2p_streams, list_acceptors, []) end),
    [begin
         {ok, R} = open(A, P, T, To),
         ?EQ({reset, 16#100}, next(A, P, R))
     end || T <- [<<"one">>, <<"two">>, <<"three">>]].

%% A stream that comes when its handler has just died is refused, not lost.
handler_death(Config) ->
    {A, B} = pair(Config),
    P = proc(A),
    To = name(B),
    [begin
         Q = proc(B),
         ok = register_tag(B, <<"t">>, Q),
         ok = bp_cluster:call(B, bp_stream_proc, stop, [Q]),
         {ok, R} = open(A, P, <<"t">>, To),
         ?EQ({reset, 16#100}, next(A, P, R)),
         bp_cluster:until(fun() -> [] =:= bp_cluster:call(B, barrel_p2p_streams, list_acceptors, [])
                          end)
     end || _ <- lists:seq(1, 10)].

unknown_tag(Config) ->
    {A, B} = pair(Config),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"known">>, Q),
    To = name(B),
    [begin
         {ok, R} = do(A, P, fun() -> {ok, R} = quic_dist:open_stream(To),
                                     ok = quic_dist:send(R, Bytes),
                                     {ok, R}
                            end),
         ?EQ([{reset, 16#100}, closed], [next(A, P, R) || _ <- "xx"])
     end || Bytes <- [<<5, "knowN">>, <<4, "know">>, <<5, "kn!">>, <<0>>, <<0, "known">>, <<200>>]],
    ?EQ(6, counter(B, <<"user_streams_refused">>)).

tag_in_pieces(Config) ->
    {A, B} = pair(Config),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"pieces">>, Q),
    To = name(B),
    {ok, R} = do(A, P, fun() -> quic_dist:open_stream(To) end),
    lists:foldl(fun(C, N) ->
        ok = do(A, P, fun() -> quic_dist:send(R, <<C>>) end),
        bp_cluster:until(fun() -> counter(B, <<"user_bytes_in">>) =:= N end),
        N + 1
    end, 1, [6 | "pieces"]),
    {_, _} = opened(B, Q),
    ?EQ(0, counter(B, <<"user_streams_parked">>)).

dials_on_demand(Config) ->
    [A, B] = nodes_up(Config),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"t">>, Q),
    To = name(B),
    ?EQ([], bp_cluster:call(A, erlang, nodes, [])),
    {ok, R} = open(A, P, <<"t">>, To),
    From = name(A),
    {Peer, From} = opened(B, Q),
    ?EQ(Peer, mirror(R, A, B)),
    ?EQ({error, not_connected}, open(A, P, <<"t">>, 'nobody@127.0.0.1')),
    ?EQ({error, not_connected}, open(A, P, <<"t">>, name(A))).

%% Registered tags to their handlers, all else to whoever takes plain streams.
beside_plain_acceptors(Config) ->
    {A, B} = pair(Config),
    {P, Q, Plain} = {proc(A), proc(B), proc(B)},
    From = name(A),
    To = name(B),
    ok = register_tag(B, <<"tag">>, Q),
    accept(B, Plain, From),
    Open = fun(Bytes) ->
        {ok, R} = do(A, P, fun() -> {ok, R} = quic_dist:open_stream(To),
                                    ok = quic_dist:send(R, Bytes),
                                    {ok, R}
                           end),
        mirror(R, A, B)
    end,
    [begin
         R = Open(Bytes),
         ?EQ({data, Bytes, false}, next(B, Plain, R))
     end || Bytes <- [<<"plain">>, <<3, "tug">>, <<0>>]],
    R = Open(<<3, "tag", "data">>),
    ?EQ({R, From}, opened(B, Q)),
    ?EQ({data, <<"data">>, false}, next(B, Q, R)).

parked_are_limited(Config) ->
    {A, B} = pair(Config),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"tag">>, Q),
    To = name(B),
    Refs = do(A, P, fun() ->
        [begin
             {ok, R} = quic_dist:open_stream(To),
             ok = quic_dist:send(R, <<3, "t">>),
             R
         end || _ <- lists:seq(1, 70)]
    end),
    bp_cluster:until(fun() -> counter(B, <<"user_streams_parked">>) =:= 64 andalso
                              counter(B, <<"user_streams_refused">>) =:= 6 end),
    ?EQ(6, counter(B, <<"user_streams_parked_too_many">>)),
    ?EQ({[{reset, 16#100} || _ <- lists:seq(1, 6)], none},
        do(A, P, fun() ->
            %% b has counted them, and they are on their way
            {[receive {quic_dist_stream, _, {reset, _} = E} -> E after 30000 -> none end
              || _ <- lists:seq(1, 6)],
             receive {quic_dist_stream, R, {reset, _} = E} -> {R, E} after 0 -> none end}
        end)),
    %% those that waited go on
    [First | _] = Refs,
    ok = do(A, P, fun() -> quic_dist:send(First, <<"ag">>) end),
    {Peer, _} = opened(B, Q),
    ?EQ(Peer, mirror(First, A, B)).

parked_have_a_deadline(Config) ->
    {A, B} = pair(Config, [{stream_preamble_timeout, 500}]),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"tag">>, Q),
    To = name(B),
    {ok, R} = do(A, P, fun() -> {ok, R} = quic_dist:open_stream(To),
                                ok = quic_dist:send(R, <<3, "t">>),
                                {ok, R}
                       end),
    ?EQ([{reset, 16#100}, closed], [next(A, P, R) || _ <- "xx"]),
    ?EQ(1, counter(B, <<"user_streams_parked_too_long">>)),
    ?EQ(0, counter(B, <<"user_streams_parked">>)).

%% Upstream finds new connections by polling: streams that come earlier are refused there.
at_once_after_connect(Config) ->
    [A, B] = nodes_up(Config),
    {P, Q} = {proc(A), proc(B)},
    ok = register_tag(B, <<"t">>, Q),
    To = name(B),
    [begin
         {ok, R} = open(A, P, <<"t">>, To),
         {Peer, _} = opened(B, Q),
         %% and the handler can answer
         ok = do(B, Q, fun() -> quic_dist:send(Peer, <<"at once">>) end),
         ?EQ({data, <<"at once">>, false}, next(A, P, R)),
         bp_cluster:disconnect(A, B),
         ?EQ([{reset, 16#101}, closed], [next(A, P, R) || _ <- "xx"]),
         ?EQ([{reset, 16#101}, closed], [next(B, Q, Peer) || _ <- "xx"])
     end || _ <- lists:seq(1, 10)],
    %% also by the process that just saw the node come up
    ok = bp_cluster:run(A, fun() ->
        lists:foreach(fun(_) ->
            true = net_kernel:connect_node(To),
            {ok, Ref} = quic_dist:open_stream(To),
            ok = quic_dist:send(Ref, <<1, "t">>),
            true = erlang:disconnect_node(To),
            [{reset, 16#101}, closed] = [bp_stream_proc:next(Ref) || _ <- "xx"]
        end, lists:seq(1, 50))
    end).

%% Tags may be registered before there is a carrier, and outlive it.
carrier_starts_anew(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    B = bp_cluster:start(Config, #{name => b, names => none}),
    [{ok, _} = bp_cluster:call(N, application, ensure_all_started, [barrel_p2p]) || N <- [A, B]],
    P = proc(A),
    %% its pid is another one with each name of the node
    ok = bp_cluster:run(B, fun() ->
        Pid = bp_stream_proc:start(),
        true = register(handler, Pid),
        ok = barrel_p2p_streams:register_acceptor(<<"t">>, Pid)
    end),
    Name = list_to_atom(bp_cluster:unique(late) ++ "@127.0.0.1"),
    [begin
         {ok, _} = bp_cluster:call(B, net_kernel, start, [[Name, longnames]]),
         true = bp_cluster:call(B, erlang, set_cookie, [ct]),
         {ok, _} = open(A, P, <<"t">>, Name),
         Own = name(A),
         {_, Own} = bp_cluster:run(B, fun() ->
             bp_stream_proc:do(whereis(handler), fun() ->
                 receive {mstream, Ref, opened, From} -> {Ref, From} after 30000 -> timeout end
             end)
         end),
         ok = bp_cluster:call(B, net_kernel, stop, []),
         %% the VM takes the name back when net_kernel's exit is through, which stop() does not wait for
         bp_cluster:until(fun() -> bp_cluster:call(B, erlang, node, []) =:= nonode@nohost end),
         bp_cluster:until(fun() -> bp_cluster:call(A, erlang, nodes, []) =:= [] end)
     end || _ <- [1, 2]].
