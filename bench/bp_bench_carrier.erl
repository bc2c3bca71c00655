%% SPDX-License-Identifier: Apache-2.0
%% Carriers that can be compared, and nodes (OS processes) that boot with them. Nodes are controlled
%% over their standard input and output, so that control traffic never crosses a carrier.
-module(bp_bench_carrier).

-export([carriers/0, title/1, measures/1, ours/1, available/1,
         setup/0, start/2, start_node/3, stop/1, stop_all/1, call/4, name/1, cookie/0, cpu_seconds/1]).

-include_lib("public_key/include/public_key.hrl").

-export_type([carrier/0, bench_node/0]).

-type carrier() :: atom().
-opaque bench_node() :: #{peer := pid(), name := node(), os_pid := string()}.

-define(CALL_MS, 60000).
-define(COOKIE, "bp_bench").

%% The table of carriers: the name used in options and results, the title of its column, and what
%% `erl` needs for it. A further column (another carrier, another setting) is one more row.
-spec carriers() -> [{carrier(), string(), fun(() -> [string()])}].
carriers() ->
    [{tcp, "TCP", fun() -> [] end},
     {tcp_delay, "TCP delay_send",
      fun() ->
              ["-kernel", "inet_dist_connect_options", "[{delay_send,true}]",
               "-kernel", "inet_dist_listen_options", "[{delay_send,true}]"]
      end},
     {tls, "TLS",
      fun() -> ["-proto_dist", "inet_tls", "-ssl_dist_optfile", dir("tls.conf")] end},
     {quic, "QUIC", fun quic_args/0},
     {quic_1452, "QUIC 1452",
      fun() -> quic_args() ++ ["-quic", "dist", "[{max_datagram_bytes,1452}]"] end}].

quic_args() ->
    ["-pa", filename:join(root(), "ebin"), "-proto_dist", "barrel_p2p",
     "-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false"].

%% A carrier with another setting is measured for what the setting is about: `bulk`.
-spec measures(carrier()) -> all | bulk.
measures(quic_1452) -> bulk;
measures(_) -> all.

%% Whether it is this project's carrier, with whatever settings.
-spec ours(carrier()) -> boolean().
ours(Carrier) -> lists:member(Carrier, [quic, quic_1452]).

-spec title(carrier()) -> string().
title(Carrier) ->
    element(2, lists:keyfind(Carrier, 1, carriers())).

%% ok, or why the carrier cannot be measured here.
-spec available(carrier()) -> ok | {error, string()}.
available(tls) ->
    case code:which(ssl) of
        non_existing -> {error, "this Erlang/OTP has no ssl application"};
        _ -> ok
    end;
available(quic) ->
    Needed = ["ebin/barrel_p2p_dist.beam", "priv/barrel_p2p_drv.so"],
    case [F || F <- Needed, not filelib:is_regular(filename:join(root(), F))] of
        [] -> ok;
        [F | _] -> {error, F ++ " is not there; run `make`"}
    end;
available(quic_1452) ->
    available(quic);
available(_) ->
    ok.

%% Prepares the directory of this run: an epmd of its own on a free port (one that other nodes use
%% is not disturbed), and the keys and certificates of the TLS carrier.
-spec setup() -> ok.
setup() ->
    {ok, S} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(S),
    ok = gen_tcp:close(S),
    ok = file:write_file(dir("epmd_port"), integer_to_list(Port)),
    true = os:putenv("ERL_EPMD_PORT", integer_to_list(Port)),
    true = os:putenv("ERL_EPMD_ADDRESS", "127.0.0.1"),
    true = os:putenv("ERL_CRASH_DUMP", "/dev/null"),
    %% Nothing is read from or left in the user's directories.
    true = os:putenv("HOME", dir()),
    true = os:putenv("XDG_RUNTIME_DIR", dir()),
    case available(tls) of
        ok -> write_tls_conf();
        _ -> ok
    end.

