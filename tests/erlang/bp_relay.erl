%% SPDX-License-Identifier: Apache-2.0
%% Relays for suites: a UDP forwarder, a tunnel on an AF_UNIX socket, one that is an Erlang process,
%% and a SOCKS proxy (dante).
-module(bp_relay).
-behaviour(barrel_p2p_relay).

-export([forwarder/1, tunnel/2, stop/1, count/1, largest/1]).
-export([descriptor/1, udp_descriptor/1, process/1, process_for/2, open/4]).
-export([dante/2, stop_dante/1, unused_port/0]).

%% Forwards what comes to it to 127.0.0.1:To, and what comes back to whoever spoke last.
%% {Pid, Port}; linked.
forwarder(To) ->
    start(fun() ->
        {ok, Front} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {recbuf, 4000000}]),
        {ok, Port} = inet:port(Front),
        {Port, fun(Back) -> forward(Front, Back, To, undefined, {0, 0}) end}
    end).

start(Open) ->
    Self = self(),
    Pid = spawn_link(fun() ->
        {Result, Loop} = Open(),
        {ok, Back} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {recbuf, 4000000}]),
        Self ! {self(), Result},
        Loop(Back)
    end),
    receive {Pid, Result} -> {Pid, Result} end.

forward(Front, Back, To, Client, {N, Largest} = Stats) ->
    receive
        {udp, Front, Ip, Port, Data} ->
            _ = gen_udp:send(Back, {127, 0, 0, 1}, To, Data),
            forward(Front, Back, To, {Ip, Port}, {N + 1, max(Largest, byte_size(Data))});
        {udp, Back, _, _, Data} ->
            Client =:= undefined orelse gen_udp:send(Front, Client, Data),
            forward(Front, Back, To, Client, {N + 1, Largest});
        {count, From} ->
            From ! {self(), N},
            forward(Front, Back, To, Client, Stats);
        {largest, From} ->
            From ! {self(), Largest},
            forward(Front, Back, To, Client, Stats);
        mute ->
            receive stop -> ok end;
        stop ->
            ok
    end.

stop(Pid) ->
    unlink(Pid),
    Ref = monitor(process, Pid),
    Pid ! stop,
    receive {'DOWN', Ref, process, _, _} -> ok end.

%% Datagrams that it has moved.
count(Pid) ->
    Pid ! {count, self()},
    receive {Pid, N} -> N end.

%% The largest datagram that came to a forwarder from who dials.
largest(Pid) ->
    Pid ! {largest, self()},
    receive {Pid, N} -> N end.

