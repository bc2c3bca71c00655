%% SPDX-License-Identifier: Apache-2.0
%% Keeps OTP's `global' from undoing a bounded overlay: it connects every node with every other, and
%% since OTP 25 it takes a lost channel for a partition and disconnects nodes because of it
%% (prevent_overlapping_partitions). Both are settings of the boot; when an application starts they
%% have been read. `global' itself has a message that turns both off, which init sends it before a
%% shutdown; that one is used here, and then it is looked whether it has worked.
-module(barrel_p2p_global).

-export([let_go/0, full_mesh/0, check/0]).

-define(NAME, global_name_server).
-define(SINCE, {?MODULE, since}).
-define(TIMEOUT, 5000).
-define(FLAGS, "start the node with -connect_all false -kernel prevent_overlapping_partitions false").

%% Does the configuration want a full mesh, as without membership?
-spec full_mesh() -> boolean().
full_mesh() ->
    application:get_env(barrel_p2p, full_mesh, false) =:= true.

%% From now on `global' connects and disconnects nobody, and replicates no names. Nothing is done on
%% nodes with another carrier, or if a full mesh is wanted.
-spec let_go() -> ok | left_alone | {error, term()}.
let_go() ->
    case full_mesh() orelse not our_carrier() orelse whereis(?NAME) of
        true -> left_alone;
        undefined -> left_alone;
        Pid -> told(Pid, mode())
    end.

our_carrier() ->
    case init:get_argument(proto_dist) of
        {ok, Values} -> lists:member("barrel_p2p", lists:append(Values));
        error -> false
    end.

told(_Pid, {false, false}) ->
    ok;                         % the flags have done it
told(Pid, _) ->
    Ref = monitor(process, Pid),
    Pid ! {prepare_shutdown, self(), Ref},
    Answer = receive
                 {Ref, ok} -> ok;
                 {'DOWN', Ref, process, Pid, Reason} -> {error, Reason}
             after ?TIMEOUT ->
                 {error, no_answer}
             end,
    demonitor(Ref, [flush]),
    verified(Answer, mode()).

verified(ok, {false, false}) ->
    persistent_term:put(?SINCE, erlang:monotonic_time(millisecond)),
    barrel_p2p_node:report(notice, global_let_go, <<"any">>, membership,
                           <<"global connects and disconnects no nodes any more, and does not "
                             "replicate names; {barrel_p2p, [{full_mesh, true}]} leaves it as it is">>),
    ok;
verified(Answer, Mode) ->
    failed({Answer, Mode}).

failed(Why) ->
    barrel_p2p_node:report(warning, global_interferes, <<"any">>, Why,
                           <<"global could not be told to leave connections alone: it will connect all "
                             "nodes with each other and may disconnect some; ", ?FLAGS,
                             ", or set {barrel_p2p, [{full_mesh, true}]}">>),
    {error, Why}.

%% {connect_all, prevent_overlapping_partitions} as they are in its state, not as configured.
mode() ->
    try sys:get_state(?NAME, ?TIMEOUT) of
        State when is_tuple(State) ->
            case [{A, P} || {conf, A, P} <- tuple_to_list(State), is_boolean(A), is_boolean(P)] of
                [Mode] -> Mode;
                _ -> unknown
            end;
        _ ->
            unknown
    catch
        _:_ -> unknown
    end.

%% Now and then: has it synchronised with a node that came later? Says so once.
-spec check() -> ok.
check() ->
    case persistent_term:get(?SINCE, undefined) of
        undefined ->
            ok;
        Since ->
            Ago = erlang:monotonic_time(millisecond) - Since,
            Later = [N || {N, Port, _} <- barrel_p2p_node:peers(),
                          {ok, #{<<"age_ms">> := Age}} <- [barrel_p2p_drv_conn:stats(Port)],
                          Age + 1000 < Ago],
            case [N || N <- synced(), lists:member(N, Later)] of
                [] ->
                    ok;
                [N | _] ->
                    _ = persistent_term:erase(?SINCE),
                    _ = failed({synchronised, N}),
                    ok
            end
    end.

synced() ->
    try gen_server:call(?NAME, get_synced, ?TIMEOUT) of
        Nodes when is_list(Nodes) -> Nodes;
        _ -> []
    catch
        _:_ -> []
    end.
