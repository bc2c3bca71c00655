%% SPDX-License-Identifier: Apache-2.0
%% `make install` into an empty directory, and what users build and run from there.
-module(install_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([everything_is_there/1, c_nodes_talk_without_erlang/1, c_node_serves_an_erlang_node/1,
         erlang_node_serves_a_c_node/1, command_needs_no_erlang/1, static_library/1,
         cplusplus/1, application_without_a_path/1, examples_under_valgrind/1]).

suite() -> [{timetrap, {seconds, 180}}].

all() ->
    [everything_is_there, c_nodes_talk_without_erlang, c_node_serves_an_erlang_node,
     erlang_node_serves_a_c_node, command_needs_no_erlang, static_library, cplusplus,
     application_without_a_path, examples_under_valgrind].

init_per_suite(Config0) ->
    case bp_cluster:only(quic) of
        ok ->
            Config = bp_cluster:init_dir("install_SUITE", Config0),
            Prefix = prefix(Config),
            _ = sh("make -s install PREFIX='" ++ Prefix ++ "'", [{cd, bp_cluster:root()}]),
            [_ = compile(Config, Name) || Name <- ["echo_server", "echo_client"]],
            [{installed, bp_cluster:dir(Config)} | Config];
        Skip ->
            Skip
    end.

end_per_suite(Config) ->
    bp_cluster:end_dir(lists:keystore(bp_dir, 1, Config, {bp_dir, installed(Config)})).

init_per_testcase(Case, Config) ->
    bp_cluster:init_cookie("ct\n", bp_cluster:init_case(?MODULE, Case, Config)).

%% Programs of a case that failed do not stay.
end_per_testcase(_, Config) ->
    {ok, Pids} = read_pids(Config),
    _ = [os:cmd("kill -9 " ++ Pid) || Pid <- Pids],
    bp_cluster:end_case(Config).

installed(Config) -> proplists:get_value(installed, Config, bp_cluster:dir(Config)).

prefix(Config) -> filename:join(installed(Config), "usr").

in(Config, Path) -> filename:join(prefix(Config), Path).

%% ---- running ----

%% Output of a shell command that must succeed.
sh(Line) -> sh(Line, []).

sh(Line, Opts) ->
    case status(Line, Opts) of
        {0, Out} -> Out;
        Failed -> error({Line, Failed})
    end.

status(Line, Opts) ->
    Env = [{"MAKEFLAGS", false}, {"MAKELEVEL", false}, {"BUILD", false}, {"ERL_LIBS", false}],
    finish(open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Line]}, exit_status, stderr_to_stdout, binary, {env, Env}
                      | Opts]), []).

finish(Port, Out) ->
    receive
        {Port, {data, Data}} -> finish(Port, [Out, Data]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Out)}
    after ?LONG ->
        error({no_exit, iolist_to_binary(Out)})
    end.

%% As a user: only what is installed, no Erlang in the path.
user_env(Config) ->
    Dir = bp_cluster:dir(Config),
    [{"PATH", "/nonexistent"}, {"LD_LIBRARY_PATH", in(Config, "lib")},
     {"HOME", filename:join(Dir, "home")}, {"XDG_RUNTIME_DIR", filename:join(Dir, "run")},
     {"XDG_CONFIG_HOME", false}, {"ERL_LIBS", false}].

%% Starts a program in a directory of its own.
program(Config, Exe, Args) ->
    Cwd = filename:join(bp_cluster:dir(Config), filename:basename(Exe)),
    ok = filelib:ensure_dir(filename:join(Cwd, "x")),
    remember(Config, open_port({spawn_executable, Exe},
              [{args, Args}, {cd, Cwd}, {env, user_env(Config)}, exit_status, stderr_to_stdout,
               {line, 1000}])).

pids_file(Config) -> filename:join(bp_cluster:dir(Config), "pids").

remember(Config, Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} ->
            ok = file:write_file(pids_file(Config), integer_to_list(Pid) ++ "\n", [append]);
        undefined ->
            ok % it has ended already
    end,
    Port.

%% Those that still run what they were started for.
read_pids(Config) ->
    case file:read_file(pids_file(Config)) of
        {ok, Text} ->
            {ok, [P || P <- string:lexemes(binary_to_list(Text), "\n"), is_ours(P, Config)]};
        {error, enoent} ->
            {ok, []}
    end.

