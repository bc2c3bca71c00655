%% SPDX-License-Identifier: Apache-2.0
%% Runs C nodes (tests/cnode/peer.h says what they take and say) beside real ones.
-module(bp_cnode).

-export([start/3, start/4, name/1, tell/2, ask/3, expect/2, expect/3, either/2, os_pid/1, rss/1, kill9/1, stop/1]).
-export([unique_name/1, drain/1]).

exe() ->
    Exe = filename:join(os:getenv("BP_ROOT"), "build/release/tests/cnode/cnode_peer"),
    filelib:is_regular(Exe) orelse error({not_built, Exe, "make cnode-peer"}),
    Exe.

unique_name(Prefix) ->
    list_to_atom(bp_cluster:unique(Prefix) ++ "@127.0.0.1").

%% Mode: ei | loop. A C node in the case's directory, which finds the nodes there by their files.
start(Config, Mode, Name) ->
    start(Config, Mode, Name, #{}).

%% Options: cookie (default "ct"), knows [{node(), port()}], before [string()] (commands before the
%% start), listen (default false), env [{string(), string() | false}].
start(Config, Mode, Name, Opts) ->
    Dir = bp_cluster:dir(Config),
    Own = filename:join(Dir, maps:get(dir, Opts, atom_to_list(Name))),
    Env = [{"HOME", filename:join(Dir, "home")}, {"XDG_RUNTIME_DIR", filename:join(Dir, "run")},
           {"TMPDIR", filename:join(Dir, "tmp")} | maps:get(env, Opts, [])],
    Log = filename:join(Dir, atom_to_list(Name) ++ ".stderr"),
    Words = [exe(), atom_to_list(Mode), atom_to_list(Name), maps:get(cookie, Opts, "ct"), Own],
    Quoted = lists:join($\s, [[$', W, $'] || W <- Words]),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", lists:flatten(["exec ", Quoted, " 2>>'", Log, "'"])]},
                      {cd, Dir}, {env, Env}, {line, 65536}, exit_status, binary]),
    C = #{port => Port, name => Name, dir => Own, log => Log},
    [tell(C, io_lib:format("knows ~s ~w", [N, P])) || {N, P} <- maps:get(knows, Opts, [])],
    [tell(C, Line) || Line <- maps:get(before, Opts, [])],
    "" = ask(C, "start", "started"),
    case maps:get(listen, Opts, false) of
        true -> C#{udp => list_to_integer(ask(C, "listen", "listening"))};
        false -> C
    end.

name(#{name := Name}) -> Name.

tell(#{port := Port}, Line) ->
    true = port_command(Port, [Line, $\n]),
    ok.

%% What follows Word in the next line that begins with it.
ask(C, Line, Word) ->
    tell(C, Line),
    expect(C, Word).

expect(C, Word) ->
    expect(C, Word, 30000).

expect(#{port := Port, log := Log} = C, Word, Timeout) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case string:split(binary_to_list(Line), " ") of
                [Word | Rest] -> lists:append(Rest);
                ["error" | Rest] -> error({cnode, Rest});
                Other -> ct:log("~p: ~p while waiting for ~p", [name(C), Other, Word]),
                         expect(C, Word, Timeout)
            end;
        {Port, {exit_status, Status}} ->
            {ok, Text} = file:read_file(Log),
            error({cnode_ended, Status, Text})
    after Timeout ->
        {ok, Text} = file:read_file(Log),
        error({cnode_silent, Word, Text})
    end.

%% {Word, what follows} of the next line that begins with one of Words.
either(#{port := Port} = C, Words) ->
    receive
        {Port, {data, {eol, Line}}} ->
            [Word | Rest] = string:split(binary_to_list(Line), " "),
            case lists:member(Word, Words) of
                true -> {Word, lists:append(Rest)};
                false -> either(C, Words)
            end
    after 30000 ->
        error({cnode_silent, Words})
    end.

%% Forgets what it has said so far.
drain(#{port := Port} = C) ->
    receive
        {Port, {data, _}} -> drain(C)
    after 0 ->
        ok
    end.

os_pid(#{port := Port}) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    Pid.

%% Resident memory in KB.
rss(C) ->
    {ok, Text} = file:read_file(io_lib:format("/proc/~w/status", [os_pid(C)])),
    {match, [Kb]} = re:run(Text, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb).

kill9(#{port := Port} = C) ->
    [] = os:cmd("kill -9 " ++ integer_to_list(os_pid(C))),
    receive {Port, {exit_status, _}} -> ok after 10000 -> error(not_killed) end.

stop(#{port := Port} = C) ->
    "" = ask(C, "quit", "bye"),
    receive {Port, {exit_status, 0}} -> ok after 20000 -> error(not_stopped) end.