%% The far end of an AF_UNIX socket: datagrams to Path go to 127.0.0.1:To, and back to the sender.
tunnel(Path, To) ->
    start(fun() ->
        {ok, S} = socket:open(local, dgram),
        ok = socket:bind(S, #{family => local, path => Path}),
        {Path, fun(Back) -> tunnel_loop(S, Back, To, undefined, 0) end}
    end).

tunnel_loop(S, Back, To, Client, N) ->
    case socket:recvfrom(S, 0, [], nowait) of
        {ok, {#{path := From}, Data}} ->
            ok = gen_udp:send(Back, {127, 0, 0, 1}, To, Data),
            tunnel_loop(S, Back, To, From, N + 1);
        {select, {select_info, _, Ref}} ->
            receive
                {'$socket', S, select, Ref} ->
                    tunnel_loop(S, Back, To, Client, N);
                {udp, Back, _, _, Data} ->
                    _ = socket:cancel(S, {select_info, recvfrom, Ref}),
                    _ = socket:sendto(S, Data, #{family => local, path => Client}),
                    tunnel_loop(S, Back, To, Client, N + 1);
                {count, From} ->
                    _ = socket:cancel(S, {select_info, recvfrom, Ref}),
                    From ! {self(), N},
                    tunnel_loop(S, Back, To, Client, N);
                stop ->
                    ok
            end
    end.

%% In the node that dials: a socket of its own, connected to Path.
descriptor(Path) ->
    connected(local, #{family => local, path => Path ++ ".a"}, #{family => local, path => Path}).

%% ... to a UDP port of this machine.
udp_descriptor(Port) ->
    At = #{family => inet, addr => {127, 0, 0, 1}, port => 0},
    connected(inet, At, At#{port := Port}).

connected(Domain, From, To) ->
    Self = self(),
    Pid = spawn(fun() ->
        {ok, S} = socket:open(Domain, dgram),
        ok = socket:bind(S, From),
        ok = socket:connect(S, To),
        {ok, Fd} = socket:getopt(S, {otp, fd}),
        Self ! {self(), Fd},
        receive stop -> S end
    end),
    receive {Pid, Fd} -> Fd end.

%% In the node that dials: takes and gives datagrams, to and from 127.0.0.1:To.
process(To) ->
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {recbuf, 4000000}]),
    receive
        {barrel_p2p_relay, Handle, _Node, {_, _}} ->
            ok = barrel_p2p_relay:take(Handle, 100),
            process(Handle, Socket, To)
    end.

%% A socket that stays when the relay dies: the peer hears nothing then, rather than that nobody
%% listens there.
kept(Relay) ->
    Self = self(),
    Pid = spawn(fun() ->
        {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {recbuf, 4000000}]),
        Self ! {self(), Socket},
        kept_loop(Relay)
    end),
    receive {Pid, Socket} -> Socket end.

kept_loop(Relay) ->
    receive
        {udp, _, _, _, _} = Datagram -> Relay ! Datagram
    end,
    kept_loop(Relay).

%% In the node that dials, until it has moved N datagrams to the node: then it takes no more and waits.
process_for(To, N) ->
    Socket = kept(self()),
    receive
        {barrel_p2p_relay, Handle, _Node, {_, _}} ->
            ok = barrel_p2p_relay:take(Handle, N),
            process(Handle, Socket, To, wait)
    end.

process(Handle, Socket, To) ->
    process(Handle, Socket, To, go_on).

process(Handle, Socket, To, Passive) ->
    receive
        {barrel_p2p_datagram, Handle, Data} ->
            ok = gen_udp:send(Socket, {127, 0, 0, 1}, To, Data);
        {barrel_p2p_passive, Handle} when Passive =:= go_on ->
            ok = barrel_p2p_relay:take(Handle, 100);
        {udp, Socket, _, _, Data} ->
            _ = barrel_p2p_relay:give(Handle, Data)
    end,
    process(Handle, Socket, To, Passive).

%% The behaviour; Opts is the port, or `fail'.
open(_, _, _, fail) ->
    {error, no_such_thing};
open(Handle, Node, Address, To) ->
    Pid = spawn(?MODULE, process, [To]),
    Pid ! {barrel_p2p_relay, Handle, Node, Address},
    {ok, Pid}.

%% A SOCKS proxy on 127.0.0.1: {ok, {OsPort, Port}} or skip. Method: none | username, by the system's
%% passwords, which nobody here knows | {username, User, Password}, by those and one more.
dante(Dir, Method) ->
    case lists:filter(fun is_list/1, [os:find_executable(P, "/usr/sbin:/usr/bin:/sbin:/bin")
                                      || P <- ["danted", "sockd"]]) of
        [] -> skip;
        [Program | _] -> dante_or_skip(Dir, Method, Program)
    end.

dante_or_skip(Dir, {username, User, Password}, Program) ->
    case os:cmd("unshare -m true 2>&1") of
        [] -> {ok, dante(Dir, "username", with_user(Dir, User, Password), Program)};
        _ -> skip
    end;
dante_or_skip(Dir, Method, Program) ->
    {ok, dante(Dir, Method, "exec", Program)}.

%% dante asks the system; in a mount namespace of its own that has a user more.
with_user(Dir, User, Password) ->
    Crypted = os:cmd(["perl -e 'print crypt(\"", Password, "\", \"\\$6\\$bp\\$\")'"]),
    [begin
        {ok, Old} = file:read_file("/etc/" ++ File),
        New = filename:join(Dir, File),
        ok = file:write_file(New, [Old, Line, $\n]),
        ["mount --bind '", New, "' /etc/", File, " && "]
     end || {File, Line} <- [{"passwd", [User, ":x:65500:65500::/:/usr/sbin/nologin"]},
                             {"shadow", [User, $:, Crypted, ":19000:0:99999:7:::"]}]] ++ ["exec"].

dante(Dir, Method, Prefix, Program) ->
    dante(Dir, Method, Prefix, Program, 3).

%% Again where somebody else has taken the port meanwhile.
dante(Dir, Method, Prefix, Program, Tries) ->
    Port = unused_port(),
    File = filename:join(Dir, "danted." ++ integer_to_list(Port)),
    ok = file:write_file(File ++ ".conf", io_lib:format(
        "logoutput: ~ts.log~n"
        "internal: 127.0.0.1 port = ~b~nexternal: 127.0.0.1~n"
        "socksmethod: ~ts~nclientmethod: none~nuser.privileged: root~nuser.unprivileged: nobody~n"
        "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }~n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpassociate }~n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpreply }~n",
        [File, Port, Method])),
    Command = lists:flatten([Prefix, " '", Program, "' -f '", File, ".conf' -p '", File, ".pid'"]),
    {Sh, Args} = case Prefix of
                     "exec" -> {"/bin/sh", []};
                     _ -> {os:find_executable("unshare"), ["-m", "/bin/sh"]}
                 end,
    OsPort = open_port({spawn_executable, Sh},
                       [{args, Args ++ ["-c", Command]}, exit_status, stderr_to_stdout, hide]),
    Up = bp_cluster:until(fun() ->
        receive {OsPort, {exit_status, _}} -> {true, false}
        after 0 ->
            case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
                {ok, S} -> gen_tcp:close(S), {true, true};
                {error, _} -> false
            end
        end
    end),
    case Up of
        true -> {OsPort, Port};
        false when Tries > 1 -> dante(Dir, Method, Prefix, Program, Tries - 1)
    end.

%% With its children, which hold the associations.
stop_dante({OsPort, _}) ->
    {os_pid, Pid} = erlang:port_info(OsPort, os_pid),
    Pids = string:lexemes(os:cmd("pgrep -P " ++ integer_to_list(Pid)), "\n"),
    _ = os:cmd(lists:join(" ", ["kill -9", integer_to_list(Pid) | Pids])),
    receive {OsPort, {exit_status, _}} -> ok after 30000 -> error(dante_stays) end.

unused_port() -> bp_cluster:free_port().
