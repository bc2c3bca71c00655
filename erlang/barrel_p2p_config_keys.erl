%% SPDX-License-Identifier: Apache-2.0
%% The table of all configuration keys: where each stands, its default, what it takes, what it does.
%% Values are checked against it at boot, and docs/configuration.md and cli/config_keys.def, by which
%% `barrel-p2p config check' checks them without a node, are made of it (`make docs').
-module(barrel_p2p_config_keys).

-export([all/0, find/1, check/2, expects/1, nearest/2, stands_in/2, markdown/0, c_table/0]).

-export_type([key/0, place/0, type/0]).

%% barrel_p2p: `{barrel_p2p, [{Key, _}]}'; quic: `{quic, [{Key, _}]}';
%% dist: `{quic, [{dist, [{Key, _}]}]}'; both: in barrel_p2p, else in dist.
-type place() :: barrel_p2p | quic | dist | both.
-type type() :: boolean | {one_of, [term()]} | {integer, integer(), integer()} | timeout | port | dir
              | dir_or_none | name_list | cookie | backends | list | servers | text | module | callback | address
              | advertise | watchdog | relays | ignored | refused | {optional, type()}.
-type key() :: #{key := atom(), place := place(), default := term(), type := type(),
                 flags := [string()], doc := string()}.

-define(MAX_U32, 16#ffffffff).
-define(DAY_MS, 86400000).

-spec all() -> [key()].
all() ->
    [#{key => K, place => P, default => D, type => T, flags => F, doc => Doc}
     || {P, K, D, T, F, Doc} <- transport() ++ identity() ++ discovery() ++ membership()
                                   ++ reserved()].

transport() ->
    [{barrel_p2p, listen_port, 0, port, ["-quic_dist_port", "-barrel_p2p_dist_port"],
      "UDP port; 0: any free one. The flags come first, then `dist_port`, then this key."},
     {quic, dist_port, 0, port, ["-quic_dist_port", "-barrel_p2p_dist_port"],
      "UDP port, as upstream's documentation names it."},
     {dist, bind, any, address, [],
      "Address to listen on: an IP address as text or tuple, or `any`. Without it kernel's "
      "`inet_dist_use_interface` is used. Its family decides the node's."},
     {dist, family, auto, {one_of, [auto, inet, inet6]}, [],
      "`inet` or `inet6` only, or `auto`: both where the machine has both."},
     {both, dist_streams, 16, {integer, 1, 16}, [],
      "Streams that messages are spread over."},
     {both, max_frame_bytes, 268435456, {integer, 65536, ?MAX_U32}, [],
      "A larger frame ends the connection. The VM sends fragments of about 64 KB, so less than that "
      "is refused."},
     {both, max_datagram_bytes, undefined, {optional, {integer, 1200, 65507}}, [],
      "The largest UDP payload that this node sends, for paths that are known to lose larger ones; "
      "its peers have their own. Without it each path's size is found out."},
     {both, keepalive, 2000, {integer, 0, 3600000}, [],
      "Milliseconds of silence after which a peer is asked whether it is there; 0: never."},
     {both, idle_timeout, 300000, {integer, 1000, ?DAY_MS}, [],
      "Milliseconds without a packet after which a connection is over."},
     {both, active_migration, true, boolean, [],
      "Whether peers may move their connections to this node to another path "
      "(`barrel_p2p:migrate_peer/2` there); `false` for nodes behind a load balancer that goes by "
      "addresses."},
     {barrel_p2p, migration_watchdog, off, watchdog, [],
      "Moves a peer's connection to another path when its round trip takes more than `srtt_ms` (200), "
      "or it is not heard of while data waits, at `strikes` (2) looks in a row, one each `period_ms` "
      "(5000); the application must run. Empty: these defaults."},
     {barrel_p2p, migrate_on_route_change, false, boolean, [],
      "Moves the connections that this node dialled when the machine's addresses or routes change so "
      "that another local address is the right one; the application must run."},
     {barrel_p2p, relays, [], relays, [],
      "Nodes that are dialled through something else than this machine's UDP: `docs/relay.md`."},
     {barrel_p2p, stream_preamble_timeout, 10000, {integer, 1, 3600000}, [],
      "Milliseconds that a user stream which a peer has opened may take to say its whole tag."},
     {barrel_p2p, log_level, info, {one_of, [error, warning, info, debug]}, [],
      "What the driver reports to `logger`."},
     {dist, congestion_threshold, 2, ignored, [], "Tuning of upstream's carrier."},
     {dist, max_pull_per_notification, 16, ignored, [], "Tuning of upstream's carrier."},
     {dist, backpressure_retry_ms, 10, ignored, [], "Tuning of upstream's carrier."},
     {dist, pacing_enabled, true, ignored, [], "Tuning of upstream's carrier."},
     {dist, lb_enabled, false, ignored, [], "Without effect in upstream, too."},
     {dist, lb_server_id, undefined, ignored, [], "Without effect in upstream, too."},
     {dist, lb_key, undefined, ignored, [], "Without effect in upstream, too."}].

identity() ->
    [{barrel_p2p, auth_enabled, true, boolean, [],
      "Whether peers must prove their identity. `false` is for tests: a warning says so."},
     {barrel_p2p, auth_trust_mode, tofu, {one_of, [tofu, strict]}, [],
      "`tofu` pins a peer's key at the first contact, `strict` takes only keys that are pinned. Can "
      "be changed while the node runs."},
     {barrel_p2p, auth_key_dir, "data/keys", dir, [],
      "The identity key and, in `trusted/`, the pinned keys."},
     {barrel_p2p, auth_timestamp_window, 30000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds that an authentication may take; a peer's clock may differ by twice that."},
     {both, auth_handshake_timeout, 10000, timeout, ["-quic_dist_auth_handshake_timeout"],
      "Milliseconds for TLS, authentication and distribution handshake together, or `infinity`; "
      "kernel's `net_setuptime` applies if that is less."},
     {barrel_p2p, cookie_only_nodes, [], name_list, [],
      "Patterns (`'*@host'`, `'name@*'`) of nodes that need only the cookie. Needs a cookie of your "
      "own."},
     {barrel_p2p, dist_cookie, barrel_p2p, cookie, ["-setcookie"],
      "The cookie. The default is public, as a warning says; `~/.erlang.cookie` is not used. Without "
      "`-setcookie`, OTP makes that file all the same, and does not boot where there is no home for it."},
     {dist, auth_callback, {barrel_p2p_dist_auth_callback, authenticate}, callback,
      ["-quic_dist_auth_callback"],
      "`{Module, Function}` or `\"Module:Function\"` that authenticates peers instead of ours."},
     {barrel_p2p, quic_cert_dir, "data/quic", dir, ["-barrel_p2p_dist_cert_dir"],
      "TLS certificate and key, made at the first boot."},
     {barrel_p2p, cert_renew_days, 30, {integer, 0, 36500}, [],
      "A certificate that the node made itself is renewed so many days before it ends; 0: never. One "
      "that you provide is warned about."},
     {dist, cert_file, "<quic_cert_dir>/node.crt", {optional, dir}, ["-quic_dist_cert"],
      "The TLS certificate (PEM; a chain may follow)."},
     {dist, key_file, "<quic_cert_dir>/node.key", {optional, dir}, ["-quic_dist_key"],
      "Its key (PEM)."},
     {dist, verify, verify_none, ignored, [],
      "As in upstream: peers are known by their identity key, not by a certificate authority."},
     {dist, cacert_file, undefined, ignored, ["-quic_dist_cacert"], "See `verify`."},
     {dist, cacert, undefined, ignored, [], "See `verify`."},
     {dist, cert, undefined, refused, [], "Use `cert_file`."},
     {dist, key, undefined, refused, [], "Use `key_file`."},
     {dist, psks, undefined, refused, [], "Pre-shared keys are not supported."},
     {dist, psk_callback, undefined, refused, ["-quic_dist_psk_callback"],
      "Pre-shared keys are not supported."},
     {dist, external_psk, undefined, refused, [], "Pre-shared keys are not supported."}].

