%% SPDX-License-Identifier: Apache-2.0
%% This node's own identity, and the pieces of the authentication as functions. The handshake itself
%% runs in the driver, in C; nothing here is part of it.
-module(barrel_p2p_dist_auth).

-export([init/0, ensure_keypair/0, get_public_key/0, get_private_key/0, fingerprint/0, key_dir/0,
         is_cookie_only_allowed/1]).
-export([create_challenge/0, sign_challenge/3, verify_response/4, validate_peer_ts/1]).
-export([cache_server_cert_binding/0, server_cert_binding/0]).
-export([generate_keypair/0, load_keypair/1, save_keypair/3]).

-export_type([challenge/0]).

-type challenge() :: {Nonce :: <<_:256>>, WallMs :: integer(), MonotonicMs :: integer()}.

-define(DEFAULT_WINDOW_MS, 30000).

%% --- identity ----------------------------------------------------------------

%% The same as ensure_keypair/0.
-spec init() -> ok | {error, term()}.
init() ->
    ensure_keypair().

%% Checks the key pair in key_dir/0, or makes one where there is none. `keypair_mismatch': the two
%% files do not belong together; `invalid_key_size': one is not 32 bytes long. What is wrong with
%% which file, and what to do, is in the log.
-spec ensure_keypair() ->
          ok | {error, keypair_mismatch | invalid_key_size | {mkdir_failed, binary()} |
                {atom(), binary()}}.
ensure_keypair() ->
    case barrel_p2p_node:ensure_started() of
        ok ->
            Dir = key_dir(),
            case barrel_p2p_drv_keys:keypair_ensure(Dir) of
                ok ->
                    ok;
                {error, {Err, Text}} ->
                    barrel_p2p_node:report(error, keypair, <<"any">>, Err, Text),
                    {error, keypair_error(Dir, Err, Text)}
            end;
        {error, _} = Error ->
            Error
    end.

keypair_error(_Dir, keypair_mismatch, _Text) ->
    keypair_mismatch;
keypair_error(Dir, Err, Text) ->
    Sizes = [byte_size(Bin) || F <- ["node.key", "node.pub"], {ok, Bin} <- [read(Dir, F)]],
    case [S || S <- Sizes, S =/= 32] of
        [_ | _] ->
            invalid_key_size;
        [] ->
            case prim_file:read_file_info(Dir) of
                {ok, _} -> {Err, Text};
                {error, _} -> {mkdir_failed, Text}
            end
    end.

read(Dir, File) ->
    prim_file:read_file(filename:join(Dir, File)).

%% The Ed25519 public key that peers pin: `node.pub' in key_dir/0.
-spec get_public_key() -> {ok, barrel_p2p_dist_keys:public_key()} | {error, term()}.
get_public_key() ->
    key_file("node.pub").

%% The seed of the private key: `node.key' in key_dir/0. Whoever has it is this node.
-spec get_private_key() -> {ok, <<_:256>>} | {error, term()}.
get_private_key() ->
    key_file("node.key").

key_file(Name) ->
    case read(key_dir(), Name) of
        {ok, <<_:32/binary>> = Key} -> {ok, Key};
        {ok, _} -> {error, invalid_key_size};
        {error, _} = Error -> Error
    end.

%% The public key's <<"SHA256:...">> form.
-spec fingerprint() -> {ok, binary()} | {error, term()}.
fingerprint() ->
    case get_public_key() of
        {ok, Key} -> {ok, barrel_p2p_dist_keys:fingerprint_text(Key)};
        {error, _} = Error -> Error
    end.

%% The directory of this node's keys: the configured one, or nodes/<node> below the default one when
%% that belongs to a node of another name.
-spec key_dir() -> file:filename().
key_dir() ->
    barrel_p2p_node:key_dir().

%% May Node connect with the cookie alone? That is what `{barrel_p2p, [{cookie_only_nodes, _}]}'
%% says; the driver follows it from the last start or reload on.
-spec is_cookie_only_allowed(node() | string() | binary()) -> boolean().
is_cookie_only_allowed(Node) when is_atom(Node); is_list(Node); is_binary(Node) ->
    Patterns = application:get_env(barrel_p2p, cookie_only_nodes, []),
    barrel_p2p_node:ensure_started() =:= ok
        andalso lists:any(fun(P) -> barrel_p2p_drv_keys:name_match(P, Node) end, Patterns);
is_cookie_only_allowed(_) ->
    false.

%% --- challenge and response ----------------------------------------------------

%% Nonce, wall clock and monotonic clock, both in ms.
-spec create_challenge() -> challenge().
create_challenge() ->
    ok = barrel_p2p_node:ensure_started(),
    {ok, Nonce} = barrel_p2p_drv_keys:random(32),
    {Nonce, erlang:system_time(millisecond), erlang:monotonic_time(millisecond)}.

%% Answers a challenge with this node's key; Binding is the SHA-256 of the server's certificate.
-spec sign_challenge(binary(), integer(), binary()) -> {ok, <<_:512>>} | {error, term()}.
sign_challenge(<<Nonce:32/binary>>, WallMs, <<Binding:32/binary>>) when is_integer(WallMs) ->
    case {get_private_key(), get_public_key()} of
        {{ok, Seed}, {ok, Public}} ->
            barrel_p2p_drv_keys:sign(Seed, signed(Nonce, WallMs, Public, Binding));
        {{error, _} = Error, _} ->
            Error;
        {_, {error, _} = Error} ->
            Error
    end;
sign_challenge(_, _, _) ->
    {error, invalid_binding}.

signed(Nonce, WallMs, Public, Binding) ->
    <<Nonce/binary, WallMs:64, Public/binary, Binding/binary>>.

%% Did the owner of PublicKey answer our challenge, within `auth_timestamp_window'?
-spec verify_response(binary(), binary(), challenge(), binary()) -> boolean().
verify_response(<<Signature:64/binary>>, <<Public:32/binary>>,
                {<<Nonce:32/binary>>, WallMs, Started}, <<Binding:32/binary>>)
  when is_integer(WallMs), is_integer(Started) ->
    erlang:monotonic_time(millisecond) - Started =< window()
        andalso barrel_p2p_node:ensure_started() =:= ok
        andalso barrel_p2p_drv_keys:verify(Public, signed(Nonce, WallMs, Public, Binding), Signature);
