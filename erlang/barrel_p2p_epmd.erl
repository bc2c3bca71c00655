%% SPDX-License-Identifier: Apache-2.0
%% The epmd module (`-epmd_module barrel_p2p_epmd'): answers from discovery, no daemon is needed.
%%
%% Exports what net_kernel, net_adm and erl_distribution of OTP 25 to 29 call on such a module.
-module(barrel_p2p_epmd).

-export([start_link/0, stop/0, register_node/2, register_node/3, port_please/2, port_please/3,
         listen_port_please/2, address_please/3, names/0, names/1]).
-export([addresses_please/2, is_own_host/1]).

%% The protocol version that every OTP since 23 speaks.
-define(DIST_VERSION, 5).
%% More addresses than this are not tried.
-define(MAX_ADDRESSES, 8).

%% Nothing to start.
-spec start_link() -> ignore.
start_link() ->
    ignore.

-spec stop() -> ok.
stop() ->
    ok.

-spec register_node(atom() | string(), inet:port_number()) -> {ok, pos_integer()} | {error, term()}.
register_node(Name, Port) ->
    register_node(Name, Port, inet).

%% Publishes this node in all places that discovery can write to; what fails is logged and is no
%% reason not to start. The creation is random in 4..2^32-1, so that pids of an earlier life of
%% this node are never taken for ours.
%% OTP's carriers (TCP, and TLS over it) give the name of their driver: their port is none of ours,
%% and who forgot -proto_dist would have a node that nobody finds and that encrypts nothing.
-spec register_node(atom() | string(), inet:port_number(), term()) ->
          {ok, pos_integer()} | {error, term()}.
register_node(_Name, _Port, Driver) when Driver =:= inet_tcp; Driver =:= inet6_tcp ->
    barrel_p2p_boot:failed(carrier, {?MODULE, {wrong_carrier, Driver}});
register_node(Name, Port, _Family) ->
    barrel_p2p_discovery:publish(full_name(to_list(Name)), Port),
    {ok, 3 + rand:uniform((1 bsl 32) - 4)}.

full_name(Name) ->
    Full = barrel_p2p_node:node_name(),
    case string:split(Full, "@") of
        [Name, _] ->
            Full;
        _ ->
            {ok, Host} = inet:gethostname(),
            Name ++ "@" ++ Host
    end.

%% The port that listen/2 should open: the configured one; 0 is any.
-spec listen_port_please(term(), term()) -> {ok, inet:port_number()}.
listen_port_please(_Name, _Host) ->
    {ok, barrel_p2p_config:dist_listen_port()}.

-spec port_please(atom() | string(), atom() | string() | inet:ip_address()) ->
          {port, inet:port_number(), pos_integer()} | noport.
port_please(Name, Host) ->
    port_please(Name, Host, infinity).

-spec port_please(atom() | string(), atom() | string() | inet:ip_address(), timeout()) ->
          {port, inet:port_number(), pos_integer()} | noport.
port_please(Name, Host, _Timeout) ->
    case candidates(Name, Host) of
        [{_, Port} | _] -> {port, Port, ?DIST_VERSION};
        [] -> noport
    end.

%% The first address of the node in that family, of any family if there is none.
-spec address_please(atom() | string(), atom() | string() | inet:ip_address(), inet | inet6) ->
          {ok, inet:ip_address(), inet:port_number(), pos_integer()} | {error, term()}.
address_please(Name, Host, Family) ->
    case addresses_please(Name, Host) of
        {ok, All} ->
            Size = case Family of inet6 -> 8; _ -> 4 end,
            [{Ip, Port} | _] = [A || {I, _} = A <- All, tuple_size(I) =:= Size] ++ All,
            {ok, Ip, Port, ?DIST_VERSION};
        {error, _} = Error ->
            Error
    end.

%% All addresses of the node, in the order in which to try them.
-spec addresses_please(atom() | string(), atom() | string() | inet:ip_address()) ->
          {ok, [{inet:ip_address(), inet:port_number()}, ...]} | {error, term()}.
addresses_please(Name, Host) ->
    Found = candidates(Name, Host),
    case unique(resolve_all(Found)) of
        [] when Found =:= [] -> {error, not_found};
        [] -> {error, {unresolvable, [A || {A, _} <- Found]}};
        Addresses -> {ok, lists:sublist(Addresses, ?MAX_ADDRESSES)}
    end.

%% Whether that is the host part of our own name.
-spec is_own_host(string()) -> boolean().
is_own_host(Host) ->
    Host =:= own_host().

%% The nodes that discovery knows on this host, as erl_epmd does it.
-spec names() -> {ok, [{string(), inet:port_number()}]}.
names() ->
    {ok, Host} = inet:gethostname(),
    names(Host).

-spec names(atom() | string() | inet:ip_address()) ->
          {ok, [{string(), inet:port_number()}]}.
names(Host) ->
    Wanted = [to_list(Host) | [own_host() || is_local(to_list(Host))]],
    {ok, lists:usort([{Name, Port}
                      || {Node, Port} <- barrel_p2p_discovery:all_nodes(to_list(Host)),
                         [Name, H] <- [string:split(to_list(Node), "@")],
                         lists:member(H, Wanted)])}.

%% Some ask for the loopback address, which is where OTP's daemon would be.
is_local("localhost") -> true;
is_local(Host) ->
    {ok, Own} = inet:gethostname(),
    Host =:= Own orelse case inet:parse_address(Host) of
                            {ok, {127, _, _, _}} -> true;
                            {ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true;
                            _ -> false
                        end.

candidates(Name, Host) ->
    HostText = to_list(Host),
    barrel_p2p_discovery:find(to_list(Name) ++ "@" ++ HostText, HostText).

%% Names at the same time: what one of them takes must not add up.
resolve_all([{Addr, Port}]) ->
    [{Ip, Port} || Ip <- resolve(Addr)];
resolve_all(Found) ->
    Results = barrel_p2p_discovery:parallel([fun() -> resolve(Addr) end || {Addr, _} <- Found]),
    [{Ip, Port} || {{_, Port}, Ips} <- lists:zip(Found, Results), is_list(Ips), Ip <- Ips].

%% A name that is our own host's means this machine: loopback is right whatever DNS says about it,
%% and its large packets are fast.
resolve(Addr) when is_tuple(Addr) ->
    case inet:ntoa(Addr) of
        {error, einval} -> [];
        _ -> [Addr]
    end;
resolve(Addr) ->
    Text = to_list(Addr),
    case inet:parse_address(Text) of
        {ok, Ip} ->
            [Ip];
        {error, _} ->
            Family = barrel_p2p_config:dist(family, auto),
            case Text =:= own_host() of
                true ->
                    [Ip || {F, Ip} <- [{inet, {127, 0, 0, 1}}, {inet6, {0, 0, 0, 0, 0, 0, 0, 1}}],
                           Family =:= auto orelse F =:= Family];
                false ->
                    case barrel_p2p_resolver:addresses(Text, Family) of
                        {ok, Ips, _} -> Ips;
                        {error, _} -> []
                    end
            end
    end.

own_host() ->
    Name = case node() of
               nonode@nohost -> barrel_p2p_node:node_name();    % still booting
               Node -> atom_to_list(Node)
           end,
    [_, Host] = string:split(Name, "@"),
    Host.

unique(List) ->
    lists:reverse(lists:foldl(fun(X, Acc) ->
                                      case lists:member(X, Acc) of
                                          true -> Acc;
                                          false -> [X | Acc]
                                      end
                              end, [], List)).

to_list(V) when is_atom(V) -> atom_to_list(V);
to_list(V) when is_binary(V) -> binary_to_list(V);
to_list(V) when is_tuple(V) -> inet:ntoa(V);
to_list(V) -> V.