%% Starts the nodes of `Roles`, in order; Roles are used in their names.
-spec start(carrier(), [atom()]) -> [bench_node()].
start(Carrier, Roles) ->
    lists:foldl(fun(Role, Started) ->
                        try
                            Started ++ [start_node(Carrier, Role, #{})]
                        catch
                            Class:Reason:Stack ->
                                stop_all(Started),
                                erlang:raise(Class, Reason, Stack)
                        end
                end, [], Roles).

%% Starts one node, with more arguments or environment variables if wanted. `connect_all` is off:
%% only what the benchmark asks for is connected.
-spec start_node(carrier(), atom(), #{args => [string()], env => [{string(), string()}]}) ->
          bench_node().
start_node(Carrier, Role, Extra) ->
    {Carrier, _, CarrierArgs} = lists:keyfind(Carrier, 1, carriers()),
    Name = lists:concat(["bpb_", Carrier, "_", Role, "_", os:getpid(), "_",
                         erlang:unique_integer([positive]), "@localhost"]),
    Log = dir(Name ++ ".log"),
    Args = ["-sname", Name, "-setcookie", ?COOKIE, "-connect_all", "false",
            "-kernel", "logger",
            "[{handler,default,logger_std_h,#{config=>#{type=>standard_error}}}]",
            "-pa", filename:dirname(code:which(?MODULE))],
    Options = #{connection => standard_io,
                %% Standard error goes to a log, standard input and output are the control channel.
                exec => {"/bin/sh", ["-c", "cd \"$1\" && exec 2>\"$2\" && shift 2 && exec \"$@\"",
                                     "sh", dir(), Log, os:getenv("BENCH_ERL", "erl")]},
                args => Args ++ CarrierArgs() ++ maps:get(args, Extra, []),
                env => maps:get(env, Extra, []),
                wait_boot => 60000},
    try
        {ok, Peer, Node} = peer:start(Options),
        #{peer => Peer, name => Node, os_pid => peer:call(Peer, os, getpid, [], ?CALL_MS)}
    catch
        _:Reason -> error({no_start, Name, Reason, {log, tail(Log)}})
    end.

%% Ends a node and waits until its OS process is gone.
-spec stop(bench_node()) -> ok.
stop(#{peer := Peer, os_pid := OsPid}) ->
    try peer:stop(Peer) catch _:_ -> ok end,
    gone(OsPid, 50) orelse os:cmd("kill -9 " ++ OsPid),
    ok.

-spec stop_all([bench_node()]) -> ok.
stop_all(Nodes) ->
    lists:foreach(fun stop/1, Nodes).

%% Runs M:F on a node; an error of the node is an error here, with the end of its log.
-spec call(bench_node(), module(), atom(), [term()]) -> term().
call(#{peer := Peer, name := Name}, M, F, Args) ->
    try
        peer:call(Peer, M, F, Args, ?CALL_MS)
    catch
        _:Reason -> error({F, Reason, {log, tail(dir(atom_to_list(Name) ++ ".log"))}})
    end.

-spec name(bench_node()) -> node().
name(#{name := Name}) ->
    Name.

-spec cookie() -> string().
cookie() ->
    ?COOKIE.

%% User and system time that a node's OS process has used (granularity: one kernel tick).
-spec cpu_seconds(bench_node()) -> float().
cpu_seconds(#{os_pid := OsPid}) ->
    {ok, Fd} = file:open("/proc/" ++ OsPid ++ "/stat", [read, raw, binary]),
    {ok, Line} = try file:read(Fd, 4096) after file:close(Fd) end,
    %% The command's name is in parentheses and may hold anything: count from the last one.
    [_, Rest] = re:split(Line, "\\) (?=[^)]*$)"),
    Fields = binary:split(Rest, <<" ">>, [global]),
    Ticks = binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields)),
    Ticks / ticks_per_second().

%% --- local -----------------------------------------------------------------

root() ->
    os:getenv("BENCH_ROOT").

dir() ->
    os:getenv("BENCH_DIR").

dir(File) ->
    filename:join(dir(), File).

ticks_per_second() ->
    case persistent_term:get({?MODULE, clk_tck}, undefined) of
        undefined ->
            Hz = list_to_integer(string:trim(os:cmd("getconf CLK_TCK"))),
            persistent_term:put({?MODULE, clk_tck}, Hz),
            Hz;
        Hz ->
            Hz
    end.

gone(OsPid, Tries) ->
    case filelib:is_dir("/proc/" ++ OsPid) of
        false -> true;
        true when Tries =:= 0 -> false;
        true -> timer:sleep(100), gone(OsPid, Tries - 1)
    end.

tail(Log) ->
    case file:read_file(Log) of
        {ok, Text} ->
            Size = byte_size(Text),
            binary_to_list(binary:part(Text, Size, -min(2000, Size)));
        {error, _} ->
            ""
    end.

%% Mutual authentication, as this project's carrier has it: two chains with EC P-256 keys, checked
%% by both sides. Versions and ciphers are OTP's defaults.
write_tls_conf() ->
    Key = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Host = #'Extension'{extnID = ?'id-ce-subjectAltName', critical = false,
                        extnValue = [{dNSName, "localhost"}]},
    Chain = #{root => Key, intermediates => [], peer => [{extensions, [Host]} | Key]},
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    Verify = [{verify, verify_peer}],
    Conf = [{server, [{fail_if_no_peer_cert, true} | Verify ++ Server]},
            {client, Verify ++ Client}],
    File = dir("tls.conf"),
    ok = file:write_file(File, io_lib:format("~w.~n", [Conf])),
    ok = file:change_mode(File, 8#600).
