%% SPDX-License-Identifier: Apache-2.0
%% Directories of endpoint files that hang, as a network mount does whose server is gone: nobody waits
%% for longer than `discovery_timeout', and no scheduler at all. The driver is build/faulty/hung_files.
-module(discovery_dirs_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([hung_directory_is_left_out/1, boots_and_stops_while_a_directory_hangs/1,
         fifo_is_no_endpoint_file/1, known_without_reading/1]).

%% Much longer than a connect takes on a busy machine.
-define(LIMIT, 6000).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [hung_directory_is_left_out, boots_and_stops_while_a_directory_hangs, fifo_is_no_endpoint_file,
     known_without_reading].

init_per_suite(Config) ->
    Driver = filename:join(bp_cluster:root(), "build/faulty/hung_files/priv/barrel_p2p_drv.so"),
    case {bp_cluster:only(quic), filelib:is_regular(Driver)} of
        {ok, true} -> Config;
        {ok, false} -> error({no_driver, Driver, "run `make faulty-drivers'"});
        {Skip, _} -> Skip
    end.

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% A shared directory that may hang, and one of this machine that does not.
dirs(Config) ->
    Base = bp_cluster:dir(Config),
    {Shared, Local} = {filename:join(Base, "shared"), filename:join(Base, "local")},
    [begin ok = filelib:ensure_dir(filename:join(D, "x")), ok = file:change_mode(D, 8#700) end
     || D <- [Shared, Local]],
    {Shared, Local}.

hang(Dir) -> ok = file:write_file(filename:join(Dir, "HANG"), "").

release(Dir) -> ok = file:delete(filename:join(Dir, "HANG")).

%% One scheduler of each kind: who blocks it blocks everything.
opts(Name, {Shared, Local}) ->
    #{name => Name, app => "faulty/hung_files",
      args => ["+S", "1:1", "+SDcpu", "1:1", "+SDio", "1",
               %% a dial waits for the limit and then has to connect, on a busy machine
               "-kernel", "net_setuptime", "60"],
      config => [{barrel_p2p, [{discovery_dir, Shared}, {runtime_dir, Local},
                               {discovery_timeout, ?LIMIT}]}]}.

hung_directory_is_left_out(Config) ->
    {Shared, _} = Dirs = dirs(Config),
    [A, B] = bp_cluster:start_many(Config, [opts(a, Dirs), opts(b, Dirs)]),
    hang(Shared),
    %% the first dial waits for the limit, and only that dial does
    Dial = bp_cluster:async(B, timed(A)),
    Calls = calls_until_hung(B, 0),
    true = Calls > 5,
    {T1, true} = bp_cluster:await(Dial),
    true = T1 >= ?LIMIT,
    ?EQ(1, lines(B, "discovery_dir_hung")),
    %% the next one does not
    bp_cluster:disconnect(B, A),
    {T2, true} = bp_cluster:run(B, timed(A)),
    true = T2 < ?LIMIT,
    {ok, Names} = bp_cluster:call(B, barrel_p2p_epmd, names, []),
    ?EQ(2, length(Names)),
    {ok, #{<<"endpoint_dirs_hung">> := 1}} = bp_cluster:call(B, barrel_p2p_drv, stats, []),
    release(Shared),
    bp_cluster:until(fun() ->
        _ = bp_cluster:call(B, barrel_p2p_epmd, names, []),
        lines(B, "discovery_dir_back") =:= 1
    end),
    ?EQ(1, lines(B, "discovery_dir_hung")).

%% The node answers while its dial hangs.
calls_until_hung(B, N) ->
    _ = bp_cluster:call(B, erlang, node, []),
    case lines(B, "discovery_dir_hung") of
        0 -> calls_until_hung(B, N + 1);
        1 -> N
    end.

%% Milliseconds of a dial. The closure runs in the other node.
timed(A) ->
    Name = bp_cluster:name(A),
    fun() ->
        {Us, Result} = timer:tc(net_kernel, connect_node, [Name]),
        {Us div 1000, Result}
    end.

lines(Node, Event) ->
    length(binary:matches(iolist_to_binary(bp_cluster:log(Node)), iolist_to_binary(["barrel_p2p ", Event]))).

boots_and_stops_while_a_directory_hangs(Config) ->
    {Shared, Local} = Dirs = dirs(Config),
    A = bp_cluster:start(Config, opts(a, Dirs)),
    hang(Shared),
    B = bp_cluster:start(Config, opts(b, Dirs)),
    bp_cluster:wait_log(B, ["discovery_dir_hung", Shared]),
    true = bp_cluster:connect(A, B),
    bp_cluster:stop(B),
    bp_cluster:stop(A),
    %% what could be taken away was
    ?EQ([], filelib:wildcard(filename:join(Local, "*.endpoint"))),
    release(Shared).

%% Nobody writes into it: whoever opened it to read would wait for ever.
fifo_is_no_endpoint_file(Config) ->
    {Shared, _} = Dirs = dirs(Config),
    [A, B] = bp_cluster:start_many(Config, [opts(a, Dirs), opts(b, Dirs)]),
    File = filename:join(Shared, [atom_to_list(bp_cluster:name(A)), ".endpoint"]),
    ok = file:delete(File),
    [] = os:cmd(["mkfifo '", File, "'"]),
    {T, true} = bp_cluster:run(B, timed(A)),
    true = T < ?LIMIT,
    bp_cluster:wait_log(B, ["discovery_file_ignored", "not a regular file"]),
    ?EQ(0, lines(B, "discovery_dir_hung")).

%% What was read is known from then on, until it changes or its directory hangs.
known_without_reading(Config) ->
    {Shared, Local} = Dirs = dirs(Config),
    [A, B] = bp_cluster:start_many(Config, [opts(a, Dirs), opts(b, Dirs)]),
    Name = atom_to_list(bp_cluster:name(A)),
    Find = fun() -> bp_cluster:call(B, barrel_p2p_discovery, find, [Name, "localhost"]) end,
    [{Host, Port}] = Find(),
    Jobs = counter(B, <<"endpoint_file_jobs">>),
    Known = counter(B, <<"endpoint_files_known">>),
    [{Host, Port}] = Find(),
    case counter(B, <<"endpoint_file_jobs">>) of
        Jobs ->
            ?EQ(Known + 2, counter(B, <<"endpoint_files_known">>)),
            [begin
                 File = filename:join(D, Name ++ ".endpoint"),
                 ok = file:write_file(File ++ ".new", ["{\"host\": \"", Host, "\", \"port\": 1}"]),
                 ok = file:rename(File ++ ".new", File)
             end || D <- [Shared, Local]],
            ?EQ([{Host, 1}], Find()),
            ?EQ([{Host, 1}], Find()),
            ?EQ(Jobs + 2, counter(B, <<"endpoint_file_jobs">>)),
            hang(Shared),
            ?EQ([{Host, 1}], Find()),
            bp_cluster:wait_log(B, ["discovery_dir_hung", Shared]),
            release(Shared);
        _ ->
            {skip, "no RESOLVE_CACHED in this kernel, or no local file system here"}
    end.

counter(Node, Key) ->
    {ok, #{Key := N}} = bp_cluster:call(Node, barrel_p2p_drv, stats, []),
    N.
