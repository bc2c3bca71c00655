%% SPDX-License-Identifier: Apache-2.0
%% The two sides of `make demo': answer/0 waits on one node, run/1 on the other shows what works.
-module(bp_demo).
-behaviour(gen_server).

-export([answer/0, run/1]).
-export([init/1, handle_call/3, handle_cast/2]).
-export([exit_when_told/1]).

-define(SERVER, bp_demo_server).
-define(FIND_MS, 15000).
-define(STEP_MS, 60000).

%% --- the node that answers -----------------------------------------------------

%% Registers the server that the other node calls; returns at once.
answer() ->
    {ok, _} = gen_server:start({local, ?SERVER}, ?MODULE, [], []),
    ok.

init([]) -> {ok, 0}.

handle_call({echo, Term}, _From, Calls) -> {reply, Term, Calls + 1};
handle_call({add, A, B}, _From, Calls) -> {reply, {A + B, node()}, Calls + 1}.

handle_cast(_, Calls) -> {noreply, Calls}.

exit_when_told(Reason) ->
    receive
        go -> exit(Reason)
    end.

%% --- the node that asks ----------------------------------------------------------

%% Runs all steps against the node Name on this host; ends the VM with 0 if all succeeded.
run(Name) ->
    Peer = peer(Name),
    log_to_file("this.log"),
    io:format("~n  this node   ~s, UDP port ~b~n  other node  ~s~n~n",
              [node(), maps:get(port, barrel_p2p:info(), 0), Peer]),
    Steps = [{"the nodes found each other", fun find/1},
             {"they authenticated each other", fun identities/1},
             {"net_adm:ping", fun ping/1},
             {"rpc:call", fun rpc_call/1},
             {"gen_server:call across nodes", fun server_call/1},
             {"a link fires", fun link_fires/1},
             {"a monitor fires", fun monitor_fires/1},
             {"a 100 MB term comes back intact", fun big_term/1},
             {"nodedown after SIGKILL", fun killed/1}],
    Passed = steps(Steps, 1, length(Steps), Peer),
    io:format("~n  ~s~n", [case Passed of
                               true -> "all steps passed";
                               false -> "the demo FAILED"
                           end]),
    barrel_p2p_discovery_file:unregister(Peer),         % killed nodes leave their file behind
    init:stop(case Passed of true -> 0; false -> 1 end).

%% The log is shown only when something fails.
log_to_file(Name) ->
    {ok, Config} = logger:get_handler_config(default),
    ok = logger:remove_handler(default),
    Kept = maps:with([formatter, filters, filter_default], Config),
    ok = logger:add_handler(default, logger_std_h, Kept#{config => #{file => Name}}).

peer(Name) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom(Name ++ "@" ++ Host).

%% Each step needs the ones before it: the first failure ends the run.
steps([], _, _, _) ->
    true;
steps([{What, Fun} | Rest], N, Total, Peer) ->
    T0 = erlang:monotonic_time(microsecond),
    Result = in_time(Fun, Peer),
    Ms = (erlang:monotonic_time(microsecond) - T0) / 1000,
    {Word, Lines} = case Result of
                        {ok, L} -> {"ok", L};
                        {error, Reason} -> {"FAILED", [io_lib:format("~tp", [Reason])]}
                    end,
    io:format("  [~b/~b] ~-34s ~-6s ~9.1f ms~n", [N, Total, What, Word, Ms]),
    [io:format("        ~ts~n", [Line]) || Line <- Lines],
    case Word of
        "ok" -> steps(Rest, N + 1, Total, Peer);
        _ -> false
    end.

%% Each step in a process of its own, so that links and crashes stay there.
in_time(Fun, Peer) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() -> Self ! {self(), Fun(Peer)} end),
    receive
        {Pid, Lines} ->
            demonitor(Ref, [flush]),
            {ok, Lines};
        {'DOWN', Ref, process, Pid, Reason} ->
            {error, Reason}
    after ?STEP_MS ->
        exit(Pid, kill),
        {error, timeout}
    end.

%% The other node may still be booting: ask discovery again until it is there, then connect.
find(Peer) ->
    find(Peer, erlang:monotonic_time(millisecond) + ?FIND_MS).

find(Peer, Deadline) ->
    [Name, Host] = string:split(atom_to_list(Peer), "@"),
    case barrel_p2p_epmd:addresses_please(Name, Host) of
        {ok, [{Ip, Port} | _]} ->
            T0 = erlang:monotonic_time(microsecond),
            case net_kernel:connect_node(Peer) of
                true ->
                    Us = erlang:monotonic_time(microsecond) - T0,
                    [io_lib:format("at ~s:~b, connected in ~.1f ms (QUIC, TLS 1.3, identity keys, "
                                   "cookie)", [inet:ntoa(Ip), Port, Us / 1000])];
                false ->
                    again(Peer, Deadline)
            end;
        {error, _} ->
            again(Peer, Deadline)
    end.

again(Peer, Deadline) ->
    case erlang:monotonic_time(millisecond) > Deadline of
        true -> exit({not_found, Peer});
        false ->
            timer:sleep(100),
            find(Peer, Deadline)
    end.

%% What each node says of itself must be what the other one saw.
identities(Peer) ->
    Ours = maps:get(fingerprint, barrel_p2p:info()),
    Theirs = maps:get(fingerprint, rpc:call(Peer, barrel_p2p, info, [])),
    SeenHere = seen(barrel_p2p:peers(), Peer),
    SeenThere = seen(rpc:call(Peer, barrel_p2p, peers, []), node()),
    <<"SHA256:", _/binary>> = Ours,
    <<"SHA256:", _/binary>> = Theirs,
    {seen_there, Ours} = {seen_there, SeenThere},
    {seen_here, Theirs} = {seen_here, SeenHere},
    true = Ours =/= Theirs,
    [[atom_to_list(node()), "  ", Ours], [atom_to_list(Peer), "  ", Theirs]].

seen(Peers, Node) ->
    [#{fingerprint := Fp}] = [P || #{node := N} = P <- Peers, N =:= Node],
    Fp.

ping(Peer) ->
    pong = net_adm:ping(Peer),
    T0 = erlang:monotonic_time(microsecond),
    [pong = net_adm:ping(Peer) || _ <- lists:seq(1, 100)],
    Us = erlang:monotonic_time(microsecond) - T0,
    [io_lib:format("pong, ~.1f us each in a row of 100", [Us / 100])].

rpc_call(Peer) ->
    Peer = rpc:call(Peer, erlang, node, []),
    [["erlang:node() there is ", atom_to_list(Peer)]].

%% A node takes connections before its -eval has run.
server_call(Peer) ->
    case rpc:call(Peer, erlang, whereis, [?SERVER]) of
        undefined -> timer:sleep(20), server_call(Peer);
        _ -> call_server(Peer)
    end.

call_server(Peer) ->
    {42, Peer} = gen_server:call({?SERVER, Peer}, {add, 40, 2}),
    ["40 + 2 was computed there: 42"].

link_fires(Peer) ->
    process_flag(trap_exit, true),
    Pid = spawn_link(Peer, ?MODULE, exit_when_told, [demo_exit]),
    Pid ! go,
    receive
        {'EXIT', Pid, demo_exit} -> [io_lib:format("'EXIT' from ~p: demo_exit", [Pid])]
    end.

monitor_fires(Peer) ->
    Pid = spawn(Peer, ?MODULE, exit_when_told, [demo_down]),
    Ref = monitor(process, Pid),
    Pid ! go,
    receive
        {'DOWN', Ref, process, Pid, demo_down} ->
            [io_lib:format("'DOWN' from ~p: demo_down", [Pid])]
    end.

big_term(Peer) ->
    Noise = rand:bytes(1000000),
    Term = #{chunks => [{N, <<N:32, Noise/binary>>} || N <- lists:seq(1, 100)],
             list => lists:seq(1, 10000)},
    Bytes = erlang:external_size(Term),
    T0 = erlang:monotonic_time(microsecond),
    Echo = gen_server:call({?SERVER, Peer}, {echo, Term}, ?STEP_MS),
    Us = erlang:monotonic_time(microsecond) - T0,
    true = Echo =:= Term,
    [io_lib:format("~.1f MB there and back in ~b ms: ~b MB/s",
                   [Bytes / 1.0e6, Us div 1000, round(2 * Bytes / Us)])].

killed(Peer) ->
    OsPid = rpc:call(Peer, os, getpid, []),
    true = net_kernel:monitor_nodes(true, [nodedown_reason]) =:= ok,
    true = lists:member(Peer, nodes()),
    T0 = erlang:monotonic_time(microsecond),
    "" = os:cmd("kill -9 " ++ OsPid),
    receive
        {nodedown, Peer, Info} ->
            Us = erlang:monotonic_time(microsecond) - T0,
            [io_lib:format("nodedown ~.1f ms after kill -9 ~s, reason ~p",
                           [Us / 1000, OsPid, proplists:get_value(nodedown_reason, Info)])]
    end.
