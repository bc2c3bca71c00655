%% SPDX-License-Identifier: Apache-2.0
%% The command barrel-p2p beside running nodes: what it writes is what they use.
-module(cli_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([keys_made_before_the_boot_connect_strict_nodes/1, trust_counts_without_restart/1,
         cure_of_the_log_runs_in_a_shell/1, renewed_certificate_is_taken_over/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [keys_made_before_the_boot_connect_strict_nodes, trust_counts_without_restart,
     cure_of_the_log_runs_in_a_shell, renewed_certificate_is_taken_over].

init_per_suite(Config) -> bp_cluster:only(quic, Config).

end_per_suite(_) -> ok.

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) ->
    bp_cluster:end_case(Config).

opts(Name, Mode) ->
    #{name => Name, cwd => atom_to_list(Name),
      config => [{barrel_p2p, [{auth_trust_mode, Mode}]}], args => ["-connect_all", "false"]}.

text(Node) -> atom_to_list(bp_cluster:name(Node)).

command() -> filename:join([bp_cluster:root(), "bin", "barrel-p2p"]).

%% Runs the command in Cwd; {exit code, everything that it printed}.
cli(Cwd, Args) ->
    ok = filelib:ensure_dir(filename:join(Cwd, "x")),
    run(open_port({spawn_executable, command()},
                  [{args, Args}, {cd, Cwd}, exit_status, stderr_to_stdout, binary])).

run(Port) -> run(Port, []).

run(Port, Out) ->
    receive
        {Port, {data, Data}} -> run(Port, [Out, Data]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Out)}
    after ?LONG ->
        error({no_exit, Out})
    end.

cwd(#{cwd := Cwd}) -> Cwd.

ok(Cwd, Args) ->
    case cli(Cwd, Args) of
        {0, Out} -> Out;
        Failed -> error({barrel_p2p, Args, Failed})
    end.

connected(A, B) ->
    lists:member(bp_cluster:name(B), bp_cluster:call(A, erlang, nodes, [connected])).

connect(A, B) ->
    bp_cluster:until(fun() -> bp_cluster:connect(A, B) end),
    bp_cluster:until(fun() -> connected(B, A) end).

refused(From, To) ->
    ?EQ(false, bp_cluster:connect(From, To)),
    ?EQ(false, connected(From, To)).

%% Two nodes that were introduced to each other before either was ever started.
keys_made_before_the_boot_connect_strict_nodes(Config) ->
    Dir = bp_cluster:dir(Config),
    {A0, B0} = {filename:join(Dir, "a"), filename:join(Dir, "b")},
    [true = string:find(ok(D, ["keygen"]), "SHA256:") =/= nomatch || D <- [A0, B0]],
    [A, B] = bp_cluster:start_many(Config, [opts(a, strict), opts(b, strict)]),
    refused(A, B),
    _ = ok(A0, ["trust", "add", text(B), filename:join(B0, "data/keys/node.pub")]),
    _ = ok(B0, ["trust", "add", text(A), filename:join(A0, "data/keys/node.pub")]),
    connect(A, B),
    %% the node has the key that the command made, and says the same about it
    {ok, Pub} = file:read_file(filename:join(A0, "data/keys/node.pub")),
    ?EQ({ok, Pub}, bp_cluster:call(A, barrel_p2p_dist_auth, get_public_key, [])),
    Shown = bp_cluster:call(A, barrel_p2p_dist_keys, fingerprint_text, [Pub]),
    true = string:find(ok(A0, ["fingerprint"]), Shown) =/= nomatch,
    ?EQ({ok, Pub}, bp_cluster:call(B, barrel_p2p_dist_keys, lookup_key, [bp_cluster:name(A)])).

trust_counts_without_restart(Config) ->
    [A, B] = bp_cluster:hush(bp_cluster:start_many(Config, [opts(a, strict), opts(b, tofu)])),
    refused(B, A),
    _ = ok(cwd(A), ["trust", "add", text(B), filename:join(cwd(B), "data/keys/node.pub"),
                    "--node", text(A)]),
    connect(B, A),
    %% the node's own pin, as the command shows it
    true = string:find(ok(cwd(B), ["trust", "list"]), text(A) ++ "  SHA256:") =/= nomatch,
    _ = ok(cwd(A), ["trust", "remove", text(B)]),
    true = connected(A, B),
    bp_cluster:disconnect(A, B),
    refused(B, A).

%% The command that the log names, with everything that it says, cures a changed key.
cure_of_the_log_runs_in_a_shell(Config) ->
    [A, B] = bp_cluster:hush(bp_cluster:start_many(Config, [opts(a, tofu), opts(b, tofu)])),
    connect(A, B),
    bp_cluster:disconnect(A, B),
    {ok, _} = bp_cluster:call(A, barrel_p2p_rotate, rotate_identity, [#{announce => false}]),
    refused(A, B),
    bp_cluster:wait_log(B, ["key_mismatch", "barrel-p2p trust add"]),
    {match, [Cure]} = re:run(bp_cluster:log(B), "`barrel-p2p (trust add [^`]*)`",
                             [{capture, all_but_first, list}]),
    _ = ok("/", string:lexemes(Cure, " ")),
    connect(A, B).

renewed_certificate_is_taken_over(Config) ->
    [A, B] = bp_cluster:start_many(Config, [opts(a, tofu), opts(b, tofu)]),
    connect(B, A),
    Out = ok(cwd(A), ["cert", "renew", "--node", text(A), "--json"]),
    true = string:find(Out, "CN=" ++ text(A)) =/= nomatch,
    true = connected(A, B),
    ok = bp_cluster:call(A, barrel_p2p_dist_auth, cache_server_cert_binding, []),
    {match, [Sha]} = re:run(Out, "\"sha256\": \"([0-9a-f]+)\"",
                            [{capture, all_but_first, list}]),
    {ok, Binding} = bp_cluster:call(A, barrel_p2p_dist_auth, server_cert_binding, []),
    ?EQ(Binding, binary:decode_hex(list_to_binary(Sha))),
    true = connected(A, B),
    bp_cluster:disconnect(A, B),
    connect(B, A).
