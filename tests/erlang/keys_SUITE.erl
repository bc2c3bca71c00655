%% SPDX-License-Identifier: Apache-2.0
%% Keys and certificates of running nodes: the API, changes on disk, rotation and its announcement,
%% renewal, revocation, and what the log says about a key that is not trusted.
-module(keys_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([keys_api/1, auth_api/1, api_without_distribution/1, pins_on_disk_count_at_once/1,
         delete_key_disconnects/1, trust_mode_counts_at_next_handshake/1,
         torn_pair_stops_the_boot/1, rotation_is_followed/1, missed_rotations_are_followed/1,
         unannounced_rotation_is_refused/1, cure_in_the_log_works/1,
         rotate_cert_needs_no_restart/1, cert_renews_itself/1, users_cert_is_not_touched/1,
         cookie_only_warns/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [keys_api, auth_api, api_without_distribution, pins_on_disk_count_at_once,
     delete_key_disconnects, trust_mode_counts_at_next_handshake, torn_pair_stops_the_boot,
     rotation_is_followed, missed_rotations_are_followed, unannounced_rotation_is_refused,
     cure_in_the_log_works, rotate_cert_needs_no_restart, cert_renews_itself,
     users_cert_is_not_touched, cookie_only_warns].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% Each node in a directory of its own, named after it. Without `global', which would connect nodes
%% that a case has just disconnected.
opts(Name) ->
    opts(Name, []).

opts(Name, BarrelEnv) ->
    #{name => Name, cwd => atom_to_list(Name), config => [{barrel_p2p, BarrelEnv}],
      args => ["-connect_all", "false"]}.

start(Config, ListOfOpts) ->
    bp_cluster:hush(bp_cluster:start_many(Config, ListOfOpts)).

restart(Config, #{opts := Opts} = Node) ->
    bp_cluster:stop(Node),
    bp_cluster:start(Config, Opts#{node => bp_cluster:name(Node)}).

call(Node, M, F, A) -> bp_cluster:call(Node, M, F, A).

name(Node) -> bp_cluster:name(Node).

text(Node) -> atom_to_list(name(Node)).

keys(#{cwd := Cwd}) -> filename:join(Cwd, "data/keys").

certs(#{cwd := Cwd}) -> filename:join(Cwd, "data/quic").

pub(Node) ->
    {ok, Pub} = file:read_file(filename:join(keys(Node), "node.pub")),
    Pub.

pin_file(Node, Peer) ->
    filename:join([keys(Node), "trusted", text(Peer) ++ ".pub"]).

pin(Node, Peer) ->
    case file:read_file(pin_file(Node, Peer)) of
        {ok, Key} -> Key;
        {error, enoent} -> none
    end.

write_pin(Node, Peer, Key) ->
    ok = filelib:ensure_dir(pin_file(Node, Peer)),
    ok = file:write_file(pin_file(Node, Peer), Key).

%% The text of a fingerprint, by another way than the product's.
fp(Key) ->
    "SHA256:" ++ string:trim(base64:encode_to_string(crypto:hash(sha256, Key)), trailing, "=").

hex(Key) ->
    lists:flatten([io_lib:format("~2.16.0b", [B]) || <<B>> <= Key]).

connected(A, B) ->
    lists:member(name(B), call(A, erlang, nodes, [connected])).

connect(A, B) ->
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    bp_cluster:until(fun() -> connected(B, A) end).

refused(From, To) ->
    ?EQ(false, bp_cluster:connect(From, To)),
    ?EQ({false, false}, {connected(From, To), connected(To, From)}).

mode(File) ->
    {ok, Info} = file:read_file_info(File),
    element(8, Info) band 8#777.

%% ---- the API ----

keys_api(Config) ->
    [A] = start(Config, [opts(a)]),
    K = fun(F, Args) -> call(A, barrel_p2p_dist_keys, F, Args) end,
    Key1 = crypto:strong_rand_bytes(32),
    Key2 = crypto:strong_rand_bytes(32),
    N = 'x@h',
    ?EQ([], K(list_trusted, [])),
    ?EQ({error, not_found}, K(lookup_key, [N])),
    ?EQ(not_pinned, K(lookup_pin, [N])),
    ?EQ(not_pinned, K(lookup_pin, [<<"never_an_atom_", (integer_to_binary(
                                      erlang:unique_integer([positive])))/binary, "@h">>])),
    ?EQ(ok, K(store_key_if_new, [N, Key1])),
    ?EQ(ok, K(store_key_if_new, [N, Key1])),
    ?EQ({error, key_mismatch}, K(store_key_if_new, [N, Key2])),
    ?EQ({ok, Key1}, K(lookup_key, [N])),
    ?EQ({pinned, Key1}, K(lookup_pin, [<<"x@h">>])),
    ?EQ({true, false}, {K(is_trusted, [N, Key1]), K(is_trusted, [N, Key2])}),
    ?EQ(ok, K(store_key, [N, Key2])),
    ?EQ({ok, Key2}, K(lookup_key, [N])),
    [{error, invalid_key_size} = K(F, [N, <<1>>]) || F <- [store_key, store_key_if_new]],
    [{error, {badarg, _}} = K(store_key, [Bad, Key1]) || Bad <- ['x', "../x@h", <<"x@h/y">>]],
    Now = erlang:system_time(millisecond),
    [Entry] = K(list_trusted, []),
    {peer_key, N, FpText, Key2, Added, _, permanent} = Entry,
    ?EQ(fp(Key2), binary_to_list(FpText)),
    true = Added > Now - 60000 andalso Added < Now + 60000,
    ?EQ(crypto:hash(sha256, Key1), K(fingerprint, [Key1])),
    ?EQ(ok, K(delete_key, [N])),
    ?EQ(ok, K(delete_key, [N])),
    ?EQ(ok, K(delete_key, [N, [disconnect]])),
    ?EQ(ok, K(delete_key, [<<"no_such_atom_here@h">>, [disconnect]])),
    ?EQ(not_pinned, K(lookup_pin, [N])),
    ?EQ(tofu, K(get_trust_mode, [])),
    ?EQ(ok, K(set_trust_mode, [strict])),
    ?EQ(strict, K(get_trust_mode, [])),
    true = mode(filename:join(keys(A), "trusted")) =:= 8#700.

auth_api(Config) ->
    [A] = start(Config, [opts(a, [{cookie_only_nodes, ['c@h', '*@legacy', 'mon@*']}])]),
    F = fun(Fun, Args) -> call(A, barrel_p2p_dist_auth, Fun, Args) end,
    Pub = pub(A),
    ?EQ(ok, F(init, [])),
    ?EQ(ok, F(ensure_keypair, [])),
    ?EQ({ok, Pub}, F(get_public_key, [])),
    {ok, Seed} = F(get_private_key, []),
    {Pub, _} = crypto:generate_key(eddsa, ed25519, Seed),
    ?EQ([true, true, true, false, false, false],
        [F(is_cookie_only_allowed, [N])
         || N <- ['c@h', <<"any@legacy">>, "mon@x", 'c@g', <<"x">>, 17]]),
    %% challenge and response, against another implementation of Ed25519
    {Nonce, Wall, Mono} = F(create_challenge, []),
    32 = byte_size(Nonce),
    true = abs(Wall - erlang:system_time(millisecond)) < 60000,
    {ok, Binding} = F(server_cert_binding, []),
    {ok, Pem} = file:read_file(filename:join(certs(A), "node.crt")),
    [{'Certificate', Der, _}] = public_key:pem_decode(Pem),
    ?EQ(crypto:hash(sha256, Der), Binding),
    {ok, Sig} = F(sign_challenge, [Nonce, Wall, Binding]),
    true = crypto:verify(eddsa, none, <<Nonce/binary, Wall:64, Pub/binary, Binding/binary>>, Sig,
                         [Pub, ed25519]),
    ?EQ(true, F(verify_response, [Sig, Pub, {Nonce, Wall, Mono}, Binding])),
    ?EQ(false, F(verify_response, [Sig, Pub, {Nonce, Wall + 1, Mono}, Binding])),
    ?EQ(false, F(verify_response, [Sig, Pub, {Nonce, Wall, Mono - 31000}, Binding])),
    ?EQ(false, F(verify_response, [<<1>>, Pub, {Nonce, Wall, Mono}, Binding])),
    ?EQ({error, invalid_binding}, F(sign_challenge, [Nonce, Wall, <<"short">>])),
    ?EQ(ok, F(validate_peer_ts, [erlang:system_time(millisecond) - 50000])),
    ?EQ({error, peer_ts_skew}, F(validate_peer_ts, [erlang:system_time(millisecond) - 70000])),
    ?EQ({error, peer_ts_skew}, F(validate_peer_ts, [now])),
    ?EQ(ok, F(cache_server_cert_binding, [])),
    ?EQ({ok, Binding}, F(server_cert_binding, [])),
    %% pairs in files
    {P2, S2} = F(generate_keypair, []),
    {P2, _} = crypto:generate_key(eddsa, ed25519, S2),
    Dir = filename:join(bp_cluster:dir(Config), "pair"),
    ?EQ({error, {read_privkey_failed, enoent}}, F(load_keypair, [Dir])),
    ?EQ({error, keypair_mismatch}, F(save_keypair, [Dir, Pub, S2])),
    ?EQ({error, invalid_key_size}, F(save_keypair, [Dir, Pub, <<"x">>])),
    ?EQ(ok, F(save_keypair, [Dir, P2, S2])),
    ?EQ({ok, P2, S2}, F(load_keypair, [Dir])),
    ?EQ(8#600, mode(filename:join(Dir, "node.key"))),
    ok = file:write_file(filename:join(Dir, "node.pub"), Pub),
    ?EQ({error, keypair_mismatch}, F(load_keypair, [Dir])),
    ok = file:write_file(filename:join(Dir, "node.pub"), <<"x">>),
    ?EQ({error, invalid_key_size}, F(load_keypair, [Dir])),
    ok = file:delete(filename:join(Dir, "node.pub")),
    ?EQ({error, {read_pubkey_failed, enoent}}, F(load_keypair, [Dir])),
    %% ensure_keypair says what upstream says
    ok = file:write_file(filename:join(keys(A), "node.pub"), P2),
    ?EQ({error, keypair_mismatch}, F(ensure_keypair, [])),
    bp_cluster:wait_log(A, ["keypair_mismatch", "node.key", "restore"]),
    ok = file:write_file(filename:join(keys(A), "node.pub"), <<"x">>),
    ?EQ({error, invalid_key_size}, F(ensure_keypair, [])).

%% A shell without distribution provisions a node.
api_without_distribution(Config) ->
    [S] = start(Config, [(opts(s))#{names => none, cwd => "b"}]),
    #{cwd := Cwd} = S,
    ?EQ(ok, call(S, application, set_env, [barrel_p2p, auth_key_dir,
                                           filename:join(Cwd, "keys")])),
    ?EQ(ok, call(S, barrel_p2p_dist_auth, ensure_keypair, [])),
    {ok, <<Pub:32/binary>>} = call(S, barrel_p2p_dist_auth, get_public_key, []),
    ?EQ(ok, call(S, barrel_p2p_dist_keys, store_key, ['a@127.0.0.1', Pub])),
    {ok, Pub} = file:read_file(filename:join([Cwd, "keys", "trusted", "a@127.0.0.1.pub"])),
    {ok, #{backup_dir := Backup}} = call(S, barrel_p2p_rotate, rotate_identity, []),
    {ok, Pub} = file:read_file(filename:join(Backup, "node.pub")),
    {ok, Other} = call(S, barrel_p2p_dist_auth, get_public_key, []),
    true = Other =/= Pub.

%% ---- trust ----

%% Added, changed, removed by whoever may write there: counts at the next handshake.
pins_on_disk_count_at_once(Config) ->
    [A, B] = start(Config, [opts(a, [{auth_trust_mode, strict}]), opts(b)]),
    refused(B, A),
    write_pin(A, B, pub(B)),
    connect(B, A),
    bp_cluster:disconnect(A, B),
    write_pin(A, B, crypto:strong_rand_bytes(32)),
    refused(B, A),
    ok = call(A, barrel_p2p_dist_keys, store_key, [name(B), pub(B)]),
    connect(B, A),
    bp_cluster:disconnect(A, B),
    ok = file:delete(pin_file(A, B)),
    refused(B, A),
    refused(A, B).

delete_key_disconnects(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    connect(A, B),
    bp_cluster:until(fun() -> pin(A, B) =:= pub(B) end),
    ok = call(A, barrel_p2p_dist_keys, set_trust_mode, [strict]),
    NB = name(B),
    ok = bp_cluster:run(A, fun() ->
        erlang:monitor_node(NB, true),
        ok = barrel_p2p_dist_keys:delete_key(NB, [disconnect]),
        receive {nodedown, NB} -> ok after 30000 -> timeout end
    end),
    bp_cluster:until(fun() -> not connected(B, A) end),
    refused(B, A),
    ?EQ(none, pin(A, B)).

trust_mode_counts_at_next_handshake(Config) ->
    [A, B, C] = start(Config, [opts(a), opts(b), opts(c)]),
    connect(B, A),
    ok = call(A, barrel_p2p_dist_keys, set_trust_mode, [strict]),
    true = connected(A, B),
    refused(C, A),
    bp_cluster:disconnect(A, B),
    connect(B, A),              % pinned by now
    ok = call(A, barrel_p2p_dist_keys, set_trust_mode, [tofu]),
    connect(C, A).

torn_pair_stops_the_boot(Config) ->
    [A] = start(Config, [opts(a)]),
    bp_cluster:stop(A),
    ok = file:write_file(filename:join(keys(A), "node.pub"), crypto:strong_rand_bytes(32)),
    #{opts := Opts} = A,
    {exit, Code, Log} = bp_cluster:boot(Config, Opts#{node => name(A)}),
    true = Code =/= 0,
    [{true, W} = {string:find(Log, W) =/= nomatch, W}
     || W <- ["keypair_mismatch", filename:join(keys(A), "node.key"), "node.pub",
              "restore the pair from a backup"]].

%% ---- rotation of the identity ----

rotation_is_followed(Config) ->
    [A, T, S] = start(Config, [opts(a), opts(t), opts(s, [{auth_trust_mode, strict}])]),
    Old = pub(A),
    write_pin(S, A, Old),
    connect(A, T),
    connect(A, S),
    bp_cluster:until(fun() -> pin(T, A) =:= Old end),
    {ok, #{backup_dir := Backup, cert_file := PubFile, key_file := KeyFile,
           restart_required := false}} = call(A, barrel_p2p_rotate, rotate_identity, []),
    ?EQ({filename:join(keys(A), "node.pub"), filename:join(keys(A), "node.key")},
        {PubFile, KeyFile}),
    New = pub(A),
    true = New =/= Old,
    ?EQ(fp(New), binary_to_list(maps:get(fingerprint, call(A, barrel_p2p, info, [])))),
    bp_cluster:wait_log(A, ["identity_rotated", fp(New)]),
    {ok, Old} = file:read_file(filename:join(Backup, "node.pub")),
    ?EQ([8#600, 8#600, 8#700],
        [mode(F) || F <- [filename:join(Backup, "node.key"), filename:join(Backup, "node.pub"),
                          Backup]]),
    %% nobody is disconnected, and pins change with the next handshake
    true = connected(A, T) andalso connected(A, S),
    ?EQ(Old, pin(T, A)),
    bp_cluster:disconnect(A, T),
    bp_cluster:disconnect(A, S),
    connect(A, T),
    connect(S, A),
    bp_cluster:until(fun() -> pin(T, A) =:= New andalso pin(S, A) =:= New end),
    [bp_cluster:wait_log(N, ["key_rotated", text(A), fp(Old), fp(New)]) || N <- [T, S]],
    %% and back is not possible: the old key is nobody's now
    bp_cluster:stop(A),
    [{ok, _} = file:copy(filename:join(Backup, F), filename:join(keys(A), F))
     || F <- ["node.key", "node.pub"]],
    #{opts := Opts} = A,
    A2 = bp_cluster:start(Config, Opts#{node => name(A)}),
    refused(A2, T),
    refused(S, A2),
    ?EQ(New, pin(T, A)).

%% The announcement is on disk: it survives a restart and waits for peers that were away.
missed_rotations_are_followed(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    connect(A, B),
    Old = pub(A),
    bp_cluster:until(fun() -> pin(B, A) =:= Old end),
    bp_cluster:stop(B),
    [{ok, _} = call(A, barrel_p2p_rotate, rotate_identity, [#{}]) || _ <- [1, 2, 3]],
    A2 = restart(Config, A),
    #{opts := Opts} = B,
    B2 = bp_cluster:start(Config, Opts#{node => name(B)}),
    connect(B2, A2),
    bp_cluster:until(fun() -> pin(B2, A2) =:= pub(A2) end).

unannounced_rotation_is_refused(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    connect(A, B),
    Old = pub(A),
    bp_cluster:until(fun() -> pin(B, A) =:= Old end),
    {ok, _} = call(A, barrel_p2p_rotate, rotate_identity, [#{announce => false}]),
    true = connected(A, B),
    bp_cluster:disconnect(A, B),
    refused(A, B),
    %% both say who, where, which key was shown, which was expected, and what to do
    Add = "barrel-p2p trust add " ++ text(A) ++ " --key " ++ hex(pub(A)),
    bp_cluster:wait_log(B, [text(A), "127.0.0.1:", "key_mismatch", fp(pub(A)), fp(Old), Add,
                            "--dir " ++ keys(B)]),
    bp_cluster:wait_log(A, [text(B), "127.0.0.1:", "key_mismatch", fp(pub(A)), Add]),
    refused(B, A),
    bp_cluster:wait_log(B, ["connect_failed", text(A), "127.0.0.1:", "key_mismatch", fp(pub(A)),
                            fp(Old), Add]),
    ?EQ(Old, pin(B, A)).

%% The expression in the log, run as it stands there.
cure_in_the_log_works(Config) ->
    [A, B] = start(Config, [opts(a, [{auth_trust_mode, strict}]), opts(b)]),
    refused(B, A),
    bp_cluster:wait_log(A, [text(B), "untrusted_key", fp(pub(B)), "none is pinned"]),
    bp_cluster:wait_log(B, [text(A), "untrusted_key", fp(pub(B)), "run on its side"]),
    {match, [Cure]} = re:run(bp_cluster:log(A), "or (barrel_p2p_dist_keys:store_key\\([^)]*\\))",
                             [{capture, all_but_first, list}]),
    {ok, Tokens, _} = erl_scan:string(Cure ++ "."),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    {value, ok, _} = call(A, erl_eval, exprs, [Exprs, []]),
    ?EQ(pub(B), pin(A, B)),
    connect(B, A).

%% ---- certificates ----

binding(Node) ->
    {ok, Binding} = call(Node, barrel_p2p_dist_auth, server_cert_binding, []),
    Binding.

rotate_cert_needs_no_restart(Config) ->
    [A, B, C] = start(Config, [opts(a), opts(b), opts(c)]),
    connect(A, B),
    Before = binding(B),
    {ok, OldKey} = file:read_file(filename:join(certs(B), "node.key")),
    {ok, #{cert_file := Crt, key_file := Key, backup_dir := Backup,
           restart_required := false}} = call(B, barrel_p2p_rotate, rotate_cert, []),
    ?EQ({filename:join(certs(B), "node.crt"), filename:join(certs(B), "node.key")}, {Crt, Key}),
    {ok, OldKey} = file:read_file(filename:join(Backup, "node.key")),
    ?EQ([8#600, 8#600, 8#600],
        [mode(F) || F <- [Key, filename:join(Backup, "node.key"),
                          filename:join(Backup, "node.crt")]]),
    After = binding(B),
    true = After =/= Before,
    true = connected(A, B),
    NB = name(B),
    ?EQ(NB, bp_cluster:run(A, fun() -> erpc:call(NB, erlang, node, []) end)),
    connect(C, B),
    B2 = restart(Config, B),
    ?EQ(After, binding(B2)),
    connect(A, B2).

%% A pair with too little time left is renewed at boot, and while the node runs.
cert_renews_itself(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    connect(A, B),
    First = binding(B),
    ok = call(B, application, set_env, [barrel_p2p, cert_renew_days, 400]),
    Pid = call(B, erlang, whereis, [barrel_p2p_node]),
    check_cert = call(B, erlang, send, [Pid, check_cert]),
    bp_cluster:until(fun() -> binding(B) =/= First end),
    bp_cluster:wait_log(B, ["NOTICE", "cert_renewed", "node.crt"]),
    true = connected(A, B),
    ok = call(B, application, set_env, [barrel_p2p, cert_renew_days, 30]),
    Second = binding(B),
    bp_cluster:stop(B),
    #{opts := Opts} = B,
    B2 = bp_cluster:start(Config, Opts#{node => name(B),
                                        config => [{barrel_p2p, [{cert_renew_days, 400}]}]}),
    true = binding(B2) =/= Second,
    {ok, Backups} = file:list_dir(filename:join(certs(B), "backups")),
    2 = length(Backups),
    connect(A, B2),
    bp_cluster:stop(B2),
    {exit, _, Log} = bp_cluster:boot(Config, Opts#{node => name(B),
                                                   config => [{barrel_p2p,
                                                               [{cert_renew_days, soon}]}]}),
    true = string:find(Log, "cert_renew_days") =/= nomatch.

users_cert_is_not_touched(Config) ->
    Ec = {key, {namedCurve, secp256r1}},
    #{server_config := Conf} =
        public_key:pkix_test_data(#{server_chain => #{root => [Ec], intermediates => [],
                                                      peer => [Ec, {validity, soon()}]},
                                    client_chain => #{root => [Ec], intermediates => [],
                                                      peer => [Ec]}}),
    {KeyType, KeyDer} = proplists:get_value(key, Conf),
    Pem = [{"node.crt", [{'Certificate', proplists:get_value(cert, Conf), not_encrypted}]},
           {"node.key", [{KeyType, KeyDer, not_encrypted}]}],
    Dir = filename:join([bp_cluster:dir(Config), "a", "data", "quic"]),
    Write = fun(F, Entries) ->
        File = filename:join(Dir, F),
        ok = filelib:ensure_dir(File),
        ok = file:write_file(File, public_key:pem_encode(Entries)),
        ok = file:change_mode(File, 8#600)
    end,
    [Write(F, Entries) || {F, Entries} <- Pem],
    Read = fun() -> [file:read_file(filename:join(Dir, F)) || {F, _} <- Pem] end,
    Before = Read(),
    [A, B] = start(Config, [opts(a), opts(b)]),
    bp_cluster:wait_log(A, ["WARNING", "node.crt", {re, "expires in \\d+ days"}]),
    {error, {bad_state, Text}} = call(A, barrel_p2p_rotate, rotate_cert, []),
    true = string:find(Text, "node.crt") =/= nomatch,
    ?EQ(Before, Read()),
    ?EQ({ok, 2}, {ok, length([F || F <- element(2, file:list_dir(Dir)), F =/= "node.name"])}),
    connect(B, A),
    %% another one that the user puts there is used without a restart
    bp_cluster:disconnect(A, B),
    [ok = file:delete(filename:join(Dir, F)) || {F, _} <- Pem],
    Old = binding(A),
    ok = call(A, barrel_p2p_dist_auth, cache_server_cert_binding, []),
    true = binding(A) =/= Old,
    connect(B, A).

soon() ->
    {Date, _} = calendar:universal_time(),
    Day = calendar:date_to_gregorian_days(Date),
    {calendar:gregorian_days_to_date(Day - 1), calendar:gregorian_days_to_date(Day + 20)}.

%% ---- cookie only ----

cookie_only_warns(Config) ->
    Env = [{cookie_only_nodes, ['*@127.0.0.1']}],
    [A, B] = start(Config, [opts(a, Env), opts(b, Env)]),
    [bp_cluster:wait_log(N, ["WARNING", "cookie_only_nodes", "*@127.0.0.1"]) || N <- [A, B]],
    connect(A, B),
    bp_cluster:wait_log(A, ["WARNING", "cookie_only", text(B), "without proof"]),
    bp_cluster:wait_log(B, ["WARNING", "cookie_only", text(A), "without proof"]).