discovery() ->
    [{barrel_p2p, discovery_backends,
      [barrel_p2p_discovery_static, barrel_p2p_discovery_file, barrel_p2p_discovery_dns], backends,
      [], "The chain that finds nodes: modules with the behaviour `quic_discovery`, or `{Module, "
      "Opts}`. The first that knows a node wins."},
     {barrel_p2p, discovery_timeout, 2000, {integer, 1, 60000}, [],
      "Milliseconds for one call of a backend; one that takes longer is left out."},
     {barrel_p2p, discovery_negative_ttl, 1000, {integer, 0, 60000}, [],
      "Milliseconds for which it is remembered that a backend (other than static and file) does not "
      "know a node."},
     {barrel_p2p, discovery_dir, "data/discovery", dir, [],
      "Endpoint files. Where it is set, the user's runtime directory is not used."},
     {barrel_p2p, discovery_file_format, json, {one_of, [json, term]}, [],
      "What endpoint files are written as; both are read. `term` where upstream 0.1.0 nodes share "
      "the directory."},
     {barrel_p2p, runtime_dir, "$XDG_RUNTIME_DIR/barrel_p2p, /tmp/barrel_p2p-<uid>",
      dir_or_none, [],
      "Where nodes of one user on one machine find each other; `none`: nowhere."},
     {barrel_p2p, advertise, undefined, {optional, advertise}, [],
      "What other nodes are told instead of the bound address or the host part of the name: `Host`, "
      "`{Host, Port}` or a list of at most 8; for NAT and containers. Port 0 is the port that the "
      "node listens on."},
     {dist, nodes, [], list, ["-quic_dist_nodes"],
      "Fixed entries, `{Node, {Host, Port}}` or `{Node, Host, Port}`."},
     {dist, discovery_module, barrel_p2p_discovery, module, [],
      "One module instead of the chain."},
     {dist, dns_domain, undefined, {optional, text}, [],
      "Domain of the SRV records `_erlang-dist._quic.<host>.<domain>` and "
      "`_erlang-dist._quic.<domain>`."},
     {dist, dns_ttl, 30, {integer, 0, 86400}, [],
      "Seconds for which a DNS answer is kept at most."},
     {barrel_p2p, dns_servers, [], servers, [],
      "DNS servers, `\"192.0.2.53\"` or `{\"192.0.2.53\", 53}`, instead of the system's."},
     {dist, register_with_epmd, false, {one_of, [false]}, ["-quic_dist_register_with_epmd"],
      "Registering with an EPMD daemon is not supported: nobody could connect over TCP."}].