is_ours(Pid, Config) ->
    case file:read_link("/proc/" ++ Pid ++ "/cwd") of
        {ok, Cwd} -> lists:prefix(bp_cluster:dir(Config), Cwd);
        {error, _} -> false
    end.

line(Port) ->
    receive
        {Port, {data, {eol, Line}}} -> Line;
        {Port, {exit_status, Status}} -> {exit, Status}
    after ?LONG ->
        error({no_line, bp_procs:mailbox()})
    end.

lines_until_exit(Port) ->
    case line(Port) of
        {exit, Status} -> {Status, []};
        Line ->
            {Status, Lines} = lines_until_exit(Port),
            {Status, [Line | Lines]}
    end.

%% An echo server that listens; ends with its case's process.
server(Config, Name) -> server(Config, in(Config, "echo_server"), [Name]).

server(Config, Exe, Args) ->
    Port = program(Config, Exe, Args),
    Listening = until_listening(Port, []),
    {match, _} = re:run(Listening, "listens on UDP port [0-9]+$"),
    Port.

until_listening(Port, Seen) ->
    case line(Port) of
        {exit, Status} -> error({server_ended, Status, lists:reverse(Seen)});
        Line ->
            case string:find(Line, "listens on") of
                nomatch -> until_listening(Port, [Line | Seen]);
                _ -> Line
            end
    end.

end_server(Port) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    lines_until_exit(Port).

unique(Name) -> bp_cluster:unique(Name) ++ "@127.0.0.1".

%% ---- building ----

pkg_config(Config, Args) ->
    "$(PKG_CONFIG_PATH='" ++ in(Config, "lib/pkgconfig") ++ "' pkg-config " ++ Args ++ ")".

example(Name) -> filename:join([bp_cluster:root(), "examples/cnode", Name ++ ".c"]).

%% As its comment says.
compile(Config, Name) ->
    sh("cc '" ++ example(Name) ++ "' -Wall -Wextra -Werror "
       ++ pkg_config(Config, "--cflags --libs barrel_p2p_ei") ++ " -o '" ++ in(Config, Name) ++ "'").

%% ---- cases ----

everything_is_there(Config) ->
    {ok, Vsn} = application_version(),
    App = "lib/erlang/lib/barrel_p2p-" ++ Vsn,
    Files = ["bin/barrel-p2p", "lib/libbarrel_p2p.a", "lib/libbarrel_p2p.so",
             "lib/libbarrel_p2p.so.0", "lib/pkgconfig/barrel_p2p.pc",
             "lib/pkgconfig/barrel_p2p_ei.pc", "include/barrel_p2p/node.h",
             "include/barrel_p2p/ei.h", "include/barrel_p2p/barrel_p2p.h",
             "share/man/man1/barrel-p2p.1", "share/man/man3/libbarrel_p2p.3",
             "share/bash-completion/completions/barrel-p2p", App ++ "/ebin/barrel_p2p.app",
             App ++ "/ebin/barrel_p2p_dist.beam", App ++ "/priv/barrel_p2p_drv.so"],
    ?EQ([], [F || F <- Files, not filelib:is_regular(in(Config, F))]),
    %% every module of the application, and nothing of the source tree's path
    {ok, [{application, _, Keys}]} = file:consult(in(Config, App ++ "/ebin/barrel_p2p.app")),
    [true = filelib:is_regular(in(Config, App ++ "/ebin/" ++ atom_to_list(M) ++ ".beam"))
     || M <- proplists:get_value(modules, Keys)],
    [begin
         {ok, Text} = file:read_file(in(Config, "lib/pkgconfig/" ++ Pc)),
         nomatch = binary:match(Text, [<<"@">>, <<"build/release">>])
     end || Pc <- ["barrel_p2p.pc", "barrel_p2p_ei.pc"]],
    ?EQ(Vsn ++ "\n", sh("echo " ++ pkg_config(Config, "--modversion barrel_p2p"))),
    ?EQ("libbarrel_p2p.so.0\n",
        sh("objdump -p '" ++ in(Config, "lib/libbarrel_p2p.so")
           ++ "' | sed -n 's/^ *SONAME *//p'")),
    %% DESTDIR is in front of everything, and in no file
    Dest = filename:join(bp_cluster:dir(Config), "dest"),
    _ = sh("make -s install-lib DESTDIR='" ++ Dest ++ "' PREFIX=/opt/p2p",
           [{cd, bp_cluster:root()}]),
    {ok, Pc} = file:read_file(Dest ++ "/opt/p2p/lib/pkgconfig/barrel_p2p.pc"),
    {match, _} = re:run(Pc, "^libdir=/opt/p2p/lib$", [multiline]),
    nomatch = binary:match(Pc, list_to_binary(Dest)).

