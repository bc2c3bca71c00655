%% SPDX-License-Identifier: Apache-2.0
%% The driver's control commands on keys and certificates: their files and what is
%% computed with them.
-module(barrel_p2p_drv_keys).

-export([tls_ensure/3, dir_resolve/3, cert_info/2, rotate_cert/3, rotate_identity/3,
         server_binding/0]).
-export([trust_store/3, trust_store_if_new/3, trust_lookup/2, trust_delete/2, trust_list/1,
         fingerprint/1]).
-export([keypair_ensure/1, keypair_save/3, keypair_new/0, public_key/1, sign/2, verify/3,
         random/1, name_match/2]).

-import(barrel_p2p_drv_ctl, [node_control/2, ok/1, tlv/2, encode/2, text/1]).

-type error() :: barrel_p2p_drv:error().

-define(OP_TLS_ENSURE, 9).
-define(OP_DIR_RESOLVE, 10).
-define(OP_TRUST_STORE, 11).
-define(OP_TRUST_STORE_IF_NEW, 12).
-define(OP_TRUST_LOOKUP, 13).
-define(OP_TRUST_DELETE, 14).
-define(OP_TRUST_LIST, 15).
-define(OP_FINGERPRINT, 16).
-define(OP_CERT_INFO, 40).
-define(OP_ROTATE_CERT, 41).
-define(OP_ROTATE_IDENTITY, 42).
-define(OP_SERVER_BINDING, 43).
-define(OP_KEYPAIR_ENSURE, 44).
-define(OP_KEYPAIR_SAVE, 45).
-define(OP_KEYPAIR_NEW, 46).
-define(OP_PUBLIC_KEY, 47).
-define(OP_SIGN, 48).
-define(OP_VERIFY, 49).
-define(OP_RANDOM, 50).
-define(OP_NAME_MATCH, 51).

%% --- certificate and identity ---------------------------------------------------

%% Uses the TLS files as they are, or makes a self-signed pair when both are missing.
-spec tls_ensure(iodata(), iodata(), iodata()) -> {ok, NotAfterUnix :: integer()} | error().
tls_ensure(CertFile, KeyFile, CommonName) ->
    case node_control(?OP_TLS_ENSURE, [tlv(1, text(CertFile)), tlv(2, text(KeyFile)),
                                       tlv(3, text(CommonName))]) of
        {ok, <<NotAfter:64>>} -> {ok, NotAfter};
        {error, _} = Error -> Error
    end.

%% The directory that belongs to Node under Dir; Dir itself when the user named it (Explicit).
-spec dir_resolve(iodata(), boolean(), iodata()) -> {ok, file:filename()} | error().
dir_resolve(Dir, Explicit, Node) ->
    case node_control(?OP_DIR_RESOLVE, [tlv(1, text(Dir)), tlv(2, encode(bool, Explicit)),
                                        tlv(3, text(Node))]) of
        {ok, Path} -> {ok, unicode:characters_to_list(Path)};
        {error, _} = Error -> Error
    end.

%% What the TLS files hold. `binding' is the SHA-256 of the certificate, `generated' says that this
%% program (or upstream) made it.
-spec cert_info(iodata(), iodata()) ->
          {ok, #{binding := <<_:256>>, not_before := integer(), not_after := integer(),
                 generated := boolean()}} | error().
cert_info(CertFile, KeyFile) ->
    case node_control(?OP_CERT_INFO, [tlv(1, text(CertFile)), tlv(2, text(KeyFile))]) of
        {ok, <<Binding:32/binary, From:64/signed, To:64/signed, Generated>>} ->
            {ok, #{binding => Binding, not_before => From, not_after => To,
                   generated => Generated =:= 1}};
        {error, _} = Error ->
            Error
    end.

%% A new pair in place of a generated one; the directory of the old one, "" if there was none.
-spec rotate_cert(iodata(), iodata(), iodata()) -> {ok, Backup :: file:filename()} | error().
rotate_cert(CertFile, KeyFile, CommonName) ->
    path(node_control(?OP_ROTATE_CERT, [tlv(1, text(CertFile)), tlv(2, text(KeyFile)),
                                        tlv(3, text(CommonName))])).

-spec rotate_identity(iodata(), iodata(), boolean()) ->
          {ok, Backup :: file:filename()} | error().
rotate_identity(KeyDir, Node, Announce) ->
    path(node_control(?OP_ROTATE_IDENTITY, [tlv(1, text(KeyDir)), tlv(2, text(Node)),
                                            tlv(3, encode(bool, Announce))])).

