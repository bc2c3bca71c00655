%% SPDX-License-Identifier: Apache-2.0
%% Configuration: every key's default and check, the errors and warnings at boot, what config/0 shows.
-module(config_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([documentation_is_made_from_the_table/1, every_key_that_is_read_is_in_the_table/1,
         every_key_of_the_table_is_read/1, every_key_of_upstream_is_known/1, flags_are_checked_as_keys/1,
         defaults_pass_their_own_check/1, every_type_refuses_what_is_wrong/1,
         wrong_values_end_the_boot/1, wrong_values_end_the_application_start/1,
         unknown_keys_are_warned_about/1, nearest_name/1, keys_without_effect_are_named/1,
         config_shows_values_and_origins/1, keys_do_what_they_say/1, limits_reach_the_driver/1,
         datagram_limit_reaches_the_path/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [documentation_is_made_from_the_table, every_key_that_is_read_is_in_the_table,
     every_key_of_the_table_is_read, every_key_of_upstream_is_known, flags_are_checked_as_keys,
     defaults_pass_their_own_check, every_type_refuses_what_is_wrong, wrong_values_end_the_boot,
     wrong_values_end_the_application_start, unknown_keys_are_warned_about, nearest_name,
     keys_without_effect_are_named, config_shows_values_and_origins, keys_do_what_they_say,
     limits_reach_the_driver, datagram_limit_reaches_the_path].

init_per_suite(Config) -> bp_cluster:init_with_ebin(Config).

end_per_suite(_) -> bp_cluster:end_with_ebin().

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- the table ----

documentation_is_made_from_the_table(_) ->
    {ok, Text} = file:read_file(filename:join(bp_cluster:root(), "docs/configuration.md")),
    case unicode:characters_to_binary(barrel_p2p_config_keys:markdown()) of
        Text -> ok;
        _ -> error("docs/configuration.md is not what the table says: run `make docs'")
    end,
    [true = string:find(Text, ["| `", atom_to_list(K), "` |"]) =/= nomatch || #{key := K} <- keys()].

%% No key that is documented is read by nobody: it would have no effect and nobody would say so.
every_key_of_the_table_is_read(_) ->
    Text = lists:append([binary_to_list(B) || F <- filelib:wildcard(filename:join(bp_cluster:root(), "erlang/*.erl")),
                                              filename:basename(F) =/= "barrel_p2p_config_keys.erl",
                                              {ok, B} <- [file:read_file(F)]]),
    Code = re:replace(Text, "%[^\n]*", "", [global, {return, list}]),
    Unread = [K || #{key := K, type := T} <- keys(), T =/= ignored, T =/= refused,
                   re:run(Code, ["[^a-z_0-9]", atom_to_list(K), "[^a-z_0-9]"]) =:= nomatch],
    %% its only value is the default
    ?EQ([], Unread -- [register_with_epmd]),
    Flags = [F || #{flags := Fs} <- keys(), F <- Fs],
    true = length(Flags) > 10,
    Unparsed = [F || F <- Flags, not lists:any(fun(W) -> string:find(Code, W) =/= nomatch end, flag_words(F))],
    ?EQ([], Unparsed).

%% How the code may name a flag.
flag_words("-quic_dist_" ++ Name) -> ["\"" ++ Name ++ "\"", "\"quic_dist_" ++ Name ++ "\""];
flag_words("-" ++ Name) -> ["(" ++ Name ++ ")"].

%% WIRE 10.1 to 10.3: what upstream documents or reads, and does not belong to its registry and maps.
every_key_of_upstream_is_known(_) ->
    Upstream = [listen_port, address, quic_cert_dir, auth_enabled, auth_trust_mode, auth_key_dir,
                auth_handshake_timeout, auth_timestamp_window, cookie_only_nodes, dist_cookie, discovery_backends,
                discovery_dir, active_size, passive_size, arwl, prwl, shuffle_length, shuffle_period, max_fail_count,
                base_backoff_ms, passive_max_age_ms, passive_cleanup_period, churn_window_ms, pending_timeout_ms,
                contact_nodes, contact_retry_ms, dist_gc_sweep_period_ms, dist_gc_min_age_ms,
                %% {quic, [{dist, _}]}
                dist_port, cert_file, key_file, cert, key, cacert_file, cacert, verify, discovery_module, nodes,
                dns_domain, dns_ttl, lb_enabled, lb_server_id, lb_key, congestion_threshold,
                max_pull_per_notification, backpressure_retry_ms, pacing_enabled, auth_callback, register_with_epmd,
                psks, psk_callback, external_psk],
    ?EQ([], Upstream -- [K || #{key := K} <- keys()]),
    Flags = ["-barrel_p2p_dist_port", "-barrel_p2p_dist_cert_dir", "-quic_dist_port", "-quic_dist_cert",
             "-quic_dist_key", "-quic_dist_cacert", "-quic_dist_auth_callback", "-quic_dist_auth_handshake_timeout",
             "-quic_dist_register_with_epmd", "-quic_dist_psk_callback", "-quic_dist_nodes", "-setcookie"],
    ?EQ([], Flags -- [F || #{flags := Fs} <- keys(), F <- Fs]).

%% Both forms of a flag.
flags_are_checked_as_keys(Config) ->
    Cases = [{["-quic_dist_psk_callback", "m:f"], ["psk_callback", "left out"]},
             {["-quic_dist", "psk_callback", "m:f"], ["psk_callback", "left out"]},
             {["-quic_dist_register_with_epmd", "true"], ["register_with_epmd", "must be false"]},
             {["-quic_dist_register_with_epmd", "maybe"], ["register_with_epmd", "must be false"]},
             {["-quic_dist_auth_handshake_timeout", "soon"], ["auth_handshake_timeout", "milliseconds > 0"]},
             {["-quic_dist_auth_callback", "m"], ["auth_callback", "Module:Function"]},
             {["-quic_dist_nodes", "nonsense"], ["nodes", "a list"]},
             {["-quic_dist_port", "70000"], ["-quic_dist_port", "must be a port"]}],
    pairs(fun({Args, Words}) ->
        {exit, Code, Log} = bp_cluster:boot(Config, #{name => n, args => Args, cwd => bp_cluster:unique(f)}),
        true = Code =/= 0,
        [string:find(Log, W) =/= nomatch orelse error({not_said, W, Args, Log}) || W <- Words]
    end, Cases),
    N = bp_cluster:start(Config, #{name => n, args => ["-quic_dist_register_with_epmd", "false",
                                                       "-quic_dist_cacert", "/nowhere.pem"]}),
    bp_cluster:wait_log(N, ["keys_without_effect", "cacert_file"]).

%% No module reads a key of `barrel_p2p' or `{quic, [{dist, _}]}' that is not in the table.
every_key_that_is_read_is_in_the_table(_) ->
    Sources = filelib:wildcard(filename:join(bp_cluster:root(), "erlang/*.erl")),
    Patterns = ["get_env\\(barrel_p2p, ([a-z_0-9]+)", "[^_a-z]env\\(([a-z_0-9]+),",
                "[^_a-z]dist\\(([a-z_0-9]+),", "tuning\\(([a-z_0-9]+),", "config:get\\(([a-z_0-9]+)\\)",
                "optional\\(([a-z_0-9]+),"],
    Read = lists:usort([list_to_atom(K) || F <- Sources, {ok, Text} <- [file:read_file(F)], P <- Patterns,
                                           {match, Found} <- [re:run(Text, P, [global, {capture, all_but_first, list}])],
                                           [K] <- Found]),
    true = length(Read) > 20,
    ?EQ([], Read -- [K || #{key := K} <- keys()]).

defaults_pass_their_own_check(_) ->
    [true = barrel_p2p_config_keys:check(T, D) || #{default := D, type := T} <- keys()].

%% For every key a value of a wrong type, and text that says what is right.
every_type_refuses_what_is_wrong(_) ->
    Wrong = {this, is, [wrong | improper]},
    Checked = [begin
                   ?EQ({K, false}, {K, barrel_p2p_config_keys:check(T, Wrong)}),
                   [_ | _] = barrel_p2p_config_keys:expects(T),
                   K
               end || #{key := K, type := T} <- keys(), T =/= ignored, T =/= callback],
    true = length(Checked) > 25,
    Ok = fun barrel_p2p_config_keys:check/2,
    Good = [{port, 0}, {port, 65535}, {port, "4433"}, {timeout, infinity}, {timeout, 1},
            {dir, "/x"}, {dir, <<"x">>}, {dir_or_none, none}, {dir_or_none, "x"}, {{optional, dir}, undefined}, {servers, ["::1", {{1, 2, 3, 4}, 53}]},
            {advertise, "h"}, {advertise, {"h", 0}}, {advertise, [{1, 2, 3, 4}, {{0, 0, 0, 0, 0, 0, 0, 1}, 5}]},
            {address, any}, {address, "::1"}, {address, <<"127.0.0.1">>}, {address, {127, 0, 0, 1}},
            {backends, [a, {b, []}]}, {name_list, ['a@b', "*@c", <<"d@e">>]}, {cookie, x}, {cookie, "x"}],
    [?EQ({G, true}, {G, Ok(T, V)}) || {T, V} = G <- Good],
    Bad = [{port, -1}, {port, 65536}, {port, "65536"}, {port, "x"}, {port, 1.0}, {timeout, 0},
           {timeout, 4294967296}, {dir, ""}, {dir, none}, {dir, 7}, {dir_or_none, undefined}, {{optional, dir}, none}, {servers, ["host"]}, {servers, [{"::1", 0}]},
           {servers, "127.0.0.1"}, {advertise, "a b"}, {advertise, []}, {advertise, {"h", 65536}},
           {advertise, lists:duplicate(9, <<"h">>)}, {address, "localhost"}, {address, {1, 2, 3}},
           {backends, a}, {backends, ["a"]}, {backends, [undefined]}, {name_list, ['a@b' | x]},
           {name_list, [foo]}, {name_list, ['*']}, {name_list, ["a@"]}, {name_list, ['a@b@c']}, {cookie, ''}, {boolean, yes},
           {{integer, 1, 16}, 17}, {{one_of, [json, term]}, xml}],
    [?EQ({B, false}, {B, Ok(T, V)}) || {T, V} = B <- Bad].

%% ---- at boot ----

wrong_values_end_the_boot(Config) ->
    P = fun(K, V) -> {[{barrel_p2p, [{K, V}]}], atom_to_list(K)} end,
    D = fun(K, V) -> {[{quic, [{dist, [{K, V}]}]}], atom_to_list(K)} end,
    Cases = [{P(discovery_timeout, 0), "0", "an integer from 1 to 60000"},
             {P(discovery_backends, not_a_list), "not_a_list", "a list of modules"},
             {P(discovery_file_format, xml), "xml", "json or term"},
             {P(advertise, {"h", port}), "port", "Host, {Host, Port}"},
             {P(dns_servers, ["ns.example"]), "ns.example", "IP addresses"},
             {P(auth_key_dir, 42), "42", "a path as text"},
             {P(keepalive, -1), "-1", "0 to 3600000"},
             {D(family, ipv6), "ipv6", "auto, inet or inet6"},
             {D(dns_ttl, forever), "forever", "0 to 86400"},
             {D(psks, secret), "secret", "left out"},
             {D(cert, der), "der", "left out"},
             {D(register_with_epmd, true), "true", "false"}],
    pairs(fun({{Conf, Key}, Value, Want}) ->
        {exit, Code, Log} = bp_cluster:boot(Config, #{name => n, config => Conf, cwd => bp_cluster:unique(w)}),
        true = Code =/= 0,
        [string:find(Log, W) =/= nomatch orelse error({not_said, W, Log})
         || W <- ["step 4 of 4", Key, Value, Want]]
    end, Cases).

%% What is set later is checked when the application starts.
wrong_values_end_the_application_start(Config) ->
    N = bp_cluster:start(Config, #{name => n}),
    bp_cluster:call(N, application, set_env, [barrel_p2p, discovery_negative_ttl, lots]),
    {error, {barrel_p2p, Reason}} = bp_cluster:call(N, application, ensure_all_started, [barrel_p2p]),
    Text = lists:flatten(io_lib:format("~tp", [Reason])),
    [true = string:find(Text, W) =/= nomatch || W <- ["discovery_negative_ttl", "lots"]].

unknown_keys_are_warned_about(Config) ->
    N = bp_cluster:start(Config, #{name => n, config =>
        [{barrel_p2p, [{auth_trust_mod, strict}, {completely_different, 1}, {dns_domain, "x"},
                       {auth_trust_mode, tofu}]},
         {quic, [{dist, [{fmaily, inet}, {family, auto}, {discovery_dir, "x"}, zzzzzz]},
                 {not_ours, 1}]}]}),
    bp_cluster:wait_log(N, ["WARNING", "unknown_key", "auth_trust_mod,", "did you mean auth_trust_mode?"]),
    bp_cluster:wait_log(N, ["unknown_key", "completely_different", "no such key; docs/configuration.md"]),
    bp_cluster:wait_log(N, ["unknown_key", "dns_domain", "{quic, [{dist, [{dns_domain, _}]}]}"]),
    bp_cluster:wait_log(N, ["unknown_key", "{quic, [{dist, [{fmaily, _}]}]}", "did you mean family?"]),
    bp_cluster:wait_log(N, ["unknown_key", "discovery_dir", "belongs into {barrel_p2p, [{discovery_dir, _}]}"]),
    bp_cluster:wait_log(N, ["unknown_key", "zzzzzz", "docs/configuration.md"]),
    ?EQ(6, length(binary:matches(bp_cluster:log(N), <<"unknown_key peer=">>))).

nearest_name(_) ->
    Near = fun(K) -> barrel_p2p_config_keys:nearest(barrel_p2p, K) end,
    ?EQ({ok, discovery_dir}, Near(discovery_dri)),
    ?EQ({ok, discovery_timeout}, Near(discover_timeout)),
    ?EQ({ok, cookie_only_nodes}, Near(cookieonlynodes)),
    ?EQ({ok, listen_port}, Near(listenport)),
    ?EQ({ok, dns_domain}, barrel_p2p_config_keys:nearest(dist, dns_domian)),
    ?EQ(none, barrel_p2p_config_keys:nearest(dist, shuffle_period)),
    ?EQ(none, Near(zzz)),
    ?EQ(none, Near('')).

keys_without_effect_are_named(Config) ->
    N = bp_cluster:start(Config, #{name => n, config =>
        [{barrel_p2p, [{address, "10.0.0.1"}]}, {quic, [{dist, [{verify, verify_peer}, {pacing_enabled, false}]}]}]}),
    bp_cluster:wait_log(N, ["keys_without_effect", "address", "verify", "pacing_enabled"]).

config_shows_values_and_origins(Config) ->
    Port = bp_cluster:free_port(),
    N = bp_cluster:start(Config, #{name => n, args => ["-quic_dist_port", integer_to_list(Port)],
                                   config => [{barrel_p2p, [{discovery_timeout, 1500}, {listen_port, 1}]},
                                              {quic, [{dist, [{dist_streams, 4}, {dns_domain, "c.example"}]}]}]}),
    All = bp_cluster:call(N, barrel_p2p, config, []),
    ?EQ(length(All), length(lists:usort([{P, K} || {P, K, _, _} <- All]))),
    Is = fun(K) -> {_, K, V, Origin} = lists:keyfind(K, 2, All), {V, Origin} end,
    ?EQ({1500, environment}, Is(discovery_timeout)),
    ?EQ({1000, default}, Is(discovery_negative_ttl)),
    ?EQ({Port, {flag, "-quic_dist_port"}}, Is(listen_port)),
    ?EQ({Port, {flag, "-quic_dist_port"}}, Is(dist_port)),
    ?EQ({4, environment}, Is(dist_streams)),
    ?EQ({"c.example", environment}, Is(dns_domain)),
    ?EQ({ct, {flag, "-setcookie"}}, Is(dist_cookie)),
    %% what was filled in at boot is still a default
    ?EQ({10000, default}, Is(auth_handshake_timeout)),
    ?EQ({barrel_p2p_discovery, default}, Is(discovery_module)),
    {_, default} = Is(cert_file),
    %% a second distribution life reads them the same way
    ok = bp_cluster:run(N, fun() -> barrel_p2p_config:project() end),
    ?EQ(All, bp_cluster:call(N, barrel_p2p, config, [])).

%% ---- effects that no other suite looks at ----

keys_do_what_they_say(Config) ->
    File = fun(F) -> filename:join(bp_cluster:dir(Config), F) end,
    N = bp_cluster:start(Config, #{name => n, args => ["-quic_dist", "nodes", "[{'x@h',{{192,0,2,1},9}}]"],
        config => [{barrel_p2p, [{auth_key_dir, "k"}, {quic_cert_dir, <<"c">>}, {discovery_dir, "d"},
                                 {runtime_dir, "r"}, {log_level, debug}, {dist_cookie, "from_config"}]}],
        cookie => none}),
    [true = filelib:is_file(File(F)) || F <- ["k/node.key", "c/node.crt", "c/node.key"]],
    Name = atom_to_list(bp_cluster:name(N)),
    [true = filelib:is_file(File(filename:join(D, Name ++ ".endpoint"))) || D <- ["d", "r"]],
    false = filelib:is_file(File("data")),
    ?EQ(from_config, bp_cluster:call(N, erlang, get_cookie, [])),
    ?EQ([{{192, 0, 2, 1}, 9}], bp_cluster:call(N, barrel_p2p_discovery, find, ["x@h", "h"])).

%% keepalive 0 switches it off; dist_streams and max_frame_bytes are tested with the data path.
limits_reach_the_driver(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => N, config => [{barrel_p2p, [{keepalive, 0}, {idle_timeout, 1500}]}]}
                                            || N <- [a, b]]),
    true = bp_cluster:connect(A, B),
    %% without a ping the idle connection ends
    bp_cluster:until(fun() -> bp_cluster:call(A, barrel_p2p, peers, []) =:= [] end, 15000),
    bp_cluster:wait_log(A, ["connection_down", "idle timeout"]).

%% Each node's own limit holds for what it sends.
datagram_limit_reaches_the_path(Config) ->
    [A, B] = bp_cluster:start_many(Config, [
        #{name => a, config => [{quic, [{dist, [{max_datagram_bytes, 1300}]}]}]}, #{name => b}]),
    true = bp_cluster:connect(A, B),
    Size = fun(N) ->
        [#{counters := #{<<"datagram_size">> := S}}] = bp_cluster:call(N, barrel_p2p, peers, []),
        S
    end,
    Bulk = fun(From, To) ->
        Name = bp_cluster:name(To),
        Bin = binary:copy(<<7>>, 1000000),
        bp_cluster:run(From, fun() -> Bin = erpc:call(Name, erlang, hd, [[Bin]]) end)
    end,
    bp_cluster:until(fun() ->
        Bulk(A, B),
        {Size(A), Size(B)} =:= {1300, 16368}
    end),
    Bulk(B, A),
    ?EQ(1300, Size(A)).

%% ---- helpers ----

keys() -> barrel_p2p_config_keys:all().

%% Two boots at a time.
pairs(Fun, List) ->
    case lists:split(min(2, length(List)), List) of
        {[], []} -> ok;
        {Now, Later} ->
            [bp_cluster:await(J) || J <- [bp_cluster:async(fun() -> Fun(X) end, []) || X <- Now]],
            pairs(Fun, Later)
    end.
