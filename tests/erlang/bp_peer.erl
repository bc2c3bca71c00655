%% SPDX-License-Identifier: Apache-2.0
%% One OS process under test: starts it, talks to its bp_agent, knows when it ended.
-module(bp_peer).
-behaviour(gen_server).

-export([start/1, await_boot/2, await_exit/2, call/5, input/2, os_pid/1, kill/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(st, {
    port :: port() | undefined,
    os_pid :: pos_integer(),
    listen :: gen_tcp:socket(),
    sock :: gen_tcp:socket() | undefined,
    token :: string(),
    status = booting :: booting | up | {exit, integer()},
    boot = [] :: [gen_server:from()],
    ended = [] :: [gen_server:from()],
    %% integer tags: a reference changes its looks when a node gets or loses its name
    calls = #{} :: #{pos_integer() => gen_server:from()}
}).

%% Spec: #{cwd, log, exe, args, env}. `args` may hold the atom `agent`: it becomes the arguments
%% that start bp_agent. Not linked to the caller: the process outlives init_per_suite.
-spec start(map()) -> {ok, pid()}.
start(Spec) ->
    gen_server:start(?MODULE, Spec, []).

%% up | {exit, Code} | timeout
await_boot(Pid, Timeout) ->
    await(Pid, await_boot, Timeout).

%% {exit, Code} | timeout
await_exit(Pid, Timeout) ->
    await(Pid, await_exit, Timeout).

await(Pid, What, Timeout) ->
    try
        gen_server:call(Pid, What, Timeout)
    catch
        exit:{timeout, _} -> timeout
    end.

%% {ok, Value} | {Class, Reason, Stack} | {error, {node_ended, Status}}
call(Pid, M, F, A, Timeout) ->
    gen_server:call(Pid, {call, M, F, A}, Timeout).

%% Writes to the program's standard input.
input(Pid, Data) ->
    gen_server:call(Pid, {input, Data}).

os_pid(Pid) ->
    gen_server:call(Pid, os_pid).

%% Ends the program with SIGKILL, waits for its end, ends this process.
kill(Pid) ->
    try
        gen_server:stop(Pid, normal, 15000)
    catch
        exit:_ -> ok
    end.

init(#{cwd := Cwd, log := Log, exe := Exe, args := Args0, env := Env}) ->
    process_flag(trap_exit, true),
    Token = integer_to_list(rand:uniform(1 bsl 60), 36),
    %% A socket file reaches into other network namespaces; its path must be short.
    Path = "/tmp/bp_peer." ++ Token,
    {ok, Listen} = gen_tcp:listen(0, [binary, {packet, 4}, {active, false}, {ifaddr, {local, Path}}]),
    Agent = ["-run", "bp_agent", "start", Path, Token],
    Args = lists:append([case A of agent -> Agent; _ -> [A] end || A <- Args0]),
    Script = "cd \"$1\" || exit 98; log=$2; shift 2; exec \"$@\" >>\"$log\" 2>&1",
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Script, "sh", Cwd, Log, Exe | Args]},
                      {env, Env}, exit_status, hide, binary]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    note_pid(OsPid),
    Self = self(),
    spawn_link(fun() -> accept(Self, Listen, Path) end),
    {ok, #st{port = Port, os_pid = OsPid, listen = Listen, token = Token}}.

%% The runner ends what a crashed test run may leave behind.
note_pid(OsPid) ->
    case os:getenv("BP_CT_PIDS") of
        false -> ok;
        File -> ok = file:write_file(File, [integer_to_list(OsPid), $\n], [append])
    end.

accept(Server, Listen, Path) ->
    Accepted = gen_tcp:accept(Listen),
    _ = file:delete(Path),
    case Accepted of
        {ok, Sock} ->
            ok = gen_tcp:controlling_process(Sock, Server),
            Server ! {accepted, Sock};
        {error, _} ->
            ok
    end.

handle_call(await_boot, From, #st{status = booting, boot = Boot} = St) ->
    {noreply, St#st{boot = [From | Boot]}};
handle_call(await_boot, _From, St) ->
    {reply, St#st.status, St};
handle_call(await_exit, _From, #st{status = {exit, _} = Status} = St) ->
    {reply, Status, St};
handle_call(await_exit, From, #st{ended = Ended} = St) ->
    {noreply, St#st{ended = [From | Ended]}};
handle_call({call, M, F, A}, From, #st{status = up, sock = Sock, calls = Calls} = St)
  when Sock =/= undefined ->
    Ref = erlang:unique_integer([positive]),
    case gen_tcp:send(Sock, term_to_binary({call, Ref, M, F, A})) of
        ok -> {noreply, St#st{calls = Calls#{Ref => From}}};
        {error, Reason} -> {reply, {error, {node_ended, Reason}}, St}     % it is about to end
    end;
handle_call({call, _, _, _}, _From, St) ->
    {reply, {error, {node_ended, St#st.status}}, St};
handle_call({input, Data}, _From, St) ->
    Reply = try port_command(St#st.port, Data)
            catch error:badarg -> {error, closed}
            end,
    {reply, Reply, St};
handle_call(os_pid, _From, St) ->
    {reply, St#st.os_pid, St}.

handle_cast(_, St) ->
    {noreply, St}.

handle_info({accepted, Sock}, #st{sock = undefined} = St) ->
    ok = inet:setopts(Sock, [{active, true}]),
    {noreply, St#st{sock = Sock}};
handle_info({tcp, Sock, Bin}, #st{sock = Sock, token = Token} = St) ->
    case binary_to_term(Bin) of
        {hello, Token} ->
            [gen_server:reply(From, up) || From <- St#st.boot],
            {noreply, St#st{status = up, boot = []}};
        {reply, Ref, Result} ->
            {From, Calls} = maps:take(Ref, St#st.calls),
            gen_server:reply(From, Result),
            {noreply, St#st{calls = Calls}}
    end;
handle_info({tcp_closed, Sock}, #st{sock = Sock} = St) ->
    {noreply, St#st{sock = undefined}};
handle_info({Port, {exit_status, Code}}, #st{port = Port} = St) ->
    Status = {exit, Code},
    [gen_server:reply(From, Status) || From <- St#st.boot ++ St#st.ended],
    [gen_server:reply(From, {error, {node_ended, Status}}) || From <- maps:values(St#st.calls)],
    {noreply, St#st{status = Status, boot = [], ended = [], calls = #{}}};
handle_info(_, St) ->
    {noreply, St}.

terminate(_Reason, #st{status = {exit, _}}) ->
    ok;
terminate(_Reason, #st{port = Port, os_pid = OsPid}) ->
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    receive
        {Port, {exit_status, _}} -> ok
    after 10000 -> ok
    end.
