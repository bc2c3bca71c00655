%% SPDX-License-Identifier: Apache-2.0
%% Finds nodes: asks a chain of backends. Also the behaviour that a backend implements.
%%
%% The chain is `{barrel_p2p, [{discovery_backends, [Module]}]}', default static entries, then
%% files; it is read at each call. A module of your own can be a link of the chain, or replace the
%% whole of it as `{quic, [{dist, [{discovery_module, Module}]}]}'. Backends may be called at early
%% boot, where there is no file server and only kernel and stdlib can be counted on.
-module(barrel_p2p_discovery).

-export([init/1, register/3, unregister/2, lookup/2, lookup_all/2, list_nodes/1]).
%% For the other modules of the carrier: the same through the configured discovery_module.
-export([publish/2, withdraw/2, find/2, all_nodes/1]).

-export_type([address/0, host/0]).

-type host() :: string() | binary() | atom() | inet:ip_address().
-type address() :: {host(), inet:port_number()}.

%% Called before register/3; the state is passed to it.
-callback init(Opts :: map()) -> {ok, State :: term()} | {error, term()}.
%% This node listens on Port now.
-callback register(Node :: string(), inet:port_number(), State :: term()) ->
    {ok, State :: term()} | {error, term()}.
%% This node leaves; only an entry with this port is ours.
-callback unregister(Node :: string(), inet:port_number()) -> ok | {error, term()}.
%% Host is what stands after the @ of Node.
-callback lookup(Node :: string(), Host :: string()) -> {ok, address()} | {error, term()}.
%% Like lookup/2, with several addresses in the order in which to try them.
-callback lookup_all(Node :: string(), Host :: string()) -> {ok, [address()]} | {error, term()}.
-callback list_nodes(Host :: string()) ->
    {ok, [{node() | string(), inet:port_number()}]} | {error, term()}.
-optional_callbacks([init/1, register/3, unregister/2, lookup_all/2, list_nodes/1]).

-define(DEFAULT_BACKENDS, [barrel_p2p_discovery_static, barrel_p2p_discovery_file]).

%% --- the chain as a discovery module -------------------------------------------

