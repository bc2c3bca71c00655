%% SPDX-License-Identifier: Apache-2.0
%% Dialling a node through something else than this machine's UDP (docs/relay.md), and options for the
%% next dial.
%%
%% An adapter is one of
%%
%%   {udp_relay, Host, Port}        everything is sent to a forwarder, which knows where it goes
%%   {socks5, Host, Port}           a SOCKS 5 proxy that relays UDP (RFC 1928)
%%   {socks5, Host, Port, #{username => _, password => _}}
%%   {fd, Fd}                       a connected datagram socket (AF_UNIX or UDP) of this process
%%   {process, Pid | Name}          an Erlang process that takes and gives datagrams
%%   {module, Module, Opts}         a module with this behaviour, which starts one
%%
%% A process is told `{barrel_p2p_relay, Handle, Node, {Ip, Port}}' when a path is opened, and calls
%% take/2. Then it gets `{barrel_p2p_datagram, Handle, Binary}' for each datagram that is to reach the
%% node, and says give(Handle, Binary) for each that came from it. After so many datagrams as it took
%% it gets `{barrel_p2p_passive, Handle}' and takes more; until then the connection waits.
-module(barrel_p2p_relay).

-export([take/2, give/2]).
-export([set_connect_options/2, get_connect_options/1, clear_connect_options/1]).
%% For barrel_p2p_dist, barrel_p2p_path, barrel_p2p_node and barrel_p2p_config_keys.
-export([create_table/0, dial_options/1, configured/1, adapter_ok/1, arguments/1, address/1, connect/5,
         opened/4]).

-export_type([adapter/0, handle/0, options/0]).

-type host() :: string() | binary() | inet:ip_address().
-type adapter() :: {udp_relay, host(), inet:port_number()} | {socks5, host(), inet:port_number()} |
                   {socks5, host(), inet:port_number(),
                    #{username => iodata(), password => iodata()}} |
                   {fd, non_neg_integer()} | {process, pid() | atom()} | {module, module(), term()}.
-type handle() :: port().
-type options() :: #{socket_backend => adapter | udp, socket_adapter => adapter(),
                     max_datagram => 1200..65507}.

%% Starts, or names, the process for a path to Node, which was found at the address (or at
%% {127,0,0,1} and port 1 if nobody knows where it is).
-callback open(handle(), node(), {inet:ip_address(), inet:port_number()}, Opts :: term()) ->
    {ok, pid()} | {error, term()}.

-define(TABLE, ?MODULE).
-define(OP_TAKE, 113).
-define(OP_GIVE, 114).
-define(NOWHERE, {{127, 0, 0, 1}, 1}).

%% --- for processes that relay ----------------------------------------------------

%% The calling process gets the next N datagrams, besides those that it may still get.
-spec take(handle(), 1..1024) -> ok | barrel_p2p_drv:error().
take(Handle, N) when is_integer(N), N >= 1, N =< 1024 ->
    ok(barrel_p2p_drv:control(Handle, ?OP_TAKE, <<N:16>>)).

%% A datagram came from the node. What the connection has no room for is lost, as in a network.
-spec give(handle(), iodata()) -> ok | barrel_p2p_drv:error().
give(Handle, Datagram) ->
    ok(barrel_p2p_drv:control(Handle, ?OP_GIVE, Datagram)).

ok({ok, _}) -> ok;
ok({error, _} = Error) -> Error.

%% --- options of the next dial ------------------------------------------------------

%% Of the next time that this node dials Node, once. What was set before is replaced.
-spec set_connect_options(node(), options()) -> ok | {error, {bad_option, term()} | not_running}.
set_connect_options(Node, Options) when is_atom(Node), is_map(Options) ->
    case [O || O <- maps:to_list(Options), not option_ok(O)] of
        [Bad | _] -> {error, {bad_option, shown(Bad)}};
        [] ->
            case {Options, maps:is_key(socket_adapter, Options)} of
                {#{socket_backend := adapter}, false} -> {error, {bad_option, {socket_backend, adapter}}};
                {#{socket_backend := udp}, true} -> {error, {bad_option, {socket_backend, udp}}};
                _ -> insert(Node, Options)
            end
    end.

insert(Node, Options) ->
    try
        true = ets:insert(?TABLE, {Node, Options}),
        ok
    catch
        error:badarg -> {error, not_running}
    end.

-spec get_connect_options(node()) -> options().
get_connect_options(Node) ->
    try ets:lookup(?TABLE, Node) of
        [{_, Options}] -> Options;
        [] -> #{}
    catch
        error:badarg -> #{}
    end.

-spec clear_connect_options(node()) -> ok.
clear_connect_options(Node) ->
    try ets:delete(?TABLE, Node)
    catch error:badarg -> true
    end,
    ok.

option_ok({socket_backend, B}) -> B =:= adapter orelse B =:= udp;
option_ok({socket_adapter, A}) -> adapter_ok(A);
option_ok({max_datagram, N}) -> is_integer(N) andalso N >= 1200 andalso N =< 65507;
option_ok(_) -> false.

%% An adapter may hold a password.
shown({socket_adapter, A}) when is_tuple(A), tuple_size(A) > 0 -> {socket_adapter, element(1, A)};
shown(Option) -> Option.

%% @private
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% What holds for this dial: {Adapter | none, MaxDatagram | undefined}. One-shot options are used up.
-spec dial_options(node()) -> {adapter() | none, pos_integer() | undefined}.
dial_options(Node) ->
    Options = try ets:take(?TABLE, Node) of
                  [{_, O}] -> O;
                  [] -> #{}
              catch
                  error:badarg -> #{}
              end,
    Adapter = case Options of
                  #{socket_adapter := A} -> A;
                  #{socket_backend := udp} -> none;
                  _ -> configured(Node)
              end,
    {Adapter, maps:get(max_datagram, Options, undefined)}.

%% The adapter of `{relays, [{Node, Adapter}]}', or `none'.
-spec configured(node()) -> adapter() | none.
configured(Node) ->
    case lists:keyfind(Node, 1, barrel_p2p_config:get(relays)) of
        {_, Adapter} -> Adapter;
        false -> none
    end.

%% --- adapters --------------------------------------------------------------------

-spec adapter_ok(term()) -> boolean().
adapter_ok({udp_relay, Host, Port}) -> host_ok(Host) andalso port_ok(Port);
adapter_ok({socks5, Host, Port}) -> host_ok(Host) andalso port_ok(Port);
adapter_ok({socks5, Host, Port, #{} = Auth}) ->
    host_ok(Host) andalso port_ok(Port) andalso maps:without([username, password], Auth) =:= #{}
        andalso lists:all(fun text_ok/1, maps:values(Auth))
        andalso maps:is_key(username, Auth) =:= maps:is_key(password, Auth);
adapter_ok({fd, Fd}) -> is_integer(Fd) andalso Fd >= 0 andalso Fd < 1 bsl 31;
adapter_ok({process, P}) -> is_pid(P) orelse is_atom(P) andalso P =/= undefined;
adapter_ok({module, M, _}) -> is_atom(M) andalso M =/= undefined;
adapter_ok(_) -> false.

port_ok(P) -> is_integer(P) andalso P > 0 andalso P < 65536.

host_ok(H) when is_tuple(H) -> inet:ntoa(H) =/= {error, einval};
host_ok(H) when is_binary(H) -> H =/= <<>>;
host_ok(H) -> H =/= [] andalso io_lib:latin1_char_list(H).

text_ok(T) ->
    try iolist_size(T) of
        N -> N >= 1 andalso N =< 255
    catch
        error:badarg -> false
    end.

%% What the driver is told (driver/relay.c); resolves the host's name.
-spec arguments(adapter() | none) -> {ok, iodata()} | barrel_p2p_drv:error().
arguments(none) -> {ok, []};
arguments({udp_relay, Host, Port}) -> via(1, Host, Port, []);
arguments({socks5, Host, Port}) -> via(2, Host, Port, []);
arguments({socks5, Host, Port, Auth}) ->
    via(2, Host, Port, [tlv(23, iolist_to_binary(maps:get(username, Auth, []))),
                        tlv(24, iolist_to_binary(maps:get(password, Auth, [])))]);
arguments({fd, Fd}) -> {ok, [tlv(20, <<3>>), tlv(25, <<Fd:32>>)]};
arguments({process, _}) -> {ok, tlv(20, <<4>>)};
arguments({module, _, _}) -> {ok, tlv(20, <<4>>)}.

via(Kind, Host, Port, More) ->
    case resolve(Host) of
        {ok, Ip} ->
            {ok, [tlv(20, <<Kind>>), tlv(21, list_to_binary(inet:ntoa(Ip))), tlv(22, <<Port:16>>),
                  More]};
        {error, Reason} ->
            {error, {relay_failed, unicode:characters_to_binary(
                                     io_lib:format("the relay's name ~ts cannot be resolved: ~tp",
                                                   [Host, Reason]))}}
    end.

resolve(Ip) when is_tuple(Ip) -> {ok, Ip};
resolve(Host) when is_binary(Host) -> resolve(binary_to_list(Host));
resolve(Host) ->
    case inet:getaddr(Host, inet) of
        {ok, Ip} -> {ok, Ip};
        {error, _} -> inet:getaddr(Host, inet6)
    end.

tlv(Key, Value) ->
    [<<Key, (byte_size(Value)):16>>, Value].

%% Where a node is dialled that nobody but the adapter can find; `error' if it cannot either.
-spec address(adapter() | none) -> {ok, {inet:ip_address(), inet:port_number()}} | error.
address({udp_relay, Host, Port}) ->
    case resolve(Host) of
        {ok, Ip} -> {ok, {Ip, Port}};
        {error, _} -> error
    end;
address({Kind, _}) when Kind =:= fd; Kind =:= process -> {ok, ?NOWHERE};
address({module, _, _}) -> {ok, ?NOWHERE};
address(_) -> error.

%% barrel_p2p_drv:connect/6 as dial_options/1 says.
-spec connect(handle(), node(), {inet:ip_address(), inet:port_number()}, pos_integer(),
              {adapter() | none, pos_integer() | undefined}) -> ok | barrel_p2p_drv:error().
connect(Port, Node, Address, Timeout, {Adapter, MaxDatagram}) ->
    case arguments(Adapter) of
        {ok, Relay} ->
            case barrel_p2p_drv:connect(Port, atom_to_list(Node), Address, Timeout, Relay,
                                        MaxDatagram) of
                ok -> opened(Adapter, Port, Node, Address);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% A path through the adapter was opened.
-spec opened(adapter() | none, handle(), node(), {inet:ip_address(), inet:port_number()}) ->
          ok | barrel_p2p_drv:error().
opened({process, P}, Handle, Node, Address) ->
    try P ! {?MODULE, Handle, Node, Address} of
        _ -> ok
    catch
        error:badarg -> {error, {relay_failed, <<"the relay's process is not registered">>}}
    end;
opened({module, Module, Opts}, Handle, Node, Address) ->
    try Module:open(Handle, Node, Address, Opts) of
        {ok, Pid} when is_pid(Pid) -> ok;
        Other -> module_failed(Module, Other)
    catch
        Class:Reason -> module_failed(Module, {Class, Reason})
    end;
opened(_, _, _, _) ->
    ok.

module_failed(Module, What) ->
    {error, {relay_failed, unicode:characters_to_binary(
                             io_lib:format("~tp:open/4: ~tp", [Module, What]))}}.
