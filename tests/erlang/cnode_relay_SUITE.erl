%% SPDX-License-Identifier: Apache-2.0
%% C nodes that reach real OTP nodes through something in between (docs/relay.md), driven by libei and
%% the library's I/O thread, and by a loop of their own.
-module(cnode_relay_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([forwarder/1, socks/1, socks_with_password/1, descriptor/1, functions/1, mtu/1,
         proxy_dies/1, forwarder_dies/1, nobody_there/1, moves/1, moves_when_asked/1, recipe_of_the_documentation/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [{group, ei}, {group, loop}, recipe_of_the_documentation].

groups() ->
    Cases = [forwarder, socks, socks_with_password, descriptor, functions, mtu, proxy_dies,
             forwarder_dies, nobody_there, moves, moves_when_asked],
    [{ei, [], Cases}, {loop, [], Cases}].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_group(Mode, Config) -> [{mode, Mode} | Config].
end_per_group(_, _) -> ok.

init_per_testcase(Case, Config) ->
    Mode = atom_to_list(proplists:get_value(mode, Config, recipe)),
    bp_cluster:init_case(?MODULE, list_to_atom(atom_to_list(Case) ++ "_" ++ Mode), Config).

end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- helpers ----

%% An OTP node, its port, and a C node that is not connected to it.
pair(Config) ->
    A = bp_cluster:start(Config, #{}),
    {ok, Port} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    {A, Port, bp_cnode:start(Config, ?config(mode, Config), bp_cnode:unique_name(c))}.

name(A) -> atom_to_list(bp_cluster:name(A)).

relay(C, A, Text) ->
    "set" = bp_cnode:ask(C, lists:flatten(["relay ", name(A), " ", Text]), "relay").

connect(C, A) ->
    Name = name(A),
    bp_cnode:tell(C, "connect " ++ Name),
    ?EQ(Name, bp_cnode:expect(C, "up")).

%% The words of the failure.
refused(C, A) ->
    bp_cnode:tell(C, "connect " ++ name(A)),
    bp_cnode:expect(C, "failed").

info(C, A) -> bp_cnode:ask(C, "info " ++ name(A), "info").

counter(C, Name) -> list_to_integer(bp_cnode:ask(C, "counter " ++ Name, "counter")).

%% Terms of all sizes there and back, and what the C node says that is in between.
works(C, A, What) ->
    ?EQ({What, match}, {What, re:run(info(C, A), "relay=" ++ What, [{capture, none}])}),
    To = {echo, bp_cnode:name(C)},
    Sizes = [0, 1, 100, 1200, 20000, 300000],
    Sizes = bp_cluster:run(A, fun() ->
        [begin
            B = binary:copy(<<N:8>>, N),
            To ! {echo, self(), B},
            receive {cnode, B} -> N after ?LONG -> error({no_answer, N}) end
         end || N <- Sizes]
    end, 60000),
    true = counter(C, "relay_bytes_in") > 300000,
    true = counter(C, "relay_bytes_out") > 300000,
    true = counter(C, "relay_datagrams_in") > 10,
    true = counter(C, "relay_datagrams_out") > 10,
    ok.

with_dante(Config, Method, Fun) ->
    case bp_relay:dante(?config(bp_dir, Config), Method) of
        skip ->
            {skip, "no SOCKS server, or no right to give it a user: apt-get install dante-server"};
        {ok, Dante} ->
            try Fun(Dante, pair(Config))
            after catch bp_relay:stop_dante(Dante)
            end
    end.

has(Words, Text) ->
    ?EQ({Text, match}, {Text, re:run(Text, Words, [{capture, none}])}).

%% ---- cases ----

forwarder(Config) ->
    {A, Port, C} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    relay(C, A, io_lib:format("udp 127.0.0.1 ~b", [At])),
    connect(C, A),
    works(C, A, io_lib:format("relay 127.0.0.1:~b$", [At])),
    %% all of it went there
    true = bp_relay:count(Relay) + 20 >= counter(C, "relay_datagrams_out"),
    %% and not any more
    bp_cnode:tell(C, "close " ++ name(A)),
    _ = bp_cnode:expect(C, "down"),
    relay(C, A, "none"),
    connect(C, A),
    has("relay=$", info(C, A)),
    bp_cnode:stop(C),
    bp_relay:stop(Relay).

socks(Config) ->
    with_dante(Config, "none", fun({_, At}, {A, _, C}) ->
        relay(C, A, io_lib:format("socks5 localhost ~b", [At])),
        connect(C, A),
        works(C, A, io_lib:format("SOCKS proxy localhost:~b$", [At])),
        bp_cnode:stop(C)
    end).

socks_with_password(Config) ->
    with_dante(Config, {username, "bpsocks", "s3cret"}, fun({_, At}, {A, _, C}) ->
        relay(C, A, io_lib:format("socks5 127.0.0.1 ~b", [At])),
        has("SOCKS proxy 127.0.0.1:.*: the proxy wants a user name and a password", refused(C, A)),
        relay(C, A, io_lib:format("socks5 127.0.0.1 ~b bpsocks wrong", [At])),
        has("the proxy did not take the user name and password", refused(C, A)),
        relay(C, A, io_lib:format("socks5 127.0.0.1 ~b bpsocks s3cret", [At])),
        connect(C, A),
        works(C, A, "SOCKS proxy "),
        ?EQ(2, counter(C, "relays_failed")),
        bp_cnode:stop(C)
    end).

descriptor(Config) ->
    {A, Port, C} = pair(Config),
    Path = "/tmp/bp_relay." ++ integer_to_list(rand:uniform(1 bsl 60), 36),
    {Tunnel, _} = bp_relay:tunnel(Path, Port),
    relay(C, A, ["fd ", Path]),
    connect(C, A),
    works(C, A, "descriptor "),
    bp_cnode:stop(C),
    bp_relay:stop(Tunnel),
    _ = [file:delete(P) || P <- [Path, Path ++ ".a"]].

functions(Config) ->
    {A, Port, C} = pair(Config),
    relay(C, A, io_lib:format("functions ~b", [Port])),
    connect(C, A),
    works(C, A, "the program's relay$"),
    bp_cnode:stop(C).

mtu(Config) ->
    {A, Port, C} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    relay(C, A, io_lib:format("udp 127.0.0.1 ~b 1300", [At])),
    connect(C, A),
    works(C, A, "relay "),
    has(" datagram_size=1300 ", info(C, A)),
    ?EQ(1300, bp_relay:largest(Relay)),
    bp_cnode:stop(C),
    bp_relay:stop(Relay).

%% The C node says so at once; the connection goes down as with a dead network, and another dial does
%% without.
proxy_dies(Config) ->
    with_dante(Config, "none", fun({_, At} = Dante, {A, _, C}) ->
        relay(C, A, io_lib:format("socks5 127.0.0.1 ~b", [At])),
        connect(C, A),
        bp_relay:stop_dante(Dante),
        bp_cluster:until(fun() -> counter(C, "relays_dead") =:= 1 end),
        {ok, Log} = file:read_file(maps:get(log, C)),
        ?EQ(1, length(binary:matches(Log, <<"relay_down">>))),
        has("SOCKS proxy 127.0.0.1:.*the connection ends unless it is moved", Log),
        bp_cnode:tell(C, "close " ++ name(A)),
        _ = bp_cnode:expect(C, "down"),
        has("cannot connect: Connection refused", refused(C, A)),
        relay(C, A, "none"),
        reconnect(C, A),
        bp_cnode:stop(C)
    end).

forwarder_dies(Config) ->
    {A, Port, C} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    relay(C, A, io_lib:format("udp 127.0.0.1 ~b", [At])),
    connect(C, A),
    bp_relay:stop(Relay),
    %% a has nobody to answer to: the kernel says so
    bp_cluster:wait_log(A, ["connection_down", "econnrefused"]),
    bp_cluster:until(fun() -> counter(C, "relays_dead") =:= 1 end),
    bp_cnode:tell(C, "close " ++ name(A)),
    _ = bp_cnode:expect(C, "down"),
    has("relay 127.0.0.1:.*: nobody takes datagrams there", refused(C, A)),
    relay(C, A, "none"),
    reconnect(C, A),
    bp_cnode:stop(C).

%% The other side may still have the old connection.
reconnect(C, A) ->
    Name = name(A),
    bp_cluster:until(fun() ->
        bp_cnode:tell(C, "connect " ++ Name),
        bp_cnode:either(C, ["up", "failed"]) =:= {"up", Name}
    end).

%% A name that there is none of, and a port where nobody is.
nobody_there(Config) ->
    {A, _, C} = pair(Config),
    relay(C, A, "udp no-such-relay.invalid 5000"),
    has("relay no-such-relay.invalid:5000: its name ", refused(C, A)),
    relay(C, A, io_lib:format("socks5 127.0.0.1 ~b", [bp_relay:unused_port()])),
    has("cannot connect: Connection refused", refused(C, A)),
    bp_cnode:stop(C).

%% From relay to relay and off them, with numbered messages all the time.
moves(Config) ->
    with_dante(Config, "none", fun({_, At}, {A, Port, C}) ->
        Relays = [bp_relay:forwarder(Port) || _ <- [1, 2]],
        [One, Two] = [io_lib:format("udp 127.0.0.1 ~b", [P]) || {_, P} <- Relays],
        connect(C, A),
        Stop = numbered(A, C),
        [begin
            ?EQ({To, "0"}, {To, string:trim(migrate(C, A, To))}),
            has("relay=" ++ What, info(C, A))
         end || {To, What} <- [{One, "relay "}, {Two, "relay "}, {"direct", "$"},
                               {io_lib:format("socks5 127.0.0.1 ~b", [At]), "SOCKS proxy "},
                               {io_lib:format("functions ~b", [Port]), "the program's relay"},
                               {One, "relay "}]],
        in_order(C, A, Stop),
        bp_cnode:stop(C),
        [bp_relay:stop(R) || {R, _} <- Relays]
    end).

migrate(C, A, To) ->
    bp_cnode:ask(C, lists:flatten(["migrate ", name(A), " ", To]), "moved").

%% The node that was dialled asks for it.
moves_when_asked(Config) ->
    {A, Port, C} = pair(Config),
    {Relay, At} = bp_relay:forwarder(Port),
    connect(C, A),
    Stop = numbered(A, C),
    Name = bp_cnode:name(C),
    Migrate = fun(Opts) ->
        bp_cluster:run(A, fun() -> barrel_p2p:migrate_peer(Name, Opts) end, 30000)
    end,
    Remote = fun() ->
        {ok, #{remote := R}} = bp_cluster:call(A, barrel_p2p_path_stats, summary, [Name]),
        R
    end,
    Before = Remote(),
    ?EQ(ok, Migrate(#{timeout => 20000})),
    bp_cluster:until(fun() -> Remote() =/= Before end),
    %% through the relay where it has one
    Direct = Remote(),
    "0" = string:trim(migrate(C, A, io_lib:format("udp 127.0.0.1 ~b", [At]))),
    bp_cluster:until(fun() -> Remote() =/= Direct end),
    %% each side is done with the other's move in its own time
    bp_cluster:until(fun() ->
        case Migrate(#{timeout => 20000}) of
            ok -> true;
            {error, busy} -> false
        end
    end),
    has("relay=relay ", info(C, A)),
    in_order(C, A, Stop),
    bp_cnode:stop(C),
    bp_relay:stop(Relay).

%% Messages {n, 0}, {n, 1}, .. from A until the result is called, which says how many there were.
numbered(A, C) ->
    To = {count, bp_cnode:name(C)},
    Pid = bp_cluster:run(A, fun() -> spawn(fun() -> send_numbered(To, 0) end) end),
    fun() ->
        bp_cluster:run(A, fun() ->
            Pid ! {stop, self()},
            receive {sent, N} -> N end
        end, 30000)
    end.

send_numbered(To, N) ->
    To ! {n, N},
    receive
        {stop, From} -> From ! {sent, N + 1}
    after 1 ->
        send_numbered(To, N + 1)
    end.

%% Some have come before the end, and all after it.
in_order(C, A, Stop) ->
    Count = fun() -> bp_cnode:ask(C, "count " ++ name(A), "count") end,
    bp_cluster:until(fun() -> list_to_integer(Count()) > 50 end),
    Wanted = integer_to_list(Stop()),
    bp_cluster:until(fun() ->
        case Count() of
            Wanted -> true;
            Fewer -> ct:log("~s of ~s", [Fewer, Wanted]), false
        end
    end).

%% The block of docs/relay.md in a program, with this test's addresses and names for those in it.
recipe_of_the_documentation(Config) ->
    Dir = bp_cluster:dir(Config),
    case bp_relay:dante(Dir, {username, "u", "p"}) of
        skip ->
            {skip, "no SOCKS server, or no right to give it a user: apt-get install dante-server"};
        {ok, {_, At} = Dante} ->
            A = bp_cluster:start(Config, #{}),
            try
                Out = run_program(Dir, program(recipe([{"b@host2", name(A)},
                                                       {"proxy.example.org", "localhost"},
                                                       {"= 1080", "= " ++ integer_to_list(At)}]))),
                ?EQ(lists:flatten(io_lib:format("up ~s through SOCKS proxy localhost:~b", [name(A), At])),
                    string:trim(Out))
            after
                bp_relay:stop_dante(Dante)
            end
    end.

recipe(Changes) ->
    {ok, Text} = file:read_file(filename:join([bp_cluster:root(), "docs", "relay.md"])),
    {match, [Block]} = re:run(Text, "^```c\\n(.*?)^```",
                              [dotall, multiline, {capture, all_but_first, list}]),
    lists:foldl(fun({From, To}, T) ->
        New = lists:append(string:replace(T, From, To, all)),
        true = New =/= T,
        New
    end, Block, Changes).

program(Recipe) ->
    ["#include <barrel_p2p/barrel_p2p.h>\n#include <stdio.h>\n",
     "int main(void)\n{\n    struct bp_node *n;\n    struct bp_event ev;\n    struct bp_peer_info i;\n",
     "    if (bp_node_new(&n, \"", atom_to_list(bp_cnode:unique_name(recipe)), "\") != 0 ||\n",
     "        bp_node_set_text(n, BP_OPT_COOKIE, \"ct\") != 0 || bp_node_start(n) != 0 ||\n",
     "        bp_node_run_thread(n) != 0) {\n        puts(bp_error_detail());\n        return 1;\n    }\n",
     Recipe,
     "    if (bp_node_wait(n, &ev, 20000) == 0 && ev.kind == BP_EVENT_UP && ev.peer == peer &&\n",
     "        bp_node_peer_info(n, peer, &i, sizeof(i)) == 0) {\n",
     "        printf(\"up %s through %s\\n\", i.name, i.relay);\n    } else {\n",
     "        printf(\"%s %s\\n\", bp_error_detail(), ev.text);\n    }\n",
     "    bp_node_del(n);\n    return 0;\n}\n"].

run_program(Dir, Text) ->
    Root = bp_cluster:root(),
    C = filename:join(Dir, "recipe.c"),
    ok = file:write_file(C, Text),
    Lib = filename:join(Root, "build/release"),
    "" = os:cmd(lists:append(["cc -std=c11 -Wall -Wextra -I'", Root, "/include' -o '", Dir, "/recipe' '", C,
                              "' -L'", Lib, "' -lbarrel_p2p -Wl,-rpath,'", Lib, "' -pthread 2>&1"])),
    os:cmd(lists:append(["cd '", Dir, "' && HOME='", Dir, "/home' XDG_RUNTIME_DIR='", Dir,
                         "/run' ./recipe 2>&1"])).
