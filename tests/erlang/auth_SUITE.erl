%% SPDX-License-Identifier: Apache-2.0
%% Who may connect: pins, strict mode, foreign and copied keys, claimed names, callbacks; every
%% refusal with a line in the log that names the peer.
-module(auth_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([tofu_pins_both/1, pin_survives_restart/1, wrong_cookie_is_not_pinned/1,
         changed_key_is_refused/1, pin_changed_meanwhile_is_refused/1, strict_refuses_unknown/1,
         strict_accepts_pinned/1,
         trust_mode_changes_at_run_time/1, strict_and_dynamic_name/1, copied_key_is_refused/1,
         key_of_another_name_is_refused/1, other_node_than_dialled_is_refused/1,
         late_answer_is_refused/1, cookie_only_both_sides/1, cookie_only_one_side/1,
         garbage_pin_names_the_file/1, callback_accepts/1, callback_denies/1,
         callback_crashes/1, callback_hangs/1, callback_returns_junk/1,
         callback_name_must_match/1, auth_disabled_on_both/1, auth_disabled_on_one/1,
         fingerprints_are_shown/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [tofu_pins_both, pin_survives_restart, wrong_cookie_is_not_pinned, changed_key_is_refused,
     pin_changed_meanwhile_is_refused,
     strict_refuses_unknown, strict_accepts_pinned, trust_mode_changes_at_run_time,
     strict_and_dynamic_name, copied_key_is_refused, key_of_another_name_is_refused,
     other_node_than_dialled_is_refused, late_answer_is_refused, cookie_only_both_sides,
     cookie_only_one_side, garbage_pin_names_the_file, callback_accepts, callback_denies,
     callback_crashes, callback_hangs, callback_returns_junk, callback_name_must_match,
     auth_disabled_on_both, auth_disabled_on_one, fingerprints_are_shown].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

%% Each node in a directory of its own, named after it.
opts(Name) -> #{name => Name, cwd => atom_to_list(Name)}.

opts(Name, BarrelEnv) ->
    (opts(Name))#{config => [{barrel_p2p, BarrelEnv}]}.

start(Config, ListOfOpts) ->
    bp_cluster:start_many(Config, ListOfOpts).

text(Node) -> atom_to_list(bp_cluster:name(Node)).

keys(#{cwd := Cwd}) -> filename:join(Cwd, "data/keys").

pub(Node) ->
    {ok, Pub} = file:read_file(filename:join(keys(Node), "node.pub")),
    Pub.

pin_file(Node, Peer) ->
    filename:join([keys(Node), "trusted", text(Peer) ++ ".pub"]).

pin(Node, Peer) ->
    file:read_file(pin_file(Node, Peer)).

write_pin(Node, Peer, Data) ->
    ok = filelib:ensure_dir(pin_file(Node, Peer)),
    ok = file:write_file(pin_file(Node, Peer), Data).

pins(Node) ->
    case file:list_dir(filename:join(keys(Node), "trusted")) of
        {ok, Names} -> lists:sort(Names);
        {error, enoent} -> []
    end.

%% One refused dial: no connection on either side, and a line in both logs.
refused(From, To, FromWords, ToWords) ->
    ?EQ(false, bp_cluster:connect(From, To)),
    ?EQ([], bp_cluster:call(From, erlang, nodes, [connected])),
    ?EQ([], bp_cluster:call(To, erlang, nodes, [connected])),
    bp_cluster:wait_log(From, [text(To) | FromWords]),
    bp_cluster:wait_log(To, ToWords).

%% ---- pins ----

tofu_pins_both(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    ?EQ({[], []}, {pins(A), pins(B)}),
    true = bp_cluster:connect(A, B),
    Wait = fun(N, P) -> bp_cluster:until(fun() -> pin(N, P) =:= {ok, pub(P)} end) end,
    Wait(A, B),
    Wait(B, A),
    [begin
        {ok, Info} = file:read_file_info(pin_file(N, P)),
        ?EQ(8#600, element(8, Info) band 8#777)
     end || {N, P} <- [{A, B}, {B, A}]],
    ?EQ([text(B) ++ ".pub"], pins(A)).

pin_survives_restart(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    true = bp_cluster:connect(A, B),
    Pub = pub(B),
    bp_cluster:stop(B),
    B2 = bp_cluster:start(Config, (opts(b))#{node => bp_cluster:name(B)}),
    ?EQ(Pub, pub(B2)),
    bp_cluster:until(fun() -> bp_cluster:connect(A, B2) end),
    bp_cluster:disconnect(A, B2),
    true = bp_cluster:connect(B2, A).

wrong_cookie_is_not_pinned(Config) ->
    [A, B] = start(Config, [(opts(a))#{cookie => "one"}, (opts(b))#{cookie => "two"}]),
    refused(A, B, ["cookie"], [text(A), "cookie"]),
    refused(B, A, ["cookie"], [text(B), "cookie"]),
    ?EQ({[], []}, {pins(A), pins(B)}).

changed_key_is_refused(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    true = bp_cluster:connect(A, B),
    bp_cluster:until(fun() -> pin(A, B) =:= {ok, pub(B)} end),
    Pinned = pub(B),
    bp_cluster:stop(B),
    ok = file:del_dir_r(keys(B)),
    B2 = bp_cluster:start(Config, (opts(b))#{node => bp_cluster:name(B)}),
    true = pub(B2) =/= Pinned,
    %% the listener refuses and says why; so does the dialler
    refused(B2, A, ["key_mismatch"], [text(B), "key_mismatch"]),
    refused(A, B2, ["key_mismatch"], [text(A), "key_mismatch", "it refused our key SHA256:",
                                      "run on its side", "trust add " ++ text(B)]),
    ?EQ({ok, Pinned}, pin(A, B)),
    %% the cure that the log names
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, delete_key, [bp_cluster:name(B)]),
    true = bp_cluster:connect(B2, A),
    bp_cluster:until(fun() -> pin(A, B) =:= {ok, pub(B2)} end).

%% Another key is pinned after this one was proved and before the node is up: refused, and said once
%% by whoever refuses, whatever this release's dist_util makes of it.
pin_changed_meanwhile_is_refused(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    ok = bp_cluster:call(B, sys, suspend, [net_kernel]),
    Dial = bp_cluster:async(A, fun() -> net_kernel:connect_node(bp_cluster:name(B)) end),
    bp_cluster:until(fun() -> authenticated(B) end),
    write_pin(B, A, crypto:strong_rand_bytes(32)),
    ok = bp_cluster:call(B, sys, resume, [net_kernel]),
    _ = bp_cluster:await(Dial),                 % the dialler may have been up already
    bp_cluster:wait_log(B, [text(A), "key_mismatch", "meanwhile"]),
    bp_cluster:until(fun() -> [] =:= bp_cluster:call(A, erlang, nodes, [connected]) end),
    ?EQ([], bp_cluster:call(B, erlang, nodes, [connected])),
    ?EQ(1, length(string:split(bp_cluster:log(B), "removed meanwhile", all)) - 1),
    ?EQ(nomatch, string:find(bp_cluster:log(B), "handshake_failed")).

%% A connection is at net_kernel, which has yet to take it.
authenticated(Node) ->
    bp_cluster:run(Node, fun() ->
        {messages, All} = process_info(whereis(net_kernel), messages),
        [accept || {accept, _, _, _, quic} <- All] =/= []
    end).

%% ---- strict ----

strict() -> [{auth_trust_mode, strict}].

strict_refuses_unknown(Config) ->
    [A, B] = start(Config, [opts(a, strict()), opts(b)]),
    refused(B, A, ["untrusted_key"], [text(B), "untrusted_key"]),
    refused(A, B, ["untrusted_key"], [text(A), "untrusted_key", "it refused our key SHA256:",
                                      "run on its side", "trust add " ++ text(B)]),
    ?EQ({[], []}, {pins(A), pins(B)}).

%% An answer that comes too late is no matter of trust, on neither side.
late_answer_is_refused(Config) ->
    [A, B] = start(Config, [opts(a, [{auth_timestamp_window, 300}]), opts(b)]),
    {ok, Port} = bp_cluster:call(A, barrel_p2p_dist, listen_port, []),
    Relay = bp_hop:start(Port, 200),
    Nodes = [{bp_cluster:name(A), {"127.0.0.1", bp_hop:port(Relay)}}],
    ok = bp_cluster:call(B, application, set_env, [quic, dist, [{nodes, Nodes}]]),
    refused(B, A, [{re, "signature_invalid|auth_response_late"}, "it refused our key SHA256:",
                   "our answer came too late"],
            [text(B), "auth_response_late", "SHA256:", "auth_timestamp_window"]),
    ?EQ({nomatch, nomatch}, {string:find(bp_cluster:log(A), "trust add"),
                             string:find(bp_cluster:log(B), "trust add")}),
    bp_hop:stop(Relay).

strict_accepts_pinned(Config) ->
    [A, B, C] = start(Config, [opts(N, strict()) || N <- [a, b, c]]),
    write_pin(A, B, pub(B)),
    ?EQ(false, bp_cluster:connect(A, B)), % b does not know a yet
    write_pin(B, A, pub(A)),
    true = bp_cluster:connect(A, B),
    bp_cluster:disconnect(A, B),
    true = bp_cluster:connect(B, A),
    ?EQ(false, bp_cluster:connect(C, A)),
    %% strict never pins
    ?EQ([text(B) ++ ".pub"], pins(A)),
    ?EQ([text(A) ++ ".pub"], pins(B)),
    ?EQ([], pins(C)).

trust_mode_changes_at_run_time(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, set_trust_mode, [strict]),
    ?EQ(false, bp_cluster:connect(B, A)),
    ok = bp_cluster:call(A, barrel_p2p_dist_keys, set_trust_mode, [tofu]),
    true = bp_cluster:connect(B, A).

%% A node that gets its name from its first peer: tofu takes it and never pins it; strict takes it
%% only if its key is pinned under some name.
strict_and_dynamic_name(Config) ->
    [A, T, D] = start(Config, [(opts(a, strict()))#{names => short},
                               (opts(t))#{names => short}, (opts(d))#{names => dynamic}]),
    %% strict on one side only, and the dialled side known to nobody: d is tofu
    ?EQ(false, bp_cluster:connect(D, A)),
    bp_cluster:wait_log(A, ["untrusted_key"]),
    {ok, DPub} = file:read_file(filename:join(keys(D), "nodes/nonode@nohost/node.pub")),
    Some = filename:join([keys(A), "trusted", "some_shell@anywhere.pub"]),
    ok = filelib:ensure_dir(Some),
    ok = file:write_file(Some, DPub),
    true = bp_cluster:connect(D, A),
    ?EQ(["some_shell@anywhere.pub"], pins(A)),
    true = bp_cluster:connect(D, T),
    ?EQ([], pins(T)).

%% ---- names and keys ----

copied_key_is_refused(Config) ->
    [A] = start(Config, [opts(a)]),
    Copy = filename:join(bp_cluster:dir(Config), "b/copied"),
    ok = filelib:ensure_dir(filename:join(Copy, "x")),
    [{ok, _} = file:copy(filename:join(keys(A), F), filename:join(Copy, F))
     || F <- ["node.key", "node.pub"]],
    [B] = start(Config, [opts(b, [{auth_key_dir, Copy}])]),
    refused(B, A, [], [text(B), "own", "which is ours", "barrel-p2p keygen --force"]),
    refused(A, B, ["own", "which is ours"], []),
    ?EQ([], pins(A)).

%% A key that is trusted as one node does not let another name in.
key_of_another_name_is_refused(Config) ->
    [A, B] = start(Config, [opts(a, strict()), opts(b)]),
    ok = filelib:ensure_dir(pin_file(A, B)),
    ok = file:write_file(filename:join([keys(A), "trusted", "zed@127.0.0.1.pub"]), pub(B)),
    refused(B, A, ["untrusted_key"], [text(B), "untrusted_key"]),
    ?EQ(["zed@127.0.0.1.pub"], pins(A)),
    ?EQ(false, bp_cluster:connect(A, B)).

other_node_than_dialled_is_refused(Config) ->
    [B] = start(Config, [opts(b)]),
    {ok, Port} = bp_cluster:call(B, barrel_p2p_dist, listen_port, []),
    Nodes = [{'x@127.0.0.1', {"127.0.0.1", Port}}],
    [A] = start(Config, [(opts(a))#{config => [{quic, [{dist, [{nodes, Nodes}]}]}]}]),
    ?EQ(false, bp_cluster:call(A, net_kernel, connect_node, ['x@127.0.0.1'])),
    bp_cluster:wait_log(A, ["x@127.0.0.1", "name_mismatch", "SHA256:",
                            "says that it is " ++ text(B)]),
    bp_cluster:wait_log(B, [text(A), "auth_name_mismatch", "it dialled another node"]),
    ?EQ({[], []}, {pins(A), pins(B)}),
    ?EQ([], bp_cluster:call(B, erlang, nodes, [connected])).

cookie_only_both_sides(Config) ->
    Env = [{cookie_only_nodes, ['*@127.0.0.1']}],
    [A, B] = start(Config, [opts(a, Env), opts(b, Env)]),
    true = bp_cluster:connect(A, B),
    ?EQ({[], []}, {pins(A), pins(B)}),
    bp_cluster:disconnect(A, B),
    [C] = start(Config, [(opts(c, Env))#{cookie => "another"}]),
    ?EQ(false, bp_cluster:connect(C, A)).

%% The server skips authentication, the client does not accept that.
cookie_only_one_side(Config) ->
    [A, B] = start(Config, [opts(a, [{cookie_only_nodes, ['*@127.0.0.1']}]), opts(b)]),
    ?EQ(false, bp_cluster:connect(B, A)),
    bp_cluster:wait_log(B, [text(A), "unexpected_auth_ok"]),
    %% the other direction is an ordinary one
    true = bp_cluster:connect(A, B).

garbage_pin_names_the_file(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    write_pin(A, B, <<"too short">>),
    ?EQ(false, bp_cluster:connect(A, B)),
    bp_cluster:wait_log(A, [pin_file(A, B)]),
    ?EQ(false, bp_cluster:connect(B, A)),
    ?EQ({ok, <<"too short">>}, pin(A, B)),
    ok = file:delete(pin_file(A, B)),
    true = bp_cluster:connect(A, B).

%% ---- a user's own callback ----

callback(Name, Does) ->
    callback(Name, Does, []).

callback(Name, Does, Dist) ->
    (opts(Name))#{env => [{"BP_CB", Does}],
                  config => [{quic, [{dist, [{auth_callback, {bp_auth_cb, authenticate}}
                                             | Dist]}]}]}.

callback_accepts(Config) ->
    [A, B] = start(Config, [callback(a, "accept"), callback(b, "accept")]),
    true = bp_cluster:connect(A, B),
    [SeenA] = bp_cluster:call(A, bp_auth_cb, seen, []),
    bp_cluster:until(fun() -> bp_cluster:call(B, bp_auth_cb, seen, []) =/= [] end),
    [SeenB] = bp_cluster:call(B, bp_auth_cb, seen, []),
    #{role := client, got := FromB, timeout := Timeout, certificate := {ok, Der},
      address := {ok, {{127, 0, 0, 1}, Port}}} = SeenA,
    #{role := server, got := FromA, address := {ok, {{127, 0, 0, 1}, _}}} = SeenB,
    ?EQ(list_to_binary("hello from " ++ text(B)), FromB),
    ?EQ(list_to_binary("hello from " ++ text(A)), FromA),
    true = is_integer(Timeout) andalso Timeout > 0,
    ?EQ({ok, Port}, bp_cluster:call(B, barrel_p2p_dist, listen_port, [])),
    _ = public_key:pkix_decode_cert(Der, otp),
    NB = bp_cluster:name(B),
    ?EQ(NB, bp_cluster:run(A, fun() -> erpc:call(NB, erlang, node, []) end)),
    ?EQ({[], []}, {pins(A), pins(B)}).

callback_denies(Config) ->
    [A, B] = start(Config, [callback(a, "accept"), callback(b, "deny")]),
    ?EQ(false, bp_cluster:connect(A, B)),
    bp_cluster:wait_log(B, ["not_today"]),
    ?EQ(false, bp_cluster:connect(B, A)),
    bp_cluster:wait_log(B, [text(A), "not_today"]).

callback_crashes(Config) ->
    [A, B] = start(Config, [callback(a, "accept"), callback(b, "crash")]),
    ?EQ(false, bp_cluster:connect(A, B)),
    ?EQ(false, bp_cluster:connect(B, A)),
    bp_cluster:wait_log(B, ["barrel_p2p", "callback_bug"]),
    %% the node lives: its acceptor is there and says the same again
    ?EQ(false, bp_cluster:connect(A, B)).

callback_hangs(Config) ->
    Short = [{auth_handshake_timeout, 1500}],
    %% so that it is no other limit that ends it
    Opts = fun(Name, Does) ->
        (callback(Name, Does, Short))#{args => ["-kernel", "net_setuptime", "60"]}
    end,
    [A, B] = start(Config, [Opts(a, "accept"), Opts(b, "hang")]),
    {Us, false} = bp_cluster:run(A, fun() ->
        timer:tc(net_kernel, connect_node, [bp_cluster:name(B)])
    end),
    true = Us < 9000000,            % the default is 10 s
    bp_cluster:wait_log(B, ["barrel_p2p", {re, "timeout|too long"}]),
    %% another connection is not held up by one that hangs
    ?EQ(false, bp_cluster:connect(B, A)).

callback_returns_junk(Config) ->
    [A, B] = start(Config, [callback(a, "accept"), callback(b, "junk")]),
    ?EQ(false, bp_cluster:connect(A, B)),
    bp_cluster:wait_log(B, ["whatever"]).

%% What the callback says about the peer's name binds.
callback_name_must_match(Config) ->
    [A] = start(Config, [callback(a, "name")]),
    bp_cluster:kill(A),
    Name = "right_" ++ os:getpid() ++ "@127.0.0.1",
    Claim = fun(N) -> [{"BP_CB", "name"}, {"BP_CB_NAME", N}] end,
    [S, T] = start(Config, [(callback(s, "name"))#{env => Claim(Name)},
                            (callback(t, "name"))#{env => Claim("wrong@127.0.0.1")}]),
    [Right] = start(Config, [(callback(r, "accept"))#{node => list_to_atom(Name),
                                                      env => [{"BP_CB", "name"},
                                                              {"BP_CB_NAME", text(S)}]}]),
    true = bp_cluster:connect(Right, S),
    ?EQ(false, bp_cluster:connect(S, T)),
    bp_cluster:wait_log(S, [text(T)]).

%% ---- no authentication ----

auth_disabled_on_both(Config) ->
    Off = [{auth_enabled, false}],
    [A, B] = start(Config, [opts(a, Off), opts(b, Off)]),
    bp_cluster:wait_log(A, ["WARNING", "auth_enabled"]),
    true = bp_cluster:connect(A, B),
    ?EQ({[], []}, {pins(A), pins(B)}),
    NB = bp_cluster:name(B),
    ?EQ(NB, bp_cluster:run(A, fun() -> erpc:call(NB, erlang, node, []) end)).

auth_disabled_on_one(Config) ->
    [A, B] = start(Config, [(opts(a, [{auth_enabled, false}]))#{
                                args => ["-kernel", "net_setuptime", "3"]},
                            (opts(b))#{args => ["-kernel", "net_setuptime", "3"]}]),
    ?EQ(false, bp_cluster:connect(A, B)),
    ?EQ(false, bp_cluster:connect(B, A)),
    bp_cluster:wait_log(B, [text(A)]).

%% ---- what a person sees ----

fingerprints_are_shown(Config) ->
    [A, B] = start(Config, [opts(a), opts(b)]),
    true = bp_cluster:connect(A, B),
    Fp = fun(N) ->
        {ok, F} = bp_cluster:call(N, barrel_p2p_dist_auth, fingerprint, []),
        F
    end,
    Want = "SHA256:" ++ string:trim(base64:encode_to_string(crypto:hash(sha256, pub(B))),
                                    trailing, "="),
    ?EQ(list_to_binary(Want), Fp(B)),
    [#{node := NB, fingerprint := FpB, direction := dialled}] =
        bp_cluster:call(A, barrel_p2p, peers, []),
    ?EQ({bp_cluster:name(B), Fp(B)}, {NB, FpB}),
    %% who was dialled has the last message to read yet
    FpA = bp_cluster:until(fun() ->
        case bp_cluster:call(B, barrel_p2p, peers, []) of
            [#{fingerprint := F, direction := accepted}] -> {true, F};
            [] -> false
        end
    end),
    ?EQ(Fp(A), FpA).
