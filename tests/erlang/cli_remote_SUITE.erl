%% SPDX-License-Identifier: Apache-2.0
%% barrel-p2p ping, call, send, peers: the command as a hidden C node beside real nodes.
-module(cli_remote_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([ping_finds_and_knows_a_node/1, call_takes_and_gives_terms/1, call_failures/1,
         call_large_terms/1, send_arrives_or_says_so/1, peers_of_a_node/1, identity_is_kept/1,
         strict_node_refuses_until_told/1, wrong_cookie_and_wrong_key_are_refused/1,
         nobody_there/1, timeouts/1, several_at_once/1, flags_say_where_nodes_are/1,
         through_a_relay/1, through_a_proxy/1, ping_is_quick/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [ping_finds_and_knows_a_node, call_takes_and_gives_terms, call_failures, call_large_terms,
     send_arrives_or_says_so, peers_of_a_node, identity_is_kept, strict_node_refuses_until_told,
     wrong_cookie_and_wrong_key_are_refused, nobody_there, timeouts, several_at_once,
     flags_say_where_nodes_are, through_a_relay, through_a_proxy, ping_is_quick].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) ->
    bp_cluster:init_cookie("ct", bp_cluster:init_case(?MODULE, Case, Config)).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

node_a(Config) -> bp_cluster:start(Config, #{name => a}).

text(Node) -> atom_to_list(bp_cluster:name(Node)).

%% BP_COMMAND: another build of it, for example with sanitizers.
command() ->
    os:getenv("BP_COMMAND", filename:join([bp_cluster:root(), "bin", "barrel-p2p"])).

%% Runs the command as the nodes' user, in a directory of its own; {exit code, stdout, stderr}.
cli(Config, Args) -> cli(Config, Args, []).

cli(Config, Args, Opts) ->
    Dir = bp_cluster:dir(Config),
    Err = filename:join([Dir, "tmp", bp_cluster:unique(err)]),
    Line = unicode:characters_to_list(["exec '", command(), "'", [quote(A) || A <- Args],
                         case proplists:get_value(input, Opts) of
                             undefined -> "</dev/null";
                             Input -> [" <'", Input, "'"]
                         end, " 2>'", Err, "'"]),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", unicode:characters_to_binary(Line)]}, {cd, Dir},
                      {env, lists:ukeysort(1, proplists:get_value(env, Opts, []) ++
                            [{"HOME", filename:join(Dir, "home")},
                             {"XDG_RUNTIME_DIR", filename:join(Dir, "run")},
                             {"XDG_CONFIG_HOME", false}])},
                      exit_status, binary]),
    {Status, Out} = collect(Port, []),
    {ok, Said} = file:read_file(Err),
    {Status, unicode:characters_to_list(Out), unicode:characters_to_list(Said)}.

collect(Port, Out) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Out, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Out)}
    after ?LONG ->
        error({no_exit, Out})
    end.

ok(Config, Args) -> ok(Config, Args, []).

ok(Config, Args, Opts) ->
    case cli(Config, Args, Opts) of
        {0, Out, ""} -> Out;
        Other -> error({barrel_p2p, Args, Other})
    end.

%% The command ends with that exit code, and says all of these words.
fails(Status, Words, {Status, _, Said}) ->
    [string:find(Said, W) =/= nomatch orelse error({not_said, W, Said}) || W <- Words],
    ok;
fails(Status, Words, Other) ->
    error({wanted, Status, Words, Other}).

%% A member of the JSON that was printed, whose value has no quotes in it.
json(Name, Out) ->
    {match, [Value]} = re:run(Out, "\"" ++ Name ++ "\": \"?([^\",\n]*)",
                              [{capture, all_but_first, list}]),
    Value.

ping_finds_and_knows_a_node(Config) ->
    A = node_a(Config),
    Out = ok(Config, ["ping", text(A)]),
    {match, _} = re:run(Out, "answer +pong\nnode +" ++ text(A) ++ "\n"),
    Json = ok(Config, ["ping", text(A), "--json"]),
    #{port := Port, fingerprint := Print} = bp_cluster:call(A, barrel_p2p, info, []),
    ?EQ(binary_to_list(Print), json("fingerprint", Json)),
    true = lists:suffix(":" ++ integer_to_list(Port), json("address", Json)),
    true = list_to_integer(json("round_trip_us", Json)) > 0,
    true = list_to_integer(json("datagram_bytes", Json)) >= 1200,
    %% it was a hidden node, and nothing of it stays
    ?EQ([], bp_cluster:call(A, erlang, nodes, [visible])),
    bp_cluster:until(fun() -> bp_cluster:call(A, erlang, nodes, [hidden]) =:= [] end).

