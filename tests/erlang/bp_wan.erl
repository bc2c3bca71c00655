%% SPDX-License-Identifier: Apache-2.0
%% The emulated link (scripts/wan) for suites: starts it, changes it, puts nodes into its two sides.
-module(bp_wan).

-export([start/1, stop/1, set/2, stats/1, side/3, in_side/3, epmd/2]).
-export([percentiles/1]).

-export_type([link/0]).

-type link() :: #{owner := pid(), control := string()}.
-type side() :: a | b.

-define(START_TIMEOUT, 60000). % the emulator may have to be compiled first

%% Options as on the command line of scripts/wan: ["--loss", "1%", ...]. The link stays until stop/1
%% or until this VM ends. {skip, Line} where network namespaces are not permitted.
-spec start([string()]) -> {ok, link()} | {skip, string()}.
start(Options) ->
    Self = self(),
    %% Short: a socket's path. Not the caller's: that one ends with init_per_testcase.
    Control = "/tmp/bp_wan." ++ integer_to_list(rand:uniform(1 bsl 60), 36),
    {Owner, Monitor} = spawn_monitor(fun() -> own(Self, Control, Options) end),
    receive
        {Owner, up} ->
            demonitor(Monitor, [flush]),
            {ok, #{owner => Owner, control => Control}};
        {'DOWN', Monitor, process, Owner, {ended, 77, Text}} ->
            {skip, string:trim(Text)};
        {'DOWN', Monitor, process, Owner, Reason} ->
            error({wan, Options, Reason})
    end.

%% The link's command is cat(1): it says that all is up, and ends when its standard input does.
own(Report, Control, Options) ->
    Args = Options ++ ["--control", Control, "--", "cat"],
    Port = open_port({spawn_executable, filename:join(bp_cluster:root(), "scripts/wan")},
                     [{args, Args}, exit_status, stderr_to_stdout, hide]),
    true = port_command(Port, "up\n"),
    await_up(Port, ""),
    Report ! {self(), up},
    owner(Port, #{}).

await_up(Port, Text) ->
    receive
        {Port, {data, Data}} ->
            case lists:suffix("up\n", Text ++ Data) of
                true -> ok;
                false -> await_up(Port, Text ++ Data)
            end;
        {Port, {exit_status, Status}} ->
            exit({ended, Status, Text})
    after ?START_TIMEOUT ->
        exit({not_up, Text})
    end.

%% Programs: what runs in a side for as long as the link is there.
owner(Port, Programs) ->
    receive
        {run, From, Ref, Program, Args} ->
            P = open_port({spawn_executable, Program}, [{args, Args}, exit_status, hide,
                                                        stderr_to_stdout]),
            {os_pid, Pid} = erlang:port_info(P, os_pid),
            From ! {Ref, ok},
            owner(Port, Programs#{P => Pid});
        {stop, From, Ref} ->
            [terminate(P, Pid, "KILL") || {P, Pid} <- maps:to_list(Programs)],
            {os_pid, Pid} = erlang:port_info(Port, os_pid),
            terminate(Port, Pid, "TERM"),
            From ! {Ref, ok};
        {Port, {exit_status, Status}} ->
            exit({wan_ended, Status});
        {P, {exit_status, _}} ->
            owner(Port, maps:remove(P, Programs));
        {_, {data, _}} ->
            owner(Port, Programs)
    end.

terminate(Port, OsPid, Signal) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(OsPid)),
    receive
        {Port, {exit_status, _}} -> ok
    after 10000 ->
        os:cmd("kill -KILL " ++ integer_to_list(OsPid))
    end.

-spec stop(link()) -> ok.
stop(#{owner := Owner}) ->
    ask(Owner, fun(Ref) -> {stop, self(), Ref} end).

ask(Owner, Request) ->
    Ref = monitor(process, Owner),
    Owner ! Request(Ref),
    receive
        {Ref, ok} -> demonitor(Ref, [flush]), ok;
        {'DOWN', Ref, process, Owner, Reason} -> {error, Reason}
    end.

%% Changes parameters: "loss=2% nat_port=+1".
-spec set(link(), string()) -> ok.
set(#{control := Control}, Parameters) ->
    case os:cmd(lists:join($\s, [program(), "set", Control, Parameters])) of
        [] -> ok;
        Error -> error({wan_set, Parameters, Error})
    end.

%% The emulator's counters: #{ab => #{"lost" => N, ...}, ba => ...}.
-spec stats(link()) -> #{ab | ba => #{string() => non_neg_integer()}}.
stats(#{control := Control}) ->
    Lines = string:lexemes(os:cmd(lists:join($\s, [program(), "stats", Control])), "\n"),
    maps:from_list([begin
        [Direction | Items] = string:lexemes(Line, " "),
        {list_to_atom(Direction), maps:from_list([begin
            [Key, Value] = string:split(Item, "="),
            {Key, list_to_integer(Value)}
         end || Item <- Items])}
     end || Line <- Lines]).

%% Options of bp_cluster:start/2 for a node in a side.
-spec side(link(), side(), map()) -> map().
side(Link, Side, Opts) ->
    Name = bp_cluster:unique(atom_to_list(maps:get(name, Opts, Side))),
    Opts#{node => list_to_atom(Name ++ "@" ++ address(Side)), prefix => prefix(Link, Side)}.

%% Runs a command in a side; what it printed.
-spec in_side(link(), side(), [string()]) -> string().
in_side(Link, Side, Command) ->
    os:cmd(lists:join($\s, prefix(Link, Side) ++ Command)).

address(a) -> "10.77.0.1";
address(b) -> "10.77.0.2".

prefix(#{control := Control}, Side) ->
    [program(), "exec", Control, atom_to_list(Side), "--"].

program() ->
    filename:join(bp_cluster:root(), "build/release/tests/wan/wan").

%% An epmd of its own in a side, for the carriers that need one.
-spec epmd(link(), side()) -> ok.
epmd(#{owner := Owner} = Link, Side) ->
    [Program | Args] = prefix(Link, Side) ++ [os:find_executable("epmd")],
    ask(Owner, fun(Ref) -> {run, self(), Ref, Program, Args} end).

%% {P50, P99, Max} of numbers.
-spec percentiles([number(), ...]) -> {number(), number(), number()}.
percentiles(Values) ->
    Sorted = list_to_tuple(lists:sort(Values)),
    N = tuple_size(Sorted),
    At = fun(Percent) -> element(max(1, ceil(N * Percent / 100)), Sorted) end,
    {At(50), At(99), At(100)}.