application_version() ->
    {ok, [{application, barrel_p2p, Keys}]} =
        file:consult(filename:join(bp_cluster:root(), "ebin/barrel_p2p.app")),
    {ok, proplists:get_value(vsn, Keys)}.

c_nodes_talk_without_erlang(Config) ->
    Name = unique(s),
    Server = server(Config, Name),
    Client = program(Config, in(Config, "echo_client"), [unique(c), Name, "3"]),
    ?EQ({0, ["hello 1", "hello 2", "hello 3"]}, lines_until_exit(Client)),
    _ = end_server(Server),
    %% and without a server there is a reason
    Alone = program(Config, in(Config, "echo_client"), [unique(c), Name, "3"]),
    {1, [Why]} = lines_until_exit(Alone),
    true = string:find(Why, Name) =/= nomatch.

c_node_serves_an_erlang_node(Config) ->
    Name = unique(s),
    Server = server(Config, Name),
    %% the C node is found by its endpoint file in the user's runtime directory
    A = bp_cluster:start(Config, #{name => a}),
    C = list_to_atom(Name),
    ?EQ({cnode, [{x, "y", <<1>>}]},
        bp_cluster:run(A, fun() ->
            {any, C} ! {call, self(), [{x, "y", <<1>>}]},
            receive Answer -> Answer after 30000 -> timeout end
        end)),
    ?EQ([C], bp_cluster:call(A, erlang, nodes, [hidden])),
    _ = end_server(Server),
    bp_cluster:until(fun() -> bp_cluster:call(A, erlang, nodes, [hidden]) =:= [] end).

erlang_node_serves_a_c_node(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    ok = bp_cluster:run(A, fun() ->
             true = register(echo, spawn(fun echo/0)),
             ok
         end),
    Client = program(Config, in(Config, "echo_client"),
                     [unique(c), atom_to_list(bp_cluster:name(A)), "5"]),
    ?EQ({0, ["hello " ++ integer_to_list(N) || N <- lists:seq(1, 5)]}, lines_until_exit(Client)).

echo() ->
    receive {call, From, Message} -> From ! {cnode, Message} end,
    echo().

command_needs_no_erlang(Config) ->
    Name = unique(s),
    Server = server(Config, Name),
    Run = fun(Args) ->
              lines_until_exit(program(Config, in(Config, "bin/barrel-p2p"), Args))
          end,
    {0, ["answer" ++ _ | _]} = Run(["ping", Name]),
    {0, [_ | _]} = Run(["resolve", Name]),
    %% only Erlang nodes can say whether somebody has a name
    {8, [Sent]} = Run(["send", Name, "echo", "hello", "--timeout", "4000"]),
    true = string:find(Sent, "the message was sent") =/= nomatch,
    {0, _} = Run(["keygen"]),
    _ = end_server(Server),
    %% nothing of it is linked with anything of Erlang's
    Needed = sh("ldd '" ++ in(Config, "bin/barrel-p2p") ++ "' '"
                ++ in(Config, "lib/libbarrel_p2p.so") ++ "'"),
    nomatch = re:run(Needed, "erlang|not found").

static_library(Config) ->
    Exe = in(Config, "echo_client_static"),
    _ = sh("cc '" ++ example("echo_client") ++ "' "
           ++ pkg_config(Config, "--cflags barrel_p2p_ei") ++ " '"
           ++ in(Config, "lib/libbarrel_p2p.a") ++ "' "
           ++ pkg_config(Config, "--libs --static barrel_p2p_ei")
           ++ " -Wl,--as-needed -o '" ++ Exe ++ "'"),
    nomatch = re:run(sh("ldd '" ++ Exe ++ "'"), "libbarrel_p2p"),
    Name = unique(s),
    Server = server(Config, Name),
    ?EQ({0, ["hello 1"]}, lines_until_exit(program(Config, Exe, [unique(c), Name, "1"]))),
    _ = end_server(Server).

cplusplus(Config) ->
    Exe = in(Config, "headers"),
    Flags = " -std=c++11 -Wall -Wextra -Wpedantic -Werror ",
    _ = sh("c++" ++ Flags ++ "'" ++ filename:join(bp_cluster:root(), "tests/cnode/headers.cpp") ++ "' "
           ++ pkg_config(Config, "--cflags --libs barrel_p2p_ei") ++ " -o '" ++ Exe ++ "'"),
    {ok, Vsn} = application_version(),
    ?EQ({0, [Vsn ++ " cpp@localhost"]}, lines_until_exit(program(Config, Exe, []))),
    %% each header alone, in C++ and in strict C
    [begin
         Text = "echo '#include <barrel_p2p/" ++ H ++ ">' | ",
         Rest = " -fsyntax-only " ++ pkg_config(Config, "--cflags barrel_p2p_ei") ++ " -",
         _ = sh(Text ++ "c++ -x c++" ++ Flags ++ Rest),
         _ = sh(Text ++ "cc -x c -std=c11 -D_DEFAULT_SOURCE -Wall -Wextra -Wpedantic -Wstrict-prototypes "
                "-Werror" ++ Rest)
     end || H <- ["node.h", "discovery.h", "error.h", "relay.h", "ei.h", "barrel_p2p.h"]],
    ok.

%% With ERL_LIBS and no -pa: found by its name, as in a release.
application_without_a_path(Config) ->
    Dir = bp_cluster:dir(Config),
    Boot = "-proto_dist barrel_p2p -epmd_module barrel_p2p_epmd -start_epmd false",
    Node = "ERL_LIBS='" ++ in(Config, "lib/erlang/lib") ++ "' HOME='" ++ filename:join(Dir, "home")
        ++ "' XDG_RUNTIME_DIR='" ++ filename:join(Dir, "run") ++ "' erl -noinput " ++ Boot,
    Name = unique(a),
    A = open_port({spawn_executable, "/bin/sh"},
                  [{args, ["-c", "exec env " ++ Node ++ " -name " ++ Name
                           ++ " -eval 'io:format(\"up~n\")'"]},
                   {cd, Dir}, exit_status, stderr_to_stdout, {line, 1000}]),
    _ = remember(Config, A),
    up = until_up(A, []),
    Said = sh(Node ++ " -name " ++ unique(b) ++ " -eval 'io:format(\"~w ~s~n\", [net_adm:ping(list_to_atom(\""
              ++ Name ++ "\")), code:lib_dir(barrel_p2p)]), halt().'", [{cd, Dir}]),
    Wanted = "pong " ++ in(Config, "lib/erlang/lib/barrel_p2p-") ++ element(2, application_version()),
    true = lists:member(Wanted, string:lexemes(Said, "\n")),
    _ = end_server(A).

%% No error, no leak, on either side.
examples_under_valgrind(Config) ->
    case os:find_executable("valgrind") of
        false ->
            {skip, "no valgrind"};
        Valgrind ->
            Args = ["-q", "--leak-check=full", "--show-leak-kinds=definite,indirect",
                    "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99"],
            {Name, ClientName} = {unique(s), unique(c)},
            Server = server(Config, Valgrind, Args ++ [in(Config, "echo_server"), Name]),
            %% valgrind is slow, and a busy machine makes the handshake's time run out: again, then
            Wanted = {0, ["hello " ++ integer_to_list(N) || N <- lists:seq(1, 20)]},
            bp_cluster:until(fun() ->
                Client = program(Config, Valgrind,
                                 Args ++ [in(Config, "echo_client"), ClientName, Name, "20"]),
                {Status, Lines} = Result = lines_until_exit(Client),
                [error(Result) || Status =/= 0, Status =/= 1],
                ?EQ([], [L || L = "==" ++ _ <- Lines]),
                Result =:= Wanted
            end, 120000),
            %% a server that is killed says nothing of leaks, but of everything else
            {_, Said} = end_server(Server),
            ?EQ([], [L || L = "==" ++ _ <- Said])
    end.

until_up(Port, Seen) ->
    case line(Port) of
        "up" -> up;
        {exit, Status} -> error({exit, Status, lists:reverse(Seen)});
        Line -> until_up(Port, [Line | Seen])
    end.
