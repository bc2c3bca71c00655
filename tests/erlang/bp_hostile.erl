%% SPDX-License-Identifier: Apache-2.0
%% Runs the hostile peer (tests/hostile) and reads what it says; what a node counts and logs.
-module(bp_hostile).

-export([run/2, start/2, next/3, tell/1, finish/1, await/1]).
-export([stats/1, count/2, counted/3, log_from/2, rss/1, usage/1, cpu_us/1]).

-record(running, {port :: port(), words = #{} :: map()}).

exe() ->
    Exe = filename:join(os:getenv("BP_ROOT"), "build/release/tests/hostile/hostile"),
    filelib:is_regular(Exe) orelse error({not_built, Exe, "make hostile"}),
    Exe.

%% `hostile Command Key=Value ..': a map of what it said. Fails if the attack could not be made.
-spec run(atom(), [{atom(), term()}]) -> map().
run(Command, Args) ->
    await(start(Command, Args)).

start(Command, Args) ->
    Words = [atom_to_list(Command) | [lists:flatten(io_lib:format("~ts=~ts", [K, text(V)]))
                                      || {K, V} <- Args]],
    Port = open_port({spawn_executable, exe()}, [{args, Words}, {line, 4096}, exit_status, binary,
                                                 use_stdio, stderr_to_stdout]),
    #running{port = Port}.

%% Waits until it has said Word: {its value, the rest}.
next(#running{words = Words} = R, Word, Timeout) ->
    case Words of
        #{Word := Value} ->
            {Value, R#running{words = maps:remove(Word, Words)}};
        _ ->
            case line(R, Timeout) of
                {line, R1} -> next(R1, Word, Timeout);
                Other -> error({hostile, Other, Words})
            end
    end.

%% To one that waits for a word.
tell(#running{port = Port}) ->
    true = port_command(Port, "on\n"),
    ok.

%% Ends one that waits for the end of its input.
finish(#running{port = Port}) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.

await(R) ->
    case line(R, 130000) of
        {line, R1} -> await(R1);
        {exit, 0} -> ct:pal("~tp", [R#running.words]), R#running.words;
        Other -> error({hostile, Other, R#running.words})
    end.

line(#running{port = Port, words = Words} = R, Timeout) ->
    receive
        {Port, {data, {eol, Line}}} ->
            [Word | Value] = binary:split(Line, <<" ">>),
            {line, R#running{words = Words#{binary_to_atom(Word, utf8) => value(Value)}}};
        {Port, {exit_status, Code}} ->
            {exit, Code}
    after Timeout ->
        {error, timeout}
    end.

value([]) -> <<>>;
value([V]) ->
    try binary_to_integer(V)
    catch error:badarg -> V
    end.

text(V) when is_integer(V) -> integer_to_list(V);
text(V) when is_atom(V) -> atom_to_list(V);
text(V) -> V.

%% --- the node ------------------------------------------------------------------

stats(Node) ->
    {ok, Stats} = bp_cluster:call(Node, barrel_p2p_drv, stats, []),
    Stats.

%% A counter: of the node, or among what stats/1 gave. One that is not shown is 0.
count(#{pid := _} = Node, Name) -> count(stats(Node), Name);
count(Stats, Name) -> maps:get(atom_to_binary(Name, utf8), Stats, 0).

%% Waits until counter Name, or the sum of several, is N above what it was in Before.
counted(At, Name, N) when is_atom(Name) -> counted(At, [Name], N);
counted({Node, Before}, Names, N) ->
    Sum = fun(Stats) -> lists:sum([count(Stats, Name) || Name <- Names]) end,
    Want = Sum(Before) + N,
    try bp_cluster:until(fun() -> Sum(stats(Node)) =:= Want end, 10000)
    catch
        error:{until_timeout, _} -> error({counter, Names, {wanted, Want}, stats(Node)})
    end.

%% What the node has logged behind byte At.
log_from(Node, At) ->
    Log = bp_cluster:log(Node),
    binary:part(Log, At, byte_size(Log) - At).

%% Resident memory of the node's process in KB.
rss(#{pid := _} = Node) ->
    {ok, Bin} = file:read_file(["/proc/", integer_to_list(bp_cluster:os_pid(Node)), "/status"]),
    {match, [Kb]} = re:run(Bin, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, binary}]),
    binary_to_integer(Kb).

%% Processes, ports, atoms of the node, and files of its directory.
usage(#{cwd := Cwd} = Node) ->
    {P, Q, A} = bp_cluster:run(Node, fun() ->
        {erlang:system_info(process_count), erlang:system_info(port_count),
         erlang:system_info(atom_count)}
    end),
    #{processes => P, ports => Q, atoms => A,
      files => length(filelib:wildcard("**", Cwd))}.

%% Microseconds of processor time that the node has used, in steps of 10 ms.
cpu_us(Node) ->
    {ok, Stat} = file:read_file(io_lib:format("/proc/~w/stat", [bp_cluster:os_pid(Node)])),
    [_, Rest] = binary:split(Stat, <<") ">>),
    Fields = binary:split(Rest, <<" ">>, [global]),
    10000 * lists:sum([binary_to_integer(lists:nth(N, Fields)) || N <- [12, 13]]).
