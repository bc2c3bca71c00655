%% SPDX-License-Identifier: Apache-2.0
%% What the machine does to nodes: clocks that differ and jump, no more descriptors, full disks.
-module(machine_SUITE).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([clocks_that_differ/1, clock_jumps/1, no_more_descriptors/1, full_disk_of_keys/1,
         full_disk_of_endpoints/1]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [clocks_that_differ, clock_jumps, no_more_descriptors, full_disk_of_keys,
     full_disk_of_endpoints].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config0) ->
    Config = bp_cluster:init_case(?MODULE, Case, Config0),
    case Case of
        _ when Case =:= clocks_that_differ; Case =:= clock_jumps -> with_clock(Config);
        _ when Case =:= full_disk_of_keys; Case =:= full_disk_of_endpoints -> with_disk(Config);
        _ -> Config
    end.

end_per_testcase(_, Config) ->
    stop_all(Config),
    case proplists:get_value(disk, Config) of
        undefined -> ok;
        Disk -> _ = os:cmd("umount -l " ++ Disk)
    end,
    bp_cluster:end_case(Config).

stop_all(Config) -> bp_cluster:end_suite(bp_cluster:dir(Config)).

call(N, M, F, A) -> bp_cluster:call(N, M, F, A).

name(N) -> bp_cluster:name(N).

opts(Name) ->
    #{name => Name, cwd => atom_to_list(Name), args => ["-connect_all", "false"]}.

sees(A, B) -> lists:member(name(B), call(A, erlang, nodes, [connected])).

%% ---- a clock of its own ----

with_clock(Config) ->
    case filelib:wildcard("/usr/lib/*/faketime/libfaketimeMT.so.1") of
        [Lib | _] -> [{faketime, Lib} | Config];
        [] -> {skip, "libfaketime is not installed"}
    end.

%% A node whose wall clock is Offset ("+600", "-1d") off; set_clock/2 changes it.
with_offset(Config, Name, Offset) ->
    File = filename:join(bp_cluster:dir(Config), atom_to_list(Name) ++ ".clock"),
    ok = file:write_file(File, Offset ++ "\n"),
    Preload = case os:getenv("BP_ASAN", "") of "" -> ""; Asan -> Asan ++ ":" end,
    {(opts(Name))#{env => [{"LD_PRELOAD", Preload ++ proplists:get_value(faketime, Config)},
                           {"FAKETIME_TIMESTAMP_FILE", File}, {"FAKETIME_NO_CACHE", "1"},
                           {"FAKETIME_DONT_FAKE_MONOTONIC", "1"}, {"DONT_FAKE_MONOTONIC", "1"}]}, File}.

set_clock(Node, File, Offset) ->
    ok = file:write_file(File ++ ".new", Offset ++ "\n"),
    ok = file:rename(File ++ ".new", File),
    Seconds = list_to_integer(Offset),
    bp_cluster:until(fun() ->
        abs(call(Node, os, system_time, [second]) - os:system_time(second) - Seconds) < 60
    end).

clocks_that_differ(Config) ->
    {Late, Clock} = with_offset(Config, b, "-600"),
    [A, B] = bp_cluster:start_many(Config, [opts(a), Late]),
    ?EQ(false, bp_cluster:connect(A, B)),
    ?EQ(false, bp_cluster:connect(B, A)),
    %% each side says by how much, and what to do
    bp_cluster:wait_log(A, ["peer_ts_skew", atom_to_list(name(B))]),
    bp_cluster:wait_log(B, ["peer_ts_skew", atom_to_list(name(A))]),
    set_clock(B, Clock, "+0"),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    ?EQ(true, sees(B, A)).

