%% SPDX-License-Identifier: Apache-2.0
%% The name of the built-in Ed25519 authentication: `{barrel_p2p_dist_auth_callback, authenticate}'
%% as `auth_callback' means that the driver runs it, in C, between TLS and the dist handshake.
-module(barrel_p2p_dist_auth_callback).

-export([authenticate/3]).

%% Never called by the carrier. A callback of your own has this shape; see barrel_p2p_conn.
-spec authenticate(barrel_p2p_conn:conn(), client | server, timeout()) ->
          {ok, term()} | {error, term()}.
authenticate(_Conn, _Role, _Timeout) ->
    {error, built_in_protocol_runs_in_the_driver}.
