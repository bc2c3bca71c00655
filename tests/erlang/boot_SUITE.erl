%% SPDX-License-Identifier: Apache-2.0
%% What a node does when it boots with this carrier: files, configuration, ports, cookies, and the
%% errors that name what is wrong.
-module(boot_SUITE).

-include_lib("public_key/include/public_key.hrl").
-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([generated_tls_files/1, user_tls_files_untouched/1, cert_chain_and_key_forms/1,
         bad_tls_files_name_the_file/1, bad_identity_files_name_the_file/1,
         doubtful_identity_files_are_a_warning/1,
         node_name_file_and_subdirectories/1, explicit_directories_used_as_they_are/1,
         environments_visible_and_defaults_filled/1, auth_enabled_without_callback/1,
         bad_configuration_is_named/1, port_precedence/1, port_in_use/1,
         two_nodes_in_one_directory/1, nodes_in_different_directories/1,
         static_nodes_both_forms/1, default_cookie_with_warning/1, configured_cookie/1,
         setcookie_stays/1, forgotten_flags/1, conflicting_quic_dist/1, boots_as_short_name/1,
         bind_address_is_honoured/1, same_name_twice/1, rebar3_compile/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [generated_tls_files, user_tls_files_untouched, cert_chain_and_key_forms,
     bad_tls_files_name_the_file, bad_identity_files_name_the_file,
     doubtful_identity_files_are_a_warning,
     node_name_file_and_subdirectories, explicit_directories_used_as_they_are,
     environments_visible_and_defaults_filled, auth_enabled_without_callback,
     bad_configuration_is_named, port_precedence, port_in_use, two_nodes_in_one_directory,
     nodes_in_different_directories, static_nodes_both_forms, default_cookie_with_warning,
     configured_cookie, setcookie_stays, forgotten_flags, conflicting_quic_dist, boots_as_short_name,
     bind_address_is_honoured, same_name_twice, rebar3_compile].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(rebar3_compile = Case, Config) ->
    case os:find_executable("rebar3") of
        false -> {skip, "rebar3 is not installed"};
        _ -> bp_cluster:init_case(?MODULE, Case, Config)
    end;
init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

file(Config, Name) ->
    filename:join(bp_cluster:dir(Config), Name).

read(Config, Name) ->
    {ok, Bin} = file:read_file(file(Config, Name)),
    Bin.

write(Config, Name, Data) ->
    ok = filelib:ensure_dir(file(Config, Name)),
    ok = file:write_file(file(Config, Name), Data).

mode(Path) ->
    {ok, Info} = file:read_file_info(Path),
    element(8, Info) band 8#777.

%% The node must not come up; its output must hold all words.
boot_fails(Config, Opts, Words) ->
    case bp_cluster:boot(Config, Opts) of
        {ok, Node} ->
            bp_cluster:kill(Node),
            error({booted_in_spite_of, Opts, Words});
        {exit, Code, Log} ->
            true = Code =/= 0,
            [string:find(Log, W) =/= nomatch
             orelse error({not_in_output, W, unicode:characters_to_list(Log)}) || W <- Words],
            ok
    end.

%% ---- step 1: TLS material ----

generated_tls_files(Config) ->
    N = bp_cluster:start(Config, #{name => n}),
    {Crt, Key} = {file(Config, "data/quic/node.crt"), file(Config, "data/quic/node.key")},
    ?EQ(8#600, mode(Key)),
    ?EQ(8#700, mode(file(Config, "data/quic"))),
    {ok, KeyPem} = file:read_file(Key),
    [{'ECPrivateKey', _, not_encrypted} = KeyEntry] = public_key:pem_decode(KeyPem),
    #'ECPrivateKey'{parameters = {namedCurve, Curve}} = public_key:pem_entry_decode(KeyEntry),
    ?EQ(secp256r1, pubkey_cert_records:namedCurves(Curve)),
    {ok, CrtPem} = file:read_file(Crt),
    [{'Certificate', Der, not_encrypted}] = public_key:pem_decode(CrtPem),
    Otp = public_key:pkix_decode_cert(Der, otp),
    #'OTPCertificate'{tbsCertificate = Tbs, signatureAlgorithm = Alg} = Otp,
    ?EQ(v3, Tbs#'OTPTBSCertificate'.version),
    ?EQ(?'ecdsa-with-SHA256', Alg#'SignatureAlgorithm'.algorithm),
    true = public_key:pkix_is_self_signed(Otp),
    Serial = Tbs#'OTPTBSCertificate'.serialNumber,
    true = Serial > 0 andalso Serial < (1 bsl 127) andalso Serial > (1 bsl 64),
    {rdnSequence, Rdn} = Tbs#'OTPTBSCertificate'.subject,
    Subject = [{T, V} || [#'AttributeTypeAndValue'{type = T, value = V}] <- Rdn],
    ?EQ({utf8String, atom_to_binary(bp_cluster:name(N))},
        proplists:get_value(?'id-at-commonName', Subject)),
    ?EQ({utf8String, <<"Barrel P2P">>}, proplists:get_value(?'id-at-organizationName', Subject)),
    #'Validity'{notBefore = From, notAfter = Until} = Tbs#'OTPTBSCertificate'.validity,
    [FromS, UntilS] = [pubkey_cert_time(T) || T <- [From, Until]],
    Now = calendar:datetime_to_gregorian_seconds(calendar:universal_time()),
    true = abs(Now - 300 - FromS) < 60,
    true = abs(Now + 365 * 86400 - UntilS) < 60,
    Exts = [{Id, Crit, V} || #'Extension'{extnID = Id, critical = Crit, extnValue = V}
                                 <- Tbs#'OTPTBSCertificate'.extensions],
    {_, true, #'BasicConstraints'{cA = false}} = lists:keyfind(?'id-ce-basicConstraints', 1, Exts),
    {_, true, [digitalSignature]} = lists:keyfind(?'id-ce-keyUsage', 1, Exts),
    {_, false, Usages} = lists:keyfind(?'id-ce-extKeyUsage', 1, Exts),
    ?EQ(lists:sort([?'id-kp-serverAuth', ?'id-kp-clientAuth']), lists:sort(Usages)),
    ?EQ(false, lists:keyfind(?'id-ce-subjectAltName', 1, Exts)),
    %% a second start uses the same files
    bp_cluster:stop(N),
    _ = bp_cluster:start(Config, #{node => bp_cluster:name(N)}),
    ?EQ({ok, CrtPem}, file:read_file(Crt)),
    ?EQ({ok, KeyPem}, file:read_file(Key)).

pubkey_cert_time({utcTime, [Y1, Y2 | Rest]}) ->
    pubkey_cert_time({generalTime, [$2, $0, Y1, Y2 | Rest]});
pubkey_cert_time({generalTime, S}) ->
    {ok, [Y, Mo, D, H, Mi, Sec], []} = io_lib:fread("~4d~2d~2d~2d~2d~2dZ", S),
    calendar:datetime_to_gregorian_seconds({{Y, Mo, D}, {H, Mi, Sec}}).

%% {ChainPem, KeyPem} of a certificate that a user could have.
user_pair(KeyType) ->
    Chain = #{root => [{key, KeyType}], intermediates => [], peer => [{key, KeyType}]},
    #{server_config := Conf} = public_key:pkix_test_data(#{server_chain => Chain,
                                                           client_chain => Chain}),
    {Type, KeyDer} = proplists:get_value(key, Conf),
    Certs = [proplists:get_value(cert, Conf) | proplists:get_value(cacerts, Conf)],
    {public_key:pem_encode([{'Certificate', C, not_encrypted} || C <- Certs]),
     public_key:pem_encode([{Type, KeyDer, not_encrypted}])}.

ec() -> {namedCurve, secp256r1}.

user_tls_files_untouched(Config) ->
    {Crt, Key} = user_pair(ec()),
    write(Config, "mine/node.crt", Crt),
    write(Config, "mine/node.key", Key),
    Cb = [{quic, [{dist, [{auth_callback, {bp_auth_cb, authenticate}}]}]}],
    [A, B] = bp_cluster:start_many(Config, [
        #{name => a, config => Cb, cwd => "a",
          args => ["-barrel_p2p_dist_cert_dir", file(Config, "mine")]},
        #{name => b, config => Cb, cwd => "b"}]),
    true = bp_cluster:connect(B, A),
    ?EQ(Crt, read(Config, "mine/node.crt")),
    ?EQ(Key, read(Config, "mine/node.key")),
    ?EQ({error, enoent}, file:read_file_info(file(Config, "a/data/quic"))),
    %% and it is what peers see
    [#{certificate := {ok, Der}}] = bp_cluster:call(B, bp_auth_cb, seen, []),
    [{'Certificate', Der, _} | _] = public_key:pem_decode(Crt),
    ok.

%% RSA and PKCS#8 keys, given by sys.config; both ends talk.
cert_chain_and_key_forms(Config) ->
    {RsaCrt, RsaKey} = user_pair({rsa, 2048, 65537}),
    {EcCrt, EcKey} = user_pair(ec()),
    [EcEntry] = public_key:pem_decode(EcKey),
    Pkcs8 = public_key:pem_encode([public_key:pem_entry_encode(
        'PrivateKeyInfo', public_key:pem_entry_decode(EcEntry))]),
    [write(Config, F, D) || {F, D} <- [{"rsa.crt", RsaCrt}, {"rsa.key", RsaKey},
                                       {"ec.crt", EcCrt}, {"ec.key", Pkcs8}]],
    Conf = fun(Name) ->
        [{quic, [{dist, [{cert_file, file(Config, Name ++ ".crt")},
                         {key_file, file(Config, Name ++ ".key")}]}]}]
    end,
    [A, B] = bp_cluster:start_many(Config, [
        #{name => a, cwd => "a", config => Conf("rsa")},
        #{name => b, cwd => "b", config => Conf("ec")}]),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A).

bad_tls_files_name_the_file(Config) ->
    {Crt, Key} = user_pair(ec()),
    {_, OtherKey} = user_pair(ec()),
    Half = fun(B) -> binary:part(B, 0, 150) end,
    Cases = [{garbage_cert, <<"not a certificate\n">>, Key, "node.crt"},
             {truncated_cert, Half(Crt), Key, "node.crt"},
             {empty_cert, <<>>, Key, "node.crt"},
             {garbage_key, Crt, <<0, 1, 2, 3, 255>>, "node.key"},
             {truncated_key, Crt, Half(Key), "node.key"},
             {foreign_key, Crt, OtherKey, "node.key"},
             {no_key, Crt, none, "node.key"},
             {no_cert, none, Key, "node.crt"},
             {cert_is_directory, directory, Key, "node.crt"}],
    in_pairs(fun({Name, C, K, Blamed}) ->
        Dir = atom_to_list(Name),
        [case Data of
             none -> ok;
             directory -> ok = filelib:ensure_dir(file(Config, Dir ++ "/data/quic/" ++ F ++ "/x"));
             _ -> write(Config, Dir ++ "/data/quic/" ++ F, Data)
         end || {F, Data} <- [{"node.crt", C}, {"node.key", K}]],
        Path = file(Config, Dir ++ "/data/quic/" ++ Blamed),
        boot_fails(Config, #{name => Name, cwd => Dir},
                   ["step 1 of 4", Path, "cert_ensure_failed"]),
        %% a user's file is never written over
        [?EQ({ok, Data}, file:read_file(file(Config, Dir ++ "/data/quic/" ++ F)))
         || {F, Data} <- [{"node.crt", C}, {"node.key", K}], is_binary(Data)]
    end, Cases).

%% Runs F over the list, two at a time.
in_pairs(_, []) ->
    ok;
in_pairs(F, List) ->
    {Now, Later} = lists:split(min(2, length(List)), List),
    Jobs = [bp_cluster:async(fun() -> F(X) end, []) || X <- Now],
    [bp_cluster:await(J) || J <- Jobs],
    in_pairs(F, Later).

%% ---- identity ----

bad_identity_files_name_the_file(Config) ->
    Pub = crypto:strong_rand_bytes(32),
    Seed = crypto:strong_rand_bytes(32),
    Cases = [{short_key, [{"node.key", <<"short">>}], "node.key"},
             {long_key, [{"node.key", crypto:strong_rand_bytes(64)}], "node.key"},
             {not_a_pair, [{"node.key", Seed}, {"node.pub", Pub}], "node.key"},
             {only_pub, [{"node.pub", Pub}], "node.key"},
             {garbage_owner, [{"node.name", <<"no node's name\n">>}], "node.name"},
             {key_is_directory, [{"node.key/x", <<>>}], "node.key"}],
    in_pairs(fun({Name, Files, Blamed}) ->
        Dir = atom_to_list(Name) ++ "/data/keys/",
        [write(Config, Dir ++ F, Data) || {F, Data} <- Files],
        boot_fails(Config, #{name => Name, cwd => atom_to_list(Name)},
                   [file(Config, Dir ++ Blamed)]),
        [?EQ(Data, read(Config, Dir ++ F)) || {F, Data} <- Files]
    end, Cases),
    %% the public half alone can be made again
    write(Config, "half/data/keys/node.key", Seed),
    _ = bp_cluster:start(Config, #{name => half, cwd => "half"}),
    {PubOf, _} = crypto:generate_key(eddsa, ed25519, Seed),
    ?EQ(PubOf, read(Config, "half/data/keys/node.pub")).

%% The node boots, and one line says which file is not as it should be and what to do.
doubtful_identity_files_are_a_warning(Config) ->
    Seed = crypto:strong_rand_bytes(32),
    write(Config, "loose/data/keys/node.key", Seed),
    ok = file:change_mode(file(Config, "loose/data/keys/node.key"), 8#644),
    write(Config, "chain/data/keys/node.succession", <<"junk">>),
    in_pairs(fun({Name, Words}) ->
        N = bp_cluster:start(Config, #{name => Name, cwd => atom_to_list(Name)}),
        bp_cluster:wait_log(N, ["WARNING", "file_warning" | Words])
    end, [{loose, [file(Config, "loose/data/keys/node.key"), "chmod 600"]},
          {chain, [file(Config, "chain/data/keys/node.succession"), "delete it"]}]).

node_name_file_and_subdirectories(Config) ->
    A = bp_cluster:start(Config, #{name => a}),
    B = bp_cluster:start(Config, #{name => b}),
    [NA, NB] = [atom_to_list(bp_cluster:name(N)) || N <- [A, B]],
    [?EQ(NA, string:trim(binary_to_list(read(Config, "data/" ++ D ++ "/node.name"))))
     || D <- ["keys", "quic"]],
    DirB = "data/keys/nodes/" ++ NB,
    SubB = DirB ++ "/",
    [?EQ(32, byte_size(read(Config, F))) || F <- ["data/keys/node.key", "data/keys/node.pub",
                                                  SubB ++ "node.key", SubB ++ "node.pub"]],
    [?EQ(8#600, mode(file(Config, F))) || F <- ["data/keys/node.key", SubB ++ "node.key"]],
    true = read(Config, "data/keys/node.key") =/= read(Config, SubB ++ "node.key"),
    true = filelib:is_regular(file(Config, "data/quic/nodes/" ++ NB ++ "/node.crt")),
    ?EQ(file(Config, DirB), bp_cluster:call(B, barrel_p2p_dist_auth, key_dir, [])),
    %% deterministic: the same again after a restart in the other order
    [Key, KeyB] = [read(Config, F) || F <- ["data/keys/node.key", SubB ++ "node.key"]],
    [bp_cluster:stop(N) || N <- [A, B]],
    [_ = bp_cluster:start(Config, #{node => bp_cluster:name(N)}) || N <- [B, A]],
    ?EQ(Key, read(Config, "data/keys/node.key")),
    ?EQ(KeyB, read(Config, SubB ++ "node.key")).

explicit_directories_used_as_they_are(Config) ->
    Conf = [{barrel_p2p, [{auth_key_dir, "my/keys"}, {quic_cert_dir, file(Config, "my/certs")}]}],
    write(Config, "my/keys/node.name", <<"other@127.0.0.1\n">>),
    N = bp_cluster:start(Config, #{name => n, config => Conf}),
    ?EQ(32, byte_size(read(Config, "my/keys/node.key"))),
    true = filelib:is_regular(file(Config, "my/certs/node.crt")),
    ?EQ({error, enoent}, file:read_file_info(file(Config, "my/keys/nodes"))),
    ?EQ({error, enoent}, file:read_file_info(file(Config, "data/keys"))),
    ?EQ(<<"other@127.0.0.1\n">>, read(Config, "my/keys/node.name")),
    bp_cluster:stop(N).

%% ---- steps 2 to 4: configuration ----

environments_visible_and_defaults_filled(Config) ->
    N = bp_cluster:start(Config, #{name => n}),
    {ok, Dist} = bp_cluster:call(N, application, get_env, [quic, dist]),
    ?EQ({barrel_p2p_dist_auth_callback, authenticate}, proplists:get_value(auth_callback, Dist)),
    ?EQ(10000, proplists:get_value(auth_handshake_timeout, Dist)),
    ?EQ(barrel_p2p_discovery, proplists:get_value(discovery_module, Dist)),
    [?EQ(true, filelib:is_regular(proplists:get_value(K, Dist))) || K <- [cert_file, key_file]],
    true = [] =/= [A || {A, _, _} <- bp_cluster:call(N, application, loaded_applications, []),
                        A =:= quic],
    %% the user's values win, the rest is filled in
    Conf = [{quic, [{dist, [{auth_handshake_timeout, 4321}, {key_file, file(Config, "u.key")},
                            {cert_file, file(Config, "u.crt")}, {something_else, 1}]}]},
            {barrel_p2p, [{auth_trust_mode, strict}]}],
    M = bp_cluster:start(Config, #{name => m, cwd => "m", config => Conf}),
    {ok, Dist2} = bp_cluster:call(M, application, get_env, [quic, dist]),
    ?EQ(4321, proplists:get_value(auth_handshake_timeout, Dist2)),
    ?EQ(file(Config, "u.key"), proplists:get_value(key_file, Dist2)),
    ?EQ(1, proplists:get_value(something_else, Dist2)),
    ?EQ(barrel_p2p_discovery, proplists:get_value(discovery_module, Dist2)),
    true = filelib:is_regular(file(Config, "u.crt")),
    ?EQ(strict, bp_cluster:call(M, barrel_p2p_dist_keys, get_trust_mode, [])),
    ?EQ({error, enoent}, file:read_file_info(file(Config, "m/data/quic/node.crt"))).

auth_enabled_without_callback(Config) ->
    Conf = [{barrel_p2p, [{auth_enabled, true}]}, {quic, [{dist, [{auth_callback, undefined}]}]}],
    boot_fails(Config, #{name => n, config => Conf},
               ["step 4 of 4", "{barrel_p2p_dist,auth_enabled_without_callback}"]),
    %% the default of auth_enabled is true
    boot_fails(Config, #{name => n, config => tl(Conf)},
               ["{barrel_p2p_dist,auth_enabled_without_callback}"]).

bad_configuration_is_named(Config) ->
    Cases = [{[{barrel_p2p, [{auth_trust_mode, maybe_so}]}], ["auth_trust_mode is maybe_so: must be tofu or strict"]},
             {[{barrel_p2p, [{dist_streams, 17}]}], ["dist_streams"]},
             {[{barrel_p2p, [{max_frame_bytes, 65535}]}], ["max_frame_bytes is 65535", "65536"]},
             {[{quic, [{dist_port, "no port"}]}], ["dist_port"]},
             {[{barrel_p2p, [{dist_cookie, 4711}]}], ["dist_cookie is '***'"]},
             {[{barrel_p2p, [{relays, [{'a@h', {socks5, "p", 1, #{username => 1, password => "pa55"}}}]}]}],
              ["relays", "password => '***'"]},
             {[{quic, [{dist, [{auth_callback, {no_such_module, f}}]}]}],
              ["auth_callback_not_found", "no such function", "no_such_module"]},
             {[{quic, [{dist, [{bind, "not an address"}]}]}], ["bind"]},
             {[{barrel_p2p, [{cookie_only_nodes, ['x@y']}, {dist_cookie, barrel_p2p}]}],
              ["cookie_only_nodes_with_default_cookie", "set your own"]}],
    in_pairs(fun({Conf, Words}) ->
        boot_fails(Config, #{name => n, config => Conf, config_file => bp_cluster:unique(c)
                             ++ ".config"}, Words)
    end, Cases).

%% ---- ports ----

port_precedence(Config) ->
    [P1, P2, P3, P4] = [bp_cluster:free_port() || _ <- [1, 2, 3, 4]],
    Conf4 = [{barrel_p2p, [{listen_port, P4}]}],
    Conf3 = [{quic, [{dist_port, P3}]} | Conf4],
    Flag = fun(F, P) -> [F, integer_to_list(P)] end,
    in_pairs(fun({Want, Opts}) ->
        N = bp_cluster:start(Config, Opts#{name => n}),
        ?EQ({ok, Want}, bp_cluster:call(N, barrel_p2p_dist, listen_port, [])),
        bp_cluster:kill(N)
    end, [{P4, #{config => Conf4}},
          {P3, #{config => Conf3}},
          {P2, #{config => Conf3, args => Flag("-barrel_p2p_dist_port", P2)}},
          {P1, #{config => Conf3, args => Flag("-barrel_p2p_dist_port", P2)
                                          ++ Flag("-quic_dist_port", P1)}}]),
    %% none: a free one, and it is the one that is open
    N = bp_cluster:start(Config, #{name => n}),
    {ok, Port} = bp_cluster:call(N, barrel_p2p_dist, listen_port, []),
    true = Port > 0,
    {error, eaddrinuse} = gen_udp:open(Port, [{ip, {0, 0, 0, 0}}]),
    ok.

port_in_use(Config) ->
    Port = integer_to_list(bp_cluster:free_port()),
    Args = ["-barrel_p2p_dist_port", Port],
    First = bp_cluster:start(Config, #{name => a, cwd => "a", args => Args}),
    boot_fails(Config, #{name => b, cwd => "b", args => Args}, ["eaddrinuse", Port]),
    %% the first has noticed nothing, and still accepts
    C = bp_cluster:start(Config, #{name => c, cwd => "c"}),
    true = bp_cluster:connect(C, First).

%% ---- finding each other with no configuration ----

two_nodes_in_one_directory(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A).

nodes_in_different_directories(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, cwd => "a"}, #{name => b, cwd => "b/c"}]),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A).

%% Entries {Node, {Addr, Port}} and {Node, Addr, Port}, with files out of reach.
static_nodes_both_forms(Config) ->
    Off = {barrel_p2p, [{runtime_dir, none}]},
    [A, B] = bp_cluster:start_many(Config, [#{name => N, cwd => atom_to_list(N), config => [Off]}
                                            || N <- [a, b]]),
    ?EQ(false, bp_cluster:connect(A, B)),
    [PA, PB] = [begin
        {ok, P} = bp_cluster:call(N, barrel_p2p_dist, listen_port, []),
        P
    end || N <- [A, B]],
    Nodes = [{bp_cluster:name(A), {"127.0.0.1", PA}}, {bp_cluster:name(B), {127, 0, 0, 1}, PB}],
    C = bp_cluster:start(Config, #{name => c, cwd => "c",
                                   config => [Off, {quic, [{dist, [{nodes, Nodes}]}]}]}),
    true = bp_cluster:connect(C, A),
    true = bp_cluster:connect(C, B).

%% ---- cookies ----

%% Without -setcookie and configuration: the documented default and a warning; a node with the
%% application started and one without reach each other.
default_cookie_with_warning(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, cookie => none},
                                            #{name => b, cookie => none}]),
    {ok, _} = bp_cluster:call(B, application, ensure_all_started, [barrel_p2p]),
    [?EQ(barrel_p2p, bp_cluster:call(N, erlang, get_cookie, [])) || N <- [A, B]],
    bp_cluster:wait_log(A, ["WARNING", "'barrel_p2p', not that of ~/.erlang.cookie"]),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A).

configured_cookie(Config) ->
    Conf = [{barrel_p2p, [{dist_cookie, a_cookie}]}],
    [A, B, C] = bp_cluster:start_many(Config, [#{name => a, config => Conf},
                                               #{name => b, config => Conf, cookie => none},
                                               #{name => c, cookie => "a_cookie"}]),
    [{ok, _} = bp_cluster:call(N, application, ensure_all_started, [barrel_p2p]) || N <- [A, B]],
    [?EQ(a_cookie, bp_cluster:call(N, erlang, get_cookie, [])) || N <- [A, B, C]],
    true = bp_cluster:connect(A, B),
    true = bp_cluster:connect(C, B).

setcookie_stays(Config) ->
    A = bp_cluster:start(Config, #{name => a, cookie => "mine"}),
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    ?EQ(mine, bp_cluster:call(A, erlang, get_cookie, [])),
    ?EQ(nomatch, string:find(bp_cluster:log(A), "public default")).

%% ---- the rest ----

%% One of the two flags without the other: a node that nobody finds, or one over plain TCP.
forgotten_flags(Config) ->
    boot_fails(Config, #{name => n, carrier_args => ["-epmd_module", "barrel_p2p_epmd",
                                                     "-start_epmd", "false"]},
               ["inet_tcp", "-proto_dist barrel_p2p"]),
    %% a port without a daemon
    boot_fails(Config, #{name => n, carrier_args => ["-proto_dist", "barrel_p2p", "-start_epmd",
                                                     "false"],
                         env => [{"ERL_EPMD_PORT", "1"}]},
               ["erl_epmd", "-epmd_module barrel_p2p_epmd"]).

conflicting_quic_dist(Config) ->
    Code = [{attribute, 1, module, quic_dist}, {eof, 2}],
    {ok, quic_dist, Beam} = compile:forms(Code),
    write(Config, "elsewhere/quic_dist.beam", Beam),
    %% before ours in the code path, and behind it
    [boot_fails(Config, #{name => n, args => [Where, file(Config, "elsewhere")]},
                ["quic_dist", file(Config, "elsewhere/quic_dist.beam")])
     || Where <- ["-pa", "-pz"]].

boots_as_short_name(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a, names => short},
                                            #{name => b, names => short}]),
    true = bp_cluster:connect(A, B),
    L = bp_cluster:start(Config, #{name => l}),
    ?EQ(false, bp_cluster:connect(A, L)).

bind_address_is_honoured(Config) ->
    Bind = fun(Addr) -> [{quic, [{dist, [{bind, Addr}]}]}] end,
    [A, B] = bp_cluster:start_many(Config, [#{name => a, config => Bind("127.0.0.1")},
                                            #{name => b, config => Bind("127.0.0.2")}]),
    {ok, PA} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    %% the same port on another address is free, on the bound one it is taken
    {ok, S} = gen_udp:open(PA, [{ip, {127, 0, 0, 3}}]),
    ok = gen_udp:close(S),
    {error, eaddrinuse} = gen_udp:open(PA, [{ip, {127, 0, 0, 1}}]),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A),
    K = bp_cluster:start(Config, #{name => k, args => ["-kernel", "inet_dist_use_interface",
                                                       "{127,0,0,1}"]}),
    {ok, PK} = bp_cluster:call(K, barrel_p2p_dist, listen_port, []),
    {error, eaddrinuse} = gen_udp:open(PK, [{ip, {127, 0, 0, 1}}]),
    {ok, S2} = gen_udp:open(PK, [{ip, {127, 0, 0, 3}}]),
    ok = gen_udp:close(S2).

%% A second node of one name: there is no epmd to refuse it, so peers must not mix the two up.
same_name_twice(Config) ->
    A = bp_cluster:start(Config, #{name => a, cwd => "a"}),
    NA = bp_cluster:name(A),
    B = bp_cluster:start(Config, #{name => b, cwd => "b"}),
    true = bp_cluster:connect(A, B),
    boot_fails(Config, #{node => NA, cwd => "second"},
               ["claiming the node name failed", "process " ++ pid_of(A), atom_to_list(NA),
                "seems to be in use by another Erlang node"]),
    ?EQ([NA], bp_cluster:call(B, erlang, nodes, [])),
    ?EQ(NA, bp_cluster:run(B, fun() -> erpc:call(NA, erlang, node, []) end)),
    %% free at once when its node is gone, even by SIGKILL
    bp_cluster:kill(A),
    A2 = bp_cluster:start(Config, #{node => NA, cwd => "a"}),
    bp_cluster:until(fun() -> bp_cluster:connect(A2, B) end).

pid_of(Node) ->
    bp_cluster:call(Node, os, getpid, []).

%% `rebar3 compile' in a copy of the tree leaves what a node needs.
rebar3_compile(Config) ->
    Root = bp_cluster:root(),
    Copy = file(Config, "copy"),
    ok = filelib:ensure_dir(filename:join(Copy, "build/x")),
    Wanted = ["Makefile", "rebar.config", "core", "io", "driver", "erlang", "include", "tests",
              "scripts", "cnode", "cli"],
    [[] = os:cmd("cp -a '" ++ filename:join(Root, F) ++ "' '" ++ Copy ++ "/' 2>&1")
     || F <- Wanted, filelib:is_file(filename:join(Root, F))],
    %% objects that are there and newer than their sources are not made again
    _ = os:cmd("cp -a '" ++ filename:join(Root, "build/release") ++ "' '" ++ Copy ++ "/build/'"),
    Out = os:cmd("cd '" ++ Copy ++ "' && HOME='" ++ file(Config, "home")
                 ++ "' rebar3 compile 2>&1; echo status $?"),
    string:find(Out, "status 0") =/= nomatch orelse error({rebar3, Out}),
    App = filename:join(Copy, "_build/default/lib/barrel_p2p"),
    [true = filelib:is_regular(filename:join(App, F))
     || F <- ["ebin/barrel_p2p.app", "ebin/barrel_p2p_dist.beam", "priv/barrel_p2p_drv.so"]],
    %% and a node boots from it
    Ebin = filename:join(App, "ebin"),
    N = bp_cluster:start(Config, #{name => n, args => ["-pa", Ebin]}),
    ?EQ(Ebin, filename:dirname(bp_cluster:call(N, code, which, [barrel_p2p_dist]))),
    {ok, _} = bp_cluster:call(N, barrel_p2p_dist, listen_port, []),
    ok.