call_takes_and_gives_terms(Config) ->
    A = node_a(Config),
    Call = fun(M, F, Args) -> ok(Config, ["call", text(A), M, F, Args]) end,
    ?EQ("6\n", Call("lists", "sum", "[[1,2,3]]")),
    ?EQ("'" ++ text(A) ++ "'\n", ok(Config, ["call", text(A), "erlang", "node"])),
    ?EQ("{a,\"b\",<<\"c\">>,#{k => [1.5]}}\n",
        Call("erlang", "hd", "[[{a, \"b\", <<\"c\">>, #{k => [1.5]}}]]")),
    ?EQ("\"\x{3bb}\x{e5}\"\n", Call("lists", "reverse", "[\"\x{e5}\x{3bb}\"]")),
    ?EQ("1208925819614629174706176\n", Call("erlang", "bsl", "[1, 80]")),
    %% a string is a list of arguments, too
    ?EQ("\"b\"\n", Call("lists", "nthtail", "[1,\"ab\"]")),
    ?EQ("197\n", Call("erlang", "+", "\"bc\"")),
    %% names as they are, or quoted
    ?EQ("true\n", Call("'erlang'", "'=:='", "[a,a]")),
    ?EQ("{x}", json("result", ok(Config, ["call", text(A), "erlang", "hd", "[[{x}]]", "--json"]))),
    %% who called
    Caller = ok(Config, ["call", text(A), "erlang", "nodes", "[hidden]"]),
    {match, _} = re:run(Caller, "^\\['?barrel_p2p_[a-zA-Z0-9_.-]+@"),
    %% arguments from the standard input
    File = filename:join(bp_cluster:dir(Config), "args"),
    ok = file:write_file(File, "% sum\n[[1,\n  2]].\n"),
    ?EQ("3\n", ok(Config, ["call", text(A), "lists", "sum", "-"], [{input, File}])).

call_failures(Config) ->
    A = node_a(Config),
    Call = fun(Args) -> cli(Config, ["call", text(A) | Args]) end,
    fails(10, ["erlang:hd failed there", "badarg"], Call(["erlang", "hd", "[[]]"])),
    fails(10, ["nosuch:f failed there", "undef"], Call(["nosuch", "f"])),
    fails(10, ["reason_of_exit"], Call(["erlang", "exit", "[reason_of_exit]"])),
    ?EQ("{error,x}\n", ok(Config, ["call", text(A), "erlang", "hd", "[[{error,x}]]"])),
    %% what is not even sent
    fails(2, ["ARGS, column 5", "where a term is wanted"], Call(["lists", "sum", "[1, ]"])),
    fails(2, ["list of all arguments"], Call(["lists", "sum", "{1}"])),
    fails(2, ["Var is a variable"], Call(["lists", "sum", "[Var]"])),
    fails(2, ["something is missing"], Call(["lists"])),
    fails(2, ["is not a node name"], cli(Config, ["call", "a", "m", "f"])),
    {10, Json, _} = Call(["erlang", "hd", "[[]]", "--json"]),
    ?EQ("badrpc", json("error", Json)).

call_large_terms(Config) ->
    A = node_a(Config),
    File = filename:join(bp_cluster:dir(Config), "args"),
    %% 3 MB there, and 8 MB of text back
    ok = file:write_file(File, ["[[<<\"", lists:duplicate(3000000, $x), "\">>]]"]),
    ?EQ("3000000\n", ok(Config, ["call", text(A), "erlang", "iolist_size", "-"], [{input, File}])),
    Back = ok(Config, ["call", text(A), "binary", "copy", "[<<\"12345678\">>, 1000000]"]),
    ?EQ(8000000 + length("<<\"\">>\n"), length(Back)),
    %% more than a C node takes in one message
    fails(9, ["the connection has ended", "max_frame_bytes"],
          cli(Config, ["call", text(A), "binary", "copy", "[<<0>>, 270000000]", "--timeout", "60000"])),
    ?EQ(1000000, length(string:lexemes(ok(Config, ["call", text(A), "lists", "seq",
                                                   "[1, 1000000]"]), ","))).

