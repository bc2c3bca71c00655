%% SPDX-License-Identifier: Apache-2.0
%% What bp_monkey's nodes do all the time: messages in order to each other, streams, processes that
%% are monitored, and the checks of all that. What is wrong is kept for errors/0.
-module(bp_monkey_node).

-export([start/1, errors/0, busy/0, pause/1, flush/1, base/0, details/0, streams/3, lives/2,
         flood/1, restart_app/0, nodes_seen/0, done/0]).
%% Spawned.
-export([watcher/0, sink/0, ticker/2, live/2]).

-include("bp_test.hrl").

-define(TAG, <<"monkey">>).
-define(PATTERN, (1 bsl 20)).
-define(ENDED, 16#101).         % the connection ended
-define(NOBODY, 16#100).

%% Others: the names that this node talks to. Nothing here connects nodes, it waits until they are.
start(Others) ->
    persistent_term:put(?MODULE, pattern()),
    _ = inet_gethost_native:gethostbyname("localhost"),     % the VM keeps a port for names
    Self = self(),
    Pid = spawn(fun() ->
        ets:new(?MODULE, [named_table, public]),
        [ets:insert(?MODULE, {K, V}) || {K, V} <- [{errors, []}, {paused, false}]],
        Watcher = spawn_link(?MODULE, watcher, []),
        Sink = spawn_link(?MODULE, sink, []),
        Acceptor = spawn_link(fun acceptor/0),
        [register(Name, P) || {Name, P} <- [{bp_monkey_watcher, Watcher}, {bp_monkey_sink, Sink},
                                            {bp_monkey_acceptor, Acceptor}]],
        [register(ticker_name(N), spawn_link(?MODULE, ticker, [N, 1])) || N <- Others],
        Acceptor ! {registered, self()},
        receive registered -> Self ! {self(), started} end,
        receive stop -> ok end
    end),
    receive {Pid, started} -> ok after 30000 -> error(monkey_does_not_start) end.

ticker_name(N) -> list_to_atom("ticker_" ++ atom_to_list(N)).

wrong(What) ->
    Entry = {erlang:system_time(millisecond), What},
    [{errors, Old}] = ets:lookup(?MODULE, errors),
    ets:insert(?MODULE, {errors, lists:sublist([Entry | Old], 20)}).

count(What) -> count(What, 1).

count(What, N) -> ets:update_counter(?MODULE, {done, What}, N, {{done, What}, 0}).

%% How much of what was done, since the last call.
done() ->
    maps:from_list([begin ets:delete(?MODULE, {done, K}), {K, V} end
                    || {{done, K}, V} <- ets:match_object(?MODULE, {{done, '_'}, '_'})]).

errors() ->
    [{errors, E}] = ets:lookup(?MODULE, errors),
    lists:reverse(E).

%% What has not ended yet: streams and monitored processes, of this node's.
busy() ->
    [{P, What, process_info(P, [current_stacktrace, dictionary, message_queue_len])}
     || {P, What} <- ets:select(?MODULE, [{{{busy, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}])].

%% Tickers say nothing while it is true.
pause(Bool) ->
    ets:insert(?MODULE, {paused, Bool}),
    ok.

%% Runs Fun in a process that busy/0 shows until it ends; that must be normal.
job(What, Fun) ->
    Parent = self(),
    {Pid, Mon} = spawn_monitor(fun() ->
        ets:insert(?MODULE, {{busy, self()}, {What, erlang:system_time(millisecond)}}),
        Parent ! {self(), ready},
        Fun()
    end),
    receive
        {Pid, ready} -> ok;
        {'DOWN', Mon, process, Pid, _} -> ok
    end,
    erlang:demonitor(Mon, [flush]),
    spawn(fun() ->
        M = monitor(process, Pid),
        receive
            {'DOWN', M, process, Pid, R} ->
                ets:delete(?MODULE, {busy, Pid}),
                lists:member(R, [normal, noproc, planned]) orelse wrong({job, What, R})
        end
    end),
    Pid.

%% What an idle node holds.
base() ->
    erlang:garbage_collect(),
    Fds = length(element(2, file:list_dir("/proc/" ++ os:getpid() ++ "/fd"))),
    #{counters := C} = barrel_p2p:info(),
    #{ports => length(erlang:ports()), processes => length(erlang:processes()), fds => Fds,
      counters => maps:with([<<"connections">>, <<"half_open">>, <<"connection_ids">>], C),
      atoms => erlang:system_info(atom_count)}.

%% For the report when base/0 is not what it was.
details() ->
    {[erlang:port_info(P) || P <- erlang:ports()],
     [{P, process_info(P, [registered_name, current_stacktrace, initial_call, links, messages,
                           dictionary])}
      || P <- erlang:processes()]}.

%% --- nodeup and nodedown ---------------------------------------------------------------

%% Each nodeup has its nodedown before the next one.
watcher() ->
    ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
    watcher(maps:from_list([{N, before} || N <- nodes()])).

watcher(Up) ->
    receive
        {nodeup, N, _} ->
            maps:get(N, Up, before) =:= before orelse wrong({nodeup_twice, N}),
            watcher(Up#{N => true});
        {nodedown, N, Info} ->
            is_map_key(N, Up) orelse wrong({nodedown_without_nodeup, N, Info}),
            watcher(maps:remove(N, Up));
        {get, From} ->
            From ! {self(), lists:sort(maps:keys(Up))},
            watcher(Up)
    end.

%% By nodeup and nodedown.
nodes_seen() ->
    Pid = whereis(bp_monkey_watcher),
    Pid ! {get, self()},
    receive {Pid, L} -> L after 10000 -> error(watcher) end.

%% --- messages in order -----------------------------------------------------------------

%% Messages of a sender come in order, and all of them while the connection stays.
sink() ->
    ok = net_kernel:monitor_nodes(true),
    sink(#{}).

sink(Next) ->
    receive
        {seq, Pid, N, Payload} ->
            case Next of
                #{Pid := N} -> ok;
                #{Pid := {lossy, M}} when N >= M -> ok;
                #{Pid := Other} -> wrong({order, Pid, wanted, Other, got, N});
                #{} -> ok
            end,
            check_payload(Payload),
            sink(Next#{Pid => N + 1});
        {void, _} ->
            sink(Next);
        {upto, From, Pid} ->
            From ! {self(), maps:get(Pid, Next, none)},
            sink(Next);
        {nodedown, Node} ->
            sink(maps:map(fun(Pid, N) when is_integer(N), node(Pid) =:= Node -> {lossy, N};
                             (_, V) -> V
                          end, Next));
        {nodeup, _} ->
            sink(Next)
    end.

check_payload({Size, Bin}) when byte_size(Bin) =:= Size -> ok;
check_payload(_) -> wrong(payload).

ticker(Node, N) ->
    [{paused, Paused}] = ets:lookup(?MODULE, paused),
    receive
        {flush, From} ->
            From ! {self(), N},
            ticker(Node, N)
    after rand:uniform(60) ->
        ticker(Node, case Paused of
            true -> N;
            false -> burst(Node, N, rand:uniform(20))
        end)
    end.

burst(_, N, 0) ->
    N;
burst(Node, N, K) ->
    Size = payload_size(rand:uniform(1000)),
    Msg = {seq, self(), N, {Size, binary:copy(<<N>>, Size)}},
    case erlang:send({bp_monkey_sink, Node}, Msg, [noconnect]) of
        ok -> count(messages), burst(Node, N + 1, K - 1);
        noconnect -> N
    end.

payload_size(1) -> rand:uniform(4000000);
payload_size(X) when X < 20 -> rand:uniform(100000);
payload_size(_) -> rand:uniform(300).

%% Says 50 things to Node, which is connected, and waits until all of it is there: ok | down.
flush(Node) ->
    Ticker = whereis(ticker_name(Node)),
    Ticker ! {flush, self()},
    receive {Ticker, _} -> ok after 120000 -> error({ticker_stuck, Node, process_info(Ticker)}) end,
    true = monitor_node(Node, true),
    Me = self(),
    Payload = binary:copy(<<"x">>, 200),
    [{bp_monkey_sink, Node} ! {seq, Me, I, {200, Payload}} || I <- lists:seq(1, 50)],
    {bp_monkey_sink, Node} ! {upto, Me, Me},
    receive
        {nodedown, Node} -> down;       % its relay had ended, for one
        {Sink, 51} when is_pid(Sink) -> monitor_node(Node, false), ok;
        {Sink, Other} when is_pid(Sink) -> error({flush, Node, Other})
    after 60000 -> error({flush_timeout, Node, process_info(Me, messages)})
    end.

%% --- processes that are monitored or linked -------------------------------------------------

lives(Node, Count) ->
    [job({live, Node}, fun() -> life(Node) end) || _ <- lists:seq(1, Count)],
    ok.

life(Node) ->
    Ms = rand:uniform(2500),
    case rand:uniform(3) of
        1 ->
            {Pid, Mon} = spawn_monitor(Node, ?MODULE, live, [Ms, done]),
            down(Mon, Pid, done);
        2 ->
            process_flag(trap_exit, true),
            Pid = spawn_link(Node, ?MODULE, live, [Ms, done]),
            receive {'EXIT', Pid, R} -> reason(R, done) end;
        3 ->
            Mon = monitor(process, {bp_monkey_sink, Node}),
            receive
                {'DOWN', Mon, process, _, R} -> reason(R, noproc)
            after Ms -> demonitor(Mon)
            end
    end.

down(Mon, Pid, Reason) ->
    receive {'DOWN', Mon, process, Pid, R} -> reason(R, Reason) end.

reason(noconnection, _) -> count(lives_cut);
reason(R, R) -> count(lives_whole);
reason(Other, Wanted) -> wrong({reason, Other, wanted, Wanted}).

live(Ms, Reason) ->
    timer:sleep(Ms),
    exit(Reason).

%% Processes that send more than fits, and are killed while they do.
flood(Node) ->
    Load = binary:copy(<<"flood">>, 40000),
    [job({flood, Node}, fun() ->
        Pid = spawn(fun() -> [{bp_monkey_sink, Node} ! {void, Load} || _ <- lists:seq(1, 300)] end),
        timer:sleep(rand:uniform(400)),
        exit(Pid, kill),
        Mon = monitor(process, Pid),
        receive {'DOWN', Mon, process, Pid, _} -> count(floods) end
    end) || _ <- lists:seq(1, 3)],
    ok.

%% Streams to the tag are refused meanwhile.
restart_app() ->
    global:trans({?MODULE, self()}, fun() ->
        _ = application:stop(barrel_p2p),
        {ok, _} = application:ensure_all_started(barrel_p2p),
        bp_monkey_acceptor ! {register, self()},
        receive registered -> count(app_restarts) end
    end, [node()]),
    ok.

%% --- streams ----------------------------------------------------------------------------------

pattern() ->
    Block = iolist_to_binary([crypto:hash(sha256, <<I:32>>) || I <- lists:seq(1, ?PATTERN div 32)]),
    <<Block/binary, Block/binary>>.

part(Pos, Size) ->
    binary:part(persistent_term:get(?MODULE), Pos rem ?PATTERN, Size).

%% Opens so many to Node; Seed makes their plans.
streams(Node, Count, Seed) ->
    [job({opener, Node}, fun() -> opener(Node, Seed + I) end) || I <- lists:seq(1, Count)],
    ok.

%% Both sides do their part after so many bytes: whole (send all and close), close (early), reset,
%% die; the acceptor also: hold (reads nothing for a while).
opener(Node, Seed) ->
    _ = rand:seed(exsss, Seed),
    %% Who sends much does not read meanwhile: only one of them may.
    {Total, Back} = pick([{total(), rand:uniform(500000)}, {rand:uniform(500000), total()}]),
    Mine = pick([whole, whole, whole, close, reset, die]),
    Theirs = pick([whole, whole, whole, close, reset, die, hold]),
    After = rand:uniform(Total),
    AfterB = rand:uniform(Back),
    Options = [{priority, 15 + rand:uniform(240)}, {active, pick([auto, true])}],
    case barrel_p2p_streams:open(?TAG, Node, Options) of
        {ok, Ref} ->
            Plan = {Total, Mine, After, Back, Theirs, AfterB},
            Bin = term_to_binary(Plan),
            case quic_dist:send(Ref, <<(byte_size(Bin)):16, Bin/binary>>) of
                ok -> act(Ref, Plan);
                {error, _} -> drain(Ref)
            end;
        {error, _} ->
            ok
    end.

act(Ref, {Total, Mine, After, Back, Theirs, _} = Plan) ->
    Stop = case Mine of whole -> Total; _ -> After end,
    Sent = send_part(Ref, 0, Stop),
    case {Sent, Mine} of
        {Stop, die} -> exit(planned);
        {Stop, reset} -> quic_dist:reset_stream(Ref, 77);
        {Stop, _} -> quic_dist:close_stream(Ref);
        _ -> ok
    end,
    Whole = Sent =:= Stop andalso lists:member(Mine, [whole, close])
        andalso lists:member(Theirs, [whole, hold]),
    finish(Ref, read(Ref, 0, <<>>), Whole, Back, Plan).

finish(_, {Size, fin}, true, Size, _) -> count(streams_whole), count(stream_bytes, Size);
finish(_, {_, {reset, ?ENDED}}, _, _, _) -> count(streams_ended_with_connection);
finish(_, {_, {reset, ?NOBODY}}, _, _, _) -> count(streams_refused);   % the application restarts
finish(_, _, false, _, _) -> count(streams_cut);
finish(_, Got, true, _, Plan) -> wrong({stream, Got, Plan}).

%% How much was taken before it ended.
send_part(_, Pos, Stop) when Pos >= Stop ->
    Pos;
send_part(Ref, Pos, Stop) ->
    Size = min(Stop - Pos, write_size()),
    case quic_dist:send(Ref, part(Pos, Size)) of
        ok -> send_part(Ref, Pos + Size, Stop);
        {error, E} when E =:= closed; E =:= not_connected; E =:= unknown_stream -> {stopped, Pos};
        {error, E} -> wrong({send, E}), {stopped, Pos}
    end.

%% All until `closed': {Size, fin | {reset, Code}}.
read(Ref, Size, Last) ->
    receive
        {quic_dist_stream, Ref, {data, Bin, Fin}} ->
            Bin =:= <<>> orelse check(Size, Bin),
            read(Ref, Size + byte_size(Bin), case Fin of true -> fin; false -> Last end);
        {quic_dist_stream, Ref, {reset, Code}} ->
            read(Ref, Size, {reset, Code});
        {quic_dist_stream, Ref, closed} ->
            receive
                {quic_dist_stream, Ref, E} -> wrong({after_closed, E})
            after 0 -> ok
            end,
            {Size, Last}
    end.

check(Pos, Bin) when byte_size(Bin) =< ?PATTERN ->
    Bin =:= part(Pos, byte_size(Bin)) orelse wrong({bytes, Pos, byte_size(Bin)});
check(Pos, <<A:?PATTERN/binary, B/binary>>) ->
    check(Pos, A),
    check(Pos + ?PATTERN, B).

drain(Ref) ->
    receive {quic_dist_stream, Ref, closed} -> ok end.

acceptor() ->
    ok = barrel_p2p_streams:register_acceptor(?TAG, self()),
    acceptor_loop(#{}).

%% A stream that was over before it had its new owner stays here: what it still says is passed on.
acceptor_loop(Moved) ->
    receive
        {mstream, Ref, opened, Node} ->
            Pid = job({acceptor, Node}, fun() ->
                receive {go, R} -> put(moved, R), accepted(Ref, Node) end
            end),
            Result = quic_dist:controlling_process(Ref, Pid),
            Pid ! {go, Result},
            acceptor_loop(case Result of ok -> Moved; {error, _} -> Moved#{Ref => Pid} end);
        {register, From} ->
            case barrel_p2p_streams:register_acceptor(?TAG, self()) of
                ok -> ok;
                {error, conflict} -> ok         % the application was started again twice
            end,
            From ! registered,
            acceptor_loop(Moved);
        {registered, From} ->
            From ! registered,
            acceptor_loop(Moved);
        {quic_dist_stream, Ref, Event} when is_map_key(Ref, Moved) ->
            maps:get(Ref, Moved) ! {quic_dist_stream, Ref, Event},
            acceptor_loop(Moved);
        {quic_dist_stream, Ref, Event} ->
            wrong({event_of_another_owner, Ref, Event}),
            acceptor_loop(Moved)
    end.

%% The events that had come before this process had the stream are in its mailbox, too.
accepted(Ref, Node) ->
    case header(Ref, <<>>) of
        {ended, _} ->
            ok;
        {{Total, Mine, After, Back, Theirs, AfterB} = Plan, Rest, Fin} ->
            Theirs =:= hold andalso timer:sleep(rand:uniform(1500)),
            Stop = case Theirs of whole -> Back; hold -> Back; _ -> AfterB end,
            Sent = send_part(Ref, 0, Stop),
            case {Sent, Theirs} of
                {Stop, die} -> exit(planned);
                {Stop, reset} -> quic_dist:reset_stream(Ref, 78);
                {Stop, _} -> quic_dist:close_stream(Ref);
                _ -> ok
            end,
            check(0, Rest),
            Got = read(Ref, byte_size(Rest), case Fin of true -> fin; false -> <<>> end),
            Wanted = case Mine of close -> After; _ -> Total end,
            Whole = Sent =:= Stop andalso lists:member(Mine, [whole, close])
                andalso lists:member(Theirs, [whole, hold, close]),
            finish({accepted, Node}, Got, Whole, Wanted, Plan)
    end.

header(Ref, Have) ->
    case Have of
        <<N:16, Bin:N/binary, Rest/binary>> ->
            {binary_to_term(Bin), Rest, false};
        _ ->
            receive
                {quic_dist_stream, Ref, {data, Bin, false}} ->
                    header(Ref, <<Have/binary, Bin/binary>>);
                {quic_dist_stream, Ref, {data, Bin, true}} ->
                    case header_end(<<Have/binary, Bin/binary>>) of
                        none -> {ended, drain(Ref)};
                        {Plan, Rest} -> {Plan, Rest, true}
                    end;
                {quic_dist_stream, Ref, closed} ->
                    {ended, closed};
                {quic_dist_stream, Ref, {reset, _}} ->
                    {ended, drain(Ref)}
            end
    end.

header_end(<<N:16, Bin:N/binary, Rest/binary>>) -> {binary_to_term(Bin), Rest};
header_end(_) -> none.

total() ->
    case rand:uniform(10) of
        1 -> rand:uniform(20000000);
        X when X < 5 -> rand:uniform(500000);
        _ -> rand:uniform(5000)
    end.

write_size() ->
    case rand:uniform(3) of
        1 -> rand:uniform(200);
        2 -> rand:uniform(20000);
        3 -> rand:uniform(?PATTERN)
    end.

pick(L) -> lists:nth(rand:uniform(length(L)), L).
