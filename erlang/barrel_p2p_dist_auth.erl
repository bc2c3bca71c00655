%% SPDX-License-Identifier: Apache-2.0
%% This node's own identity. The private key stays with the driver: nothing here reads it.
-module(barrel_p2p_dist_auth).

-export([get_public_key/0, fingerprint/0, key_dir/0]).

%% The Ed25519 public key that peers pin: `node.pub' in key_dir/0.
-spec get_public_key() -> {ok, barrel_p2p_dist_keys:public_key()} | {error, term()}.
get_public_key() ->
    case prim_file:read_file(filename:join(key_dir(), "node.pub")) of
        {ok, <<_:32/binary>> = Key} -> {ok, Key};
        {ok, _} -> {error, invalid_key_size};
        {error, _} = Error -> Error
    end.

%% Its <<"SHA256:...">> form.
-spec fingerprint() -> {ok, binary()} | {error, term()}.
fingerprint() ->
    case get_public_key() of
        {ok, Key} -> {ok, barrel_p2p_dist_keys:fingerprint(Key)};
        {error, _} = Error -> Error
    end.

%% The directory of this node's keys: the configured one, or nodes/<node> below the default one when
%% that belongs to a node of another name.
-spec key_dir() -> file:filename().
key_dir() ->
    barrel_p2p_node:key_dir().
