%% SPDX-License-Identifier: Apache-2.0
%% Real nodes that reach each other through something in between (docs/relay.md).
-module(relay_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([forwarder/1, forwarder_of_an_unknown_node/1, socks/1, socks_with_password/1,
         socks_with_right_password/1, mtu/1, socks_that_refuses/1, descriptor/1, process/1,
         process_dies/1, module/1, moving_to_a_relay_that_fails/1, from_relay_to_relay/1,
         relay_falls_silent/1, relay_dies/1, configured/1, options/1, recipes_of_the_documentation/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [forwarder, forwarder_of_an_unknown_node, socks, socks_with_password, socks_with_right_password,
     socks_that_refuses, mtu,
     descriptor, process, process_dies, module, moving_to_a_relay_that_fails, from_relay_to_relay,
     relay_falls_silent, relay_dies, configured, options,
     recipes_of_the_documentation].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).
end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- helpers ----

pair(Config) ->
    pair(Config, []).

pair(Config, ArgsA) ->
    B = bp_cluster:start(Config, #{name => b, args => ["-connect_all", "false"]}),
    {ok, Port} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    A = bp_cluster:start(Config, #{name => a, args => ["-connect_all", "false" | ArgsA]}),
    {A, B, Port}.

set(A, B, Options) ->
    bp_cluster:call(A, quic_dist, set_connect_options, [bp_cluster:name(B), Options]).

via(Adapter) ->
    #{socket_backend => adapter, socket_adapter => Adapter}.

summary(Node, Peer) ->
    {ok, Summary} = bp_cluster:call(Node, barrel_p2p_path_stats, summary, [bp_cluster:name(Peer)]),
    Summary.

migrate(A, B, Opts) ->
    Name = bp_cluster:name(B),
    bp_cluster:run(A, fun() -> barrel_p2p:migrate_peer(Name, Opts) end, 20000).

start_load(Pair) ->
    start_load(Pair, #{}).

start_load({A, B}, More) ->
    Opts = maps:merge(#{senders => 4, size => 20000, pause => 5}, More),
    [{X, begin
        Name = bp_cluster:name(Y),
        bp_cluster:run(X, fun() -> bp_wan_load:numbered(Name, Opts) end)
     end} || {X, Y} <- [{A, B}, {B, A}]].

finish_load(Loads) ->
    [bp_cluster:run(X, fun() -> bp_wan_load:finish(H) end, 60000) || {X, H} <- Loads].

%% Messages whole and in order through what a's connection uses, which is `What'; undefined: no relay.
works(A, B, What) ->
    #{relay := Name} = summary(A, B),
    case What of
        undefined -> ?EQ(undefined, Name);
        _ -> ?EQ(match, re:run(Name, What, [{capture, none}]))
    end,
    ?EQ([400, 400], finish_load(start_load({A, B}, #{max => 100}))).

%% ---- cases ----

forwarder(Config) ->
    {A, B, Port} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    ok = set(A, B, via({udp_relay, "127.0.0.1", At})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^relay 127.0.0.1:" ++ integer_to_list(At)),
    %% all of it went there
    #{packets_sent := Sent} = summary(A, B),
    true = bp_relay:count(Relay) > Sent,
    %% and the path is what the forwarder can carry
    #{datagram_size := Size} = summary(A, B),
    true = Size >= 1200,
    %% once
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(A, B),
    #{relay := undefined} = summary(A, B),
    bp_relay:stop(Relay).

%% Discovery has no address of it; the forwarder's will do.
forwarder_of_an_unknown_node(Config) ->
    {A, B, Port} = pair(Config, ["-barrel_p2p", "discovery_backends", "[]"]),
    {Relay, At} = bp_relay:forwarder(Port),
    false = bp_cluster:connect(A, B),
    ok = set(A, B, via({udp_relay, {127, 0, 0, 1}, At})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^relay "),
    bp_relay:stop(Relay).

socks(Config) ->
    with_dante(Config, "none", fun({_, At}, {A, B, _}) ->
        ok = set(A, B, via({socks5, "127.0.0.1", At})),
        true = bp_cluster:connect(A, B),
        works(A, B, "^SOCKS proxy 127.0.0.1:" ++ integer_to_list(At)),
        #{remote := {_, UdpPort}} = summary(A, B),
        {ok, UdpPort} = bp_cluster:call(B, barrel_p2p_dist, listen_port, [])
    end).

with_dante(Config, Method, Fun) ->
    case bp_relay:dante(?config(bp_dir, Config), Method) of
        skip ->
            {skip, "no SOCKS server: apt-get install dante-server"};
        {ok, Dante} ->
            try Fun(Dante, pair(Config))
            after bp_relay:stop_dante(Dante)
            end
    end.

%% dante asks the system's passwords: a user that there is none of is refused with the right words.
socks_with_password(Config) ->
    with_dante(Config, "username", fun({_, At}, {A, B, _}) ->
        refused(A, B, {socks5, "127.0.0.1", At}, ["the proxy wants a user name and a password"]),
        refused(A, B, {socks5, "127.0.0.1", At, #{username => "nobody_at_all",
                                                 password => <<"wrong">>}},
                ["the proxy did not take the user name and password"]),
        true = bp_cluster:connect(A, B)
    end).

%% In the table of the configuration, as people have it; one that is wrong beside it.
socks_with_right_password(Config) ->
    with_dante(Config, {username, "bpsocks", "s3cret"}, fun({_, At}, {A, B, _}) ->
        Adapter = fun(Password) ->
            {socks5, "127.0.0.1", At, #{username => "bpsocks", password => Password}}
        end,
        refused(A, B, Adapter("wrong"), ["the proxy did not take the user name and password"]),
        ok = bp_cluster:call(A, application, set_env,
                             [barrel_p2p, relays, [{bp_cluster:name(B), Adapter(<<"s3cret">>)}]]),
        true = bp_cluster:connect(A, B),
        works(A, B, "^SOCKS proxy "),
        ?EQ(nomatch, binary:match(bp_cluster:log(A), <<"s3cret">>))
    end).

%% What a relay says that it takes is kept to, also by one to which a connection with larger datagrams
%% is moved; and what went through relays is counted.
mtu(Config) ->
    {A, B, Port} = pair(Config),
    Relays = [bp_relay:forwarder(Port) || _ <- [1, 2]],
    [{One, AtOne}, {Two, AtTwo}] = Relays,
    ok = set(A, B, via({udp_relay, "127.0.0.1", AtOne, #{mtu => 1400}})),
    true = bp_cluster:connect(A, B),
    Loads = start_load({A, B}),
    bp_cluster:until(fun() -> maps:get(datagram_size, summary(A, B)) =:= 1400 end),
    ?EQ(ok, migrate(A, B, via({udp_relay, "127.0.0.1", AtTwo, #{mtu => 1300}}))),
    %% the path is probed again, with sizes of which the second relay does not take all
    bp_cluster:until(fun() -> maps:get(<<"relay_dropped_out">>, counters(A, B)) > 0 end),
    timer:sleep(500),
    [true = N > 20 || N <- finish_load(Loads)],
    ?EQ(1400, bp_relay:largest(One)),
    true = bp_relay:largest(Two) =< 1300,
    #{datagram_size := Size} = summary(A, B),
    true = Size >= 1200 andalso Size =< 1300,
    Counters = counters(A, B),
    [true = maps:get(K, Counters) > Least
     || {K, Least} <- [{<<"relay_datagrams_out">>, 100}, {<<"relay_bytes_out">>, 100000},
                       {<<"relay_datagrams_in">>, 100}, {<<"relay_bytes_in">>, 100000}]],
    %% as many as the forwarders moved, but for the newest
    Moved = bp_relay:count(One) + bp_relay:count(Two),
    true = Moved >= maps:get(<<"relay_datagrams_out">>, Counters),
    [bp_relay:stop(R) || {R, _} <- Relays].

counters(A, B) ->
    Name = bp_cluster:name(B),
    [C] = [C || #{node := N, counters := C} <- bp_cluster:call(A, barrel_p2p, peers, []), N =:= Name],
    C.

%% Nobody there; somebody who is no proxy.
socks_that_refuses(Config) ->
    {A, B, _} = pair(Config),
    refused(A, B, {socks5, "127.0.0.1", bp_relay:unused_port()},
            ["SOCKS proxy", "cannot connect: Connection refused"]),
    {ok, L} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Web} = inet:port(L),
    _ = spawn_link(fun() -> no_proxy(L) end),
    refused(A, B, {socks5, "127.0.0.1", Web}, ["what answers there is no SOCKS 5 proxy"]),
    true = bp_cluster:connect(A, B),
    [?EQ({error, {relay_failed, Text}}, migrate(A, B, via({socks5, "127.0.0.1", At})))
     || {At, Text} <- [{bp_relay:unused_port(), <<"cannot connect: Connection refused">>},
                       {Web, <<"what answers there is no SOCKS 5 proxy">>}]],
    #{relay := undefined, migrations := 0} = summary(A, B).

no_proxy(L) ->
    {ok, S} = gen_tcp:accept(L),
    ok = gen_tcp:send(S, "HTTP/1.1 400 Bad Request\r\n\r\n"),
    no_proxy(L).

%% The same line is not written twice in 5 s.
refused(A, B, Adapter, Words) ->
    bp_cluster:until(fun() ->
        ok = set(A, B, via(Adapter)),
        false = bp_cluster:connect(A, B),
        try bp_cluster:wait_log(A, Words, 500) of
            _ -> true
        catch
            error:_ -> false
        end
    end).

descriptor(Config) ->
    {A, B, Port} = pair(Config),
    Path = "/tmp/bp_relay." ++ integer_to_list(rand:uniform(1 bsl 60), 36),
    {Tunnel, _} = bp_relay:tunnel(Path, Port),
    Fd = bp_cluster:call(A, bp_relay, descriptor, [Path]),
    ok = set(A, B, via({fd, Fd})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^descriptor "),
    bp_relay:stop(Tunnel),
    _ = [file:delete(P) || P <- [Path, Path ++ ".a"]],
    %% a UDP socket, towards a forwarder
    bp_cluster:disconnect(A, B),
    {Relay, At} = bp_relay:forwarder(Port),
    ok = set(A, B, via({fd, bp_cluster:call(A, bp_relay, udp_descriptor, [At])})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^descriptor "),
    true = bp_relay:count(Relay) > 100,
    bp_relay:stop(Relay),
    %% what is no datagram socket
    bp_cluster:disconnect(A, B),
    ok = set(A, B, via({fd, 0})),
    false = bp_cluster:connect(A, B),
    bp_cluster:wait_log(A, ["descriptor 0: not a"]).

process(Config) ->
    {A, B, Port} = pair(Config),
    Pid = bp_cluster:run(A, fun() -> spawn(bp_relay, process, [Port]) end),
    ok = set(A, B, via({process, Pid})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^process <0\\.").

%% One line says so, at once: whether or not datagrams wait for it, and whether it has room for them.
%% Then the connection is moved off, and nothing is lost; or it ends as any silent one.
process_dies(Config) ->
    {A, B, Port} = pair(Config),
    Peer = bp_cluster:name(B),
    Kill = fun(Pid) -> bp_cluster:run(A, fun() -> exit(Pid, kill), ok end) end,
    Spawn = fun(F, Args) -> bp_cluster:run(A, fun() -> spawn(bp_relay, F, Args) end) end,
    Idle = Spawn(process_for, [Port, 500]),
    ok = set(A, B, via({process, Idle})),
    true = bp_cluster:connect(A, B),
    Watch = bp_cluster:run(A, fun() -> bp_wan_load:watch(Peer) end),
    Kill(Idle),
    died(A, B, 1, ["process <0."]),
    ?EQ(ok, migrate(A, B, #{socket_backend => udp})),
    works(A, B, undefined),
    %% one that takes no more
    Stuck = Spawn(process_for, [Port, 500]),
    ?EQ(ok, migrate(A, B, via({process, Stuck}))),
    Loads = start_load({A, B}),
    bp_cluster:until(fun() ->
        {messages, M} = bp_cluster:call(A, erlang, process_info, [Stuck, messages]),
        M =/= [] andalso element(1, lists:last(M)) =:= barrel_p2p_passive
    end),
    Kill(Stuck),
    died(A, B, 2, ["process <0."]),
    bp_cluster:until(fun() -> maps:get(in_recovery, summary(A, B)) end),
    ?EQ(ok, migrate(A, B, #{socket_backend => udp})),
    finish_load(Loads),
    %% of a path that was left nobody needs to hear
    Left = Spawn(process_for, [Port, 500]),
    ?EQ(ok, migrate(A, B, via({process, Left}))),
    ?EQ(ok, migrate(A, B, #{socket_backend => udp})),
    Kill(Left),
    ?EQ([], bp_cluster:run(A, fun() -> bp_wan_load:watched(Watch) end)),
    %% of a module, and nobody moves
    ?EQ(ok, migrate(A, B, via({module, bp_relay, Port}))),
    [Module] = bp_cluster:run(A, fun() ->
        [P || P <- processes(), {initial_call, {bp_relay, process, 1}} =:= process_info(P, initial_call)]
    end),
    %% from now on; before, a slow machine may take longer between two steps than ticks may be missing
    change_initiated = bp_cluster:call(A, net_kernel, set_net_ticktime, [6, 0]),
    Kill(Module),
    died(A, B, 3, ["module bp_relay: "]),
    bp_cluster:until(fun() ->
        [What || {What, _, _} <- bp_cluster:run(A, fun() -> bp_wan_load:watched(Watch) end)] =:= [nodedown]
    end),
    bp_cluster:wait_log(B, ["connection_down", atom_to_list(bp_cluster:name(A))], 20000),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    works(A, B, undefined),
    bp_cluster:disconnect(A, B),
    %% one that is gone already
    ok = set(A, B, via({process, Module})),
    false = bp_cluster:connect(A, B),
    bp_cluster:wait_log(A, [atom_to_list(Peer), "the relay's process has ended"]),
    ?EQ(3, relays_down(A)).

%% The N-th line; it names the peer and the relay.
died(A, B, N, Words) ->
    bp_cluster:until(fun() -> relays_down(A) =:= N end),
    bp_cluster:wait_log(A, ["relay_down peer=" ++ atom_to_list(bp_cluster:name(B)),
                            "the process has ended; the connection ends unless it is moved" | Words]).

relays_down(A) ->
    length(binary:matches(bp_cluster:log(A), <<"relay_down peer">>)).

module(Config) ->
    {A, B, Port} = pair(Config),
    ok = set(A, B, via({module, bp_relay, fail})),
    false = bp_cluster:connect(A, B),
    bp_cluster:wait_log(A, ["bp_relay:open/4: {error,no_such_thing}"]),
    ok = set(A, B, via({module, bp_relay, Port})),
    true = bp_cluster:connect(A, B),
    works(A, B, "^module bp_relay$").

%% What could not be opened holds up nothing: neither the caller nor the next one.
moving_to_a_relay_that_fails(Config) ->
    {A, B, Port} = pair(Config),
    true = bp_cluster:connect(A, B),
    Gone = bp_cluster:run(A, fun() ->
        {Pid, Ref} = spawn_monitor(fun() -> ok end),
        receive {'DOWN', Ref, process, Pid, _} -> Pid end
    end),
    Loads = start_load({A, B}),
    [begin
        {error, {relay_failed, Text}} = migrate(A, B, (via(Adapter))#{timeout => 60000}),
        ?EQ({match, Text}, {re:run(Text, Words, [{capture, none}]), Text}),
        ?EQ(undefined, maps:get(relay, summary(A, B))),
        ?EQ(ok, migrate(A, B, Next))
     end || {Adapter, Words, Next} <-
                [{{module, bp_relay, fail}, "bp_relay:open/4: {error,no_such_thing}", #{}},
                 {{process, Gone}, "the relay's process has ended", #{}},
                 {{process, nobody_here}, "the relay's process is not registered", #{}},
                 {{module, bp_relay, fail}, "no_such_thing", via({module, bp_relay, Port})}]],
    %% the caller hears no more of it
    Name = bp_cluster:name(B),
    ?EQ({{messages, []}, 4}, bp_cluster:run(A, fun() ->
        {error, {relay_failed, _}} = barrel_p2p:migrate_peer(Name, via({process, nobody_here})),
        timer:sleep(200),
        {process_info(self(), messages), maps:get(migrations, element(2, barrel_p2p_path_stats:summary(Name)))}
    end)),
    works(A, B, "^module bp_relay$"),
    [true = N > 20 || N <- finish_load(Loads)].

%% Of one kind and of others, and back to none, with messages in both directions and a user stream all
%% the time.
from_relay_to_relay(Config) ->
    {A, B, Port} = pair(Config),
    Relays = [bp_relay:forwarder(Port) || _ <- [1, 2]],
    [One, Two] = [{udp_relay, "127.0.0.1", At} || {_, At} <- Relays],
    ok = set(A, B, via(One)),
    true = bp_cluster:connect(A, B),
    Loads = start_load({A, B}),
    Name = bp_cluster:name(B),
    _ = bp_cluster:call(B, bp_stream_load, serve, []),
    Stream = bp_cluster:run(A, fun() -> bp_stream_load:start(Name, #{}) end),
    Pid = bp_cluster:run(A, fun() -> spawn(bp_relay, process, [Port]) end),
    [begin
        ?EQ({Opts, ok}, {Opts, migrate(A, B, Opts)}),
        timer:sleep(300)
     end || Opts <- [via(Two), via(One), via({process, Pid}), via(Two), #{socket_backend => udp},
                     via({module, bp_relay, Port}), via(One)]],
    ?EQ({error, relayed}, migrate(A, B, #{})),
    #{relay := Relay, migrations := 7} = summary(A, B),
    ?EQ(match, re:run(Relay, "^relay ", [{capture, none}])),
    true = bp_cluster:run(A, fun() -> bp_stream_load:finish(Stream) end, 60000) > 1000000,
    [true = N > 50 || N <- finish_load(Loads)],
    [bp_relay:stop(R) || {R, _} <- Relays].

%% The connection is moved off it while nothing gets through, and nothing is lost.
relay_falls_silent(Config) ->
    {A, B, Port} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    ok = set(A, B, via({udp_relay, "127.0.0.1", At})),
    true = bp_cluster:connect(A, B),
    Loads = start_load({A, B}),
    timer:sleep(500),
    Relay ! mute,
    bp_cluster:until(fun() -> maps:get(in_recovery, summary(A, B)) end),
    ?EQ(ok, migrate(A, B, #{socket_backend => udp})),
    #{relay := undefined} = summary(A, B),
    finish_load(Loads),
    bp_relay:stop(Relay).

%% Its ports are closed: who dialled through it says so, once, and the connection ends as it does when a
%% peer's port is closed.
relay_dies(Config) ->
    {A, B, Port} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    ok = set(A, B, via({udp_relay, "127.0.0.1", At})),
    true = bp_cluster:connect(A, B),
    Name = bp_cluster:name(B),
    Watch = bp_cluster:run(A, fun() -> bp_wan_load:watch(Name) end),
    Loads = start_load({A, B}),
    timer:sleep(500),
    bp_relay:stop(Relay),
    bp_cluster:wait_log(A, ["relay_down", "nobody takes datagrams"]),
    bp_cluster:wait_log(B, ["connection_down", "econnrefused"]),
    _ = Loads,
    _ = bp_cluster:disconnect(A, B),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    #{relay := undefined} = summary(A, B),
    [{nodedown, _, _} | _] = bp_cluster:run(A, fun() -> bp_wan_load:watched(Watch) end),
    ?EQ(1, length(binary:matches(bp_cluster:log(A), <<"relay_down peer">>))),
    #{counters := #{<<"relays_dead">> := 1}} = bp_cluster:call(A, barrel_p2p, info, []).

configured(Config) ->
    {A, B, Port} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    ok = bp_cluster:call(A, application, set_env,
                         [barrel_p2p, relays, [{bp_cluster:name(B), {udp_relay, "127.0.0.1", At}}]]),
    [begin
        true = bp_cluster:connect(A, B),
        works(A, B, "^relay "),
        ok = migrate(A, B, #{}),
        #{relay := <<"relay ", _/binary>>} = summary(A, B),
        bp_cluster:disconnect(A, B)
     end || _ <- [1, 2]],
    %% once without
    ok = set(A, B, #{socket_backend => udp}),
    true = bp_cluster:connect(A, B),
    #{relay := undefined} = summary(A, B),
    bp_relay:stop(Relay).

options(Config) ->
    {A, B, _} = pair(Config),
    Name = bp_cluster:name(B),
    Get = fun() -> bp_cluster:call(A, quic_dist, get_connect_options, [Name]) end,
    ?EQ(#{}, Get()),
    Options = #{max_datagram => 1300},
    ok = set(A, B, Options),
    ?EQ(Options, Get()),
    ok = bp_cluster:call(A, quic_dist, clear_connect_options, [Name]),
    ?EQ(#{}, Get()),
    [?EQ({error, {bad_option, Shown}}, set(A, B, O))
     || {O, Shown} <- [{#{foo => 1}, {foo, 1}}, {#{max_datagram => 1}, {max_datagram, 1}},
                       {#{socket_backend => adapter}, {socket_backend, adapter}},
                       {#{socket_backend => tcp}, {socket_backend, tcp}},
                       {#{socket_backend => udp, socket_adapter => {fd, 1}}, {socket_backend, udp}},
                       {#{socket_adapter => {socks5, "h", 1, #{password => "x"}}},
                        {socket_adapter, socks5}},
                       {#{socket_adapter => {udp_relay, "h", 1, #{mtu => 1199}}},
                        {socket_adapter, udp_relay}},
                       {#{socket_adapter => {fd, 1, #{username => "x"}}}, {socket_adapter, fd}},
                       {#{socket_adapter => {udp_relay, "", 1}}, {socket_adapter, udp_relay}}]],
    ok = set(A, B, Options),
    true = bp_cluster:connect(A, B),
    ?EQ(#{}, Get()),
    Loads = start_load({A, B}),
    Size = fun() -> maps:get(datagram_size, summary(A, B)) end,
    bp_cluster:until(fun() -> Size() =:= 1300 orelse Size() end),
    timer:sleep(500),           % for larger ones
    finish_load(Loads),
    %% smaller for a while where acknowledgements came late (core/quic/conn_mtu.c)
    true = Size() =< 1300.

recipes_of_the_documentation(Config) ->
    {A, B, _} = pair(Config),
    true = bp_cluster:connect(A, B),
    Recipes = bp_recipes:read("relay.md"),
    Bindings = [{'Node', bp_cluster:name(B)}],
    true = [] =/= [ok || {erlang, Text} <- Recipes, bp_recipes:run(A, Text, Bindings)],
    true = [] =/= [ok || {config, Text} <- Recipes, bp_recipes:config_ok(A, Text)].
