%% SPDX-License-Identifier: Apache-2.0
%% The behaviour of a discovery backend; the name is upstream's, so that a backend works with both.
%%
%% A backend is a link of the chain `{barrel_p2p, [{discovery_backends, [Module | {Module, Opts}]}]}'.
%% Each call runs in a process of its own that is killed after `discovery_timeout' ms; a backend that
%% fails, throws or hangs is left out, with one log line. Calls may come at early boot, where only
%% kernel and stdlib can be counted on, and several may run at once.
-module(quic_discovery).

-export_type([address/0, found/0]).

%% A name, an address as text, or an address tuple.
-type address() :: {string() | binary() | atom() | inet:ip_address(), inet:port_number()}.
%% One address, or several in the order in which to try them; with the seconds for which the answer
%% may be kept (0, or no number: it is not kept).
-type found() :: {ok, address() | [address(), ...]}
               | {ok, address() | [address(), ...], Seconds :: non_neg_integer()}
               | {error, not_found | term()}.

%% Called with the Opts of the chain (`#{}' without) before the first call of another function, and
%% again after it failed. The state goes to register/3.
-callback init(Opts :: term()) -> {ok, State :: term()} | {error, Reason :: term()}.
%% This node listens on Port now. net_kernel does not wait for it.
-callback register(Node :: node(), Port :: inet:port_number(), State :: term()) ->
    {ok, NewState :: term()} | {error, Reason :: term()}.
%% This node leaves; only an entry with this port is ours. Clean stops wait for it.
-callback unregister(Node :: node(), Port :: inet:port_number()) -> ok | {error, Reason :: term()}.
%% Host is what stands after the @ of Node. Failures and `not_found' are kept for
%% `discovery_negative_ttl' ms.
-callback lookup(Node :: node(), Host :: string()) -> found().
%% The nodes that it knows; Host is a hint.
-callback list_nodes(Host :: string()) ->
    {ok, [{node() | string(), inet:port_number()}]} | {error, Reason :: term()}.

-optional_callbacks([init/1, register/3, unregister/2, list_nodes/1]).
