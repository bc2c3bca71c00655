%% SPDX-License-Identifier: Apache-2.0
%% Nodes for the suites: boots real OS processes over the carrier under test and controls them
%% without distribution, so that both ends of every test are ordinary nodes.
%%
%% Environment: CARRIER=quic (default) | tcp | tls, BP_ROOT (the repository), BP_APP (where
%% ebin/ and priv/ are; default BP_ROOT), BP_CT_DIR (the nodes' directories; a case's is removed
%% when the case passed; scripts/run-tests starts with an empty one). With BP_OTHER_ERL (an erl) and
%% BP_OTHER_APP (ebin/ and priv/ built for it) about half of the nodes are of another Erlang/OTP:
%% those whose names end in b, d, 2, 4, ..., or in the others with BP_OTHER_NAMES=odd. BP_ASAN (the
%% sanitizer's library) with BP_ASAN_OPTIONS: nodes run with it, and end cleanly so that it finds leaks.
-module(bp_cluster).

-export([carrier/0, only/1, only/2, root/0, init_with_ebin/1, end_with_ebin/0]).
-export([init_dir/2, init_case/3, init_cookie/2, end_case/1, end_dir/1, end_suite/1, dir/1, stop_everything/0]).
-export([start/2, start_many/2, boot/2, program/3]).
-export([name/1, call/4, call/5, run/2, run/3, async/2, await/1]).
-export([stop/1, kill9/1, kill/1, signal/2, os_pid/1, input/2, await_exit/2]).
-export([log/1, wait_log/2, wait_log/3, until/1, until/2, unique/1, free_port/0]).
-export([connect/2, disconnect/2, hush/1]).

-define(BOOT_TIMEOUT, 60000).
%% Nothing waits that long unless it fails.
-define(LOG_TIMEOUT, 30000).
-define(UNTIL_TIMEOUT, 30000).

%% ---- carrier ----

-spec carrier() -> quic | tcp | tls.
carrier() ->
    case os:getenv("CARRIER", "quic") of
        "quic" -> quic;
        "tcp" -> tcp;
        "tls" -> tls
    end.

%% For init_per_suite and init_per_testcase: ok, or a skip that says why.
only(Carrier) ->
    case carrier() of
        Carrier -> ok;
        Other -> {skip, lists:flatten(io_lib:format("~s only, CARRIER=~s", [Carrier, Other]))}
    end.

%% init_per_suite of suites that need nothing more.
only(Carrier, Config) ->
    case only(Carrier) of
        ok -> Config;
        Skip -> Skip
    end.

%% init_per_suite and end_per_suite of suites that also call our modules outside of nodes.
init_with_ebin(Config) ->
    case only(quic) of
        ok ->
            true = code:add_path(filename:join(root(), "ebin")),
            Config;
        Skip ->
            Skip
    end.

end_with_ebin() ->
    code:del_path(filename:join(root(), "ebin")),
    ok.

root() ->
    case os:getenv("BP_ROOT") of
        false -> error("BP_ROOT is not set: run the suites with scripts/run-tests --ct");
        Root -> Root
    end.

%% The directory with ebin/ and priv/.
app() ->
    case os:getenv("BP_APP") of
        false -> root();
        App -> App
    end.

%% {erl, directory with ebin/ and priv/} for a node; a driver that is wrong on purpose was built for
%% this OTP.
otp(Opts, Label) ->
    case {is_other(Label), Opts} of
        {_, #{app := Below}} -> {erl(), filename:join([root(), "build", Below])};
        {true, _} -> {os:getenv("BP_OTHER_ERL"), os:getenv("BP_OTHER_APP")};
        {false, _} -> {erl(), app()}
    end.

%% A mixed run in which all nodes are the same proves nothing.
check_other(Handle) ->
    case {call(Handle, erlang, system_info, [otp_release]), erlang:system_info(otp_release)} of
        {Same, Same} -> error({not_another_otp, Same});
        _ -> ok
    end.

is_other(Label) ->
    Even = lists:last(hd(string:lexemes(Label, "_@"))) rem 2 =:= 0,
    os:getenv("BP_OTHER_ERL", "") =/= "" andalso
        Even =:= (os:getenv("BP_OTHER_NAMES", "even") =:= "even").

node_carrier_args(#{carrier_args := Args}) -> Args;
node_carrier_args(Opts) -> carrier_args(maps:get(carrier, Opts, carrier())).

carrier_args(quic) ->
    ["-proto_dist", "barrel_p2p", "-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false"];
carrier_args(tcp) ->
    [];
carrier_args(tls) ->
    ["-proto_dist", "inet_tls", "-ssl_dist_optfile", tls_optfile()].

tls_optfile() ->
    File = filename:join(base(), "tls.optfile"),
    case filelib:is_file(File) of
        true ->
            File;
        false ->
            #{server_config := Conf} =
                public_key:pkix_test_data(#{server_chain => chain(), client_chain => chain()}),
            Opts = [{cert, proplists:get_value(cert, Conf)},
                    {key, proplists:get_value(key, Conf)}],
            Term = [{server, Opts}, {client, [{verify, verify_none} | Opts]}],
            ok = filelib:ensure_dir(File),
            ok = file:write_file(File, io_lib:format("~w.~n", [Term])),
            File
    end.

chain() ->
    Ec = {key, {namedCurve, secp256r1}},
    #{root => [Ec], intermediates => [], peer => [Ec]}.

%% ---- directories ----

base() ->
    case os:getenv("BP_CT_DIR") of
        false -> filename:join([root(), "build", "ct", "nodes"]);
        Dir -> Dir
    end.

%% Adds {bp_dir, Dir}: an empty directory for the nodes of a suite or a case.
init_dir(Name, Config) ->
    Dir = filename:join(base(), Name),
    _ = file:del_dir_r(Dir),
    [ok = filelib:ensure_dir(filename:join([Dir, D, "x"])) || D <- ["home", "run", "tmp"]],
    [ok = file:change_mode(filename:join(Dir, D), 8#700) || D <- ["home", "run", "tmp"]],
    lists:keystore(bp_dir, 1, Config, {bp_dir, Dir}).

init_case(Suite, Case, Config) ->
    init_dir(lists:flatten([atom_to_list(Suite), ".", atom_to_list(Case)]), Config).

%% The cookie file of the directory's home.
init_cookie(Text, Config) ->
    Cookie = filename:join([dir(Config), "home", ".erlang.cookie"]),
    ok = file:write_file(Cookie, Text),
    ok = file:change_mode(Cookie, 8#400),
    Config.

%% Ends the nodes of the case; its directory stays for inspection if the case failed.
end_case(Config) ->
    stop_all(dir(Config)),
    case proplists:get_value(tc_status, Config) of
        ok -> end_dir(Config);
        {skipped, _} -> end_dir(Config);
        _ -> io:format(user, "  nodes' logs: ~ts~n", [dir(Config)])
    end,
    ok.

end_dir(Config) ->
    stop_all(dir(Config)),
    _ = file:del_dir_r(dir(Config)),
    ok.

%% For nodes that a whole suite shares: their logs stay until the next run.
end_suite(Dir) ->
    stop_all(Dir).

dir(Config) ->
    proplists:get_value(bp_dir, Config).

%% Nodes are kept in a table that belongs to a process of its own: a case's process is gone when
%% end_per_testcase runs.
table() ->
    case ets:info(?MODULE, owner) of
        undefined ->
            Me = self(),
            Pid = spawn(fun() ->
                try ets:new(?MODULE, [named_table, public, duplicate_bag])
                catch error:badarg -> ok        % another was faster
                end,
                Me ! {self(), made},
                receive stop -> ok end
            end),
            receive {Pid, made} -> ok end;
        _ ->
            ok
    end.

stop_all(Dir) ->
    table(),
    Pids = [Pid || {_, Pid} <- ets:lookup(?MODULE, Dir)],
    ets:delete(?MODULE, Dir),
    asan_env() =:= [] orelse end_cleanly(Pids),
    lists:foreach(fun bp_peer:kill/1, Pids).

end_cleanly(Pids) ->
    Jobs = [async(fun() ->
        bp_peer:call(P, init, stop, [], 5000) =:= {ok, ok} andalso bp_peer:await_exit(P, 20000)
    end, []) || P <- Pids],
    [try await(Job) catch error:_ -> ok end || Job <- Jobs].

%% What a suite that failed in init_per_suite has left running.
stop_everything() ->
    table(),
    lists:foreach(fun stop_all/1, lists:usort([Dir || {Dir, _} <- ets:tab2list(?MODULE)])).

%% ---- nodes ----

%% Options, all optional:
%%   name    atom: first part of the node's name (default n); a unique part is added
%%   node    atom: the whole name, for a restart under the same name
%%   names   long (default, @127.0.0.1) | short | none | dynamic (-sname undefined)
%%   cwd     directory below the case's (default: the case's own)
%%   args    [string()] more arguments       env  [{string(), string() | false}]
%%   config  term(): sys.config              cookie  string() (default "ct") | none
%%   carrier       quic | tcp | tls: instead of CARRIER's
%%   carrier_args  [string()]: instead of the carrier's own
%%   prefix        [string()]: the command that runs the node, a program and its arguments
%%   app           string(): below build/, another ebin/ and priv/ than the product's
%%   config_file   string(): name of the sys.config (default: after the node)
%% Returns a handle (a map), or fails with the end of the node's log.
start(Config, Opts) ->
    case boot(Config, Opts) of
        {ok, Node} -> Node;
        {exit, Code, Log} -> error({boot_failed, Code, tail(Log)})
    end.

%% Starts several at once; the handles in the order of the options.
start_many(Config, ListOfOpts) ->
    Jobs = [async(fun() -> start(Config, Opts) end, []) || Opts <- ListOfOpts],
    [await(Job) || Job <- Jobs].

%% {ok, Handle} | {exit, Code, Log}
boot(Config, Opts) ->
    Dir = dir(Config),
    Node = node_name(Opts),
    Cwd = filename:join(Dir, maps:get(cwd, Opts, ".")),
    ok = filelib:ensure_dir(filename:join(Cwd, "x")),
    Label = case Node of undefined -> unique(maps:get(name, Opts, n)); _ -> atom_to_list(Node) end,
    Log = filename:join(Dir, Label ++ ".log"),
    {Erl, App} = otp(Opts, Label),
    Args = name_args(Node, Opts) ++ node_carrier_args(Opts) ++
        ["-pa", filename:join(App, "ebin"), "-pa", filename:dirname(code:which(?MODULE))] ++
        cookie_args(Opts) ++ config_args(Label, Dir, Opts) ++ maps:get(args, Opts, []) ++
        [A || asan_env() =/= [], A <- ["+Mea", "min"]] ++       % each allocation of the VM, too
        ["-noinput", agent],
    [Exe | Before] = maps:get(prefix, Opts, []) ++ [Erl],
    {ok, Pid} = bp_peer:start(#{cwd => Cwd, log => Log, exe => Exe, args => Before ++ Args,
                                env => env(Dir, Opts)}),
    table(),
    ets:insert(?MODULE, {Dir, Pid}),
    Handle = #{node => Node, pid => Pid, log => Log, dir => Dir, cwd => Cwd, opts => Opts},
    case bp_peer:await_boot(Pid, ?BOOT_TIMEOUT) of
        up ->
            Erl =:= erl() orelse check_other(Handle),
            {ok, Handle};
        {exit, Code} ->
            {exit, Code, log(Handle)};
        timeout ->
            bp_peer:kill(Pid),
            error({boot_timeout, Label, tail(log(Handle))})
    end.

%% Runs `erl Args` on a terminal of its own (script(1)), without the agent; the handle takes
%% input/2, log/1, await_exit/2 and the signals. Options: cwd, env as above.
program(Config, Args, Opts) ->
    Dir = dir(Config),
    Cwd = filename:join(Dir, maps:get(cwd, Opts, ".")),
    ok = filelib:ensure_dir(filename:join(Cwd, "x")),
    Log = filename:join(Dir, unique(program) ++ ".log"),
    All = carrier_args(carrier()) ++ ["-pa", filename:join(app(), "ebin")] ++ Args,
    Command = lists:join($\s, [[$', A, $'] || A <- [erl() | All]]),
    {ok, Pid} = bp_peer:start(#{cwd => Cwd, log => Log, exe => os:find_executable("script"),
                                args => ["-qec", lists:flatten(Command), "/dev/null"],
                                env => env(Dir, Opts)}),
    table(),
    ets:insert(?MODULE, {Dir, Pid}),
    #{node => undefined, pid => Pid, log => Log, dir => Dir, cwd => Cwd, opts => Opts}.

erl() ->
    case os:find_executable(os:getenv("ERL", "erl")) of
        false -> error("no erl in PATH");
        Erl -> Erl
    end.

node_name(#{node := Node}) -> Node;
node_name(#{names := none}) -> undefined;
node_name(#{names := dynamic}) -> undefined;
node_name(#{names := short} = O) ->
    {ok, Host} = inet:gethostname(),
    list_to_atom(unique(maps:get(name, O, n)) ++ "@" ++ hd(string:lexemes(Host, ".")));
node_name(O) ->
    list_to_atom(unique(maps:get(name, O, n)) ++ "@127.0.0.1").

%% Unique on the machine: TCP nodes of two test runs share one epmd.
unique(Prefix) ->
    lists:flatten(io_lib:format("~s_~s_~w", [Prefix, os:getpid(),
                                             erlang:unique_integer([positive])])).

name_args(_, #{names := none}) -> [];
name_args(_, #{names := dynamic}) -> ["-sname", "undefined"];
name_args(Node, #{names := short}) -> ["-sname", hd(string:lexemes(atom_to_list(Node), "@"))];
name_args(Node, _) -> ["-name", atom_to_list(Node)].

cookie_args(#{cookie := none}) -> [];
cookie_args(#{cookie := Cookie}) -> ["-setcookie", Cookie];
cookie_args(_) -> ["-setcookie", "ct"].

config_args(Label, Dir, #{config := Term} = Opts) ->
    File = filename:join(Dir, maps:get(config_file, Opts, Label ++ ".config")),
    ok = file:write_file(File, io_lib:format("~tp.~n", [Term])),
    ["-config", filename:rootname(File)];
config_args(_, _, _) ->
    [].

env(Dir, Opts) ->
    [{"HOME", filename:join(Dir, "home")}, {"XDG_RUNTIME_DIR", filename:join(Dir, "run")},
     {"TMPDIR", filename:join(Dir, "tmp")}, {"ERL_CRASH_DUMP_SECONDS", "0"},
     {"ERL_FLAGS", false}, {"ERL_AFLAGS", false}, {"ERL_ZFLAGS", false}, {"ERL_LIBS", false},
     {"TERM", "xterm"} | asan_env() ++ maps:get(env, Opts, [])].

asan_env() ->
    case os:getenv("BP_ASAN", "") of
        "" -> [];
        Lib -> [{"LD_PRELOAD", Lib}, {"ASAN_OPTIONS", os:getenv("BP_ASAN_OPTIONS")}]
    end.

name(#{node := Node}) -> Node.

os_pid(#{pid := Pid}) -> bp_peer:os_pid(Pid).

%% ---- control ----

call(Node, M, F, A) ->
    call(Node, M, F, A, 60000).

%% Applies M:F(A) in a process of the node; fails as it failed there.
call(#{pid := Pid} = H, M, F, A, Timeout) ->
    case bp_peer:call(Pid, M, F, A, Timeout) of
        {ok, Value} -> Value;
        {Class, Reason, Stack} -> error({failed_in, name(H), Class, Reason, Stack});
        {error, Reason} -> error({failed_in, name(H), Reason, tail(log(H))})
    end.

%% Runs a fun of a suite in the node.
run(Node, Fun) ->
    run(Node, Fun, 60000).

run(Node, Fun, Timeout) ->
    call(Node, erlang, apply, [Fun, []], Timeout).

%% Starts run/2 (or a local fun) without waiting; await/1 gives the value or fails.
async(Fun, []) when is_function(Fun, 0) ->
    spawn_monitor(fun() -> exit({async_ok, Fun()}) end);
async(Node, Fun) ->
    spawn_monitor(fun() -> exit({async_ok, run(Node, Fun)}) end).

await({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, {async_ok, Value}} -> Value;
        {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
    end.

%% A clean end: init:stop in the node, then the end of the process.
stop(#{pid := Pid} = H) ->
    ok = call(H, init, stop, []),
    case bp_peer:await_exit(Pid, 20000) of
        {exit, 0} -> ok;
        Other -> error({stop, Other, tail(log(H))})
    end,
    bp_peer:kill(Pid).

%% SIGKILL, and wait for the end of the process.
kill9(#{pid := Pid} = H) ->
    signal(H, "KILL"),
    {exit, _} = bp_peer:await_exit(Pid, 10000),
    ok.

%% Ends whatever it is, also a stopped process.
kill(#{pid := Pid}) ->
    bp_peer:kill(Pid).

signal(H, Signal) ->
    [] = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(os_pid(H))),
    ok.

input(#{pid := Pid}, Data) ->
    bp_peer:input(Pid, Data).

await_exit(#{pid := Pid}, Timeout) ->
    bp_peer:await_exit(Pid, Timeout).

%% true | false | ignored, as net_kernel:connect_node/1 in the first node.
connect(From, To) ->
    call(From, net_kernel, connect_node, [name(To)]).

%% For nodes that are to stay disconnected after disconnect/2, with `-connect_all false': a process of OTP's
%% rpc asks each node that comes up for its features, and who answers after the connection has ended makes
%% another one. It is suspended before the first connect; rpc gets along without the answers. Nodes again.
hush(Nodes) ->
    [ok = run(N, fun() -> suspend_observer(sys:get_state(rex)) end) || N <- Nodes],
    Nodes.

suspend_observer(#{nodes_observer := {Observer, _}}) ->
    Me = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        true = erlang:suspend_process(Observer),
        Me ! {self(), suspended},
        receive never -> ok end         % it goes on when this process ends
    end),
    receive
        {Pid, suspended} -> ok;
        {'DOWN', Ref, _, _, Reason} -> error(Reason)
    end;
suspend_observer(_) ->
    ok.

%% Disconnects, and waits until both nodes have noticed. Again if need be: just after a connect OTP's rpc and
%% `global' have things to say, and what they say connects the nodes again.
disconnect(A, B) ->
    Sees = fun(X, Y) -> lists:member(name(Y), call(X, erlang, nodes, [connected])) end,
    Apart = fun() -> not Sees(A, B) andalso not Sees(B, A) end,
    until(fun() ->
        _ = call(A, erlang, disconnect_node, [name(B)]),
        Apart() andalso begin
            [run(N, fun() -> speak_out() end) || N <- [A, B, A]],
            Apart()
        end
    end).

%% What OTP's processes had to do by now is done, as far as they do it soon.
speak_out() ->
    Rex = state_of(rex),
    _ = state_of(global_name_server),
    case Rex of
        #{nodes_observer := {Observer, _}} -> waits(Observer, 50);
        _ -> ok
    end.

state_of(Name) ->
    try
        sys:get_state(Name, 1000)
    catch
        exit:_ -> none
    end.

waits(_, 0) ->
    ok;
waits(Pid, N) ->
    case erlang:process_info(Pid, [message_queue_len, status]) of
        [{message_queue_len, Len}, {status, Status}] when Len > 0, Status =/= suspended; Status =:= runnable ->
            timer:sleep(2),
            waits(Pid, N - 1);
        _ ->
            ok
    end.

%% ---- logs, waiting ----

%% What the node wrote to standard output and standard error.
log(#{log := Log}) ->
    case file:read_file(Log) of
        {ok, Bin} -> Bin;
        {error, _} -> <<>>
    end.

wait_log(Node, Words) ->
    wait_log(Node, Words, ?LOG_TIMEOUT).

%% Waits for one log entry that holds all words (strings; regular expressions as {re, _}).
wait_log(Node, Words, Timeout) ->
    try
        until(fun() -> has_entry(log(Node), Words) end, Timeout)
    catch
        error:{until_timeout, _} -> error({no_log_entry, Words, tail(log(Node))})
    end.

has_entry(Log, Words) ->
    Entries = re:split(Log, "\n(?==[A-Z]+ REPORT)", [{return, binary}]),
    lists:any(fun(E) -> lists:all(fun(W) -> has_word(E, W) end, Words) end, Entries).

has_word(Entry, {re, Re}) ->
    re:run(Entry, Re, [{capture, none}, dotall]) =:= match;
has_word(Entry, Word) ->
    string:find(Entry, Word) =/= nomatch.

tail(Log) ->
    Size = byte_size(Log),
    Max = 3000,
    unicode:characters_to_list(case Size > Max of
        true -> binary:part(Log, Size - Max, Max);
        false -> Log
    end).

until(Fun) ->
    until(Fun, ?UNTIL_TIMEOUT).

%% Polls until Fun() is true (or {true, Value}); fails after Timeout ms.
until(Fun, Timeout) ->
    until_loop(Fun, erlang:monotonic_time(millisecond) + Timeout).

until_loop(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        {true, Value} ->
            Value;
        Other ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    error({until_timeout, Other});
                false ->
                    timer:sleep(20),
                    until_loop(Fun, Deadline)
            end
    end.

%% A port that nobody has, for UDP and TCP. Below those that the kernel gives to whoever wants any, so that
%% none of them gets it before its user does, or between two of its user's lives.
free_port() ->
    Try = case first_of_the_kernel() of
              First when First > 12000 -> 10000 + rand:uniform(First - 10000) - 1;
              _ -> 0
          end,
    case gen_udp:open(Try) of
        {ok, S} ->
            {ok, Port} = inet:port(S),
            Tcp = gen_tcp:listen(Port, []),
            ok = gen_udp:close(S),
            case Tcp of
                {ok, L} -> ok = gen_tcp:close(L), Port;
                {error, _} -> free_port()
            end;
        {error, _} ->
            free_port()
    end.

first_of_the_kernel() ->
    case file:read_file("/proc/sys/net/ipv4/ip_local_port_range") of
        {ok, Text} -> binary_to_integer(hd(string:lexemes(Text, "\t \n")));
        {error, _} -> 0
    end.
