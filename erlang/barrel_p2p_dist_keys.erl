%% SPDX-License-Identifier: Apache-2.0
%% The keys of other nodes that this node trusts: files `trusted/<node>.pub' beside its own key.
%%
%% The files are read at each handshake, so a change counts from the next one on, whether it was
%% made here, by hand or by another process. Works with and without distribution. A node is given
%% as an atom, a string or a binary; `{error, {Err, Text}}' has a sentence for people.
-module(barrel_p2p_dist_keys).

-export([store_key/2, store_key_if_new/2, lookup_key/1, lookup_pin/1, is_trusted/2, delete_key/1,
         delete_key/2, list_trusted/0, get_trust_mode/0, set_trust_mode/1, fingerprint/1,
         fingerprint_text/1]).

-include_lib("kernel/include/file.hrl").
-include("barrel_p2p.hrl").

-export_type([public_key/0]).

-type public_key() :: <<_:256>>.
-type name() :: node() | string() | binary().

%% Pins Key to Node, over whatever was pinned.
-spec store_key(name(), binary()) -> ok | {error, invalid_key_size} | barrel_p2p_drv:error().
store_key(Node, <<Key:32/binary>>) ->
    with_dir(fun(Dir) -> barrel_p2p_drv_keys:trust_store(Dir, name(Node), Key) end);
store_key(_Node, _Key) ->
    {error, invalid_key_size}.

%% Pins Key to Node unless another key is pinned.
-spec store_key_if_new(name(), binary()) ->
          ok | {error, key_mismatch | invalid_key_size} | barrel_p2p_drv:error().
store_key_if_new(Node, <<Key:32/binary>>) ->
    case with_dir(fun(Dir) -> barrel_p2p_drv_keys:trust_store_if_new(Dir, name(Node), Key) end) of
        {error, {mismatch, _}} -> {error, key_mismatch};
        Result -> Result
    end;
store_key_if_new(_Node, _Key) ->
    {error, invalid_key_size}.

-spec lookup_key(name()) -> {ok, public_key()} | {error, not_found} | barrel_p2p_drv:error().
lookup_key(Node) ->
    case with_dir(fun(Dir) -> barrel_p2p_drv_keys:trust_lookup(Dir, name(Node)) end) of
        {error, {not_found, _}} -> {error, not_found};
        Result -> Result
    end.

-spec lookup_pin(name()) -> {pinned, public_key()} | not_pinned.
lookup_pin(Node) ->
    case lookup_key(Node) of
        {ok, Key} -> {pinned, Key};
        {error, _} -> not_pinned
    end.

%% Is exactly this key pinned to Node?
-spec is_trusted(name(), binary()) -> boolean().
is_trusted(Node, Key) ->
    lookup_pin(Node) =:= {pinned, Key}.

%% Forgets the key of Node; a connection to it stays. In `tofu' mode the node is unknown again, and
%% the next key that it shows is pinned: to lock it out, set the mode to `strict' first.
-spec delete_key(name()) -> ok | barrel_p2p_drv:error().
delete_key(Node) ->
    case with_dir(fun(Dir) -> barrel_p2p_drv_keys:trust_delete(Dir, name(Node)) end) of
        {error, {not_found, _}} -> ok;
        Result -> Result
    end.

%% With `disconnect' a connection to Node ends, too, and so does one that is being set up.
-spec delete_key(name(), [disconnect]) -> ok | barrel_p2p_drv:error().
delete_key(Node, Options) ->
    [] = Options -- [disconnect],
    case delete_key(Node) of
        ok when Options =/= [] -> disconnect(Node);
        Result -> Result
    end.

disconnect(Node) ->
    %% A connected node has an atom.
    try binary_to_existing_atom(name(Node), utf8) of
        Atom ->
            _ = erlang:disconnect_node(Atom),
            ok
    catch
        error:badarg -> ok
    end.

-spec list_trusted() -> [#peer_key{}].
list_trusted() ->
    case with_dir(fun(Dir) -> {Dir, barrel_p2p_drv_keys:trust_list(Dir)} end) of
        {Dir, {ok, List}} -> [peer_key(Dir, Node, Key) || {Node, Key} <- lists:sort(List)];
        _ -> []
    end.

peer_key(Dir, Node, Key) ->
    File = filename:join([Dir, "trusted", Node ++ ".pub"]),
    Added = case file:read_file_info(File, [raw, {time, posix}]) of
                {ok, #file_info{mtime = T}} -> T * 1000;
                {error, _} -> undefined
            end,
    #peer_key{node = list_to_atom(Node), fingerprint = fingerprint_text(Key), public_key = Key,
              added_at = Added}.

-spec get_trust_mode() -> tofu | strict.
get_trust_mode() ->
    application:get_env(barrel_p2p, auth_trust_mode, tofu).

%% `tofu': the first key that a node shows is pinned. `strict': only pinned keys may connect. Counts
%% from the next handshake on; connections that are up stay.
-spec set_trust_mode(tofu | strict) -> ok | barrel_p2p_drv:error().
set_trust_mode(Mode) when Mode =:= tofu; Mode =:= strict ->
    application:set_env(barrel_p2p, auth_trust_mode, Mode),
    barrel_p2p_node:reload().

%% SHA-256 of the key: 32 bytes.
-spec fingerprint(public_key()) -> binary().
fingerprint(Key) ->
    <<"SHA256:", Base64:43/binary>> = fingerprint_text(Key),
    base64:decode(<<Base64/binary, "=">>).

%% The same as <<"SHA256:...">>, the form that logs and ssh-like tools show.
-spec fingerprint_text(public_key()) -> binary() | undefined.
fingerprint_text(<<Key:32/binary>>) ->
    _ = barrel_p2p_node:ensure_started(),
    case barrel_p2p_drv_keys:fingerprint(Key) of
        {ok, Text} -> Text;
        {error, _} -> undefined
    end.

with_dir(Fun) ->
    case barrel_p2p_node:ensure_started() of
        ok -> Fun(barrel_p2p_node:key_dir());
        {error, _} = Error -> Error
    end.

name(Node) when is_atom(Node) -> atom_to_binary(Node, utf8);
name(Node) -> unicode:characters_to_binary(Node).