send_arrives_or_says_so(Config) ->
    A = node_a(Config),
    %% the test's agent is no process of ours to register: one that collects is
    ok = bp_cluster:run(A, fun() ->
             Pid = spawn(fun() -> collector([]) end),
             true = register(collector, Pid),
             ok
         end),
    ?EQ("", ok(Config, ["send", text(A), "collector", "{hello, \"w\", <<1>>}"])),
    ?EQ("", ok(Config, ["send", text(A), "collector", "second"])),
    ?EQ([{hello, "w", <<1>>}, second],
        bp_cluster:run(A, fun() ->
            collector ! {all, self()},
            receive {collected, All} -> All end
        end)),
    ?EQ("collector", json("sent_to", ok(Config, ["send", text(A), "collector", "x", "--json"]))),
    fails(3, ["no process is registered as nobody"], cli(Config, ["send", text(A), "nobody", "x"])),
    fails(2, ["TERM, column 3"], cli(Config, ["send", text(A), "collector", "{a"])),
    File = filename:join(bp_cluster:dir(Config), "term"),
    ok = file:write_file(File, "{from,\n file}.\n"),
    ?EQ("", ok(Config, ["send", text(A), "collector", "-"], [{input, File}])).

collector(All) ->
    receive
        {all, Pid} -> Pid ! {collected, lists:reverse(All)}, collector(All);
        Message -> collector([Message | All])
    end.

peers_of_a_node(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    Out = ok(Config, ["peers", text(A)]),
    {match, _} = re:run(Out, "^NODE +ADDRESS +DIRECTION +RTT us +DATAGRAM"),
    {match, _} = re:run(Out, "\n" ++ text(B) ++ " +127.0.0.1:[0-9]+ +dialled +[0-9]+ +[0-9]+ "),
    {match, _} = re:run(Out, "\nbarrel_p2p_[^ ]+ +[^ ]+ +accepted +"),
    {match, _} = re:run(Out, "\nfrom here to " ++ text(A) ++ " at 127.0.0.1:[0-9]+: [0-9]+ us"),
    Json = ok(Config, ["peers", text(A), "--json"]),
    [true = string:find(Json, W) =/= nomatch
     || W <- ["\"node\": \"" ++ text(B) ++ "\"", "\"frames_in\": ", "\"cwnd\": ", "\"path\": {"]],
    ok.

identity_is_kept(Config) ->
    A = node_a(Config),
    Mine = my_name(),
    _ = ok(Config, ["ping", text(A) | Mine]),
    Keys = filename:join([bp_cluster:dir(Config), "home", ".config", "barrel_p2p", "data", "keys"]),
    {ok, Key} = file:read_file(filename:join(Keys, "node.pub")),
    {ok, Seed} = file:read_file_info(filename:join(Keys, "node.key")),
    ?EQ(8#600, element(8, Seed) band 8#777),
    _ = ok(Config, ["ping", text(A) | Mine]),
    ?EQ({ok, Key}, file:read_file(filename:join(Keys, "node.pub"))),
    %% each has the other's key
    {ok, Pub} = bp_cluster:call(A, barrel_p2p_dist_auth, get_public_key, []),
    ?EQ({ok, Pub}, file:read_file(filename:join([Keys, "trusted", text(A) ++ ".pub"]))),
    [Pinned] = bp_cluster:call(A, barrel_p2p_dist_keys, list_trusted, []),
    true = lists:member(Key, tuple_to_list(Pinned)),
    %% another directory is another identity
    Other = filename:join(bp_cluster:dir(Config), "other"),
    _ = ok(Config, ["ping", text(A), "--dir", Other, "--name", "tool@here"]),
    {ok, OtherKey} = file:read_file(filename:join(Other, "data/keys/node.pub")),
    true = Key =/= OtherKey,
    ?EQ({ok, OtherKey}, bp_cluster:call(A, barrel_p2p_dist_keys, lookup_key, ['tool@here'])).

%% A name of its own for the command, for what counts on the same one each time: the one that it chooses
%% is another one while another command of this user has it, on the whole machine.
my_name() -> ["--name", bp_cluster:unique(tool) ++ "@here"].

strict_node_refuses_until_told(Config) ->
    Mine = my_name(),
    A = bp_cluster:start(Config, #{name => a, cwd => "a",
                                   config => [{barrel_p2p, [{auth_trust_mode, strict}]}]}),
    fails(7, [text(A)], cli(Config, ["ping", text(A) | Mine])),
    fails(7, [text(A)], cli(Config, ["call", text(A), "erlang", "node" | Mine])),
    Keys = filename:join([bp_cluster:dir(Config), "home", ".config", "barrel_p2p", "data", "keys"]),
    {ok, Key} = file:read_file(filename:join(Keys, "node.pub")),
    {ok, Name} = file:read_file(filename:join(Keys, "node.name")),
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, store_key,
                         [binary_to_atom(string:trim(Name)), Key]),
    _ = ok(Config, ["ping", text(A) | Mine]),
    _ = ok(Config, ["call", text(A), "erlang", "node" | Mine]),
    %% and we are strict ourselves
    fails(7, [text(A)], cli(Config, ["ping", text(A), "--trust", "strict", "--dir", "new"])),
    _ = ok(Config, ["ping", text(A), "--trust", "strict" | Mine]).

