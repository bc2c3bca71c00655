%% SPDX-License-Identifier: Apache-2.0
%% The driver's control operations on paths (driver/conn_migrate.c, driver/route_ops.c).
-module(barrel_p2p_drv_path).

-export([migrate/5, stop/2, path/1, watch_routes/0]).

-import(barrel_p2p_drv_ctl, [control/3, node_control/2, ok/1, tlv/2]).

-export_type([endpoint/0]).

-type endpoint() :: {inet:ip_address(), inet:port_number()}.

-define(OP_MIGRATE, 110).
-define(OP_PATH, 111).
-define(OP_ROUTE_WATCH, 112).
-define(OP_MIGRATE_STOP, 115).

%% Begins to move the connection; the caller gets `{barrel_p2p_path, Id, ok | Err}', Err an atom or
%% `{relay_failed, Text}', within TimeoutMs unless the port ends. Local: `any' or what the new socket
%% is bound to, port 0 any. Relay: barrel_p2p_relay:arguments/1.
-spec migrate(port(), any | endpoint(), 1..3600000, non_neg_integer(), iodata()) ->
          ok | barrel_p2p_drv:error().
migrate(Port, Local, TimeoutMs, Id, Relay) ->
    Bind = case Local of
               any -> [];
               {Ip, LocalPort} -> [tlv(1, list_to_binary(inet:ntoa(Ip))), tlv(2, <<LocalPort:16>>)]
           end,
    ok(control(Port, ?OP_MIGRATE,
                              [Bind, tlv(3, <<TimeoutMs:32>>), tlv(4, <<Id:64>>), Relay])).

%% A move that was begun is not wanted any more: the connection stays where it is, or goes back there,
%% and its caller gets no message.
-spec stop(port(), non_neg_integer()) -> ok | barrel_p2p_drv:error().
stop(Port, Id) ->
    ok(control(Port, ?OP_MIGRATE_STOP, tlv(4, <<Id:64>>))).

%% The addresses of the path, and `route': the local address that a new socket to the peer would
%% have now (undefined: there is no route). relay: what is in between, for people.
-spec path(port()) -> {ok, #{local := endpoint() | undefined, remote := endpoint() | undefined,
                             route := inet:ip_address() | undefined,
                             relay := binary() | undefined}} | barrel_p2p_drv:error().
path(Port) ->
    case control(Port, ?OP_PATH, <<>>) of
        {ok, <<1, L1:16, Local:L1/binary, 2, 2:16, LocalPort:16,
               3, L3:16, Remote:L3/binary, 4, 2:16, RemotePort:16,
               5, L5:16, Route:L5/binary, 6, 2:16, _:16, 7, L7:16, Relay:L7/binary>>} ->
            {ok, #{local => endpoint(Local, LocalPort), remote => endpoint(Remote, RemotePort),
                   route => ip(Route), relay => relay(Relay)}};
        {error, _} = Error ->
            Error
    end.

relay(<<>>) -> undefined;
relay(Name) -> Name.

endpoint(Text, Port) ->
    case ip(Text) of
        undefined -> undefined;
        Ip -> {Ip, Port}
    end.

ip(Text) ->
    case inet:parse_address(binary_to_list(Text)) of
        {ok, Ip} -> Ip;
        {error, _} -> undefined
    end.

%% From now on the caller gets `{barrel_p2p_routes, changed}' when an address or a route of this
%% machine has changed; another caller takes its place.
-spec watch_routes() -> ok | barrel_p2p_drv:error().
watch_routes() ->
    ok(node_control(?OP_ROUTE_WATCH, <<>>)).
