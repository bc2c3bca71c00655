%% SPDX-License-Identifier: Apache-2.0
%% Records and default values that users and the modules of barrel_p2p share.

-ifndef(BARREL_P2P_HRL).
-define(BARREL_P2P_HRL, 1).

%% One pinned peer, as barrel_p2p_dist_keys:list_trusted/0 returns it.
-record(peer_key, {
    node :: node(),
    fingerprint :: binary() | undefined,   % <<"SHA256:...">>, as in logs
    public_key :: <<_:256>>,
    added_at :: integer() | undefined,     % of the pin file, ms since the epoch
    last_seen :: integer() | undefined,    % not recorded
    trust_level = permanent :: permanent
}).

-define(BP_DEFAULT_COOKIE, barrel_p2p).
-define(BP_DEFAULT_CERT_DIR, "data/quic").
-define(BP_DEFAULT_KEY_DIR, "data/keys").
-define(BP_DEFAULT_DISCOVERY_DIR, "data/discovery").
-define(BP_DEFAULT_CERT_RENEW_DAYS, 30).
-define(BP_BUILTIN_AUTH, {barrel_p2p_dist_auth_callback, authenticate}).

-endif.
