%% SPDX-License-Identifier: Apache-2.0
%% Replacing this node's key or certificate while it runs. Connections that are up stay as they are;
%% what is set up from now on uses the new one. The old files are in `backup_dir', readable by the
%% node's user only.
-module(barrel_p2p_rotate).

-export([rotate_cert/0, rotate_cert/1, rotate_identity/0, rotate_identity/1]).
%% For barrel_p2p_boot and barrel_p2p_node.
-export([check_cert/0, check_cert/3]).

-export_type([result/0]).

-include("barrel_p2p.hrl").

-type result() :: {ok, #{cert_file := file:filename(), key_file := file:filename(),
                         backup_dir := file:filename() | undefined,
                         restart_required := boolean()}} | {error, {atom(), binary()}}.

-define(DAY, 86400).

%% --- certificate -------------------------------------------------------------

-spec rotate_cert() -> result().
rotate_cert() ->
    rotate_cert(#{}).

%% A new TLS key and certificate in place of generated ones: what you provided is never replaced
%% (`{error, {bad_state, Text}}'). Option: cert_dir, else the files that this node uses.
%% `restart_required' is true only if the running node could not load the new pair.
-spec rotate_cert(#{cert_dir => file:name_all()}) -> result().
rotate_cert(Options) ->
    Own = barrel_p2p_config:tls_files(),
    Files = case Options of
                #{cert_dir := Dir} -> {in(Dir, "node.crt"), in(Dir, "node.key")};
                _ -> Own
            end,
    with_driver(fun() -> rotate_cert(Files, Files =:= Own, barrel_p2p_node:node_name()) end).

rotate_cert({CertFile, KeyFile} = Files, Ours, Name) ->
    case barrel_p2p_drv_keys:rotate_cert(CertFile, KeyFile, Name) of
        {ok, Backup} ->
            Reload = reload(Ours),
            barrel_p2p_node:report(
              notice, cert_rotated, <<"any">>, cert_rotated,
              ["a new TLS certificate is in ", CertFile, kept(Backup), not_loaded(Reload)]),
            result(Files, Backup, Reload);
        {error, _} = Error ->
            Error
    end.

%% --- identity ----------------------------------------------------------------

-spec rotate_identity() -> result().
rotate_identity() ->
    rotate_identity(#{}).

%% A new Ed25519 key. With `announce' (the default) the old key signs it, and peers of this
%% implementation that have the old one pinned accept and pin the new one at the next handshake, in
%% both trust modes; say false if the old key may be in wrong hands. Other peers, and those that
%% missed more than four rotations, must be told (barrel_p2p_dist_keys:store_key/2). Option key_dir:
%% else this node's. In the result `cert_file' is the public key's file, as upstream has it.
-spec rotate_identity(#{key_dir => file:name_all(), announce => boolean()}) -> result().
rotate_identity(Options) ->
    Announce = maps:get(announce, Options, true),
    true = is_boolean(Announce),
    with_driver(fun() -> rotate_identity(Options, Announce) end).

rotate_identity(Options, Announce) ->
    Own = barrel_p2p_node:key_dir(),
    Dir = case Options of
              #{key_dir := Other} -> barrel_p2p_config:absolute(Other);
              _ -> Own
          end,
    case barrel_p2p_drv_keys:rotate_identity(Dir, barrel_p2p_node:node_name(), Announce) of
        {ok, Backup} ->
            Reload = reload(Dir =:= Own),
            report_identity(Dir, Announce, Backup, Reload),
            result({in(Dir, "node.pub"), in(Dir, "node.key")}, Backup, Reload);
        {error, _} = Error ->
            Error
    end.

report_identity(Dir, Announce, Backup, Reload) ->
    Fingerprint = case prim_file:read_file(in(Dir, "node.pub")) of
                      {ok, <<Key:32/binary>>} -> barrel_p2p_dist_keys:fingerprint_text(Key);
                      _ -> <<"unknown">>
                  end,
    barrel_p2p_node:report(
      warning, identity_rotated, <<"any">>, identity_rotated,
      ["the identity in ", Dir, " is ", Fingerprint, " now", kept(Backup),
       case Announce of
           true -> "; the old key has signed it: peers of this implementation that pinned it "
                       "follow, others must be told the new key";
           false -> "; it is not announced: every peer that pinned the old key must be told"
       end, not_loaded(Reload)]).

%% --- together ----------------------------------------------------------------

in(Dir, File) ->
    filename:join(barrel_p2p_config:absolute(Dir), File).

with_driver(Fun) ->
    case barrel_p2p_node:ensure_started() of
        ok -> Fun();
        {error, _} = Error -> Error
    end.

reload(true) -> barrel_p2p_node:reload();
reload(false) -> ok.

kept("") -> "";
kept(Backup) -> ["; the old one is kept in ", Backup].

not_loaded(ok) -> "";
not_loaded({error, {_, Text}}) -> ["; this node needs a restart to use it: ", Text].

result({CertFile, KeyFile}, Backup, Reload) ->
    {ok, #{cert_file => CertFile, key_file => KeyFile,
           backup_dir => case Backup of "" -> undefined; _ -> Backup end,
           restart_required => Reload =/= ok}}.

