%% SPDX-License-Identifier: Apache-2.0
%% The command and a node must say the same: about a sys.config, and about where nodes are.
-module(cli_config_SUITE).

-include("bp_test.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([table_of_keys_is_made_from_ours/1, values_are_checked_alike/1, nearest_names_are_alike/1,
         files_are_refused_alike/1, effective_values_are_alike/1, answers_and_names_are_alike/1]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [table_of_keys_is_made_from_ours, values_are_checked_alike, nearest_names_are_alike,
     files_are_refused_alike, effective_values_are_alike, answers_and_names_are_alike].

init_per_suite(Config) -> bp_cluster:init_with_ebin(Config).

end_per_suite(_) -> bp_cluster:end_with_ebin().

init_per_testcase(Case, Config) -> bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_, Config) -> bp_cluster:end_case(Config).

%% ---- the command ----

%% Runs it in Cwd: {exit code, lines of the standard output}.
cli(Cwd, Args) ->
    Command = filename:join([bp_cluster:root(), "bin", "barrel-p2p"]),
    Port = open_port({spawn_executable, Command}, [{args, Args}, {cd, Cwd}, exit_status, binary]),
    collect(Port, []).

collect(Port, Out) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Out, Data]);
        {Port, {exit_status, Status}} ->
            {Status, string:lexemes(unicode:characters_to_list(iolist_to_binary(Out)), "\n")}
    after ?LONG ->
        error({no_exit, Out})
    end.

write(Config, Name, Term) ->
    File = filename:join(bp_cluster:dir(Config), Name),
    ok = file:write_file(File, unicode:characters_to_binary(io_lib:format("~tp.~n", [Term]))),
    File.