path({ok, Path}) -> {ok, unicode:characters_to_list(Path)};
path({error, _} = Error) -> Error.

%% SHA-256 of the certificate that new connections get.
-spec server_binding() -> {ok, <<_:256>>} | error().
server_binding() ->
    node_control(?OP_SERVER_BINDING, <<>>).

%% --- trusted keys --------------------------------------------------------------

-spec trust_store(iodata(), iodata(), <<_:256>>) -> ok | error().
trust_store(KeyDir, Node, Key) ->
    ok(node_control(?OP_TRUST_STORE, trust(KeyDir, Node, Key))).

-spec trust_store_if_new(iodata(), iodata(), <<_:256>>) -> ok | error().
trust_store_if_new(KeyDir, Node, Key) ->
    ok(node_control(?OP_TRUST_STORE_IF_NEW, trust(KeyDir, Node, Key))).

trust(KeyDir, Node, Key) ->
    [tlv(1, text(KeyDir)), tlv(2, text(Node)), tlv(3, Key)].

-spec trust_lookup(iodata(), iodata()) -> {ok, <<_:256>>} | error().
trust_lookup(KeyDir, Node) ->
    node_control(?OP_TRUST_LOOKUP, [tlv(1, text(KeyDir)), tlv(2, text(Node))]).

-spec trust_delete(iodata(), iodata()) -> ok | error().
trust_delete(KeyDir, Node) ->
    ok(node_control(?OP_TRUST_DELETE, [tlv(1, text(KeyDir)), tlv(2, text(Node))])).

-spec trust_list(iodata()) -> {ok, [{Node :: string(), <<_:256>>}]} | error().
trust_list(KeyDir) ->
    case node_control(?OP_TRUST_LIST, tlv(1, text(KeyDir))) of
        {ok, Bin} -> {ok, [{binary_to_list(N), K} || <<L, N:L/binary, K:32/binary>> <= Bin]};
        {error, _} = Error -> Error
    end.

%% "SHA256:..." of a 32-byte public key.
-spec fingerprint(<<_:256>>) -> {ok, binary()} | error().
fingerprint(Key) ->
    node_control(?OP_FINGERPRINT, Key).

%% --- key pairs -----------------------------------------------------------------

%% Loads and checks the key pair in KeyDir, or makes one.
-spec keypair_ensure(iodata()) -> ok | error().
keypair_ensure(KeyDir) ->
    ok(node_control(?OP_KEYPAIR_ENSURE, tlv(1, text(KeyDir)))).

-spec keypair_save(iodata(), <<_:256>>, <<_:256>>) -> ok | error().
keypair_save(KeyDir, Public, Seed) ->
    ok(node_control(?OP_KEYPAIR_SAVE, [tlv(1, text(KeyDir)), tlv(2, Public), tlv(3, Seed)])).

-spec keypair_new() -> {ok, {Public :: <<_:256>>, Seed :: <<_:256>>}} | error().
keypair_new() ->
    case node_control(?OP_KEYPAIR_NEW, <<>>) of
        {ok, <<Public:32/binary, Seed:32/binary>>} -> {ok, {Public, Seed}};
        {error, _} = Error -> Error
    end.

%% The public key of a seed.
-spec public_key(<<_:256>>) -> {ok, <<_:256>>} | error().
public_key(Seed) ->
    node_control(?OP_PUBLIC_KEY, tlv(1, Seed)).

%% Ed25519.
-spec sign(<<_:256>>, binary()) -> {ok, <<_:512>>} | error().
sign(Seed, Message) ->
    node_control(?OP_SIGN, [tlv(1, Seed), tlv(2, Message)]).

-spec verify(<<_:256>>, binary(), <<_:512>>) -> boolean().
verify(Public, Message, Signature) ->
    node_control(?OP_VERIFY, [tlv(1, Public), tlv(2, Message), tlv(3, Signature)])
        =:= {ok, <<1>>}.

%% 1 to 1024 bytes that are good for keys.
-spec random(1..1024) -> {ok, binary()} | error().
random(N) ->
    node_control(?OP_RANDOM, tlv(1, <<N:16>>)).

%% Does the pattern of cookie_only_nodes cover the name?
-spec name_match(iodata(), iodata()) -> boolean().
name_match(Pattern, Name) ->
    node_control(?OP_NAME_MATCH, [tlv(1, text(Pattern)), tlv(2, text(Name))]) =:= {ok, <<1>>}.
