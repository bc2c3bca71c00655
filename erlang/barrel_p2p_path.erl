%% SPDX-License-Identifier: Apache-2.0
%% Moving connections between network paths, for barrel_p2p:migrate_peer/2 and barrel_p2p_path_watch.
-module(barrel_p2p_path).

-export([migrate/2, port/1]).

-export_type([options/0, reason/0]).

-type options() :: #{timeout => 1..3600000,
                     local => inet:ip_address() | string() |
                              {inet:ip_address() | string(), inet:port_number()},
                     socket_backend => adapter | udp, socket_adapter => barrel_p2p_relay:adapter()}.
-type reason() :: not_connected | no_conn | peer_disable_migration | no_spare_cid | not_dialler |
                  timeout | busy | path_failed | relayed | {relay_failed, binary()} | eaddrinuse |
                  {bad_option, term()} | {system_error, binary()}.

-define(TIMEOUT_MS, 5000).
-define(GRACE_MS, 5000).        % a driver that is slow to say so

-spec migrate(node(), options()) -> ok | {error, reason()}.
migrate(Node, Opts) ->
    case options(Opts) of
        {ok, Local, Timeout} ->
            case port(Node) of
                {ok, Port} ->
                    case adapter(Node, Port, Local, Opts) of
                        {error, _} = Error -> Error;
                        Adapter -> migrate(Node, Port, Local, Timeout, Adapter)
                    end;
                {error, _} = Error ->
                    Error
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
option(socket_backend, Backend, {ok, _, _} = Ok) when Backend =:= adapter; Backend =:= udp ->
    Ok;
option(socket_adapter, Adapter, {ok, _, _} = Ok) ->
    case barrel_p2p_relay:adapter_ok(Adapter) of
        true -> Ok;
        false -> {error, {bad_option, socket_adapter}}
    end;
option(_, _, {error, _} = Error) ->
    Error;
option(Key, Value, _) ->
    {error, {bad_option, {Key, Value}}}.

%% Through what the new path goes: as asked for, else as configured. A relay that was chosen for one
%% dial is not left by accident.
adapter(_, _, any, #{socket_adapter := Adapter}) -> Adapter;
adapter(_, _, _, #{socket_adapter := _}) -> {error, {bad_option, local}};
adapter(_, _, _, #{socket_backend := udp}) -> none;
adapter(_, _, _, #{socket_backend := adapter}) -> {error, {bad_option, socket_backend}};
adapter(Node, Port, any, _) ->
    case {barrel_p2p_relay:configured(Node), barrel_p2p_drv_path:path(Port)} of
        {none, {ok, #{relay := Relay}}} when Relay =/= undefined -> {error, relayed};
        {Adapter, {ok, #{relay := Relay}}} when Relay =/= undefined -> Adapter;
        _ -> none
    end;
adapter(_, _, _, _) ->
    none.

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

migrate(Node, Port, Local, Timeout, Adapter) ->
    Monitor = monitor(port, Port),
    Id = erlang:unique_integer([positive]),
    Result = case begin_move(Node, Port, Local, Timeout, Id, Adapter) of
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

begin_move(Node, Port, Local, Timeout, Id, Adapter) ->
    case barrel_p2p_relay:arguments(Adapter) of
        {ok, Relay} ->
            case barrel_p2p_drv_path:migrate(Port, Local, Timeout, Id, Relay) of
                ok -> opened(Adapter, Port, Node, Id);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

opened(Adapter, Port, Node, Id) ->
    case barrel_p2p_drv_path:path(Port) of
        {ok, #{remote := Remote}} ->
            case barrel_p2p_relay:opened(Adapter, Port, Node, Remote) of
                ok ->
                    ok;
                {error, _} = Error ->
                    _ = barrel_p2p_drv_path:stop(Port, Id),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

reason({error, {relay_failed, Text}}, _) -> {error, {relay_failed, Text}};
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