membership() ->
    [{barrel_p2p, contact_nodes, [], name_list, [],
      "Nodes, at most 16, that the application joins through when it starts, and again whenever it has "
      "no link. Without any, `barrel_p2p:join/1` is what begins membership."},
     {barrel_p2p, contact_retry_ms, 5000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds between two attempts at contact nodes."},
     {barrel_p2p, active_size, 5, {integer, 1, 32}, [], "Links of a node."},
     {barrel_p2p, passive_size, 30, {integer, 1, 512}, [], "Nodes that it falls back on."},
     {barrel_p2p, arwl, 6, {integer, 1, 32}, [], "Steps of a join's and a shuffle's random walk."},
     {barrel_p2p, prwl, 3, {integer, 0, 32}, [],
      "Steps before the end at which a join's walk reaches passive views; at most `arwl`."},
     {barrel_p2p, shuffle_length, 8, {integer, 1, 32}, [], "Nodes in a shuffle, itself included."},
     {barrel_p2p, shuffle_period, 10000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds between shuffles; shorter, down to 2000, while many links change."},
     {barrel_p2p, churn_window_ms, 30000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds in which changes of links are counted for that."},
     {barrel_p2p, max_fail_count, 5, {integer, 1, 1000}, [],
      "Failed attempts after which a passive node is given up."},
     {barrel_p2p, base_backoff_ms, 1000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds before a node that failed is asked again; doubled each time, up to 300000."},
     {barrel_p2p, passive_max_age_ms, 300000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds after which a node that nobody was in touch with is forgotten."},
     {barrel_p2p, passive_cleanup_period, 60000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds between two looks for such nodes."},
     {barrel_p2p, pending_timeout_ms, 30000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds that a node has to answer a request for a link."},
     {barrel_p2p, swap_period_ms, 300000, {integer, 0, ?DAY_MS}, [],
      "Milliseconds, on average, between two swaps of a link for the passive node that was not heard of "
      "for longest; 0: never. It is what joins islands again."},
     {barrel_p2p, dist_gc_min_age_ms, 300000, timeout, [],
      "Milliseconds for which a channel has to be old and unused before it is closed; `infinity`: "
      "none is."},
     {barrel_p2p, dist_gc_sweep_period_ms, 60000, {integer, 1, ?DAY_MS}, [],
      "Milliseconds between two looks for such channels."},
     {barrel_p2p, full_mesh, false, boolean, [],
      "Leave `global` alone, which connects all nodes with each other, and close no channels."}].

reserved() ->
    [{barrel_p2p, K, D, ignored, [], Doc}
     || {K, D, Doc} <- [{address, {127, 0, 0, 1}, "Told to peers, which do not use it."}]].

-spec find(atom()) -> {ok, key()} | error.
find(Key) ->
    case [K || #{key := Name} = K <- all(), Name =:= Key] of
        [Found | _] -> {ok, Found};
        [] -> error
    end.

%% --- types -----------------------------------------------------------------------

-spec check(type(), term()) -> boolean().
check({optional, _}, undefined) -> true;
check({optional, T}, V) -> check(T, V);
check(boolean, V) -> is_boolean(V);
check({one_of, List}, V) -> lists:member(V, List);
check({integer, Min, Max}, V) -> is_integer(V) andalso V >= Min andalso V =< Max;
check(timeout, V) -> V =:= infinity orelse check({integer, 1, ?MAX_U32}, V);
check(port, V) -> check({integer, 0, 65535}, V) orelse port_text(V);
check(dir, V) -> is_text(V);
check(dir_or_none, V) -> V =:= none orelse is_text(V);
check(text, V) -> is_text(V);
check(name_list, V) -> list_of(fun is_name/1, V);
check(cookie, V) -> V =/= '' andalso (is_atom(V) orelse is_text(V));
check(backends, V) -> list_of(fun is_backend/1, V);
check(list, V) -> is_list(V) andalso length_or_false(V);
check(servers, V) -> list_of(fun is_server/1, V);
check(module, V) -> is_atom(V) andalso V =/= undefined;
check(callback, _) -> true;                     % by barrel_p2p_config:auth_callback/0
check(address, V) -> V =:= any orelse V =:= undefined orelse is_address(V);
check(advertise, V) -> is_advertised(V) orelse (list_of(fun is_advertised/1, V) andalso
                                                 V =/= [] andalso length(V) =< 8);
check(watchdog, V) -> V =:= off orelse list_of(fun is_watchdog/1, V);
check(relays, V) -> list_of(fun is_relay/1, V);
check(ignored, _) -> true;
check(refused, V) -> V =:= undefined.

-spec expects(type()) -> string().
expects({optional, T}) -> expects(T);
expects(boolean) -> "true or false";
expects({one_of, [One]}) -> lists:flatten(io_lib:format("~tp", [One]));
expects({one_of, List}) ->
    {Most, [Last]} = lists:split(length(List) - 1, List),
    lists:flatten(lists:join(", ", [io_lib:format("~tp", [V]) || V <- Most]) ++
                      io_lib:format(" or ~tp", [Last]));
expects({integer, Min, Max}) -> lists:flatten(io_lib:format("an integer from ~b to ~b", [Min, Max]));
expects(timeout) -> "milliseconds > 0 or infinity";
expects(port) -> "a port, 0 to 65535";
expects(dir) -> "a path as text";
expects(dir_or_none) -> "a path as text, or none";
expects(text) -> "text";
expects(name_list) -> "a list of node names (name@host)";
expects(cookie) -> "an atom or text";
expects(backends) -> "a list of modules or {Module, Opts}";
expects(list) -> "a list";
expects(servers) -> "a list of IP addresses or {Address, Port}";
expects(module) -> "a module";
expects(callback) -> "{Module, Function} or \"Module:Function\"";
expects(address) -> "an IP address or any";
expects(advertise) -> "Host, {Host, Port} or a list of at most 8 of them";
expects(watchdog) -> "off, or a list of {srtt_ms, N}, {strikes, N}, {period_ms, N}";
expects(relays) ->
    "a list of {Node, {udp_relay, Host, Port} | {socks5, Host, Port} | {fd, N} | {process, Name} | "
        "{module, Module, Opts}}, each with a map of options as its last element or without";
expects(ignored) -> "anything: it has no effect";
expects(refused) -> "left out".

%% No path, name or address holds a NUL: C would end the text there.
is_text(V) when is_binary(V) -> V =/= <<>> andalso binary:match(V, <<0>>) =:= nomatch;
is_text([_ | _] = V) -> io_lib:char_list(V) andalso not lists:member(0, V);
is_text(_) -> false.

%% Or a pattern of names; a word without "@" would match nothing and be dialled by nobody.
is_name(V) when is_atom(V) -> has_two_parts(atom_to_list(V));
is_name(V) when is_binary(V) -> has_two_parts(binary_to_list(V));
is_name(V) -> io_lib:latin1_char_list(V) andalso has_two_parts(V).

has_two_parts(Text) ->
    {Name, Rest} = lists:splitwith(fun(C) -> C =/= $@ end, Text),
    Name =/= [] andalso length(Rest) > 1 andalso length(Text) =< 255
        andalso not lists:member($@, tl(Rest)) andalso not lists:member(0, Text).

is_backend({Module, _}) -> is_backend(Module);
is_backend(Module) -> is_atom(Module) andalso Module =/= undefined.

is_server({Address, Port}) -> is_address(Address) andalso check({integer, 1, 65535}, Port);
is_server(Address) -> is_address(Address).

is_address(V) when is_tuple(V) -> inet:ntoa(V) =/= {error, einval};
is_address(V) when is_binary(V) -> is_address(binary_to_list(V));
is_address(V) ->
    is_text(V) andalso case inet:parse_strict_address(V) of   % "5" is an address to the other one
                           {ok, _} -> true;
                           {error, _} -> false
                       end.

is_relay({Node, Adapter}) -> is_atom(Node) andalso barrel_p2p_relay:adapter_ok(Adapter);
is_relay(_) -> false.

is_watchdog({srtt_ms, V}) -> check({integer, 1, 3600000}, V);
is_watchdog({strikes, V}) -> check({integer, 1, 1000}, V);
is_watchdog({period_ms, V}) -> check({integer, 10, 3600000}, V);
is_watchdog(_) -> false.

is_advertised({Host, Port}) when is_list(Host); is_binary(Host); is_tuple(Host); is_atom(Host) ->
    is_host(Host) andalso check({integer, 0, 65535}, Port);
is_advertised(Host) ->
    is_host(Host).

%% What an endpoint file can hold.
is_host(V) when is_tuple(V) -> is_address(V);
is_host(V) when is_binary(V) -> is_host(binary_to_list(V));
is_host(V) when is_atom(V) -> V =/= undefined andalso is_host(atom_to_list(V));
is_host([_ | _] = V) ->
    io_lib:latin1_char_list(V) andalso length(V) =< 255 andalso
        lists:all(fun(C) -> (C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z) orelse
                                (C >= $0 andalso C =< $9) orelse lists:member(C, ".:_-")
                  end, V);
is_host(_) -> false.

port_text(V) ->
    io_lib:latin1_char_list(V) andalso case string:to_integer(V) of
                                           {N, ""} -> check({integer, 0, 65535}, N);
                                           _ -> false
                                       end.

list_of(Pred, V) ->
    is_list(V) andalso length_or_false(V) andalso lists:all(Pred, V).

%% False for an improper list.
length_or_false(V) ->
    try length(V) of
        _ -> true
    catch
        error:badarg -> false
    end.

%% --- names that nobody knows ---------------------------------------------------------

%% Whether a key of that place may stand there.
-spec stands_in(barrel_p2p | dist, place()) -> boolean().
stands_in(Where, Place) ->
    Place =:= Where orelse Place =:= both.

%% The key that a mistyped one there most likely is.
-spec nearest(barrel_p2p | dist, atom()) -> {ok, atom()} | none.
nearest(Where, Key) ->
    Text = atom_to_list(Key),
    case lists:sort([{distance(Text, atom_to_list(K)), K}
                     || #{key := K, place := P} <- all(), stands_in(Where, P)]) of
        [{D, Best} | _] when D * 2 =< length(Text) -> {ok, Best};
        _ -> none
    end.

%% Levenshtein's, row by row.
distance(A, B) ->
    lists:last(lists:foldl(fun(C, Row) -> next_row(C, B, Row) end, lists:seq(0, length(B)), A)).

next_row(C, B, [First | _] = Row) ->
    {Reversed, _} = lists:foldl(
                      fun({D, {Diagonal, Above}}, {[Left | _] = Acc, _}) ->
                              Cost = case C =:= D of true -> 0; false -> 1 end,
                              {[lists:min([Left + 1, Above + 1, Diagonal + Cost]) | Acc], none}
                      end,
                      {[First + 1], none},
                      lists:zip(B, lists:zip(lists:droplast(Row), tl(Row)))),
    lists:reverse(Reversed).

%% --- documentation --------------------------------------------------------------------

%% The text of docs/configuration.md.
-spec markdown() -> unicode:chardata().
markdown() ->
    ["# Configuration\n\n"
     "<!-- Made by `make docs` from erlang/barrel_p2p_config_keys.erl; do not edit. -->\n\n"
     "Values are read at boot, from flags first, then from the environment (`sys.config`, or\n"
     "`-App Key Value` on the command line), then the default; a wrong one ends the boot with its\n"
     "name, its value and what is expected. `barrel_p2p:config/0` shows what is in force and where\n"
     "it came from.\n\n"
     "A node needs three flags: `-proto_dist barrel_p2p -epmd_module barrel_p2p_epmd -start_epmd "
     "false`.\nFlags `-quic_dist_NAME V` can also be written `-quic_dist NAME V`.\n",
     section("Transport", transport()), section("Identity", identity()),
     section("Discovery", discovery()), section("Membership", membership()),
     section("Reserved", reserved())].

section(Title, Keys) ->
    ["\n## ", Title, "\n\n| key | where | default | takes | |\n|---|---|---|---|---|\n",
     [["| `", atom_to_list(K), "` | ", place(P), flags(F), " | ", default(T, D), " | ", takes(T),
       " | ", Doc, " |\n"] || {P, K, D, T, F, Doc} <- Keys]].

place(barrel_p2p) -> "`barrel_p2p`";
place(quic) -> "`quic`";
place(dist) -> "`quic`, `dist`";
place(both) -> "`barrel_p2p`, or `quic`, `dist`".

flags([]) -> "";
flags(Flags) -> ["; `", lists:join("`, `", Flags), "`"].

default(refused, _) -> "";
default(_, undefined) -> "none";
default(_, D) -> ["`", io_lib:format("~0tp", [D]), "`"].

takes(ignored) -> "no effect here";
takes(refused) -> "refused";
takes(T) -> string:replace(expects(T), "|", "\\|", all).

%% --- for the command ------------------------------------------------------------------

%% The text of cli/config_keys.def: X(place, name, type, optional, min, max, words, default, flags,
%% expects).
-spec c_table() -> unicode:chardata().
c_table() ->
    ["/* SPDX-License-Identifier: Apache-2.0 */\n"
     "/* Made by `make docs` from erlang/barrel_p2p_config_keys.erl; do not edit.\n"
     " * X(place, name, type, optional, min, max, words, default, flags, expects) */\n",
     [c_row(K) || K <- all()]].

c_row(#{key := Key, place := Place, default := Default, type := Type, flags := Flags}) ->
    {Optional, T} = case Type of
                        {optional, Inner} -> {"true", Inner};
                        _ -> {"false", Type}
                    end,
    {Name, Min, Max, Words} = c_type(T),
    io_lib:format("X(~ts, ~ts, ~ts, ~ts, ~bll, ~bll, ~ts, ~ts, ~ts, ~ts)~n",
                  [upper(Place), c_text(atom_to_list(Key)), upper(Name), Optional, Min, Max,
                   c_text(lists:join(" ", Words)), c_text(io_lib:format("~0tp", [Default])),
                   c_text(lists:join(" ", Flags)), c_text(expects(Type))]).

c_type({one_of, List}) -> {one_of, 0, 0, [atom_to_list(A) || A <- List]};
c_type({integer, Min, Max}) -> {integer, Min, Max, []};
c_type(timeout) -> {timeout, 1, ?MAX_U32, []};
c_type(Type) -> {Type, 0, 0, []}.

upper(Atom) -> string:uppercase(atom_to_list(Atom)).

c_text(Text) ->
    [$", [case C of
              $" -> "\\\"";
              $\\ -> "\\\\";
              _ -> C
          end || C <- lists:flatten(Text)], $"].
