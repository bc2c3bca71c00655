%% SPDX-License-Identifier: Apache-2.0
%% The example examples/file_copy: a file arrives whole, also when the connection, or the receiving
%% node, ends on the way.
-module(file_copy_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([whole_files/1, goes_on_after_connection_ends/1, goes_on_after_receiver_is_killed/1,
         names_stay_in_the_directory/1, nobody_receives/1]).

-include_lib("common_test/include/ct.hrl").
-include("bp_test.hrl").

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [whole_files, goes_on_after_connection_ends, goes_on_after_receiver_is_killed,
     names_stay_in_the_directory, nobody_receives].

init_per_suite(Config) ->
    case bp_cluster:only(quic) of
        ok ->
            %% beside the suites, where the nodes look
            Src = filename:join(bp_cluster:root(), "examples/file_copy/file_copy.erl"),
            Out = filename:dirname(code:which(?MODULE)),
            {ok, file_copy} = compile:file(Src, [{outdir, Out}, return_errors, warnings_as_errors]),
            Config;
        Skip ->
            Skip
    end.

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    bp_cluster:init_case(?MODULE, Case, Config).

end_per_testcase(_Case, Config) ->
    bp_cluster:end_case(Config).

path(Config, Name) ->
    filename:join(bp_cluster:dir(Config), Name).

random_file(Config, Name, Size) ->
    ok = file:write_file(path(Config, Name), rand:bytes(Size)),
    path(Config, Name).

same(Config, Name) ->
    {ok, A} = file:read_file(path(Config, Name)),
    ?EQ({ok, A}, file:read_file(path(Config, "in/" ++ Name))).

serve(Config, N) ->
    {ok, _} = bp_cluster:call(N, file_copy, serve, [path(Config, "in")]).

%% Without the bar.
send(A, File, To, Progress) ->
    bp_cluster:call(A, file_copy, send, [File, To, #{progress => Progress, patience => 30000}], 100000).

quiet(_, _) -> ok.

whole_files(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    serve(Config, B),
    [begin
         Name = "file" ++ integer_to_list(Size),
         File = random_file(Config, Name, Size),
         ?EQ({ok, #{sent => Size, attempts => 1}}, send(A, File, bp_cluster:name(B), fun quiet/2)),
         same(Config, Name)
     end || Size <- [0, 1, 999999, 1000000, 20000001]].

%% The progress function cuts the connection at a third and at two thirds.
goes_on_after_connection_ends(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    serve(Config, B),
    Size = 60000000,
    File = random_file(Config, "big", Size),
    To = bp_cluster:name(B),
    Cut = fun(Done, _) ->
        Third = Done div (Size div 3),
        case get(third) of
            Third -> ok;
            _ when Third =:= 1; Third =:= 2 -> put(third, Third), erlang:disconnect_node(To);
            _ -> put(third, Third)
        end
    end,
    {ok, #{sent := Sent, attempts := N}} = send(A, File, To, Cut),
    ct:pal("~b bytes sent in ~b attempts", [Sent, N]),
    true = N >= 3,
    %% what had arrived was not sent again
    true = Sent < 2 * Size,
    bp_cluster:wait_log(B, [{re, "the connection ended after [0-9]+ of 60000000 bytes; they are kept"}]),
    same(Config, "big").

sees(X, Y) ->
    lists:member(bp_cluster:name(Y), bp_cluster:call(X, erlang, nodes, [])).

goes_on_after_receiver_is_killed(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    serve(Config, B),
    Size = 80000000,
    File = random_file(Config, "big", Size),
    To = bp_cluster:name(B),
    Part = path(Config, "in/big.part"),
    %% waits at a half until the receiver is dead
    ok = bp_cluster:call(A, persistent_term, put, [?MODULE, alive]),
    Slow = fun(Done, _) -> Done > Size div 2 andalso until_dead() end,
    Job = bp_cluster:async(fun() -> send(A, File, To, Slow) end, []),
    bp_cluster:until(fun() -> filelib:file_size(Part) > Size div 4 end),
    bp_cluster:kill9(B),
    ok = bp_cluster:call(A, persistent_term, put, [?MODULE, dead]),
    Had = filelib:file_size(Part),
    true = Had < Size,
    B2 = bp_cluster:start(Config, #{node => To}),
    %% it is found again before it takes files
    bp_cluster:until(fun() -> sees(B2, A) end),
    serve(Config, B2),
    {ok, #{sent := Sent, attempts := N}} = bp_cluster:await(Job),
    ct:pal("killed with ~b bytes; ~b bytes sent in ~b attempts", [Had, Sent, N]),
    true = N >= 2,
    true = Sent < Size + Size - Had div 2,
    %% both sides say what happened
    bp_cluster:wait_log(A, [{re, "the connection to " ++ atom_to_list(To) ++ " ended at [0-9]+ of 80 MB"}]),
    bp_cluster:wait_log(A, [{re, "goes on after [0-9]+ MB, which are there already"}]),
    From = atom_to_list(bp_cluster:name(A)),
    bp_cluster:wait_log(B2, [{re, "big from " ++ From ++ ": goes on after [0-9]+ of 80000000 bytes"}]),
    bp_cluster:wait_log(B2, [{re, From ++ ": 80000000 bytes, the checksum is right"}]),
    same(Config, "big").

until_dead() ->
    bp_cluster:until(fun() -> persistent_term:get(?MODULE) =:= dead end, ?LONG).

names_stay_in_the_directory(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    serve(Config, B),
    To = bp_cluster:name(B),
    Say = fun(Name, Bytes) ->
        bp_cluster:run(A, fun() ->
            {ok, Ref} = barrel_p2p_streams:open(<<"file_copy">>, To),
            Len = byte_size(Bytes),
            ok = quic_dist:send(Ref, <<(byte_size(Name)):16, Name/binary, Len:64, Bytes/binary,
                                       (crypto:hash(sha256, Bytes))/binary>>, true),
            bp_stream_proc:read(Ref)
        end)
    end,
    {ok, _} = bp_cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    {_, _, {reset, 0}} = Say(<<"..">>, <<"x">>),
    {_, _, {reset, 0}} = Say(<<>>, <<"x">>),
    {9, _, fin} = Say(<<"../../outside">>, <<"inside">>),
    ?EQ({ok, <<"inside">>}, file:read_file(path(Config, "in/outside"))),
    false = filelib:is_file(path(Config, "outside")).

nobody_receives(Config) ->
    [A, B] = bp_cluster:start_many(Config, [#{name => a}, #{name => b}]),
    File = random_file(Config, "small", 10),
    ?EQ({error, {refused, 16#100}}, send(A, File, bp_cluster:name(B), fun quiet/2)),
    ?EQ({error, not_connected},
        bp_cluster:call(A, file_copy, send, [File, 'nobody@127.0.0.1', #{progress => fun quiet/2,
                                                                       patience => 1000}])),
    ?EQ({error, enoent}, send(A, File ++ ".not", bp_cluster:name(B), fun quiet/2)).