wrong_cookie_and_wrong_key_are_refused(Config) ->
    A = node_a(Config),
    Mine = my_name(),
    fails(7, [text(A), "cookie"], cli(Config, ["ping", text(A), "--cookie", "wrong" | Mine])),
    fails(7, [text(A)], cli(Config, ["call", text(A), "erlang", "node", "[]", "--cookie", "wrong" | Mine])),
    {7, Json, _} = cli(Config, ["ping", text(A), "--cookie", "wrong", "--json" | Mine]),
    true = json("error", Json) =/= "",
    %% the node has another key than we know
    Trusted = filename:join([bp_cluster:dir(Config), "home/.config/barrel_p2p/data/keys/trusted",
                             text(A) ++ ".pub"]),
    ok = filelib:ensure_dir(Trusted),
    _ = ok(Config, ["ping", text(A) | Mine]),
    ok = file:write_file(Trusted, crypto:strong_rand_bytes(32)),
    fails(7, [text(A), "trust"], cli(Config, ["ping", text(A) | Mine])),
    ok = file:delete(Trusted),
    _ = ok(Config, ["ping", text(A) | Mine]).

nobody_there(Config) ->
    fails(3, ["no@nosuchhost.invalid"], cli(Config, ["ping", "no@nosuchhost.invalid"])),
    fails(3, ["no@nosuchhost.invalid"], cli(Config, ["call", "no@nosuchhost.invalid", "m", "f"])),
    Free = integer_to_list(bp_cluster:free_port()),
    At = ["--static", "a@h=127.0.0.1:" ++ Free],
    fails(9, ["a@h"], cli(Config, ["ping", "a@h" | At])),
    fails(9, ["a@h"], cli(Config, ["call", "a@h", "m", "f" | At])).

%% The same with a UDP forwarder in between, which is not asked twice for the way.
through_a_relay(Config) ->
    A = node_a(Config),
    {ok, Port} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    {Relay, At} = bp_relay:forwarder(Port),
    Url = lists:flatten(io_lib:format("udp://127.0.0.1:~b", [At])),
    Name = "relay 127.0.0.1:" ++ integer_to_list(At),
    Json = ok(Config, ["ping", text(A), "--relay", Url ++ "?mtu=1300", "--json"]),
    ?EQ(Name, json("relay", Json)),
    true = bp_relay:largest(Relay) =< 1300,
    Before = bp_relay:count(Relay),
    ?EQ("6\n", ok(Config, ["call", text(A), "lists", "sum", "[[1,2,3]]", "--relay", Url])),
    Peers = ok(Config, ["peers", text(A), "--relay", Url]),
    {match, _} = re:run(Peers, "from here to .* through " ++ Name ++ ": "),
    true = bp_cluster:run(A, fun() ->
        register(relay_door, spawn(fun() ->
            receive x -> persistent_term:put(relay_door, got) end,
            receive stop -> ok end
        end))
    end),
    _ = ok(Config, ["send", text(A), "relay_door", "x", "--relay", Url]),
    bp_cluster:until(fun() -> bp_cluster:call(A, persistent_term, get, [relay_door, none]) =:= got end),
    true = bp_relay:count(Relay) > Before + 20,
    %% nobody else has to know where a node is: somebody else answers here
    fails(7, ["x@nosuchhost.invalid"], cli(Config, ["ping", "x@nosuchhost.invalid", "--relay", Url])),
    bp_relay:stop(Relay),
    fails(9, [text(A), Name, "nobody takes datagrams there"],
          cli(Config, ["ping", text(A), "--relay", Url])),
    fails(9, [text(A), Name], cli(Config, ["call", text(A), "erlang", "node", "--relay", Url])),
    fails(2, ["--relay:", "udp://HOST:PORT"], cli(Config, ["ping", text(A), "--relay", "tcp://h:1"])),
    fails(2, ["--relay", "value"], cli(Config, ["ping", text(A), "--relay"])),
    %% other commands have no relay
    fails(2, ["--relay"], cli(Config, ["names", "--relay", Url])).

