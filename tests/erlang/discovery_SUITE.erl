%% SPDX-License-Identifier: Apache-2.0
%% How nodes find each other: the chain and its limits, files, static entries, DNS, addresses, the
%% epmd module, connections on demand, boots and stops.
-module(discovery_SUITE).

-include_lib("kernel/include/file.hrl").
-include("bp_test.hrl").

-compile([{nowarn_deprecated_function, [{slave, start, 3}, {slave, stop, 1}]}]).   % OTP 25 has it

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([bad_backends_are_left_out/1, hanging_backend_blocks_nobody/1, chain_order_and_union/1,
         backend_answers_are_kept/1, discovery_module_replaces_the_chain/1, example_backend/1,
         both_file_formats_are_read_and_written/1, file_goes_at_a_clean_stop_only/1,
         unusable_discovery_directory/1, runtime_directory_is_private_at_once/1,
         bad_files_are_named_once/1, static_entries/1,
         dns_addresses/1, dns_srv_records/1, dns_server_that_is_silent/1, ipv6_and_dual_stack/1,
         advertised_addresses/1, names_and_world/1, remsh_by_short_name/1, peer_and_slave_nodes/1,
         distribution_started_and_stopped/1, many_senders_one_connection/1,
         peers_are_known_when_they_are_up/1,
         unreachable_node_blocks_nobody/1, both_dial_at_once/1, both_boot_at_once/1,
         fifty_nodes_find_each_other/0, fifty_nodes_find_each_other/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [bad_backends_are_left_out, hanging_backend_blocks_nobody, chain_order_and_union,
     backend_answers_are_kept, discovery_module_replaces_the_chain, example_backend,
     both_file_formats_are_read_and_written, file_goes_at_a_clean_stop_only,
     unusable_discovery_directory, runtime_directory_is_private_at_once,
     bad_files_are_named_once, static_entries, dns_addresses,
     dns_srv_records, dns_server_that_is_silent, ipv6_and_dual_stack, advertised_addresses,
     names_and_world, remsh_by_short_name, peer_and_slave_nodes, distribution_started_and_stopped,
     many_senders_one_connection, peers_are_known_when_they_are_up, unreachable_node_blocks_nobody,
     both_dial_at_once,
     both_boot_at_once, fifty_nodes_find_each_other].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- the chain ----

bad_backends_are_left_out(Config) ->
    Dir = backends(Config, [{b_throws, "lookup(_, _) -> throw(up)."},
                            {b_exits, "lookup(_, _) -> exit(kill_me)."},
                            {b_fails, "lookup(_, _) -> {error, no_luck}."},
                            {b_wrong, "lookup(_, _) -> {ok, {\"no host\", 70000}}."},
                            {b_rubbish, "lookup(_, _) -> ok."},
                            {b_no_init, "init(_) -> {error, not_today}.\nlookup(_, _) -> {ok, {a, 1}}."},
                            {b_killed, "lookup(_, _) -> exit(self(), kill), receive after infinity -> ok end."}]),
    All = [b_throws, b_exits, b_fails, b_wrong, b_rubbish, b_no_init, b_killed, b_not_there],
    A = bp_cluster:start(Config, #{name => a}),
    B = bp_cluster:start(Config, #{name => b, args => ["-pa", Dir],
                                   config => [chain(All ++ [barrel_p2p_discovery_file])]}),
    true = bp_cluster:connect(B, A),
    [bp_cluster:wait_log(B, ["discovery_failed", atom_to_list(M), "left out"]) || M <- All],
    [?EQ(1, count(bp_cluster:log(B), "discovery_failed peer=" ++ atom_to_list(M))) || M <- All].

%% The boot does not wait for one that hangs, a lookup only for the limit, and the next one not at all.
hanging_backend_blocks_nobody(Config) ->
    Hang = "receive after infinity -> ok end.",
    Dir = backends(Config, [{b_hangs, "register(_, _, _) -> " ++ Hang ++ "\nlookup(_, _) -> " ++ Hang
                             ++ "\nunregister(_, _) -> " ++ Hang ++ "\nlist_nodes(_) -> " ++ Hang}]),
    [A, A2] = bp_cluster:start_many(Config, [#{name => a}, #{name => a2}]),
    %% nothing else has a limit that short
    Opts = #{name => b, args => ["-pa", Dir, "-kernel", "net_setuptime", "60"],
             config => [chain([b_hangs, barrel_p2p_discovery_file], [{discovery_timeout, 3000}])]},
    B = bp_cluster:start(Config, Opts),
    %% registering hung, so that it is left out now: wait until it is asked again
    bp_cluster:wait_log(B, ["discovery_register_failed", "b_hangs"]),
    {T1, true} = bp_cluster:run(B, fun() ->
        timer:sleep(5200),
        Self = self(),
        Name = bp_cluster:name(A),
        spawn_link(fun() -> Self ! {dialled, timer:tc(net_kernel, connect_node, [Name])} end),
        timer:sleep(200),
        %% meanwhile net_kernel answers
        _ = net_kernel:get_net_ticktime(),
        ?NO_RECV({dialled, _}, 0),
        receive {dialled, R} -> R end
    end),
    true = T1 >= 2900000 andalso T1 < 5900000,
    bp_cluster:wait_log(B, ["discovery_failed", "b_hangs", "3000 ms"]),
    {T2, true} = bp_cluster:run(B, fun() -> timer:tc(net_kernel, connect_node, [bp_cluster:name(A2)]) end),
    true = T2 < 2900000,
    %% by itself: stop/1 waits 20 s
    bp_cluster:stop(B).

chain_order_and_union(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    {ok, Port} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    P = integer_to_list(Port),
    Dir = backends(Config,
                   [{b_one, "lookup('x@127.0.0.1', \"127.0.0.1\") -> {ok, {\"127.0.0.9\", 9}};\n"
                     "lookup(_, _) -> {error, not_found}.\n"
                     "list_nodes(_) -> {ok, [{'x@127.0.0.1', 9}, {'both@127.0.0.1', 1}]}."},
                    {b_two, "lookup('x@127.0.0.1', _) -> {ok, {{127,0,0,1}, 1}};\n"
                     "lookup('" ++ atom_to_list(bp_cluster:name(A)) ++ "', _) -> "
                     "{ok, [{<<\"127.0.0.1\">>, " ++ P ++ "}]};\n"
                     "lookup(_, _) -> {error, not_found}.\n"
                     "list_nodes(_) -> {ok, [{\"y@127.0.0.1\", 2}, {'both@127.0.0.1', 1}]}."}]),
    B = bp_cluster:start(Config, #{name => b, args => ["-pa", Dir], config => [chain([b_one, b_two])]}),
    ?EQ({ok, {"127.0.0.9", 9}}, bp_cluster:call(B, barrel_p2p_discovery, lookup, ["x@127.0.0.1", "127.0.0.1"])),
    ?EQ({port, 9, 5}, bp_cluster:call(B, barrel_p2p_epmd, port_please, ["x", "127.0.0.1"])),
    ?EQ({ok, [{"both@127.0.0.1", 1}, {"x@127.0.0.1", 9}, {"y@127.0.0.1", 2}]},
        bp_cluster:call(B, barrel_p2p_discovery, list_nodes, ["127.0.0.1"])),
    true = bp_cluster:connect(B, A).

%% As long as the backend says; "not found" for a moment; and not after a dial that failed.
backend_answers_are_kept(Config) ->
    Count = "ets:update_counter(b_count, N, 1, {N, 0}).",
    Dir = backends(Config,
                   [{b_kept, "lookup(N, _) -> case atom_to_list(N) of \"k\" ++ _ -> count(N), "
                     "{ok, {{127,0,0,1}, 1}, 600}; \"f\" ++ _ -> count(N), {ok, {{127,0,0,1}, 1}}; "
                     "_ -> count(N), {error, not_found} end.\ncount(N) -> " ++ Count}]),
    %% "not found" stays for longer than all that comes before the sleep
    B = bp_cluster:start(Config, #{name => b, args => ["-pa", Dir],
                                   config => [chain([b_kept], [{discovery_negative_ttl, 4000}])]}),
    ?EQ({2, 4, [3, 1, 1]}, bp_cluster:run(B, fun() ->
        ets:new(b_count, [named_table, public]),
        Look = fun(N) -> barrel_p2p_discovery:find(N, "127.0.0.1") end,
        Times = fun(N) -> [{_, T}] = ets:lookup(b_count, list_to_atom(N)), T end,
        [Look("k@127.0.0.1") || _ <- lists:seq(1, 5)],
        [Look("f@127.0.0.1") || _ <- lists:seq(1, 3)],
        [[] = Look("n@127.0.0.1") || _ <- lists:seq(1, 3)],
        One = Times("k@127.0.0.1"),
        Fs = [Times("f@127.0.0.1"), Times("n@127.0.0.1"), One],
        false = net_kernel:connect_node('k@127.0.0.1'),
        Look("k@127.0.0.1"),
        [] = Look("n@127.0.0.1"),
        timer:sleep(4100),
        [] = Look("n@127.0.0.1"),
        {Times("k@127.0.0.1"), Times("f@127.0.0.1") + Times("n@127.0.0.1") - 1, Fs}
    end)).

discovery_module_replaces_the_chain(Config) ->
    Dir = backends(Config, [{b_only, "lookup(_, _) -> {ok, {\"127.0.0.1\", 1234}}."}]),
    B = bp_cluster:start(Config, #{name => b, args => ["-pa", Dir],
                                   config => [{quic, [{dist, [{discovery_module, b_only}]}]}]}),
    ?EQ({port, 1234, 5}, bp_cluster:call(B, barrel_p2p_epmd, port_please, ["z", "h"])),
    ?EQ([], filelib:wildcard("data/discovery/*", bp_cluster:dir(Config))).

example_backend(Config) ->
    Dir = filename:join(bp_cluster:dir(Config), "example"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Src = filename:join(bp_cluster:root(), "examples/discovery/inventory_discovery.erl"),
    {ok, _} = compile:file(Src, [{outdir, Dir}, return_errors, report]),
    File = filename:join(Dir, "nodes.txt"),
    Opts = fun(N) -> #{name => N, args => ["-pa", Dir],
                       config => [chain([{inventory_discovery, #{file => File}}])]} end,
    A = bp_cluster:start(Config, Opts(a)),
    bp_cluster:until(fun() -> filelib:is_file(File) end),
    B = bp_cluster:start(Config, Opts(b)),
    bp_cluster:until(fun() -> length(string:lexemes(read(File), "\n")) =:= 2 end),
    true = bp_cluster:connect(A, B),
    bp_cluster:stop(A),
    ?EQ(1, length(string:lexemes(read(File), "\n"))),
    ?EQ([], filelib:wildcard("data/discovery/*", bp_cluster:dir(Config))).

%% ---- files ----

both_file_formats_are_read_and_written(Config) ->
    Shared = fun(N, More) ->
        #{name => N, config => [{barrel_p2p, [{discovery_dir, "shared"} | More]}]}
    end,
    [J, T] = bp_cluster:start_many(Config, [Shared(j, []), Shared(t, [{discovery_file_format, term}])]),
    [PJ, PT] = [begin {ok, P} = bp_cluster:call(N, barrel_p2p_dist, listen_port, []), P end || N <- [J, T]],
    File = fun(N) ->
        filename:join([bp_cluster:dir(Config), "shared", atom_to_list(bp_cluster:name(N)) ++ ".endpoint"])
    end,
    ?EQ(iolist_to_binary(io_lib:format("{\"host\": \"127.0.0.1\", \"port\": ~b}\n", [PJ])),
        iolist_to_binary(read(File(J)))),
    ?EQ({ok, [{"127.0.0.1", PT}]}, file:consult(File(T))),
    true = bp_cluster:connect(J, T),
    bp_cluster:disconnect(J, T),
    true = bp_cluster:connect(T, J).

file_goes_at_a_clean_stop_only(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    Files = fun() -> lists:sort(filelib:wildcard("data/discovery/*", bp_cluster:dir(Config))) end,
    ?EQ(2, length(Files())),
    true = bp_cluster:connect(B, A),
    bp_cluster:kill9(A),
    ?EQ(2, length(Files())),
    bp_cluster:until(fun() -> bp_cluster:call(B, erlang, nodes, []) =:= [] end),
    %% what the killed node left is answered by nobody, and replaced by its next life
    ?EQ(false, bp_cluster:connect(B, A)),
    A2 = bp_cluster:start(Config, #{node => bp_cluster:name(A)}),
    bp_cluster:until(fun() -> bp_cluster:connect(B, A2) end),
    ?EQ(2, length(Files())),
    bp_cluster:stop(A2),
    ?EQ(["data/discovery/" ++ atom_to_list(bp_cluster:name(B)) ++ ".endpoint"], Files()).

%% No directory can be made there, not even by root.
unusable_discovery_directory(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    B = bp_cluster:start(Config, #{name => b, config => [{barrel_p2p, [{discovery_dir, "/proc/none"}]}]}),
    bp_cluster:wait_log(B, ["discovery_register_failed", "/proc/none"]),
    ?EQ(false, bp_cluster:connect(B, A)),
    {ok, Port} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    Nodes = [{bp_cluster:name(B), {"127.0.0.1", Port}}],
    C = bp_cluster:start(Config, #{name => c, config => [{quic, [{dist, [{nodes, Nodes}]}]}]}),
    true = bp_cluster:connect(C, B).

%% Nodes that boot in the same moment on a machine that has just started: one makes the directory, and
%% the others must not take it for one that is open to all.
runtime_directory_is_private_at_once(Config) ->
    N = bp_cluster:start(Config, #{name => n}),
    Base = bp_cluster:dir(Config),
    Dirs = [filename:join(Base, "r" ++ integer_to_list(I)) || I <- lists:seq(1, 300)],
    Watcher = spawn_link(fun() -> watch(Dirs) end),
    [?EQ([filename:join(Base, "data/discovery"), D],
         bp_cluster:run(N, fun() ->
             application:set_env(barrel_p2p, runtime_dir, D),
             barrel_p2p_discovery_file:directories()
         end)) || D <- Dirs],
    Watcher ! {modes, self()},
    receive {modes, Modes} -> ?EQ([8#40700], lists:usort(Modes)) end.

%% The mode of each directory in the moment in which it is there.
watch(Dirs) ->
    Modes = [first_mode(D) || D <- Dirs],
    receive {modes, Pid} -> Pid ! {modes, Modes} end.

first_mode(Dir) ->
    case prim_file:read_link_info(Dir) of
        {ok, Info} -> Info#file_info.mode;
        {error, enoent} -> first_mode(Dir)
    end.

bad_files_are_named_once(Config) ->
    N = bp_cluster:start(Config, #{name => n, config => [{barrel_p2p, [{discovery_dir, "data/discovery"}]}]}),
    Dir = filename:join(bp_cluster:dir(Config), "data/discovery"),
    Put = fun(Name, Text) -> ok = file:write_file(filename:join(Dir, Name), Text) end,
    Put("bad@127.0.0.1.endpoint", "{\"host\": \"h\"}"),
    Put("no_node.endpoint", "{\"host\": \"127.0.0.1\", \"port\": 1}"),
    Put("good@127.0.0.1.endpoint", "{\"127.0.0.1\",1}.\n"),
    [?EQ({ok, 2}, bp_cluster:run(N, fun() ->
         {ok, L} = net_adm:names('127.0.0.1'),
         {ok, length(L)}
     end)) || _ <- [1, 2, 3]],
    bp_cluster:wait_log(N, ["discovery_file_ignored", "bad@127.0.0.1.endpoint"]),
    bp_cluster:wait_log(N, ["discovery_file_ignored", "no_node.endpoint"]),
    ?EQ(1, count(bp_cluster:log(N), "data/discovery/bad@127.0.0.1.endpoint")),
    ?EQ(1, count(bp_cluster:log(N), "data/discovery/no_node.endpoint")).

%% ---- static ----

static_entries(Config) ->
    Off = {runtime_dir, none},
    A = bp_cluster:start(Config, #{name => a, cwd => "a", config => [{barrel_p2p, [Off]}]}),
    {ok, P} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    NA = bp_cluster:name(A),
    Entries = [{'short@h', "127.0.0.1", P}, {"text@h", {"127.0.0.1", P}}, {<<"bin@h">>, <<"127.0.0.1">>, P},
               {'long@h.example.com', {{127, 0, 0, 1}, P}}, {'six@h', {"[::1]", P}},
               {'six2@h', {"::1", P}}, {'six3@h', {{0, 0, 0, 0, 0, 0, 0, 1}, P}},
               {'name@h', {"localhost", P}}, {'two@h', {"127.0.0.1", 1}}, {'two@h', "127.0.0.1", 2},
               {NA, {localhost, P}}],
    B = bp_cluster:start(Config, #{name => b, cwd => "b",
                                   config => [{barrel_p2p, [Off]}, {quic, [{dist, [{nodes, Entries}]}]}]}),
    Ask = fun(Name, Host) -> bp_cluster:call(B, barrel_p2p_epmd, addresses_please, [Name, Host]) end,
    V4 = {ok, [{{127, 0, 0, 1}, P}]},
    V6 = {ok, [{{0, 0, 0, 0, 0, 0, 0, 1}, P}]},
    [?EQ(V4, Ask(N, "h")) || N <- ["short", "text", "bin"]],
    ?EQ(V4, Ask("long", "h.example.com")),
    [?EQ(V6, Ask(N, "h")) || N <- ["six", "six2", "six3"]],
    {ok, ByName} = Ask("name", "h"),
    true = lists:member({{127, 0, 0, 1}, P}, ByName),
    ?EQ({ok, [{{127, 0, 0, 1}, 1}, {{127, 0, 0, 1}, 2}]}, Ask("two", "h")),
    true = bp_cluster:connect(B, A).

%% ---- DNS ----

dns_addresses(Config) ->
    Dns = {_, DnsPort} = bp_dns:start(
        ["--host-record=one.example,127.0.0.1,::1,60", "--host-record=four.example,192.0.2.4,60",
         "--host-record=many.example,192.0.2.1,60", "--host-record=many.example,192.0.2.2,60",
         "--host-record=many.example,2001:db8::1,60", "--host-record=many.example,2001:db8::2,60",
         "--local=/example/"]),
    try
        Port = bp_cluster:free_port(),
        Off = [{runtime_dir, none}, {dns_servers, [{"127.0.0.1", DnsPort}]}],
        A = bp_cluster:start(Config, #{node => 'a@one.example', cwd => "a",
                                       config => [{quic, [{dist_port, Port}, {dist, [{bind, "127.0.0.1"}]}]},
                                                  {barrel_p2p, Off}]}),
        %% the configured port, on another address of this machine
        B = bp_cluster:start(Config, #{name => b, cwd => "b",
                                       config => [{quic, [{dist_port, Port}, {dist, [{bind, "127.0.0.2"}]}]},
                                                  {barrel_p2p, Off}], names => long,
                                       args => []}),
        true = bp_cluster:connect(B, A),
        bp_cluster:disconnect(B, A),
        Ask = fun(Name, Host) -> bp_cluster:call(B, barrel_p2p_epmd, addresses_please, [Name, Host]) end,
        ?EQ({ok, [{{192, 0, 2, 4}, Port}]}, Ask("x", "four.example")),
        ?EQ({error, not_found}, Ask("x", "five.example")),
        %% families alternate
        {ok, Many} = Ask("x", "many.example"),
        [S1, S2, S1, S2] = [tuple_size(Ip) || {Ip, _} <- Many],
        true = S1 =/= S2,
        %% kept: the server may go now
        ok = bp_dns:stop(Dns),
        ?EQ({ok, [{{192, 0, 2, 4}, Port}]}, Ask("y", "four.example")),
        #{counters := #{<<"dns_asked">> := Asked, <<"dns_failed">> := Failed}} =
            bp_cluster:call(B, barrel_p2p, info, []),
        true = Asked >= 4 andalso Failed >= 1
    after
        bp_dns:stop(Dns)
    end.

dns_srv_records(Config) ->
    [P1, P2] = [bp_cluster:free_port() || _ <- [1, 2]],
    Srv = fun(Name, Target, Port, Priority) ->
        lists:flatten(io_lib:format("--srv-host=~s,~s,~b,~b,0", [Name, Target, Port, Priority]))
    end,
    Dns = {_, DnsPort} = bp_dns:start(
        ["--host-record=a.c.example,127.0.0.1", "--host-record=b.c.example,127.0.0.1",
         "--host-record=other.example,127.0.0.1",
         Srv("_erlang-dist._quic.c.example", "a.c.example", P1, 1),
         Srv("_erlang-dist._quic.c.example", "b.c.example", P2, 2),
         Srv("_erlang-dist._quic.h9.c.example", "other.example", 99, 2),
         Srv("_erlang-dist._quic.h9.c.example", "other.example", 98, 1),
         "--local=/example/", "--local-ttl=7"]),
    try
        Conf = fun(P) -> [{quic, [{dist_port, P}, {dist, [{dns_domain, "c.example"}]}]},
                          {barrel_p2p, [{runtime_dir, none}, {dns_servers, [{{127, 0, 0, 1}, DnsPort}]}]}] end,
        %% the node's host is the target; the node is named as the target (a@c.example)
        A = bp_cluster:start(Config, #{node => 'n@a.c.example', cwd => "a", config => Conf(P1)}),
        B = bp_cluster:start(Config, #{node => 'b@c.example', cwd => "b", config => Conf(P2)}),
        true = bp_cluster:connect(B, A),
        bp_cluster:disconnect(A, B),
        true = bp_cluster:connect(A, B),
        ?EQ({ok, [{{127, 0, 0, 1}, 98}, {{127, 0, 0, 1}, 99}]},
            bp_cluster:call(A, barrel_p2p_epmd, addresses_please, ["n", "h9"])),
        {ok, Nodes} = bp_cluster:call(A, barrel_p2p_discovery, list_nodes, ["c.example"]),
        true = lists:member({"a@c.example", P1}, Nodes) andalso lists:member({"b@c.example", P2}, Nodes),
        ?EQ({ok, [{"b", P2}]}, bp_cluster:run(A, fun() ->
            {ok, L} = net_adm:names("c.example"),
            {ok, [N || {"b", _} = N <- L]}
        end)),
        7 = bp_cluster:run(A, fun() -> {ok, _, Ttl} = barrel_p2p_resolver:srv("", "c.example"), Ttl end)
    after
        bp_dns:stop(Dns)
    end.

%% A server that takes questions and answers none: the dialler's business, nobody else's.
dns_server_that_is_silent(Config) ->
    {ok, Silent} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, DnsPort} = inet:port(Silent),
    [A, A2] = bp_cluster:start_many(Config, [#{name => a}, #{name => a2}]),
    B = bp_cluster:start(Config, #{name => b, config =>
        [{barrel_p2p, [{dns_servers, [{"127.0.0.1", DnsPort}]}, {discovery_timeout, 4000}]},
         {quic, [{dist, [{dns_domain, "c.example"}]}]}]}),
    Job = bp_cluster:async(B, fun() -> timer:tc(net_kernel, connect_node, ['x@silent.example']) end),
    {ok, _} = gen_udp:recv(Silent, 0, ?LONG),
    true = bp_cluster:connect(B, A),
    still_running(Job),
    {Long, false} = bp_cluster:await(Job),
    true = Long > 200000 andalso Long < 6500000,            % net_setuptime's 7 s have not ended it
    true = bp_cluster:connect(B, A2),
    gen_udp:close(Silent).

%% ---- addresses ----

ipv6_and_dual_stack(Config) ->
    Dist = fun(List) -> [{quic, [{dist, List}]}] end,
    Six = bp_cluster:start(Config, #{name => six, config => Dist([{bind, "::1"}])}),
    Six2 = bp_cluster:start(Config, #{name => sixx, config => Dist([{family, inet6}])}),
    Four = bp_cluster:start(Config, #{name => four, config => Dist([{family, inet}])}),
    Both = bp_cluster:start(Config, #{name => both}),
    Info = fun(N) -> #{address := A} = bp_cluster:call(N, barrel_p2p, info, []), A end,
    ?EQ("::1", Info(Six)),
    ?EQ("0.0.0.0", Info(Four)),
    ?EQ("::", Info(Both)),
    true = bp_cluster:connect(Both, Six),
    true = bp_cluster:connect(Both, Four),
    true = bp_cluster:connect(Six2, Six),
    %% `global' may have brought others by now
    SixName = bp_cluster:name(Six),
    bp_cluster:until(fun() ->
        case [At || #{node := N, address := At} <- bp_cluster:call(Six2, barrel_p2p, peers, []), N =:= SixName] of
            ["[::1]:" ++ _] -> true;
            [] -> false
        end
    end),
    bp_cluster:disconnect(Both, Four),
    true = bp_cluster:connect(Four, Both),
    %% no address in common
    bp_cluster:disconnect(Both, Six),
    ?EQ(false, bp_cluster:run(Four, fun() ->
        ok = application:set_env(barrel_p2p, discovery_timeout, 500),
        net_kernel:connect_node(bp_cluster:name(Six))
    end)).

advertised_addresses(Config) ->
    Start = fun(Name, Advertise) ->
        bp_cluster:start(Config, #{name => Name, config => [{barrel_p2p, [{advertise, Advertise}]}]})
    end,
    A = Start(a, ["127.0.0.9", {"127.0.0.1", 0}, {{0, 0, 0, 0, 0, 0, 0, 1}, 4433}]),
    B = Start(b, "nat.example"),
    {ok, Port} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    {ok, PortB} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    Find = fun(N) -> bp_cluster:call(B, barrel_p2p_discovery, find,
                                     [atom_to_list(bp_cluster:name(N)), "127.0.0.1"]) end,
    ?EQ([{"127.0.0.9", Port}, {"127.0.0.1", Port}, {"::1", 4433}], Find(A)),
    ?EQ([{"nat.example", PortB}], Find(B)),
    %% the second address works
    true = bp_cluster:connect(B, A),
    bp_cluster:stop(A),
    ?EQ([], Find(A)).

%% ---- the epmd module ----

names_and_world(Config) ->
    {ok, Host} = inet:gethostname(),
    [A, B] = bp_cluster:start_many(Config, [#{name => N, names => short,
                                              config => [{barrel_p2p, [{discovery_dir, "d"}]}]}
                                            || N <- [a, b]]),
    Short = fun(N) -> hd(string:lexemes(atom_to_list(bp_cluster:name(N)), "@")) end,
    {ok, Names} = bp_cluster:call(A, net_adm, names, []),
    ?EQ(lists:sort([Short(A), Short(B)]), lists:sort([N || {N, _} <- Names])),
    {ok, PB} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    ?EQ(PB, proplists:get_value(Short(B), Names)),
    ?EQ({ok, Names}, bp_cluster:call(A, net_adm, names, [Host])),
    ?EQ({ok, Names}, bp_cluster:call(A, net_adm, names, [{127, 0, 0, 1}])),
    ?EQ({ok, Names}, bp_cluster:call(A, net_adm, names, [list_to_atom(Host)])),
    ok = file:write_file(filename:join(bp_cluster:dir(Config), ".hosts.erlang"), io_lib:format("~p.~n", [list_to_atom(Host)])),
    World = bp_cluster:call(A, net_adm, world, []),
    ?EQ(lists:sort([bp_cluster:name(A), bp_cluster:name(B)]), lists:sort(World)),
    ?EQ([bp_cluster:name(B)], bp_cluster:call(A, erlang, nodes, [])),
    %% what the rest of OTP may ask for
    ?EQ({port, PB, 5}, bp_cluster:call(A, barrel_p2p_epmd, port_please, [Short(B), Host])),
    ?EQ({port, PB, 5}, bp_cluster:call(A, barrel_p2p_epmd, port_please, [list_to_atom(Short(B)), list_to_atom(Host), 1000])),
    ?EQ(noport, bp_cluster:call(A, barrel_p2p_epmd, port_please, ["nobody", Host])),
    {ok, {127, 0, 0, 1}, PB, 5} = bp_cluster:call(A, barrel_p2p_epmd, address_please, [Short(B), Host, inet]),
    {ok, {0, 0, 0, 0, 0, 0, 0, 1}, PB, 5} =
        bp_cluster:call(A, barrel_p2p_epmd, address_please, [Short(B), Host, inet6]),
    ?EQ({error, not_found}, bp_cluster:call(A, barrel_p2p_epmd, address_please, ["nobody", Host, inet])),
    ?EQ({ok, 0}, bp_cluster:call(A, barrel_p2p_epmd, listen_port_please, [Short(A), Host])),
    bp_cluster:stop(B),
    {ok, [_]} = bp_cluster:call(A, net_adm, names, []).

remsh_by_short_name(Config) ->
    A = bp_cluster:start(Config, #{name => a, names => short}),
    Name = atom_to_list(bp_cluster:name(A)),
    %% a shell with a name of its own and one without
    [begin
         Shell = bp_cluster:program(Config, Args ++ ["-setcookie", "ct", "-remsh", Name], #{}),
         bp_cluster:until(fun() -> string:find(bp_cluster:log(Shell), "(" ++ Name ++ ")1>") =/= nomatch end),
         bp_cluster:input(Shell, "length(nodes(connected)) + 41.\n"),
         bp_cluster:until(fun() -> re:run(bp_cluster:log(Shell), "\\n4[2-9]\\r") =/= nomatch end),
         bp_cluster:kill(Shell)
     end || Args <- [["-sname", bp_cluster:unique(shell)], []]].

%% Nodes that this node starts: peer over the distribution and over a pipe, slave by a program in
%% rsh's place.
peer_and_slave_nodes(Config) ->
    A = bp_cluster:start(Config, #{name => a, names => short, args => ["-rsh", fake_rsh(Config)]}),
    Flags = ["-proto_dist", "barrel_p2p", "-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false",
             "-setcookie", "ct"],
    {ok, Host} = inet:gethostname(),
    ?EQ(ok, bp_cluster:run(A, fun() ->
        Args = Flags ++ ["-pa", filename:dirname(code:which(barrel_p2p))],
        [begin
             {ok, Peer, Node} = peer:start(maps:merge(#{name => Name, args => Args, wait_boot => 20000}, More)),
             pong = net_adm:ping(Node),
             Node = erpc:call(Node, erlang, node, []),
             ok = peer:stop(Peer)
         end || {Name, More} <- [{peer:random_name(), #{}}, {peer:random_name(), #{connection => standard_io}}]],
        Line = lists:flatten(lists:join(" ", Args)),
        {ok, Slave} = slave:start(list_to_atom(Host), list_to_atom(peer:random_name()), Line),
        pong = net_adm:ping(Slave),
        ok = slave:stop(Slave)
    end, 60000)).

%% `rsh Host Command...' on this machine.
fake_rsh(Config) ->
    File = filename:join(bp_cluster:dir(Config), "rsh"),
    ok = file:write_file(File, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"),
    ok = file:change_mode(File, 8#755),
    File.

distribution_started_and_stopped(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    N = bp_cluster:start(Config, #{names => none, name => n}),
    Name = list_to_atom(bp_cluster:unique(late) ++ "@127.0.0.1"),
    File = filename:join([bp_cluster:dir(Config), "data/discovery", atom_to_list(Name) ++ ".endpoint"]),
    [begin
         {ok, _} = bp_cluster:call(N, net_kernel, start, Start),
         true = filelib:is_file(File),
         bp_cluster:call(N, erlang, set_cookie, [ct]),
         ?EQ(true, bp_cluster:call(A, net_kernel, connect_node, [Name])),
         ok = bp_cluster:call(N, net_kernel, stop, []),
         false = filelib:is_file(File),
         %% the VM takes the name back when net_kernel's exit is through, which stop() does not wait for
         bp_cluster:until(fun() -> bp_cluster:call(N, erlang, node, []) =:= nonode@nohost end),
         bp_cluster:until(fun() -> bp_cluster:call(A, erlang, nodes, []) =:= [] end),
         ?EQ(false, bp_cluster:call(A, net_kernel, connect_node, [Name]))
     end || Start <- [[[Name, longnames]], [Name, #{name_domain => longnames}]]].

%% ---- on demand ----

many_senders_one_connection(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    Me = bp_cluster:name(B),
    bp_cluster:run(B, fun() ->
        register(sink, spawn(fun() -> sink(0, []) end)),
        ok
    end),
    bp_cluster:run(A, fun() ->
        Go = make_ref(),
        Pids = [spawn_link(fun() -> receive Go -> {sink, Me} ! {self(), I} end end) || I <- lists:seq(1, 1000)],
        [P ! Go || P <- Pids],
        ok
    end),
    bp_cluster:until(fun() ->
        bp_cluster:run(B, fun() -> sink ! {count, self()}, receive {count, N, Set} -> {N, Set} =:= {1000, 1000} end end)
    end),
    [bp_cluster:until(fun() -> [D || #{direction := D} <- bp_cluster:call(N, barrel_p2p, peers, [])] =:= [Way] end)
     || {N, Way} <- [{A, dialled}, {B, accepted}]],
    %% nothing was refused or begun twice
    #{counters := #{<<"accepted">> := 1}} = bp_cluster:call(B, barrel_p2p, info, []).

sink(N, Seen) ->
    receive
        {count, Pid} -> Pid ! {count, N, length(lists:usort(Seen))}, sink(N, Seen);
        {_, I} -> sink(N + 1, [I | Seen])
    end.

%% Whoever has dialled a node finds it among the peers at once.
peers_are_known_when_they_are_up(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => N, args => ["-connect_all", "false"]} || N <- [a, b]]),
    NB = bp_cluster:name(B),
    [begin
        ?EQ({I, [NB]}, bp_cluster:run(A, fun() ->
            true = net_kernel:connect_node(NB),
            {I, [N || #{node := N} <- barrel_p2p:peers()]}
        end)),
        bp_cluster:disconnect(A, B)
    end || I <- lists:seq(1, 300)].

%% A node whose address swallows everything fails within net_setuptime, and others are not held up.
unreachable_node_blocks_nobody(Config) ->
    {ok, Hole} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, HolePort} = inet:port(Hole),
    B = bp_cluster:start(Config, #{name => b}),
    Nodes = [{'hole@127.0.0.1', {"127.0.0.1", HolePort}}],
    A = bp_cluster:start(Config, #{name => a, config => [{quic, [{dist, [{nodes, Nodes}]}]}],
                                   args => ["-kernel", "net_setuptime", "3"]}),
    Me = bp_cluster:name(B),
    Job = bp_cluster:async(A, fun() -> timer:tc(net_kernel, connect_node, ['hole@127.0.0.1']) end),
    {ok, _} = gen_udp:recv(Hole, 0, ?LONG),
    true = bp_cluster:run(A, fun() ->
        [spawn(fun() -> {nobody, 'hole@127.0.0.1'} ! hello end) || _ <- lists:seq(1, 100)],
        net_kernel:connect_node(Me)
    end),
    still_running(Job),
    {Long, false} = bp_cluster:await(Job),
    true = Long > 2000000 andalso Long < 6500000,           % 7 s if nothing is set
    gen_udp:close(Hole).

%% A job of bp_cluster:async/2 that has not ended.
still_running({Pid, _}) ->
    is_process_alive(Pid) orelse error({ended, Pid}).

%% 100 rounds; BP_ROUNDS sets another number.
both_dial_at_once(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    Rounds = list_to_integer(os:getenv("BP_ROUNDS", "100")),
    [one_round(A, B) || _ <- lists:seq(1, Rounds)],
    ok.

one_round(A, B) ->
    At = erlang:system_time(millisecond) + 30,
    Dial = fun(X, Y) ->
        Peer = bp_cluster:name(Y),
        bp_cluster:async(X, fun() ->
            timer:sleep(max(0, At - erlang:system_time(millisecond))),
            net_kernel:connect_node(Peer)
        end)
    end,
    Jobs = [Dial(A, B), Dial(B, A)],
    [true, true] = [bp_cluster:await(J) || J <- Jobs],
    [begin
         [Peer] = bp_cluster:call(X, erlang, nodes, []),
         bp_cluster:until(fun() -> [N || #{node := N} <- bp_cluster:call(X, barrel_p2p, peers, [])] =:= [Peer] end),
         ?EQ(Y, bp_cluster:run(X, fun() -> erpc:call(Peer, erlang, node, []) end))
     end || {X, Y} <- [{A, bp_cluster:name(B)}, {B, bp_cluster:name(A)}]],
    bp_cluster:disconnect(A, B).

%% ---- boots ----

both_boot_at_once(Config) ->
    [begin
         Dir = "r" ++ integer_to_list(I),
         [A, B] = bp_cluster:start_many(Config, [#{name => a, cwd => Dir}, #{name => b, cwd => Dir}]),
         [true, true] = [bp_cluster:await(J) || J <- [bp_cluster:async(fun() -> bp_cluster:connect(X, Y) end, [])
                                                      || {X, Y} <- [{A, B}, {B, A}]]],
         [bp_cluster:kill(N) || N <- [A, B]]
     end || I <- [1, 2, 3]].

fifty_nodes_find_each_other() -> [{timetrap, {seconds, 300}}].

fifty_nodes_find_each_other(Config) ->
    Script = filename:join(bp_cluster:root(), "examples/one_host/many_nodes"),
    Out = os:cmd("cd '" ++ bp_cluster:dir(Config) ++ "' && '" ++ Script ++ "' -n 50 -d cluster -t 240 2>&1; echo status $?"),
    ct:log("~ts", [Out]),
    string:find(Out, "status 0") =/= nomatch orelse error({script, Out}),
    [Registered, Found, Connected] =
        [begin
             {match, [Ms]} = re:run(Out, "all 50 nodes " ++ What ++ " after ([0-9]+) ms",
                                    [{capture, all_but_first, list}]),
             list_to_integer(Ms)
         end || What <- ["are registered", "have found all others", "are connected to all others"]],
    io:format(standard_error, "          50 nodes: booted ~b ms, found ~b ms, connected ~b ms~n",
              [Registered, Found, Connected]),
    %% The boots cost what 50 VMs cost on this machine, and tell how fast it is now; what is ours must not
    %% add much to that.
    true = Found - Registered < max(3000, Registered div 2),
    true = Connected - Found < max(30000, Registered).

%% ---- helpers ----

chain(Backends) -> chain(Backends, []).

chain(Backends, More) -> {barrel_p2p, [{discovery_backends, Backends} | More]}.

%% Compiles modules with the behaviour quic_discovery; the directory for -pa.
backends(Config, Sources) ->
    Dir = filename:join(bp_cluster:dir(Config), "backends"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [begin
         File = filename:join(Dir, atom_to_list(Name) ++ ".erl"),
         ok = file:write_file(File, ["-module(", atom_to_list(Name), ").\n-compile(export_all).\n", Text, "\n"]),
         {ok, _} = compile:file(File, [{outdir, Dir}, nowarn_export_all])
     end || {Name, Text} <- Sources],
    Dir.

read(File) ->
    {ok, Text} = file:read_file(File),
    binary_to_list(Text).

count(Log, Words) ->
    length(binary:matches(iolist_to_binary(Log), iolist_to_binary(Words))).
