%% SPDX-License-Identifier: Apache-2.0
%% A DNS server for the suites: dnsmasq on a loopback port, with the records of the test.
-module(bp_dns).

-export([start/1, stop/1]).

%% Args: dnsmasq's, e.g. "--host-record=h.example,192.0.2.1,60". Returns a handle and the port.
start(Args) ->
    Port = bp_cluster:free_port(),
    Exe = case os:find_executable("dnsmasq", os:getenv("PATH") ++ ":/usr/sbin") of
              false -> error("dnsmasq is not installed: make deps-test");
              Found -> Found
          end,
    Handle = open_port({spawn_executable, Exe},
                       [{args, ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                                "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1",
                                "--pid-file=", "--log-facility=-",
                                "--user=" ++ string:trim(os:cmd("id -un")),
                                "--port=" ++ integer_to_list(Port) | Args]},
                        exit_status, stderr_to_stdout, binary]),
    wait(Port, 100),
    {Handle, Port}.

stop({Handle, _}) ->
    case erlang:port_info(Handle, os_pid) of
        {os_pid, Pid} -> os:cmd("kill " ++ integer_to_list(Pid)), ok;
        undefined -> ok
    end.

%% Until it answers anything.
wait(Port, 0) ->
    error({dnsmasq_does_not_answer, Port});
wait(Port, N) ->
    case inet_res:resolve("up.example", in, a, [{nameservers, [{{127, 0, 0, 1}, Port}]},
                                                {timeout, 100}, {retry, 1}]) of
        {error, timeout} -> wait(Port, N - 1);
        {error, econnrefused} -> timer:sleep(20), wait(Port, N - 1);
        {error, {econnrefused, _}} -> timer:sleep(20), wait(Port, N - 1);
        _ -> ok
    end.
