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
%% Each may have a map as its last element: #{mtu => N}, the largest QUIC datagram that it takes.
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

-import(barrel_p2p_drv_ctl, [control/3, ok/1, tlv/2]).

-export_type([adapter/0, handle/0, options/0]).

-type host() :: string() | binary() | inet:ip_address().
-type limits() :: #{mtu => 1200..65507}.
-type adapter() :: {udp_relay, host(), inet:port_number()} |
                   {udp_relay, host(), inet:port_number(), limits()} |
                   {socks5, host(), inet:port_number()} |
                   {socks5, host(), inet:port_number(),
                    #{username => iodata(), password => iodata(), mtu => 1200..65507}} |
                   {fd, non_neg_integer()} | {fd, non_neg_integer(), limits()} |
                   {process, pid() | atom()} | {process, pid() | atom(), limits()} |
                   {module, module(), term()} | {module, module(), term(), limits()}.
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
    ok(control(Handle, ?OP_TAKE, <<N:16>>)).

%% A datagram came from the node. What the connection has no room for is lost, as in a network.
-spec give(handle(), iodata()) -> ok | barrel_p2p_drv:error().
give(Handle, Datagram) ->
    ok(control(Handle, ?OP_GIVE, Datagram)).

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

%% {Adapter without options, options}; `error' for what is none.
split({udp_relay, Host, Port}) -> {{udp_relay, Host, Port}, #{}};
split({udp_relay, Host, Port, #{} = O}) -> {{udp_relay, Host, Port}, O};
split({socks5, Host, Port}) -> {{socks5, Host, Port}, #{}};
split({socks5, Host, Port, #{} = O}) -> {{socks5, Host, Port}, O};
split({fd, Fd}) -> {{fd, Fd}, #{}};
split({fd, Fd, #{} = O}) -> {{fd, Fd}, O};
split({process, P}) -> {{process, P}, #{}};
split({process, P, #{} = O}) -> {{process, P}, O};
split({module, M, Opts}) -> {{module, M, Opts}, #{}};
split({module, M, Opts, #{} = O}) -> {{module, M, Opts}, O};
split(_) -> error.

-spec adapter_ok(term()) -> boolean().
adapter_ok(Adapter) ->
    case split(Adapter) of
        {A, O} -> one_ok(A) andalso mtu_ok(O) andalso options_ok(A, maps:remove(mtu, O));
        error -> false
    end.

one_ok({udp_relay, Host, Port}) -> host_ok(Host) andalso port_ok(Port);
one_ok({socks5, Host, Port}) -> host_ok(Host) andalso port_ok(Port);
one_ok({fd, Fd}) -> is_integer(Fd) andalso Fd >= 0 andalso Fd < 1 bsl 31;
one_ok({process, P}) -> is_pid(P) orelse is_atom(P) andalso P =/= undefined;
one_ok({module, M, _}) -> is_atom(M) andalso M =/= undefined.

mtu_ok(#{mtu := N}) -> is_integer(N) andalso N >= 1200 andalso N =< 65507;
mtu_ok(_) -> true.

options_ok({socks5, _, _}, Auth) ->
    maps:without([username, password], Auth) =:= #{}
        andalso lists:all(fun text_ok/1, maps:values(Auth))
        andalso maps:is_key(username, Auth) =:= maps:is_key(password, Auth);
options_ok(_, Options) ->
    Options =:= #{}.

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
arguments(none) ->
    {ok, []};
arguments(Adapter) ->
    {A, Options} = split(Adapter),
    case way(A, Options) of
        {ok, Way} -> {ok, [Way | [tlv(26, <<N:16>>) || #{mtu := N} <- [Options]]]};
        {error, _} = Error -> Error
    end.

way({udp_relay, Host, Port}, _) -> via(1, Host, Port, []);
way({socks5, Host, Port}, #{username := User, password := Password}) ->
    via(2, Host, Port, [tlv(23, iolist_to_binary(User)), tlv(24, iolist_to_binary(Password))]);
way({socks5, Host, Port}, _) -> via(2, Host, Port, []);
way({fd, Fd}, _) -> {ok, [tlv(20, <<3>>), tlv(25, <<Fd:32>>)]};
way({process, P}, _) -> {ok, [tlv(20, <<4>>), name("process", P)]};
way({module, M, _}, _) -> {ok, [tlv(20, <<4>>), name("module", M)]}.

%% As logs and statistics show it.
name(What, Which) ->
    tlv(27, list_to_binary(lists:sublist(lists:flatten(io_lib:format("~s ~w", [What, Which])), 70))).

via(Way, Host, Port, More) ->
    case resolve(Host) of
        {ok, Ip} ->
            {ok, [tlv(20, <<Way>>), tlv(21, list_to_binary(inet:ntoa(Ip))), tlv(22, <<Port:16>>),
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

%% Where a node is dialled that nobody but the adapter can find; `error' if it cannot either.
-spec address(adapter() | none) -> {ok, {inet:ip_address(), inet:port_number()}} | error.
address(none) ->
    error;
address(Adapter) ->
    case split(Adapter) of
        {{udp_relay, Host, Port}, _} ->
            case resolve(Host) of
                {ok, Ip} -> {ok, {Ip, Port}};
                {error, _} -> error
            end;
        {{socks5, _, _}, _} ->
            error;
        _ ->
            {ok, ?NOWHERE}
    end.

%% barrel_p2p_drv_conn:connect/6 as dial_options/1 says.
-spec connect(handle(), node(), {inet:ip_address(), inet:port_number()}, pos_integer(),
              {adapter() | none, pos_integer() | undefined}) -> ok | barrel_p2p_drv:error().
connect(Port, Node, Address, Timeout, {Adapter, MaxDatagram}) ->
    case arguments(Adapter) of
        {ok, Relay} ->
            case barrel_p2p_drv_conn:connect(Port, atom_to_list(Node), Address, Timeout, Relay,
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
opened(none, _, _, _) ->
    ok;
opened(Adapter, Handle, Node, Address) ->
    {A, _} = split(Adapter),
    tell(A, Handle, Node, Address).

tell({process, P}, Handle, Node, Address) ->
    %% one that was alive when it was told is watched by the driver once it takes datagrams
    try true = not is_pid(P) orelse node(P) =/= node() orelse is_process_alive(P), P ! {?MODULE, Handle, Node, Address} of
        _ -> ok
    catch
        error:badarg -> {error, {relay_failed, <<"the relay's process is not registered">>}};
        error:{badmatch, false} -> {error, {relay_failed, <<"the relay's process has ended">>}}
    end;
tell({module, Module, Opts}, Handle, Node, Address) ->
    try Module:open(Handle, Node, Address, Opts) of
        {ok, Pid} when is_pid(Pid) -> ok;
        Other -> module_failed(Module, Other)
    catch
        Class:Reason -> module_failed(Module, {Class, Reason})
    end;
tell(_, _, _, _) ->
    ok.

module_failed(Module, What) ->
    {error, {relay_failed, unicode:characters_to_binary(
                             io_lib:format("~tp:open/4: ~tp", [Module, What]))}}.