-spec init(map()) -> {ok, map()}.
init(_Opts) ->
    {ok, #{}}.

%% Registers with every backend that can; a backend that fails is logged.
-spec register(string() | node(), inet:port_number(), term()) -> {ok, term()}.
register(Node, Port, State) ->
    lists:foreach(fun(M) -> register_with(M, to_list(Node), Port) end,
                  [M || M <- backends(), exports(M, register, 3)]),
    {ok, State}.

register_with(Module, Node, Port) ->
    Done = case exports(Module, init, 1) of
               true ->
                   case guard(Module, init, [#{}]) of
                       {ok, State} -> guard(Module, register, [Node, Port, State]);
                       Error -> Error
                   end;
               false ->
                   guard(Module, register, [Node, Port, undefined])
           end,
    case Done of
        {ok, _} ->
            ok;
        {error, Reason} ->
            barrel_p2p_node:report(warning, discovery_register_failed, Node, Module,
                                   ["other nodes may not find this one: ", reason_text(Reason)])
    end.

-spec unregister(string() | node(), inet:port_number()) -> ok.
unregister(Node, Port) ->
    lists:foreach(fun(M) -> guard(M, unregister, [to_list(Node), Port]) end,
                  [M || M <- backends(), exports(M, unregister, 2)]).

%% The first backend that knows the node wins.
-spec lookup(string() | node(), host()) -> {ok, address()} | {error, not_found}.
lookup(Node, Host) ->
    case lookup_all(Node, Host) of
        {ok, [Address | _]} -> {ok, Address};
        {error, _} = Error -> Error
    end.

-spec lookup_all(string() | node(), host()) -> {ok, [address(), ...]} | {error, not_found}.
lookup_all(Node, Host) ->
    lookup_chain(backends(), to_list(Node), to_list(Host)).

lookup_chain([], _Node, _Host) ->
    {error, not_found};
lookup_chain([Module | Rest], Node, Host) ->
    case lookup_in(Module, Node, Host) of
        {ok, [_ | _]} = Found ->
            Found;
        {error, {Err, Text}} when is_atom(Err), is_binary(Text) ->
            %% A file that cannot be used, say: the next backend may know better, but somebody must
            %% be told.
            barrel_p2p_node:report(warning, discovery_failed, list_to_binary(Node), Err, Text),
            lookup_chain(Rest, Node, Host);
        _ ->
            lookup_chain(Rest, Node, Host)
    end.

lookup_in(Module, Node, Host) ->
    case exports(Module, lookup_all, 2) of
        true ->
            guard(Module, lookup_all, [Node, Host]);
        false ->
            case guard(Module, lookup, [Node, Host]) of
                {ok, Address} -> {ok, [Address]};
                Other -> Other
            end
    end.

%% What all backends know, whatever the host unless a backend minds it.
-spec list_nodes(host()) -> {ok, [{node() | string(), inet:port_number()}]}.
list_nodes(Host) ->
    {ok, lists:usort(lists:append([list_in(M, to_list(Host)) || M <- backends()]))}.

list_in(Module, Host) ->
    case exports(Module, list_nodes, 1) andalso guard(Module, list_nodes, [Host]) of
        {ok, List} -> List;
        _ -> []
    end.

backends() ->
    application:get_env(barrel_p2p, discovery_backends, ?DEFAULT_BACKENDS).

%% --- through the configured module -----------------------------------------------

%% Makes Node known; what fails is logged.
-spec publish(string(), inet:port_number()) -> ok.
publish(Node, Port) ->
    Module = barrel_p2p_config:discovery_module(),
    case exports(Module, register, 3) of
        true -> register_with(Module, Node, Port);
        false -> ok
    end.

%% Takes Node away again if the entry still has this port.
-spec withdraw(string(), inet:port_number()) -> ok.
withdraw(Node, Port) ->
    Module = barrel_p2p_config:discovery_module(),
    _ = exports(Module, unregister, 2) andalso guard(Module, unregister, [Node, Port]),
    ok.

%% The addresses of Node in the order in which to try them.
-spec find(string(), string()) -> [address()].
find(Node, Host) ->
    case lookup_in(barrel_p2p_config:discovery_module(), Node, Host) of
        {ok, Addresses} ->
            Addresses;
        {error, {_, Text} = Reason} when is_binary(Text) ->
            barrel_p2p_node:report(warning, discovery_failed, Node, element(1, Reason), Text),
            [];
        {error, _} ->
            []
    end.

-spec all_nodes(string()) -> [{node() | string(), inet:port_number()}].
all_nodes(Host) ->
    list_in(barrel_p2p_config:discovery_module(), Host).

%% --- internal ----------------------------------------------------------------

exports(Module, Function, Arity) ->
    _ = code:ensure_loaded(Module),
    erlang:function_exported(Module, Function, Arity).

%% A backend that crashes is one that knows nothing.
guard(Module, Function, Args) ->
    try apply(Module, Function, Args)
    catch
        Class:Reason ->
            Text = unicode:characters_to_binary(
                     io_lib:format("~tp:~tp crashed: ~tp", [Module, Function, {Class, Reason}])),
            barrel_p2p_node:report(warning, discovery_failed, atom_to_list(Module), crashed, Text),
            {error, {crashed, Text}}
    end.

reason_text({_, Text}) when is_binary(Text) -> Text;
reason_text(Reason) -> io_lib:format("~tp", [Reason]).

to_list(V) when is_atom(V) -> atom_to_list(V);
to_list(V) when is_binary(V) -> binary_to_list(V);
to_list(V) when is_tuple(V) -> inet:ntoa(V);
to_list(V) -> V.