%% A password is never an argument, and never said.
through_a_proxy(Config) ->
    case bp_relay:dante(bp_cluster:dir(Config), {username, "bpsocks", "s3cret"}) of
        skip ->
            {skip, "no SOCKS server, or no right to give it a user: apt-get install dante-server"};
        {ok, {_, At} = Dante} ->
            try through_dante(Config, At)
            after bp_relay:stop_dante(Dante)
            end
    end.

through_dante(Config, At) ->
    A = node_a(Config),
    Url = fun(User) -> lists:flatten(io_lib:format("socks5://~s127.0.0.1:~b", [User, At])) end,
    Ping = fun(User, More, Env) ->
        cli(Config, ["ping", text(A), "--json", "--relay", Url(User) | More], [{env, Env}])
    end,
    Env = fun(Password) -> [{"BARREL_P2P_RELAY_PASSWORD", Password}] end,
    File = filename:join(bp_cluster:dir(Config), "secret"),
    ok = file:write_file(File, "s3cret\n"),
    ok = file:change_mode(File, 8#600),
    {0, ByEnv, ""} = Ping("bpsocks@", [], Env("s3cret")),
    ?EQ("SOCKS proxy 127.0.0.1:" ++ integer_to_list(At), json("relay", ByEnv)),
    {0, _, ""} = Ping("bpsocks@", ["--relay-secret", File], Env("the file counts more")),
    fails(9, ["the proxy did not take the user name and password"], Ping("bpsocks@", [], Env("wrong"))),
    fails(9, ["the proxy wants a user name and a password"], Ping("", [], [])),
    fails(2, ["BARREL_P2P_RELAY_PASSWORD"], Ping("bpsocks@", [], Env(false))),
    {2, Out, Said} = Ping("bpsocks:s3cret@", [], []),
    fails(2, ["seen by other users"], {2, Out, Said}),
    ?EQ(nomatch, string:find(Out ++ Said, "s3cret")),
    fails(2, ["--relay-secret"], Ping("", ["--relay-secret", File], [])),
    ok = file:change_mode(File, 8#644),
    fails(4, [File, "chmod 600"], Ping("bpsocks@", ["--relay-secret", File], [])),
    ok = file:change_mode(File, 8#600),
    ok = file:write_file(File, "\n"),
    fails(2, ["--relay-secret"], Ping("bpsocks@", ["--relay-secret", File], [])),
    fails(3, [File ++ ".not"], Ping("bpsocks@", ["--relay-secret", File ++ ".not"], [])).

timeouts(Config) ->
    A = node_a(Config),
    %% a host that says nothing
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Socket),
    At = ["--static", "a@h=127.0.0.1:" ++ integer_to_list(Port), "--timeout", "500"],
    [begin
         {Us, Answer} = timer:tc(fun() -> cli(Config, Args ++ At) end),
         fails(8, ["a@h"], Answer),
         true = Us >= 490000 andalso Us < 30000000
     end || Args <- [["ping", "a@h"], ["call", "a@h", "m", "f"]]],
    ok = gen_udp:close(Socket),
    %% a function that takes long, and longer than a busy machine takes to connect
    fails(8, [text(A), "--timeout"],
          cli(Config, ["call", text(A), "timer", "sleep", "[infinity]", "--timeout", "4000"])),
    ?EQ("ok\n", ok(Config, ["call", text(A), "timer", "sleep", "[1000]", "--timeout", "30000"])),
    fails(2, ["--timeout"], cli(Config, ["ping", text(A), "--timeout", "soon"])),
    %% a node that is there and does nothing
    bp_cluster:signal(A, "STOP"),
    [fails(8, [text(A)], cli(Config, Args ++ ["--timeout", "1000"]))
     || Args <- [["ping", text(A)], ["call", text(A), "erlang", "node"],
                 ["send", text(A), "user", "x"], ["peers", text(A)]]],
    bp_cluster:signal(A, "CONT"),
    _ = ok(Config, ["ping", text(A), "--timeout", "30000"]).

several_at_once(Config) ->
    A = node_a(Config),
    Jobs = [bp_cluster:async(fun() ->
                ok(Config, ["call", text(A), "erlang", "hd", io_lib:format("[[~w]]", [N]),
                            "--timeout", "60000"])
            end, []) || N <- lists:seq(1, 8)],
    ?EQ([integer_to_list(N) ++ "\n" || N <- lists:seq(1, 8)], [bp_cluster:await(J) || J <- Jobs]),
    %% one name is for one at a time
    Slow = bp_cluster:async(fun() ->
               ok(Config, ["call", text(A), "bp_procs", "gate", "[]", "--name", "t@h",
                           "--timeout", "60000"])
           end, []),
    bp_cluster:until(fun() ->
        lists:member('t@h', bp_cluster:call(A, erlang, nodes, [hidden]))
    end),
    fails(5, ["t@h"], cli(Config, ["ping", text(A), "--name", "t@h"])),
    bp_cluster:until(fun() -> bp_cluster:call(A, bp_procs, open_gate, []) end),
    "opened\n" = bp_cluster:await(Slow).

flags_say_where_nodes_are(Config) ->
    Hidden = bp_cluster:start(Config, #{name => a, cwd => "a",
        config => [{barrel_p2p, [{discovery_dir, filename:join(bp_cluster:dir(Config), "far")},
                                 {discovery_runtime_dir, none}]}]}),
    Name = text(Hidden),
    #{port := Port} = bp_cluster:call(Hidden, barrel_p2p, info, []),
    fails(9, [Name], cli(Config, ["ping", Name])),
    _ = ok(Config, ["ping", Name, "--discovery-dir", "far"]),
    At = integer_to_list(Port),
    _ = ok(Config, ["ping", Name, "--static", Name ++ "=127.0.0.1:" ++ At]),
    _ = ok(Config, ["ping", Name, "--static", Name ++ "=localhost:" ++ At]),
    _ = ok(Config, ["ping", Name, "--dns-port", At]),
    %% all of it, and the cookie, from a sys.config
    File = filename:join(bp_cluster:dir(Config), "some.config"),
    ok = file:write_file(File, io_lib:format("~p.~n",
             [[{quic, [{dist, [{nodes, [{list_to_atom(Name), {"127.0.0.1", Port}}]}]}]},
               {barrel_p2p, [{dist_cookie, ct}]}]])),
    NoCookie = [{env, [{"HOME", filename:join(bp_cluster:dir(Config), "tmp")}]}],
    fails(3, ["~/.erlang.cookie"], cli(Config, ["ping", Name, "--static", Name ++ "=127.0.0.1:" ++ At], NoCookie)),
    _ = ok(Config, ["ping", Name, "--config", "some.config", "--name", "o@h"], NoCookie),
    fails(7, ["cookie"], cli(Config, ["ping", Name, "--config", "some.config", "--cookie", "x",
                                 "--name", "o@h"], NoCookie)),
    fails(3, ["nosuch.config"], cli(Config, ["ping", Name, "--config", "nosuch.config"])),
    fails(2, ["NODE=HOST:PORT"], cli(Config, ["ping", Name, "--static", Name])),
    fails(2, ["NODE=HOST:PORT"], cli(Config, ["ping", Name, "--static", Name ++ "=localhost:0"])),
    fails(2, ["dns-port"], cli(Config, ["ping", Name, "--dns-port", "70000"])).

%% The machine may be busy, so the best of some is what counts; a second of waiting anywhere fails.
ping_is_quick(Config) ->
    A = node_a(Config),
    _ = ok(Config, ["ping", text(A)]),
    Best = lists:min([element(1, timer:tc(fun() -> ok(Config, ["ping", text(A)]) end))
                      || _ <- lists:seq(1, 20)]),
    ct:pal("ping took ~w us", [Best]),
    true = Best < 500000.

%% For /bin/sh.
quote(Arg) -> [" '", string:replace(Arg, "'", "'\\''", all), "'"].