%% Days forth and back while messages flow: timers and connections do not notice, new handshakes do.
clock_jumps(Config) ->
    {Jumping, Clock} = with_offset(Config, b, "+0"),
    Tick = ["-kernel", "net_ticktime", "4"],
    [A, B, C] = bp_cluster:start_many(Config, [(opts(a))#{args => ["-connect_all", "false" | Tick]},
                                               Jumping#{args => ["-connect_all", "false" | Tick]},
                                               opts(c)]),
    true = bp_cluster:connect(A, B),
    Down = bp_cluster:run(A, fun() -> bp_wan_load:watch(name(B)) end),
    Loads = [{X, bp_cluster:run(X, fun() ->
                bp_wan_load:numbered(name(Y), #{senders => 2, size => 3000, pause => 5})
             end)} || {X, Y} <- [{A, B}, {B, A}]],
    [begin
         set_clock(B, Clock, Offset),
         ?EQ(false, bp_cluster:connect(C, B)),
         timer_fires(B),
         %% longer than ticks may be missing
         bp_cluster:run(A, fun() ->
             [{T, pong} = {T, net_adm:ping(name(B))} || T <- lists:seq(1, 6), ok =:= timer:sleep(1000)]
         end)
     end || Offset <- ["+86400", "-86400"]],
    set_clock(B, Clock, "+0"),
    bp_cluster:until(fun() -> bp_cluster:connect(C, B) end),
    [bp_cluster:run(X, fun() -> bp_wan_load:finish(H) end) || {X, H} <- Loads],
    ?EQ([], bp_cluster:run(A, fun() -> bp_wan_load:watched(Down) end)).

timer_fires(N) ->
    bp_cluster:run(N, fun() ->
        erlang:send_after(300, self(), fired),
        receive fired -> ok after 20000 -> error(timer_is_late) end
    end).

%% ---- descriptors ----

%% With none left, connections that are up stay, others are refused with the reason, and all is
%% well when there are some again.
no_more_descriptors(Config) ->
    [A, B, C] = bp_cluster:start_many(Config, [(opts(a))#{prefix => ["prlimit", "--nofile=96:96"]},
                                               opts(b), opts(c)]),
    true = bp_cluster:connect(A, C),
    %% Modules, as a release has them; and OTP's logger loads some when it first writes a line.
    bp_cluster:run(A, fun() ->
        _ = application:load(barrel_p2p),
        {ok, Modules} = application:get_key(barrel_p2p, modules),
        [{module, _} = code:ensure_loaded(M) || M <- Modules]
    end),
    ?EQ(false, call(A, net_kernel, connect_node, ['nobody@127.0.0.1'])),
    Hoard = bp_cluster:run(A, fun hoard/0),
    Cpu = cpu(A),
    ?EQ(false, bp_cluster:connect(A, B)),
    bp_cluster:wait_log(A, [atom_to_list(name(B)), "Too many open files; raise the limit"]),
    ?EQ(false, bp_cluster:connect(B, A)),
    bp_cluster:wait_log(A, ["connection_refused", atom_to_list(name(B)), "Too many open files; raise the limit"]),
    ?EQ(pong, call(C, net_adm, ping, [name(A)])),
    {error, {file_error, Why}} = call(A, barrel_p2p_rotate, rotate_identity, []),
    {match, _} = re:run(Why, "data/keys: Too many open files; raise the limit"),
    {error, {system_error, <<"Too many open files">>}} = call(A, barrel_p2p, migrate_peer, [name(C)]),
    %% Waiting costs nothing.
    timer:sleep(1000),
    true = cpu(A) - Cpu < 3000,
    bp_cluster:run(A, fun() -> Hoard ! stop end),
    bp_cluster:until(fun() -> bp_cluster:connect(B, A) end),
    bp_cluster:disconnect(A, B),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    ?EQ(true, sees(C, A)).

cpu(N) -> element(1, call(N, erlang, statistics, [runtime])).

%% A process with all descriptors that there are.
hoard() ->
    Self = self(),
    Pid = spawn(fun() ->
        put(files, take([])),
        Self ! {self(), length(get(files))},
        receive stop -> ok end
    end),
    receive {Pid, N} when N > 20 -> Pid after 20000 -> error(no_hoard) end.

take(Files) ->
    case file:open("/dev/null", [read, raw]) of
        {ok, F} -> take([F | Files]);
        {error, emfile} -> Files
    end.

%% ---- a full disk ----

%% {disk, Dir}: a file system of 256 KB.
with_disk(Config) ->
    Disk = filename:join(bp_cluster:dir(Config), "disk"),
    ok = filelib:ensure_dir(filename:join(Disk, "x")),
    case os:cmd("mount -t tmpfs -o size=256k,mode=755 bp_test " ++ Disk ++ " 2>&1") of
        "" -> [{disk, Disk} | Config];
        Why -> {skip, "cannot mount: " ++ Why}
    end.

disk(Config, Below) -> filename:join(?config(disk, Config), Below).

%% No byte is left afterwards.
fill(Config) ->
    File = disk(Config, "filler"),
    _ = file:write_file(File, binary:copy(<<0>>, 300000)),
    {ok, F} = file:open(File, [append, raw]),
    {error, enospc} = write_on(F),
    ok = file:close(F).

write_on(F) ->
    case file:write(F, <<0>>) of
        ok -> write_on(F);
        Error -> Error
    end.

free(Config) -> ok = file:delete(disk(Config, "filler")).

%% Files below Dir with their contents.
tree(Dir) ->
    filelib:fold_files(Dir, "", true, fun(F, Acc) ->
        {ok, Bin} = file:read_file(F),
        [{F, Bin} | Acc]
    end, []).

%% Keys, pins, certificates: what cannot be written is refused with the reason and leaves nothing
%% behind; what was there stays.
full_disk_of_keys(Config) ->
    Keys = disk(Config, "keys"),
    Tls = disk(Config, "tls"),
    Opts = (opts(a))#{config => [{barrel_p2p, [{auth_key_dir, Keys}, {quic_cert_dir, Tls}]}]},
    fill(Config),
    {exit, _, Log} = bp_cluster:boot(Config, Opts),
    {match, _} = re:run(Log, "cannot write .*: No space left on device; free disk space"),
    ?EQ([], tree(Keys) ++ tree(Tls)),
    free(Config),
    [A, B, C] = bp_cluster:start_many(Config, [Opts, opts(b), opts(c)]),
    true = bp_cluster:connect(A, B),
    Pin = filename:join([Keys, "trusted", atom_to_list(name(B)) ++ ".pub"]),
    bp_cluster:until(fun() -> filelib:file_size(Pin) =:= 32 end),
    Before = tree(Keys) ++ tree(Tls),
    fill(Config),
    %% the pin of somebody new
    ?EQ(false, bp_cluster:connect(A, C)),
    bp_cluster:wait_log(A, [atom_to_list(name(C)), "No space left on device; free disk space"]),
    [begin
         {error, {file_error, Why}} = call(A, barrel_p2p_rotate, F, []),
         {match, _} = re:run(Why, "No space left on device; free disk space")
     end || F <- [rotate_identity, rotate_cert]],
    ?EQ(Before, tree(Keys) ++ tree(Tls)),
    ?EQ(pong, call(B, net_adm, ping, [name(A)])),
    free(Config),
    bp_cluster:until(fun() -> bp_cluster:connect(A, C) end),
    [{ok, _} = call(A, barrel_p2p_rotate, F, []) || F <- [rotate_identity, rotate_cert]],
    bp_cluster:disconnect(A, B),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end).

%% A node that cannot say where it is says so, and does once there is room.
full_disk_of_endpoints(Config) ->
    Dir = disk(Config, "endpoints"),
    Env = [{discovery_dir, Dir}, {runtime_dir, none}],
    Opts = fun(N) -> (opts(N))#{config => [{barrel_p2p, Env}, {kernel, [{logger_level, notice}]}]} end,
    fill(Config),
    A = bp_cluster:start(Config, Opts(a)),
    bp_cluster:wait_log(A, ["No space left on device; free disk space"]),
    %% it may be trying again just now
    bp_cluster:until(fun() -> filelib:wildcard("**/*", Dir) =:= [] end),
    free(Config),
    bp_cluster:until(fun() -> filelib:wildcard("**/*.endpoint", Dir) =/= [] end, 60000),
    bp_cluster:wait_log(A, ["discovery_registered"]),
    B = bp_cluster:start(Config, Opts(b)),
    true = bp_cluster:connect(B, A).
