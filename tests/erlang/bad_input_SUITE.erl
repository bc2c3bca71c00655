%% SPDX-License-Identifier: Apache-2.0
%% Garbage at the port, in discovery and from peers: the node stays up, others don't notice, the
%% log says what it was and does not grow with it.
-module(bad_input_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([garbage_datagrams/1, quic_like_datagrams/1, garbage_answers_a_dial/1,
         nobody_at_the_address/1, garbage_endpoint_file_names_the_file/1,
         garbage_static_entries/1, frame_above_the_limit/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [garbage_datagrams, quic_like_datagrams, garbage_answers_a_dial, nobody_at_the_address,
     garbage_endpoint_file_names_the_file, garbage_static_entries, frame_above_the_limit].

init_per_suite(Config0) ->
    case bp_cluster:only(quic) of
        ok ->
            Config = bp_cluster:init_dir("bad_input_SUITE", Config0),
            [A, B] = bp_cluster:start_many(Config, [#{name => a, cwd => "a"},
                                                    #{name => b, cwd => "b"}]),
            [{a, A}, {b, B}, {suite_dir, bp_cluster:dir(Config)} | Config];
        Skip ->
            Skip
    end.

end_per_suite(Config) ->
    bp_cluster:end_suite(?config(suite_dir, Config)).

init_per_testcase(Case, Config) ->
    true = bp_cluster:connect(?config(a, Config), ?config(b, Config)),
    bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% Runs Throw() while a and b talk: the connection must hold, every call must be answered, and a
%% new node must get in afterwards.
while_talking(Config, Throw) ->
    {A, B} = {?config(a, Config), ?config(b, Config)},
    NB = bp_cluster:name(B),
    Talk = bp_cluster:run(A, fun() ->
        Self = self(),
        Pid = spawn(fun() ->
            true = monitor_node(NB, true),
            Self ! {self(), started},
            talk(NB, 0)
        end),
        receive {Pid, started} -> Pid end
    end),
    Before = bp_cluster:run(A, fun usage/0),
    LogBefore = byte_size(bp_cluster:log(A)),
    ok = Throw(),
    Calls = bp_cluster:run(A, fun() ->
        Talk ! {stop, self()},
        receive {Talk, Result} -> Result after ?LONG -> error(talker_silent) end
    end),
    {calls, N} = Calls,
    true = N > 0,
    true = byte_size(bp_cluster:log(A)) - LogBefore < 100000,
    {Procs0, Ports0} = Before,
    bp_cluster:until(fun() ->
        {Procs, Ports} = bp_cluster:run(A, fun usage/0),
        Procs =< Procs0 + 10 andalso Ports =< Ports0 + 5
    end, 40000),
    C = bp_cluster:start(Config, #{name => c, env => [{"XDG_RUNTIME_DIR", runtime_dir(Config)}]}),
    true = bp_cluster:connect(C, A).

runtime_dir(Config) ->
    filename:join(?config(suite_dir, Config), "run").

usage() ->
    {erlang:system_info(process_count), erlang:system_info(port_count)}.

talk(NB, N) ->
    receive
        {nodedown, NB} -> exit(nodedown);
        {stop, From} ->
            NB = erpc:call(NB, erlang, node, [], ?LONG),        % a busy machine may not have come to one before
            From ! {self(), {calls, N + 1}}
    after 0 ->
        NB = erpc:call(NB, erlang, node, [], ?LONG),
        talk(NB, N + 1)
    end.

port_of(Node) ->
    {ok, Port} = bp_cluster:call(Node, barrel_p2p_dist, listen_port, []),
    Port.

%% Sends Count datagrams made by Make(I) to the node's port from a few sockets.
throw_at(Node, Count, Make) ->
    Port = port_of(Node),
    Socks = [element(2, {ok, _} = gen_udp:open(0, [binary, {active, false}]))
             || _ <- lists:seq(1, 5)],
    [begin
        Sock = lists:nth(I rem 5 + 1, Socks),
        _ = gen_udp:send(Sock, {127, 0, 0, 1}, Port, Make(I))
     end || I <- lists:seq(1, Count)],
    [gen_udp:close(S) || S <- Socks],
    ok.

seed() ->
    Seed = list_to_integer(os:getenv("SEED", integer_to_list(erlang:system_time(second)))),
    ct:pal("SEED=~w", [Seed]),
    rand:seed(exsss, Seed).

garbage_datagrams(Config) ->
    seed(),
    while_talking(Config, fun() ->
        throw_at(?config(a, Config), 1500, fun(I) -> rand:bytes(I) end),
        throw_at(?config(a, Config), 1500, fun(_) -> rand:bytes(rand:uniform(40)) end),
        throw_at(?config(a, Config), 10, fun(_) -> <<>> end)
    end).

%% Headers that look like QUIC: Initials of version 1 (too small and full size), other versions,
%% Handshake, Retry and short headers with random ids.
quic_like_datagrams(Config) ->
    seed(),
    Long = fun(First, Version, Size) ->
        DcidLen = rand:uniform(21) - 1,
        Head = <<First, Version:32, DcidLen, (rand:bytes(DcidLen))/binary, 8,
                 (rand:bytes(8))/binary, 0, 16#44, 16#9e>>,
        <<Head/binary, (rand:bytes(max(0, Size - byte_size(Head))))/binary>>
    end,
    while_talking(Config, fun() ->
        throw_at(?config(a, Config), 3000, fun(I) ->
            case I rem 8 of
                0 -> Long(16#c3, 1, 1200);
                1 -> Long(16#c0, 1, 100);
                2 -> Long(16#c3, 16#6b3343cf, 1200);
                3 -> Long(16#cf, 16#1a2a3a4a, 1200);
                4 -> Long(16#e1, 1, 200);
                5 -> Long(16#f0, 1, 60);
                6 -> <<16#43, (rand:bytes(rand:uniform(1400)))/binary>>;
                7 -> Long(16#80, 0, 50)
            end
        end)
    end).

%% A node that dials something which answers with garbage gives up in time and says so.
garbage_answers_a_dial(Config) ->
    {ok, Sock} = gen_udp:open(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Sock),
    Answerer = spawn(fun() -> answer_garbage(Sock) end),
    ok = gen_udp:controlling_process(Sock, Answerer),
    try
        dial_fails(Config, Port, 3)
    after
        exit(Answerer, kill)
    end.

answer_garbage(Sock) ->
    case gen_udp:recv(Sock, 0) of
        {ok, {Ip, Port, Data}} ->
            _ = gen_udp:send(Sock, Ip, Port, rand:bytes(rand:uniform(1400))),
            <<First, Rest/binary>> = Data,
            _ = gen_udp:send(Sock, Ip, Port, <<(First bxor 16#20), Rest/binary>>),
            answer_garbage(Sock);
        {error, _} ->
            ok
    end.

nobody_at_the_address(Config) ->
    dial_fails(Config, bp_cluster:free_port(), 5).

%% Dials x, said to be at Port: false within the setup time and a little, and a line in the log.
dial_fails(Config, Port, Setup) ->
    Conf = [{quic, [{dist, [{nodes, [{'x@127.0.0.1', {"127.0.0.1", Port}}]}]}]}],
    N = bp_cluster:start(Config, #{name => n, config => Conf,
                                   args => ["-kernel", "net_setuptime", integer_to_list(Setup)]}),
    {Us, false} = bp_cluster:run(N, fun() ->
        timer:tc(net_kernel, connect_node, ['x@127.0.0.1'])
    end),
    true = Us < (Setup + 3.5) * 1000000,        % 7 s if nothing is set
    bp_cluster:wait_log(N, ["x@127.0.0.1", integer_to_list(Port)]).

garbage_endpoint_file_names_the_file(Config) ->
    N = bp_cluster:start(Config, #{name => n}),
    File = fun(Name) ->
        filename:join([bp_cluster:dir(Config), "data/discovery", Name ++ "@127.0.0.1.endpoint"])
    end,
    [begin
        Path = File("g" ++ integer_to_list(I)),
        ok = filelib:ensure_dir(Path),
        ok = file:write_file(Path, Data),
        Node = list_to_atom(filename:basename(Path, ".endpoint")),
        ?EQ(false, bp_cluster:call(N, net_kernel, connect_node, [Node])),
        bp_cluster:wait_log(N, [atom_to_list(Node), Path])
     end || {I, Data} <- [{1, <<"garbage">>}, {2, <<>>}, {3, <<"{\"127.0.0.1\",70000}.\n">>},
                          {4, crypto:strong_rand_bytes(5000)}]],
    ?EQ(pong, bp_cluster:call(N, net_adm, ping, [bp_cluster:name(N)])).

garbage_static_entries(Config) ->
    B = ?config(b, Config),
    Good = {bp_cluster:name(B), {"127.0.0.1", port_of(B)}},
    Nodes = [junk, {}, {a, b}, {'x@y', {"127.0.0.1", not_a_port}}, {"text", 1, 2}, Good],
    N = bp_cluster:start(Config, #{name => n, config => [{quic, [{dist, [{nodes, Nodes}]}]}]}),
    ?EQ(false, bp_cluster:call(N, net_kernel, connect_node, ['x@y.z'])),
    true = bp_cluster:connect(N, B).

%% max_frame_bytes ends that one connection. 65536 is the least it can be; a fragment of the VM is
%% 64 KB of payload and a header, so a large message is above it.
frame_above_the_limit(Config) ->
    Conf = [{barrel_p2p, [{max_frame_bytes, 65536}]}],
    %% hidden: global has nothing to say about who is connected to whom
    [L, M, N] = bp_cluster:start_many(Config, [#{name => l, config => Conf},
                                               #{name => m, args => ["-hidden"]},
                                               #{name => n, args => ["-hidden"]}]),
    [true = bp_cluster:connect(X, L) || X <- [M, N]],
    {NL, NM, NN} = {bp_cluster:name(L), bp_cluster:name(M), bp_cluster:name(N)},
    bp_cluster:run(M, fun() ->
        true = monitor_node(NL, true),
        {nobody, NL} ! binary:copy(<<"fits">>, 15000),
        ?EQ(NL, erpc:call(NL, erlang, node, [])),
        {nobody, NL} ! binary:copy(<<"does not fit">>, 20000),
        ?RECV({nodedown, NL})
    end),
    bp_cluster:wait_log(L, [atom_to_list(NM), "frame_too_large"]),
    true = lists:member(NN, bp_cluster:call(L, erlang, nodes, [connected])),
    ?EQ(NL, bp_cluster:run(N, fun() -> erpc:call(NL, erlang, node, []) end)).
