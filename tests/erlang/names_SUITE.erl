%% SPDX-License-Identifier: Apache-2.0
%% Names and addresses at their limits: IPv6 in names, link-local, no IPv4 at all, the longest names, many names.
-module(names_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([address_as_host/1, link_local_address/1, no_ipv4_at_all/1, longest_name/1,
         five_hundred_known/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [address_as_host, link_local_address, no_ipv4_at_all, longest_name, five_hundred_known].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

named(Host) ->
    list_to_atom(bp_cluster:unique("n") ++ "@" ++ Host).

both_ways(A, B) ->
    true = bp_cluster:connect(A, B),
    [?EQ(bp_cluster:name(Y), bp_cluster:call(X, erpc, call, [bp_cluster:name(Y), erlang, node, []]))
     || {X, Y} <- [{A, B}, {B, A}]],
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A).

address_as_host(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{node => named("::1")} || _ <- "ab"]),
    both_ways(A, B),
    [#{address := "[::1]:" ++ _}] = bp_cluster:call(A, barrel_p2p, peers, []).

%% fe80::... needs the interface's name, which addresses in Erlang do not have: told, not tried.
link_local_address(Config) ->
    Dist = [{nodes, [{'b@127.0.0.1', {"fe80::1%lo", 4433}}]}],
    Env = [{discovery_backends, [barrel_p2p_discovery_static]}],
    A = bp_cluster:start(Config, #{name => a, config => [{quic, [{dist, Dist}]}, {barrel_p2p, Env}]}),
    ?EQ(false, bp_cluster:call(A, net_kernel, connect_node, ['b@127.0.0.1'])),
    bp_cluster:wait_log(A, ["b@127.0.0.1", "fe80::1", "link-local address needs an interface"]).

%% A host whose only address is ::1.
no_ipv4_at_all(Config) ->
    Ns = bp_cluster:unique("bp_six"),
    In = "ip netns exec " ++ Ns ++ " ",
    case os:cmd("ip netns add " ++ Ns ++ " 2>&1 && " ++ In ++ "ip link set lo up 2>&1 && " ++ In
                ++ "ip addr del 127.0.0.1/8 dev lo 2>&1") of
        "" ->
            try
                Opts = #{prefix => ["ip", "netns", "exec", Ns]},
                [A, B] = bp_cluster:start_many(Config, [Opts#{node => named("::1")} || _ <- "ab"]),
                both_ways(A, B)
            after
                os:cmd("ip netns del " ++ Ns)
            end;
        Why ->
            {skip, Why}
    end.

%% As long as the names of files permit; a longer one says what is too long.
longest_name(Config) ->
    Host = "127.0.0.1",
    Name = fun(C, Max) -> list_to_atom(lists:duplicate(Max - 1 - length(Host), C) ++ "@" ++ Host) end,
    [A, B] = [bp_cluster:start(Config, #{node => Name(C, 246)}) || C <- "xy"],
    both_ways(A, B),
    C = bp_cluster:start(Config, #{node => Name($z, 250)}),
    bp_cluster:wait_log(C, ["discovery_register_failed", "File name too long"]).

%% Endpoint files of 500 nodes: lookups and names stay quick.
five_hundred_known(Config) ->
    Env = [{discovery_dir, "d"}, {runtime_dir, none}],
    [A, B] = bp_cluster:start_many(Config, [#{name => N, config => [{barrel_p2p, Env}]} || N <- [a, b]]),
    Dir = filename:join(bp_cluster:dir(Config), "d"),
    [ok = file:write_file(filename:join(Dir, "k" ++ integer_to_list(I) ++ "@127.0.0.1.endpoint"),
                          io_lib:format("{\"127.0.0.1\",~b}.~n", [20000 + I])) || I <- lists:seq(1, 500)],
    Names = fun() ->
        bp_cluster:run(A, fun() -> {ok, L} = net_adm:names('127.0.0.1'), length(L) end)
    end,
    bp_cluster:until(fun() -> Names() =:= 502 orelse Names() end),
    both_ways(A, B),
    ?EQ(502, Names()),
    %% a lookup reads one file, whoever else is there
    Times = bp_cluster:run(A, fun() ->
        [element(1, timer:tc(barrel_p2p_epmd, port_please, ["k" ++ integer_to_list(I), {127, 0, 0, 1}]))
         || I <- lists:seq(1, 200)]
    end),
    Median = lists:nth(100, lists:sort(Times)),
    ct:pal("a lookup among 500: ~b us", [Median]),
    true = Median < 5000.
