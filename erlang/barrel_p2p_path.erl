%% SPDX-License-Identifier: Apache-2.0
%% Moving connections between network paths, for barrel_p2p:migrate_peer/2 and barrel_p2p_path_watch.
-module(barrel_p2p_path).

-export([migrate/2, port/1]).

-export_type([options/0, reason/0]).

-type options() :: #{timeout => 1..3600000,
                     local => inet:ip_address() | string() |
                              {inet:ip_address() | string(), inet:port_number()}}.
-type reason() :: not_connected | no_conn | peer_disable_migration | no_spare_cid | not_dialler |
                  timeout | busy | path_failed | eaddrinuse | {bad_option, term()} |
                  {system_error, binary()}.

-define(TIMEOUT_MS, 5000).
-define(GRACE_MS, 5000).        % a driver that is slow to say so

-spec migrate(node(), options()) -> ok | {error, reason()}.
migrate(Node, Opts) ->
    case options(Opts) of
        {ok, Local, Timeout} ->
            case port(Node) of
                {ok, Port} -> migrate(Node, Port, Local, Timeout);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

options(Opts) when is_map(Opts) ->
    maps:fold(fun option/3, {ok, any, ?TIMEOUT_MS}, Opts);
options(Opts) ->
    {error, {bad_option, Opts}}.

option(timeout, Ms, {ok, Local, _}) when is_integer(Ms), Ms >= 1, Ms =< 3600000 ->
    {ok, Local, Ms};
option(local, Wanted, {ok, _, Timeout}) ->
    case local(Wanted) of
        {ok, Local} -> {ok, Local, Timeout};
        error -> {error, {bad_option, {local, Wanted}}}
    end;
option(_, _, {error, _} = Error) ->
    Error;
option(Key, Value, _) ->
    {error, {bad_option, {Key, Value}}}.

local({Host, Port}) when is_integer(Port), Port >= 0, Port =< 65535 ->
    case local(Host) of
        {ok, {Ip, 0}} -> {ok, {Ip, Port}};
        error -> error
    end;
local(Ip) when is_tuple(Ip) ->
    case inet:ntoa(Ip) of
        {error, _} -> error;
        _ -> {ok, {Ip, 0}}
    end;
local(Text) when is_list(Text) ->
    try inet:parse_strict_address(Text) of
        {ok, Ip} -> {ok, {Ip, 0}};
        {error, _} -> error
    catch
        error:_ -> error
    end;
local(_) ->
    error.

%% The port of the connection to Node; `no_conn': it uses another carrier.
-spec port(node()) -> {ok, port()} | {error, not_connected | no_conn}.
port(Node) ->
    case lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)) of
        {Node, Port} when is_port(Port) ->
            case erlang:port_info(Port, name) of
                {name, "barrel_p2p_drv" ++ _} -> {ok, Port};
                _ -> {error, no_conn}
            end;
        {Node, _} -> {error, no_conn};
        false -> {error, not_connected}
    end.

migrate(Node, Port, Local, Timeout) ->
    Monitor = monitor(port, Port),
    Id = erlang:unique_integer([positive]),
    Result = case barrel_p2p_drv_path:migrate(Port, Local, Timeout, Id) of
                 ok ->
                     receive
                         {barrel_p2p_path, Id, ok} -> ok;
                         {barrel_p2p_path, Id, Err} -> {error, Err};
                         {'DOWN', Monitor, port, _, _} -> {error, not_connected}
                     after Timeout + ?GRACE_MS ->
                         {error, timeout}
                     end;
                 {error, _} = Error ->
                     reason(Error, Local)
             end,
    demonitor(Monitor, [flush]),
    receive {barrel_p2p_path, Id, _} -> ok after 0 -> ok end,
    report(Node, Port, Result).

reason({error, {system_error, Text}}, _) -> {error, {system_error, Text}};
reason({error, {badarg, _}}, Local) -> {error, {bad_option, {local, Local}}};
reason({error, {limit, Text}}, _) -> {error, {system_error, Text}};
reason({error, {bad_state, _}}, _) -> {error, not_connected};
reason({error, {closed, _}}, _) -> {error, not_connected};
reason({error, {Err, _}}, _) -> {error, Err}.

report(Node, Port, ok) ->
    Where = case barrel_p2p_drv_path:path(Port) of
                {ok, #{local := {Ip, P}}} -> [inet:ntoa(Ip), ":", integer_to_list(P)];
                _ -> "another path"
            end,
    barrel_p2p_node:report(info, path_changed, atom_to_binary(Node, utf8), migrated,
                           ["the connection uses ", Where, " here now"]),
    ok;
report(_, _, Error) ->
    Error.
