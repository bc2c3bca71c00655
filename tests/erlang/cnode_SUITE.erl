%% SPDX-License-Identifier: Apache-2.0
%% C nodes in a cluster of real OTP nodes: on libei with the library's I/O thread, and driven by a
%% loop of their own.
-module(cnode_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([hidden_and_talking/1, dialled_by_a_vm/1, reconnects/1, killed_and_back/1, wrong_key/1,
         unknown_key_strict/1, wrong_cookie/1, several_peers/1, order/1, sizes/1,
         slow_reader/1]).
-export([simultaneous/1, connected_twice/1]).
-export([rpc/1, ticks_while_busy/1, no_erlang/1, not_there/1, strangers/1, hostile_members/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [{group, ei}, {group, loop}, rpc, ticks_while_busy, no_erlang, not_there, strangers,
          hostile_members].

groups() ->
    Cases = [hidden_and_talking, dialled_by_a_vm, reconnects, killed_and_back, wrong_key,
             unknown_key_strict, wrong_cookie, several_peers, order, sizes, slow_reader,
             connected_twice],
    [{ei, [], Cases}, {loop, [], [simultaneous | Cases]}].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_group(Mode, Config) -> [{mode, Mode} | Config].
end_per_group(_, _) -> ok.

init_per_testcase(Case, Config) ->
    Mode = atom_to_list(proplists:get_value(mode, Config, ei)),
    bp_cluster:init_case(?MODULE, list_to_atom(atom_to_list(Case) ++ "_" ++ Mode), Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

mode(Config) -> proplists:get_value(mode, Config, ei).

start_c(Config, Prefix, Opts) ->
    bp_cnode:start(Config, mode(Config), bp_cnode:unique_name(Prefix), Opts).

connect(C, Node) ->
    Name = atom_to_list(bp_cluster:name(Node)),
    bp_cnode:tell(C, "connect " ++ Name),
    ?EQ(Name, bp_cnode:expect(C, "up")).

hidden(Node) -> bp_cluster:call(Node, erlang, nodes, [hidden]).

sees(Node, C) ->
    bp_cluster:until(fun() -> lists:member(bp_cnode:name(C), hidden(Node)) end).

sees_no(Node, C) ->
    bp_cluster:until(fun() -> not lists:member(bp_cnode:name(C), hidden(Node)) end).

%% In the OTP node: sends Term and takes the answer.
echo(Node, C, Term) ->
    To = {echo, bp_cnode:name(C)},
    bp_cluster:run(Node, fun() ->
        To ! {echo, self(), Term},
        receive {cnode, Answer} -> Answer after ?LONG -> error(no_answer) end
    end).

terms() ->
    [ok, 1, -1, 1 bsl 200, 1.5, "text", <<"binary">>, <<1:3>>, [], {}, #{a => [1, 2]},
     [a | b], 'an atom with blanks', {self_, [lists:seq(1, 1000)]}, <<0:80000>>].

%% --- both ways to run it -----------------------------------------------------

hidden_and_talking(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    connect(C, A),
    sees(A, C),
    ?EQ([], bp_cluster:call(A, erlang, nodes, [])),
    [?EQ(T, echo(A, C, T)) || T <- terms()],
    %% From the C node to a registered process, which answers to its pid.
    bp_cluster:run(A, fun() ->
        Me = self(),
        spawn(fun() -> register(door, self()), Me ! ready,
                       receive {knock, From} -> From ! {n, 0} end end),
        receive ready -> ok end
    end),
    bp_cnode:tell(C, ["send ", atom_to_list(bp_cluster:name(A)), " door knock"]),
    bp_cluster:until(fun() ->
        bp_cnode:ask(C, "count " ++ atom_to_list(bp_cluster:name(A)), "count") =:= "1"
    end),
    Info = bp_cnode:ask(C, "info " ++ atom_to_list(bp_cluster:name(A)), "info"),
    ?EQ(match, re:run(Info, "fingerprint=SHA256:.* up=1 srtt_us=[1-9]", [{capture, none}])),
    bp_cnode:tell(C, "close " ++ atom_to_list(bp_cluster:name(A))),
    _ = bp_cnode:expect(C, "down"),
    sees_no(A, C),
    bp_cnode:stop(C).

%% The VM finds it by its endpoint file, and its own auto-connect dials it.
dialled_by_a_vm(Config) ->
    C = start_c(Config, c, #{listen => true}),
    A = bp_cluster:start(Config, #{}),
    ?EQ(hello, echo(A, C, hello)),
    ?EQ(atom_to_list(bp_cluster:name(A)), bp_cnode:expect(C, "up")),
    sees(A, C),
    %% It is a node like others: disconnected and dialled again.
    ?EQ(true, bp_cluster:call(A, erlang, disconnect_node, [bp_cnode:name(C)])),
    _ = bp_cnode:expect(C, "down"),
    ?EQ(again, echo(A, C, again)),
    bp_cnode:stop(C),
    sees_no(A, C).

%% Its peer is killed, which it sees, and comes back.
reconnects(Config) ->
    Port = bp_cluster:free_port(),
    Opts = #{args => ["-barrel_p2p_dist_port", integer_to_list(Port)]},
    A = bp_cluster:start(Config, Opts),
    C = start_c(Config, c, #{}),
    connect(C, A),
    sees(A, C),
    T0 = erlang:monotonic_time(millisecond),
    bp_cluster:kill9(A),
    Down = bp_cnode:expect(C, "down"),
    ct:pal("down after ~w ms: ~ts", [erlang:monotonic_time(millisecond) - T0, Down]),
    A2 = bp_cluster:start(Config, Opts#{node => bp_cluster:name(A)}),
    connect(C, A2),
    sees(A2, C),
    ?EQ(x, echo(A2, C, x)),
    bp_cnode:stop(C).

%% The other way round: the VM sees nodedown, and takes its next life.
killed_and_back(Config) ->
    A = bp_cluster:start(Config, #{}),
    Name = bp_cnode:unique_name(c),
    C = bp_cnode:start(Config, mode(Config), Name),
    connect(C, A),
    sees(A, C),
    Job = bp_cluster:async(A, fun() ->
        true = monitor_node(Name, true),
        true = register(watcher, self()),
        receive {nodedown, Name} -> down after ?LONG -> error(up) end
    end),
    bp_cluster:until(fun() -> bp_cluster:call(A, erlang, whereis, [watcher]) =/= undefined end),
    bp_cnode:kill9(C),
    %% At once, and most likely before the VM has noticed anything.
    C2 = bp_cnode:start(Config, mode(Config), Name),
    connect(C2, A),
    ?EQ(down, bp_cluster:await(Job)),
    sees(A, C2),
    ?EQ(y, echo(A, C2, y)),
    bp_cnode:stop(C2).

%% The key that the VM has pinned is another one.
wrong_key(Config) ->
    A = bp_cluster:start(Config, #{}),
    Name = bp_cnode:unique_name(c),
    Key = <<7:256>>,
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, store_key, [Name, Key]),
    C = bp_cnode:start(Config, mode(Config), Name),
    Failed = bp_cnode:ask(C, "connect " ++ atom_to_list(bp_cluster:name(A)), "failed"),
    ?EQ(match, re:run(Failed, "refused our key SHA256:", [{capture, none}])),
    ok = bp_cluster:wait_log(A, ["key_mismatch"]),
    ?EQ([], hidden(A)),
    %% And once the right one is pinned it is let in.
    {ok, Own} = file:read_file(filename:join(maps:get(dir, C), "data/keys/node.pub")),
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, store_key, [Name, Own]),
    connect(C, A),
    sees(A, C),
    bp_cnode:stop(C).

%% The C node is the one that does not trust.
unknown_key_strict(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{before => ["strict"]}),
    Failed = bp_cnode:ask(C, "connect " ++ atom_to_list(bp_cluster:name(A)), "failed"),
    ?EQ(match, re:run(Failed, "barrel-p2p trust add", [{capture, none}])),
    ?EQ([], hidden(A)),
    bp_cnode:stop(C).

wrong_cookie(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{cookie => "another"}),
    Failed = bp_cnode:ask(C, "connect " ++ atom_to_list(bp_cluster:name(A)), "failed"),
    ?EQ(match, re:run(Failed, "cookie", [{capture, none}])),
    ?EQ([], hidden(A)),
    bp_cnode:stop(C).

%% Both dial at the same moment, with the greater and with the lesser name on either side: one
%% connection comes of it, which works.
simultaneous(Config) ->
    [begin
         C = start_c(Config, Prefix, #{listen => true}),
         A = bp_cluster:start(Config, #{name => m}),
         [begin
              Dial = bp_cluster:async(A, fun() -> net_kernel:connect_node(bp_cnode:name(C)) end),
              bp_cnode:tell(C, "connect " ++ atom_to_list(bp_cluster:name(A))),
              _ = bp_cluster:await(Dial),
              bp_cluster:until(fun() ->
                  bp_cluster:call(A, net_kernel, connect_node, [bp_cnode:name(C)]) =:= true
              end),
              ?EQ({I, Prefix}, echo(A, C, {I, Prefix})),
              ?EQ([bp_cnode:name(C)], hidden(A)),
              %% its dial may have begun, and come to something, only now
              bp_cluster:until(fun() ->
                  _ = bp_cluster:call(A, erlang, disconnect_node, [bp_cnode:name(C)]),
                  hidden(A) =:= []
              end),
              bp_cnode:drain(C)
          end || I <- lists:seq(1, 15)],
         bp_cluster:stop(A),
         bp_cnode:stop(C)
     end || Prefix <- ["a", "z"]].

several_peers(Config) ->
    Nodes = bp_cluster:start_many(Config, [#{name => N} || N <- [a, b, d]]),
    C = start_c(Config, c, #{listen => true}),
    Name = bp_cnode:name(C),
    Jobs = [bp_cluster:async(N, fun() ->
                Me = self(),
                [begin
                     {echo, Name} ! {echo, Me, {node(), I}},
                     receive {cnode, {N1, I}} when N1 =:= node() -> ok
                     after ?LONG -> error({no_answer, I}) end
                 end || I <- lists:seq(1, 500)],
                done
            end) || N <- Nodes],
    [?EQ(done, bp_cluster:await(J)) || J <- Jobs],
    [sees(N, C) || N <- Nodes],
    bp_cnode:stop(C).

order(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    connect(C, A),
    To = {sink, bp_cnode:name(C)},
    bp_cluster:run(A, fun() ->
        [To ! {n, I, binary:copy(<<"x">>, I rem 3000)} || I <- lists:seq(0, 19999)],
        ok
    end),
    bp_cluster:until(fun() ->
        bp_cnode:ask(C, "count " ++ atom_to_list(bp_cluster:name(A)), "count") =:= "20000"
    end, 60000),
    bp_cnode:stop(C).

sizes(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    connect(C, A),
    sees(A, C),
    To = {sink, bp_cnode:name(C)},
    %% Both ways, and 100 MB one way.
    bp_cluster:run(A, fun() ->
        Bin = rand:bytes(1000000),
        [begin
             To ! {echo, self(), Bin},
             receive {cnode, Bin} -> ok after ?LONG -> error(no_answer) end
         end || _ <- lists:seq(1, 20)],
        To ! {size, self(), binary:copy(<<7>>, 100 * 1000 * 1000)},
        receive {cnode, 100000000} -> ok after ?LONG -> error(no_answer) end
    end),
    bp_cnode:stop(C).

%% It does not read: the sender is suspended, and the C node does not grow. (The program with a loop
%% is stopped as a whole.)
slow_reader(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    Name = atom_to_list(bp_cluster:name(A)),
    case mode(Config) of
        ei ->
            bp_cnode:tell(C, "idle " ++ Name),
            ?EQ(Name, bp_cnode:expect(C, "up"));
        loop ->
            connect(C, A)
    end,
    sees(A, C),
    Before = bp_cnode:rss(C),
    mode(Config) =:= loop andalso os:cmd("kill -STOP " ++ integer_to_list(bp_cnode:os_pid(C))),
    To = {sink, bp_cnode:name(C)},
    Job = bp_cluster:async(A, fun() ->
        Bin = binary:copy(<<1>>, 100000),
        [To ! {n, I, Bin} || I <- lists:seq(0, 1999)],
        sent
    end),
    timer:sleep(1500),
    Grown = bp_cnode:rss(C) - Before,
    ct:pal("grown by ~w KB", [Grown]),
    %% Of 200 MB: the buffer and a window.
    true = Grown < 90000,
    case mode(Config) of
        ei -> bp_cnode:tell(C, "read " ++ Name);
        loop -> os:cmd("kill -CONT " ++ integer_to_list(bp_cnode:os_pid(C)))
    end,
    ?EQ(sent, bp_cluster:await(Job)),
    bp_cluster:until(fun() -> bp_cnode:ask(C, "count " ++ Name, "count") =:= "2000" end, 60000),
    bp_cnode:stop(C).

%% --- libei -------------------------------------------------------------------

rpc(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    Name = atom_to_list(bp_cluster:name(A)),
    %% While the connection is not read by another thread.
    bp_cnode:tell(C, "idle " ++ Name),
    ?EQ(Name, bp_cnode:expect(C, "up")),
    ?EQ("'" ++ Name ++ "'", quoted(bp_cnode:ask(C, "rpc " ++ Name ++ " erlang node", "result"))),
    ?EQ("[]", bp_cnode:ask(C, "rpc " ++ Name ++ " erlang nodes", "result")),
    ?EQ(match, re:run(bp_cnode:ask(C, "rpc " ++ Name ++ " erlang no_such_function", "result"),
                      "badrpc", [{capture, none}])),
    bp_cnode:stop(C).

%% A second connection to a node that has one: refused, and the first one stays.
connected_twice(Config) ->
    A = bp_cluster:start(Config, #{}),
    C = start_c(Config, c, #{}),
    connect(C, A),
    sees(A, C),
    Failed = bp_cnode:ask(C, "connect " ++ atom_to_list(bp_cluster:name(A)), "failed"),
    ct:pal("~ts", [Failed]),
    ?EQ(first, echo(A, C, first)),
    ?EQ([bp_cnode:name(C)], hidden(A)),
    bp_cnode:stop(C).

quoted([$' | _] = Text) -> Text;
quoted(Text) -> "'" ++ Text ++ "'".

%% A program that does nothing for a while: the library answers the VM's ticks, of which four that
%% are not answered end a connection.
ticks_while_busy(Config) ->
    A = bp_cluster:start(Config, #{args => ["-kernel", "net_ticktime", "4"]}),
    C = start_c(Config, c, #{}),
    Name = atom_to_list(bp_cluster:name(A)),
    bp_cnode:tell(C, "idle " ++ Name),
    ?EQ(Name, bp_cnode:expect(C, "up")),
    sees(A, C),
    timer:sleep(9000),
    ?EQ([bp_cnode:name(C)], hidden(A)),
    bp_cnode:tell(C, "read " ++ Name),
    ?EQ(z, echo(A, C, z)),
    bp_cnode:stop(C).

not_there(Config) ->
    C = start_c(Config, c, #{}),
    Failed = bp_cnode:ask(C, "connect nobody@127.0.0.1", "failed"),
    ?EQ(match, re:run(Failed, "no discovery backend knows nobody@127.0.0.1", [{capture, none}])),
    bp_cnode:stop(C).

%% Two of them, with no Erlang in reach, and nothing of it loaded.
no_erlang(Config) ->
    Env = [{"PATH", "/nonexistent"}, {"ERL_LIBS", false}, {"BINDIR", false}, {"ROOTDIR", false}],
    B = bp_cnode:start(Config, ei, bp_cnode:unique_name(b), #{listen => true, env => Env}),
    C = bp_cnode:start(Config, ei, bp_cnode:unique_name(c), #{env => Env}),
    Name = atom_to_list(bp_cnode:name(B)),
    bp_cnode:tell(C, "connect " ++ Name),
    ?EQ(Name, bp_cnode:expect(C, "up")),
    ?EQ(atom_to_list(bp_cnode:name(C)), bp_cnode:expect(B, "up")),
    bp_cnode:tell(C, "send " ++ Name ++ " anybody hello"),
    [begin
         {ok, Maps} = file:read_file(io_lib:format("/proc/~w/maps", [bp_cnode:os_pid(X)])),
         ?EQ(nomatch, re:run(Maps, "erlang|beam|/erts-", [{capture, none}]))
     end || X <- [B, C]],
    bp_cnode:stop(B),
    _ = bp_cnode:expect(C, "down"),
    bp_cnode:stop(C).

%% --- those who mean no good --------------------------------------------------

%% A C node that a real one uses all the time, and what its peer answers meanwhile.
victim(Config) ->
    C = start_c(Config, c, #{listen => true}),
    A = bp_cluster:start(Config, #{}),
    ?EQ(begun, echo(A, C, begun)),
    {C, A, bp_cnode:rss(C)}.

unharmed({C, A, Rss}, Attack, MaxKb) ->
    ?EQ({still, Attack}, echo(A, C, {still, Attack})),
    More = bp_cnode:rss(C) - Rss,
    ct:pal("~p: ~w KB more", [Attack, More]),
    true = More < MaxKb.

%% Without an identity that is trusted, or without the cookie.
strangers(Config) ->
    {C, _, _} = V = victim(Config),
    #{udp := Port} = C,
    [begin
         _ = bp_hostile:run(Command, [{port, Port} | Args]),
         unharmed(V, {Command, Args}, 40000),
         %% the next one finds all places free
         bp_cluster:until(fun() -> bp_cnode:ask(C, "counter half_open", "counter") =:= "0" end, 30000)
     end || {Command, Args} <- [{flood, [{count, 20000}, {rate, 20000}]},
                                {half_open, [{count, 2000}]},
                                {flips, [{n, 60}, {from, "127.0.0.7"}]},
                                {replay, [{n, 5}]},
                                {names, [{from, "127.0.0.8"}]},
                                {streams, [{kind, all}]},
                                {streams, [{kind, auth}]},
                                {claim, [{name, "x@127.0.0.1"}, {skew, -100000}]},
                                {claim, [{name, atom_to_list(bp_cnode:name(C))}]}]],
    bp_cnode:stop(C).

%% With all that it takes, and then what no node does: each loses its own connection.
hostile_members(Config) ->
    {C, _, _} = V = victim(Config),
    #{udp := Port} = C,
    [begin
         Name = atom_to_list(Kind) ++ "@127.0.0.1",
         #{up := 1, ended := 1} =
             bp_hostile:run(member, [{port, Port}, {name, Name}, {kind, Kind}, {cookie, "ct"}]),
         unharmed(V, Kind, 150000)
     end || Kind <- [user_streams, claims_4_gb, fragments, claims_fragments, one_message, ticks,
                     empty_frames]],
    bp_cnode:stop(C).