%% --- expiry ------------------------------------------------------------------

%% @private Once a day on a running node. A pair that somebody else replaced is taken over, too.
check_cert() ->
    {CertFile, KeyFile} = barrel_p2p_config:tls_files(),
    Before = barrel_p2p_drv_keys:server_binding(),
    case check_cert(CertFile, KeyFile, barrel_p2p_node:node_name()) of
        {ok, #{binding := Binding}} when {ok, Binding} =:= Before -> ok;
        {ok, _} -> barrel_p2p_dist_auth:cache_server_cert_binding();
        {error, _} -> ok
    end.

%% @private Renews a generated certificate that ends within `{barrel_p2p, [{cert_renew_days, 30}]}'
%% (0: never), warns of one that is not ours to renew. The result is about what is there then.
-spec check_cert(file:filename(), file:filename(), string()) -> {ok, map()} | {error, term()}.
check_cert(CertFile, KeyFile, Name) ->
    case barrel_p2p_drv_keys:cert_info(CertFile, KeyFile) of
        {ok, #{not_after := End, generated := Generated} = Info} ->
            Left = End - erlang:system_time(second),
            case renew_seconds() of
                Limit when Left >= Limit, Left >= 0 ->
                    {ok, Info};
                Limit when Generated, Limit > 0 ->
                    renew(CertFile, KeyFile, Name, Info);
                _ ->
                    warn(CertFile, Left),
                    {ok, Info}
            end;
        {error, {Err, Text}} = Error ->
            barrel_p2p_node:report(warning, certificate, <<"any">>, Err, Text),
            Error
    end.

renew_seconds() ->
    case application:get_env(barrel_p2p, cert_renew_days, ?BP_DEFAULT_CERT_RENEW_DAYS) of
        Days when is_integer(Days), Days >= 0 -> Days * ?DAY;
        _ -> ?BP_DEFAULT_CERT_RENEW_DAYS * ?DAY         % the boot says what is wrong
    end.

renew(CertFile, KeyFile, Name, Info) ->
    case barrel_p2p_drv_keys:rotate_cert(CertFile, KeyFile, Name) of
        {ok, Backup} ->
            barrel_p2p_node:report(
              notice, cert_renewed, <<"any">>, cert_renewed,
              ["the TLS certificate ", CertFile, " was about to expire and has been renewed",
               kept(Backup)]),
            barrel_p2p_drv_keys:cert_info(CertFile, KeyFile);
        {error, {Err, Text}} ->
            barrel_p2p_node:report(
              warning, certificate_expires, <<"any">>, Err,
              ["the TLS certificate ", CertFile, " is about to expire and cannot be renewed: ",
               Text]),
            {ok, Info}
    end.

warn(CertFile, Left) when Left < 0 ->
    barrel_p2p_node:report(
      warning, certificate_expired, <<"any">>, certificate_expired,
      ["the TLS certificate ", CertFile, " has expired (peers of this carrier check the identity "
       "key, not the date): put a new one and its key there"]);
warn(CertFile, Left) ->
    barrel_p2p_node:report(
      warning, certificate_expires, <<"any">>, certificate_expires,
      io_lib:format("the TLS certificate ~ts expires in ~b days: put a new one and its key there; "
                    "it is taken over within a day, or at once by "
                    "barrel_p2p_dist_auth:cache_server_cert_binding()",
                    [CertFile, Left div ?DAY])).
