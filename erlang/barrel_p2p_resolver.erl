%% SPDX-License-Identifier: Apache-2.0
%% Addresses of host names and SRV records, by the driver's resolver: nobody but the caller waits.
%% Answers are kept as long as DNS says, at most `dns_ttl' seconds.
-module(barrel_p2p_resolver).

-export([addresses/2, srv/2]).

-type family() :: auto | inet | inet6.

%% The addresses in the order in which to try them, families alternating. Without `dns_servers', the
%% operating system is asked for what neither /etc/hosts nor DNS knows (mDNS, say).
-spec addresses(string(), family()) ->
          {ok, [inet:ip_address(), ...], non_neg_integer()} | {error, term()}.
addresses(Host, Family) ->
    barrel_p2p_discovery:cached(
      {addresses, Host, Family},
      fun() -> limited(fun(Ms) -> ask_host(Host, Family, Ms) end) end, fun(_) -> ok end).

%% The records of "_erlang-dist._quic.<Host>.<Domain>", or without the host where that is "".
-spec srv(string(), string()) ->
          {ok, [{Target :: string(), inet:port_number()}, ...], non_neg_integer()} | {error, term()}.
srv(Host, Domain) ->
    barrel_p2p_discovery:cached(
      {srv, Host, Domain},
      fun() ->
              limited(fun(Ms) ->
                              case barrel_p2p_drv_dns:resolve_srv(Host, Domain, servers(), Ms) of
                                  {ok, Ttl, Records} -> {ok, Records, ttl(Ttl)};
                                  {error, _} = Error -> error_reason(Error)
                              end
                      end)
      end, fun(_) -> ok end).

%% In a process of its own: an answer that comes late must not stay in somebody's mailbox. The first
%% answer of a server has a quarter of the time, so that a second try fits.
limited(Fun) ->
    Limit = barrel_p2p_config:get(discovery_timeout),
    _ = barrel_p2p_node:ensure_started(),
    barrel_p2p_discovery:bounded(Limit, fun() -> Fun(max(1, min(60000, Limit div 4))) end).

ask_host(Host, Family, Ms) ->
    case barrel_p2p_drv_dns:resolve_host(Host, Family, servers(), Ms) of
        {ok, Ttl, [_ | _] = Ips} -> {ok, Ips, ttl(Ttl)};
        {error, {not_found, _}} -> ask_system(servers(), Host, Family);
        {error, _} = Error -> error_reason(Error)
    end.

ask_system("", Host, Family) ->
    case lists:append([Ips || F <- [inet, inet6], Family =:= auto orelse Family =:= F,
                              {ok, Ips} <- [inet:getaddrs(Host, F)]]) of
        [] -> {error, not_found};
        Ips -> {ok, Ips, 0}
    end;
ask_system(_, _Host, _Family) ->
    {error, not_found}.

error_reason({error, {not_found, _}}) -> {error, not_found};
error_reason(Error) -> Error.

ttl(Seconds) ->
    min(Seconds, barrel_p2p_config:get(dns_ttl)).

%% As c-ares reads them: "192.0.2.53:53,[2001:db8::53]:53".
servers() ->
    lists:flatten(lists:join(",", [server(S) || S <- barrel_p2p_config:get(dns_servers)])).

server({Host, Port}) -> server_text(Host) ++ ":" ++ integer_to_list(Port);
server(Host) -> server({Host, 53}).

server_text(Host) when is_tuple(Host) -> server_text(inet:ntoa(Host));
server_text(Host) when is_binary(Host) -> server_text(binary_to_list(Host));
server_text(Host) ->
    case lists:member($:, Host) of
        true -> "[" ++ Host ++ "]";
        false -> Host
    end.