%% {exit code, keys with errors, #{key => {origin, value as text}}}
check(Config, Term) ->
    {Status, Lines} = cli(bp_cluster:dir(Config), ["config", "check", write(Config, "c.config", Term)]),
    Errors = [list_to_atom(hd(string:split(Rest, ":"))) || "error: " ++ Rest <- Lines],
    Keys = maps:from_list([{list_to_atom(K), {Origin, string:trim(Value)}}
                           || L <- Lines, [K, Rest] <- [string:split(L, " ")],
                              [Origin, Value] <- [string:split(string:trim(Rest), " ")],
                              Origin =:= "default" orelse Origin =:= "file"]),
    {Status, lists:usort(Errors), Keys}.

%% ---- configuration ----

table_of_keys_is_made_from_ours(_) ->
    {ok, Text} = file:read_file(filename:join(bp_cluster:root(), "cli/config_keys.def")),
    case unicode:characters_to_binary(barrel_p2p_config_keys:c_table()) of
        Text -> ok;
        _ -> error("cli/config_keys.def is not what the table says: run `make docs'")
    end.

%% Every key with values of every kind, some of which it takes.
values_are_checked_alike(Config) ->
    Seed = list_to_integer(os:getenv("SEED", integer_to_list(erlang:phash2(make_ref())))),
    ct:pal("SEED=~b", [Seed]),
    _ = rand:seed(exsss, Seed),
    Keys = [K || #{type := T} = K <- barrel_p2p_config_keys:all(), T =/= ignored, T =/= callback],
    true = length(Keys) > 40,
    Values = values(),
    %% each value with each key once, in as many files as there are values
    lists:foreach(fun(Round) -> one_round(Config, Keys, Values, Round) end, lists:seq(1, length(Values))).

one_round(Config, Keys, Values, Round) ->
    N = length(Values),
    Chosen = [{K, lists:nth((Round + I) rem N + 1, Values)}
              || {I, K} <- lists:zip(lists:seq(1, length(Keys)), Keys)],
    In = fun(Places) -> [{Key, V} || {#{key := Key, place := P}, V} <- Chosen, lists:member(P, Places)] end,
    Wrong = [Key || {#{key := Key, type := T}, V} <- Chosen, not barrel_p2p_config_keys:check(T, V)],
    {Status, Errors, _} = check(Config, [{barrel_p2p, In([barrel_p2p, both])},
                                         {quic, In([quic]) ++ [{dist, In([dist])}]}]),
    %% what depends on several keys has a test of its own
    Of = fun(List) -> lists:usort(List) -- [cookie_only_nodes, auth_callback] end,
    case Of(Errors) =:= Of(Wrong) of
        true -> ok;
        false -> error({differs, {command, Of(Errors) -- Of(Wrong)}, {node, Of(Wrong) -- Of(Errors)},
                        [{K, V} || {#{key := K}, V} <- Chosen,
                                   lists:member(K, Errors) =/= lists:member(K, Wrong)]})
    end,
    ?EQ(6, Status).

values() ->
    Fixed = [undefined, none, true, false, '', any, '@', '*@h', 'a@', 'a@b@c', ["a@b"], ["a", 'a@b'], [<<"@b">>], auto, inet6, strict, json, info, infinity, 'a b', 'a@b',
             0, 1, 2, 5, 16, 17, 30, 32, 33, 512, 999, 1000, 1199, 1200, 60000, 65507, 65508, 65535, 65536,
             3600000, 86400000, 86400001, 4294967295, 4294967296, 1 bsl 70, -1, -(1 bsl 70), 1.0,
             "", "x", "4433", "+5", "65536", "4433x", " 7", "127.0.0.1", "127.1", "::1", "fe80::1%lo", "::g",
             "1.2.3.4.5", "300.1.1.1", "h.example", "a b", [228, 8364], [16#d800], [$a, 0], [0, 65508],
             <<"a", 0>>, lists:duplicate(256, $h),
             lists:duplicate(255, $h), <<>>, <<"x">>, <<"::1">>, <<"a b">>, <<255>>, <<"4433">>,
             [], [a], [a, b], ["a"], [<<"a">>], ['a@b', "c@d"], [1, 2, 3], [a | b], [[]], [{}], [undefined],
             [{m, []}], [{{m, 1}, 2}], ["::1"], [{"::1", 53}], [{"::1", 0}], [{{1, 2, 3, 4}, 53}], ["ns.example"],
             {}, {1}, {1, 2}, {1, 2, 3, 4}, {1, 2, 3, 256}, {0, 0, 0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 65536},
             {"h", 0}, {"h", 65535}, {"h", 65536}, {"h", "1"}, {h, 1}, {{1, 2, 3, 4}, 1}, {<<"h">>, 1}, {m, f},
             [{"h", 1}, "g", {1, 2, 3, 4}], lists:duplicate(8, "h"), lists:duplicate(9, "h"), #{}, #{a => b}],
    Random = [lists:nth(rand:uniform(length(Fixed)), Fixed) || _ <- lists:seq(1, 40)],
    %% lists and pairs of these
    Fixed ++ [[A, B] || {A, B} <- lists:zip(Random, lists:reverse(Random))] ++ [{A, 53} || A <- Random].

nearest_names_are_alike(Config) ->
    Words = [discovery_dri, discover_timeout, cookieonlynodes, listenport, zzz, a, 'listen port', keep_alive,
             active, prwl_, shuffle, auth_dir, dir],
    nearest_alike(Config, barrel_p2p, Words, [{barrel_p2p, [{W, 1} || W <- Words]}]),
    Dist = [dns_domian, node, fmaily, cert_fil, prwl_, zzz, dir, w],
    nearest_alike(Config, dist, Dist, [{quic, [{dist, [w, {w, 1} | [{W, 1} || W <- Dist -- [w]]]}]}]).

nearest_alike(Config, Where, Words, Term) ->
    {0, Lines} = cli(bp_cluster:dir(Config), ["config", "check", write(Config, "c.config", Term)]),
    [begin
         Want = case barrel_p2p_config_keys:nearest(Where, W) of
                    {ok, Near} -> "did you mean " ++ atom_to_list(Near) ++ "?";
                    none -> "docs/configuration.md lists them"
                end,
         [Line] = [L || L <- Lines, lists:prefix("warning: " ++ atom_to_list(W) ++ ":", L)],
         true = string:find(Line, Want) =/= nomatch orelse error({W, Want, Line})
     end || W <- Words].

%% Exit code 6 where a node does not boot, 0 where it does; the first file is each node's sys.config.
files_are_refused_alike(Config) ->
    Files = [[], [{barrel_p2p, []}], [{barrel_p2p, [x]}], [{barrel_p2p, x}], [{kernel, [{a, 1}, {a, 2}]}], x,
             [{"barrel_p2p", []}], [{barrel_p2p, [{discovery_timeout, 0}]}],
             [{barrel_p2p, [{cookie_only_nodes, ['*@h']}, {dist_cookie, barrel_p2p}]}],
             [{quic, [{dist, [{auth_callback, undefined}]}]}],
             [{barrel_p2p, [{auth_enabled, false}]}, {quic, [{dist, [{auth_callback, undefined}]}]}],
             [{quic, [{dist, [dns_domain]}]}], [{quic, [{dist, [{auth_callback, "a:b:c"}]}]}],
             [{barrel_p2p, [{no_such_key, 1}, {included_applications, []}]}]],
    Refused = in_threes(fun({N, F}) -> refused_alike(Config, N, F) end,
                        lists:zip(lists:seq(1, length(Files)), Files)),
    ?EQ(10, length([R || true = R <- Refused])).

%% More boots at once would only be slower, each of them.
in_threes(_, []) -> [];
in_threes(Fun, List) ->
    {Now, Later} = lists:split(min(3, length(List)), List),
    Jobs = [bp_cluster:async(fun() -> Fun(X) end, []) || X <- Now],
    [bp_cluster:await(J) || J <- Jobs] ++ in_threes(Fun, Later).

refused_alike(Config, N, Term) ->
    Name = "n" ++ integer_to_list(N),
    Boot = case bp_cluster:boot(Config, #{name => list_to_atom(Name), cookie => none, cwd => Name,
                                          config => Term}) of
               {ok, Node} ->
                   bp_cluster:stop(Node),
                   0;
               {exit, _, _} ->
                   6
           end,
    {Status, _} = cli(bp_cluster:dir(Config), ["config", "check", write(Config, Name ++ ".check", Term)]),
    ?EQ({Term, Boot}, {Term, Status}),
    Boot =:= 6.

effective_values_are_alike(Config) ->
    Term = [{quic, [{dist_port, 0},
                    {dist, [{nodes, [{'a@h', {"192.0.2.1", 1}}, {"b@h", {1, 2, 3, 4}, 2}]}, {dist_streams, 3},
                            {dns_domain, <<"c.example">>}, {family, inet}, {auth_handshake_timeout, 9000}]}]},
            {barrel_p2p, [{dist_cookie, "mine"}, {dist_streams, 4}, {discovery_timeout, 1500},
                          {advertise, [{"h.example", 0}, {10, 0, 0, 1}]}, {contact_nodes, []},
                          {cookie_only_nodes, ['*@trusted']}]}],
    N = bp_cluster:start(Config, #{name => n, config => Term, cookie => none}),
    {0, [], Shown} = check(Config, Term),
    Effective = bp_cluster:call(N, barrel_p2p_config, effective, []),
    ?EQ(map_size(Shown), length(Effective)),
    [begin
         {Origin, Text} = maps:get(Key, Shown),
         ?EQ({Key, Origin}, {Key, case From of default -> "default"; environment -> "file" end}),
         %% a node has worked these out for itself
         lists:member(Key, [cert_file, key_file]) orelse
             ?EQ({Key, Text}, {Key, lists:flatten(io_lib:format("~0tp", [shown(Key, Value)]))})
     end || {_Place, Key, Value, From} <- Effective],
    ok.

%% The command's output may be read by many.
shown(dist_cookie, _) -> '***';
shown(_, Value) -> Value.

%% ---- discovery ----

answers_and_names_are_alike(Config) ->
    Dir = filename:join(bp_cluster:dir(Config), "disc"),
    Dns = {_, DnsPort} = bp_dns:start(
        ["--srv-host=_erlang-dist._quic.c.example,a.two.example,5003,1,0",
         "--srv-host=_erlang-dist._quic.c.example,b.two.example,5004,2,0",
         "--host-record=a.two.example,192.0.2.11", "--host-record=b.two.example,192.0.2.12",
         "--host-record=three.example,192.0.2.3", "--local=/example/"]),
    try
        alike(Config, Dir, DnsPort)
    after
        bp_dns:stop(Dns)
    end.

alike(Config, Dir, DnsPort) ->
    Term = [{quic, [{dist_port, 7001},
                    {dist, [{nodes, [{'s@h', {"192.0.2.1", 1}}, {"s@h", {1, 2, 3, 4}, 2}]},
                            {dns_domain, "c.example"}, {family, inet}]}]},
            {barrel_p2p, [{discovery_dir, Dir}, {dns_servers, [{"127.0.0.1", DnsPort}]}]}],
    Port = bp_cluster:free_port(),
    N = bp_cluster:start(Config, #{name => n, config => Term,
                                   args => ["-quic_dist_port", integer_to_list(Port)]}),
    File = write(Config, "c.config", Term),
    Own = bp_cluster:name(N),
    [begin
         [_, Host] = string:split(Node, "@"),
         %% the node's own flag is not in the file
         {Status, Lines} = cli(bp_cluster:dir(Config),
                               ["resolve", Node, "--config", File, "--node", atom_to_list(Own),
                                "--dns-port", integer_to_list(Port)]),
         Asked = bp_cluster:call(N, barrel_p2p_discovery, ask_each, [Node, Host]),
         ?EQ({Node, [{backend(M), answer(A)} || {M, A, _Us} <- Asked]},
             {Node, [{B, lists:flatten(lists:join(" ", Text))}
                     || L <- Lines, [B, _Ms, "ms" | Text] <- [string:lexemes(L, " ")]]}),
         [Alive, _] = string:split(Node, "@"),
         case {bp_cluster:call(N, barrel_p2p_epmd, addresses_please, [Alive, Host]), Status} of
             {{ok, Addresses}, 0} ->
                 ["dials" | Dials] = string:lexemes(lists:last(Lines), " "),
                 ?EQ({Node, [text(A) || A <- Addresses]}, {Node, Dials});
             {{error, not_found}, 3} ->
                 ok
         end
     end || Node <- ["s@h", atom_to_list(Own), "a@two.example", "b@two.example", "z@three.example",
                     "q@192.0.2.9", "q@nowhere.example"]],
    {0, Names} = cli(bp_cluster:dir(Config), ["names", "--config", File]),
    Known = bp_cluster:call(N, barrel_p2p_discovery, all_nodes, ["h"]),
    true = length(Known) >= 5,
    ?EQ(Known, lists:sort([{Node, list_to_integer(P)} || L <- Names, [Node, P | _] <- [string:lexemes(L, " ")]])).

backend(barrel_p2p_discovery_static) -> "static";
backend(barrel_p2p_discovery_file) -> "file";
backend(barrel_p2p_discovery_dns) -> "dns".

answer({error, not_found}) -> "not found";
answer({error, {system_error, _}}) -> "no server could be asked";
answer({ok, Addresses}) -> lists:flatten(lists:join(", ", [text(A) || A <- Addresses])).

text({Host, Port}) when is_tuple(Host) -> text({inet:ntoa(Host), Port});
text({Host, Port}) -> Host ++ ":" ++ integer_to_list(Port).