verify_response(_, _, _, _) ->
    false.

%% Is the peer's wall clock near ours, within twice `auth_timestamp_window'?
-spec validate_peer_ts(term()) -> ok | {error, peer_ts_skew}.
validate_peer_ts(PeerMs) when is_integer(PeerMs) ->
    case abs(erlang:system_time(millisecond) - PeerMs) =< 2 * window() of
        true -> ok;
        false -> {error, peer_ts_skew}
    end;
validate_peer_ts(_) ->
    {error, peer_ts_skew}.

window() ->
    application:get_env(barrel_p2p, auth_timestamp_window, ?DEFAULT_WINDOW_MS).

%% --- the certificate -----------------------------------------------------------

%% New connections use what the TLS files hold now. A failure is logged; they use the old pair then.
-spec cache_server_cert_binding() -> ok.
cache_server_cert_binding() ->
    case barrel_p2p_node:reload() of
        ok -> ok;
        {error, {Err, Text}} -> barrel_p2p_node:report(error, certificate, <<"any">>, Err, Text)
    end.

%% SHA-256 of this node's certificate, what the signatures on its incoming connections are bound to.
-spec server_cert_binding() -> {ok, <<_:256>>} | {error, term()}.
server_cert_binding() ->
    case barrel_p2p_node:ensure_started() of
        ok ->
            case barrel_p2p_drv_keys:server_binding() of
                {ok, _} = Ok -> Ok;
                {error, _} -> binding_of_files()
            end;
        {error, _} = Error ->
            Error
    end.

binding_of_files() ->
    {CertFile, KeyFile} = barrel_p2p_config:tls_files(),
    case barrel_p2p_drv_keys:cert_info(CertFile, KeyFile) of
        {ok, #{binding := Binding}} -> {ok, Binding};
        {error, _} = Error -> Error
    end.

%% --- key pairs in files ----------------------------------------------------------

-spec generate_keypair() -> {Public :: <<_:256>>, Private :: <<_:256>>}.
generate_keypair() ->
    ok = barrel_p2p_node:ensure_started(),
    {ok, Pair} = barrel_p2p_drv_keys:keypair_new(),
    Pair.

%% Public key and seed in Dir, checked against each other.
-spec load_keypair(file:filename()) ->
          {ok, Public :: <<_:256>>, Private :: <<_:256>>} |
          {error, keypair_mismatch | invalid_key_size | {read_privkey_failed, term()} |
           {read_pubkey_failed, term()} | {atom(), binary()}}.
load_keypair(Dir) ->
    case {read(Dir, "node.key"), read(Dir, "node.pub")} of
        {{ok, <<Seed:32/binary>>}, {ok, <<Public:32/binary>>}} -> check_pair(Public, Seed);
        {{ok, _}, {ok, _}} -> {error, invalid_key_size};
        {{error, Reason}, _} -> {error, {read_privkey_failed, Reason}};
        {_, {error, Reason}} -> {error, {read_pubkey_failed, Reason}}
    end.

check_pair(Public, Seed) ->
    case barrel_p2p_node:ensure_started() of
        ok ->
            case barrel_p2p_drv_keys:public_key(Seed) of
                {ok, Public} -> {ok, Public, Seed};
                {ok, _} -> {error, keypair_mismatch};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% Writes the pair to Dir (created; `node.key' with mode 0600), over what is there.
-spec save_keypair(file:filename(), binary(), binary()) ->
          ok | {error, keypair_mismatch | invalid_key_size | {atom(), binary()}}.
save_keypair(Dir, <<Public:32/binary>>, <<Seed:32/binary>>) ->
    case barrel_p2p_node:ensure_started() of
        ok ->
            case barrel_p2p_drv_keys:keypair_save(Dir, Public, Seed) of
                {error, {keypair_mismatch, _}} -> {error, keypair_mismatch};
                Result -> Result
            end;
        {error, _} = Error ->
            Error
    end;
save_keypair(_, _, _) ->
    {error, invalid_key_size}.
