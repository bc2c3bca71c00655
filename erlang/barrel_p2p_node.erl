%% SPDX-License-Identifier: Apache-2.0
%% The process that owns the driver's node port: hands accepted connections to the acceptor, writes
%% the driver's events to the log, and knows the connections that are up.
%%
%% net_kernel gets its pid as the "listen socket" and is linked to it, so distribution ends when it
%% dies, as it would with a dead TCP listen socket. Works at early boot, before any supervisor of
%% ours: it is started by whoever needs the driver first.
-module(barrel_p2p_node).
-behaviour(gen_server).

-export([ensure_started/0, attach/2, stop/0]).
-export([configure/1, reload/0, listen/1, listen_info/0, ready/1, config_info/0, node_name/0,
         cert_dir/0, key_dir/0]).
-export([set_acceptor/0, peer_up/3, peers/0]).
-export([report/5, report_now/5, format_report/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(READY, {?MODULE, ready}).
%% Accepted connections that wait for an acceptor (net_kernel restarts a dead one at once).
-define(MAX_WAITING, 1024).
%% One and the same failure of a peer is logged once in this time; 1000 different ones are kept.
-define(LOG_WINDOW_MS, 5000).
-define(LOG_KEYS, 1000).
%% Reports wait for the VM's real log handler: the one of early boot would show them twice.
-define(MAX_HELD, 100).
-define(HOLD_MS, 50).
%% How often the certificate's end is looked at.
-define(CERT_CHECK_MS, 24 * 3600 * 1000).

-record(state, {
    port :: port(),
    watcher :: pid(),           % of the owners of streams
    kernel :: pid() | undefined,
    acceptor :: pid() | undefined,
    waiting = [] :: [non_neg_integer()],          % newest first
    n_waiting = 0 :: non_neg_integer(),
    name :: string() | undefined,                 % set by attach/2
    configured = false :: boolean(),
    cert_timer :: reference() | undefined,
    udp_port = 0 :: inet:port_number(),           % as configured
    fingerprint = <<>> :: binary(),
    bound :: {inet:port_number(), string()} | undefined,
    peers = #{} :: #{pid() => {node(), port(), map(), reference()}},
    logged = #{} :: #{term() => {integer(), non_neg_integer()}},
    held = [] :: [{tuple(), non_neg_integer()}]   % reports of the boot, newest first
}).

%% --- life --------------------------------------------------------------------

%% Starts the process if there is none: loads the driver, opens the node port.
-spec ensure_started() -> ok | barrel_p2p_drv:error().
ensure_started() ->
    case whereis(?MODULE) of
        undefined ->
            case gen_server:start({local, ?MODULE}, ?MODULE, [], []) of
                {ok, _} -> ok;
                {error, {already_started, _}} -> ok;
                {error, {Err, Text}} when is_atom(Err), is_binary(Text) -> {error, {Err, Text}};
                {error, Reason} -> {error, {start_failed, text(io_lib:format("~tp", [Reason]))}}
            end;
        _ ->
            ok
    end.

%% Links the process to net_kernel (Kernel) and tells it the name that the node will have, "n@h" or
%% "nonode@nohost". The pid is the "listen socket".
-spec attach(pid(), string()) -> {ok, pid()} | barrel_p2p_drv:error().
attach(Kernel, Name) ->
    attach(Kernel, Name, 50).

%% The process of a net_kernel that has just ended may still be on its way out: wait for it.
attach(_Kernel, _Name, 0) ->
    {error, {start_failed, <<"another net_kernel owns the node port">>}};
attach(Kernel, Name, Tries) ->
    case ensure_started() of
        ok ->
            try gen_server:call(?MODULE, {attach, Kernel, Name}, infinity) of
                {ok, Pid} -> {ok, Pid};
                busy -> receive after 20 -> attach(Kernel, Name, Tries - 1) end
            catch
                exit:_ -> attach(Kernel, Name, Tries - 1)
            end;
        {error, _} = Error ->
            Error
    end.

%% Takes this node off discovery and closes the port.
-spec stop() -> ok.
stop() ->
    try gen_server:stop(?MODULE)
    catch exit:_ -> ok
    end.

%% --- configuration -----------------------------------------------------------

%% Applies the configuration with the given UDP port; result: our key's fingerprint.
-spec configure(inet:port_number()) -> {ok, binary()} | barrel_p2p_drv:error().
configure(Port) ->
    call({configure, Port}).

%% Sends the configuration again, for what may change at run time.
-spec reload() -> ok | barrel_p2p_drv:error().
reload() ->
    case whereis(?MODULE) of
        undefined -> ok;
        _ ->
            case call(reload) of
                {ok, _} -> ok;
                {error, _} = Error -> Error
            end
    end.

%% Is this net_kernel's node port configured?
-spec ready(pid()) -> boolean().
ready(Kernel) ->
    case persistent_term:get(?READY, undefined) of
        {Kernel, Pid} -> is_process_alive(Pid);
        _ -> false
    end.

%% Opens the UDP socket on the first of the ports that is free.
-spec listen([inet:port_number(), ...]) -> {ok, {inet:port_number(), string()}} |
                                           barrel_p2p_drv:error().
listen(Ports) ->
    call({listen, Ports}).

%% The port and address that the node listens on.
-spec listen_info() -> {ok, {inet:port_number(), string()}} | undefined.
listen_info() ->
    case config_info() of
        #{bound := {_, _} = Bound} -> {ok, Bound};
        _ -> undefined
    end.

%% What configure/1 and listen/1 set; an empty map without a node port.
-spec config_info() -> map().
config_info() ->
    try gen_server:call(?MODULE, config_info, infinity)
    catch exit:_ -> #{}
    end.

%% The name this node has, or is about to get: known here before node() says so.
-spec node_name() -> string().
node_name() ->
    case config_info() of
        #{name := Name} when is_list(Name) -> Name;
        _ -> atom_to_list(node())
    end.

%% The directories that belong to this node (DIR_RESOLVE); as configured when that fails.
-spec cert_dir() -> file:filename().
cert_dir() ->
    resolve(barrel_p2p_config:cert_dir()).

-spec key_dir() -> file:filename().
key_dir() ->
    resolve(barrel_p2p_config:key_dir()).

resolve({Dir, Explicit}) ->
    case ensure_started() of
        ok ->
            case barrel_p2p_drv_keys:dir_resolve(Dir, Explicit, node_name()) of
                {ok, Path} -> Path;
                {error, _} -> Dir
            end;
        {error, _} ->
            Dir
    end.

call(Request) ->
    case ensure_started() of
        ok ->
            try gen_server:call(?MODULE, Request, infinity)
            catch exit:_ -> {error, {closed, <<"the node port is closed">>}}
            end;
        {error, _} = Error ->
            Error
    end.

%% --- connections -------------------------------------------------------------

%% The calling process gets `{?MODULE, incoming, Id}' for each accepted connection.
-spec set_acceptor() -> ok | barrel_p2p_drv:error().
set_acceptor() ->
    call({set_acceptor, self()}).

%% The calling process owns the connection to Node, which is up now.
-spec peer_up(node(), port(), map()) -> ok.
peer_up(Node, Port, Info) ->
    barrel_p2p_drv_streams:connected(Node, Port, self()),
    gen_server:cast(?MODULE, {peer_up, self(), Node, Port, Info}).

%% Connections that are up, with what peer_up/3 said.
-spec peers() -> [{node(), port(), map()}].
peers() ->
    try gen_server:call(?MODULE, peers, infinity)
    catch exit:_ -> []
    end.

%% --- log ---------------------------------------------------------------------

%% One structured report to `logger', with the keys event, peer, reason, text. The same event of
%% the same peer with the same reason is written once in 5 s; the next one says how many were not.
-spec report(logger:level(), atom(), iodata(), term(), iodata()) -> ok.
report(Level, Event, Peer, Reason, Text) ->
    Report = {report, Level, Event, text(Peer), Reason, text(Text)},
    case whereis(?MODULE) of
        Pid when is_pid(Pid), Pid =/= self() -> gen_server:cast(Pid, Report);
        _ -> write(Report, 0)
    end.

%% The same, written by the caller and never left out.
-spec report_now(logger:level(), atom(), iodata(), term(), iodata()) -> ok.
report_now(Level, Event, Peer, Reason, Text) ->
    write({report, Level, Event, text(Peer), Reason, text(Text)}, 0).

%% One line of text for a report of ours.
-spec format_report(logger:report()) -> {io:format(), [term()]}.
format_report(#{event := Event, peer := Peer, reason := Reason, text := Text} = Report) ->
    {Fmt, Args} = case Report of
                      #{suppressed := N} -> {" (~b more like this not shown)", [N]};
                      _ -> {"", []}
                  end,
    {"barrel_p2p ~ts peer=~ts reason=~tp: ~ts" ++ Fmt, [Event, Peer, Reason, Text] ++ Args}.

write({report, Level, Event, Peer, Reason, Text}, Suppressed) ->
    Report = #{what => barrel_p2p, event => Event, peer => Peer, reason => Reason, text => Text},
    logger:log(Level,
               case Suppressed of
                   0 -> Report;
                   N -> Report#{suppressed => N}
               end,
               #{report_cb => fun ?MODULE:format_report/1}).

%% --- gen_server --------------------------------------------------------------

%% @private
init([]) ->
    process_flag(trap_exit, true),
    %% Of the VM, not of the shell or application that happened to need us first.
    case whereis(init) of
        undefined -> ok;
        Init -> group_leader(Init, self())
    end,
    case barrel_p2p_drv:load() of
        ok ->
            case barrel_p2p_drv:open_node() of
                {ok, Port} ->
                    barrel_p2p_discovery:create_table(),
                    barrel_p2p_relay:create_table(),
                    barrel_p2p_drv_streams:create_table(),
                    barrel_p2p_streams:carrier_up(),
                    {ok, #state{port = Port, watcher = barrel_p2p_stream_watch:start_link()}};
                {error, Reason} -> {stop, Reason}
            end;
        {error, Reason} ->
            {stop, Reason}
    end.

%% @private
handle_call({attach, Kernel, _}, _From, #state{kernel = Other} = S)
  when Other =/= undefined, Other =/= Kernel ->
    {reply, busy, S};
handle_call({attach, Kernel, Name}, _From, S) ->
    link(Kernel),
    process_flag(priority, high),
    {reply, {ok, self()}, S#state{kernel = Kernel, name = Name}};
handle_call({configure, Port}, _From, S) ->
    do_configure(S#state{udp_port = Port});
handle_call(reload, _From, #state{configured = false} = S) ->
    {reply, {ok, <<>>}, S};
handle_call(reload, _From, S) ->
    do_configure(S);
handle_call({listen, Ports}, _From, S) ->
    do_listen(Ports, S);
handle_call(config_info, _From, S) ->
    {reply, #{name => S#state.name, fingerprint => S#state.fingerprint, bound => S#state.bound,
              udp_port => S#state.udp_port}, S};
handle_call({set_acceptor, Pid}, _From, #state{waiting = Waiting} = S) ->
    lists:foreach(fun(Id) -> Pid ! {?MODULE, incoming, Id} end, lists:reverse(Waiting)),
    {reply, ok, S#state{acceptor = Pid, waiting = [], n_waiting = 0}};
handle_call(peers, _From, #state{peers = Peers} = S) ->
    {reply, [{Node, Port, Info} || {Node, Port, Info, _} <- maps:values(Peers)], S}.

%% @private
handle_cast({report, _, _, _, _, _} = Report, S) ->
    {noreply, limited_write(Report, S)};
handle_cast({peer_up, Pid, Node, Port, Info}, #state{peers = Peers} = S0) ->
    Ref = monitor(process, Pid),
    S = put_out({report, info, peer_up, atom_to_binary(Node, utf8),
                 maps:get(direction, Info, unknown),
           text(["connected, ", maps:get(fingerprint, Info, <<>>), " at ",
                 maps:get(address, Info, "?")])}, 0, S0),
    {noreply, S#state{peers = Peers#{Pid => {Node, Port, Info, Ref}}}};
handle_cast(_, S) ->
    {noreply, S}.

%% @private
handle_info({Port, {incoming, Id}}, #state{port = Port} = S) ->
    {noreply, hand_over(Id, S)};
handle_info({Port, {idle_asked, Conn}}, #state{port = Port} = S) ->
    case whereis(barrel_p2p_dist_gc) of
        undefined -> _ = barrel_p2p_drv_conn:idle_answer(Conn, false, 0);
        Pid -> Pid ! {?MODULE, idle_asked, Conn}
    end,
    {noreply, S};
handle_info({Port, {idle_due, Conn}}, #state{port = Port} = S) ->
    _ = catch barrel_p2p_dist_gc ! {?MODULE, idle_due, Conn},
    {noreply, S};
handle_info({Port, {log, Level, Event, Peer, Text}}, #state{port = Port} = S) ->
    {noreply, put_out({report, Level, Event, Peer, Event, Text}, 0, S)};
handle_info(check_cert, S) ->
    _ = spawn(barrel_p2p_rotate, check_cert, []),       % it calls us
    {noreply, start_cert_timer(S#state{cert_timer = undefined})};
handle_info(flush_held, #state{held = Held} = S) ->
    {noreply, lists:foldr(fun({Report, N}, Acc) -> put_out(Report, N, Acc) end,
                          S#state{held = []}, Held)};
handle_info({'DOWN', _, process, Pid, Reason}, #state{peers = Peers} = S) ->
    case maps:take(Pid, Peers) of
        {{Node, Port, _, _}, Rest} ->
            barrel_p2p_drv_streams:disconnected(Node, Port, Pid),
            {noreply, put_out({report, info, peer_down, atom_to_binary(Node, utf8), Reason,
                               <<"connection ended">>}, 0, S#state{peers = Rest})};
        error ->
            {noreply, S}
    end;
handle_info({'EXIT', Watcher, _}, #state{watcher = Watcher} = S) ->
    {noreply, S#state{watcher = barrel_p2p_stream_watch:start_link()}};
handle_info({'EXIT', Port, Reason}, #state{port = Port} = S) ->
    write({report, error, node_port_down, <<"any">>, Reason,
           <<"the driver's node port ended: distribution stops">>}, 0),
    {stop, {node_port, Reason}, S};
handle_info({'EXIT', Kernel, _Reason}, #state{kernel = Kernel} = S) ->
    {stop, normal, S};
handle_info(_, S) ->
    {noreply, S}.

%% @private
terminate(_Reason, #state{port = Port, name = Name, bound = Bound}) ->
    _ = persistent_term:erase(?READY),
    case Bound of
        {Udp, _} when is_list(Name) ->
            try barrel_p2p_discovery:withdraw(Name, Udp)
            catch _:_ -> ok                     % the node ends all the same
            end;
        _ ->
            ok
    end,
    barrel_p2p_drv:close(Port).

%% --- internal ----------------------------------------------------------------

do_configure(#state{kernel = Kernel, udp_port = Port} = S) ->
    case send_config(Port, S) of
        {ok, Fingerprint} ->
            Kernel =:= undefined orelse persistent_term:put(?READY, {Kernel, self()}),
            {reply, {ok, Fingerprint},
             start_cert_timer(S#state{fingerprint = Fingerprint, configured = true})};
        {error, _} = Error ->
            {reply, Error, S}
    end.

start_cert_timer(#state{cert_timer = undefined} = S) ->
    S#state{cert_timer = erlang:send_after(?CERT_CHECK_MS, self(), check_cert)};
start_cert_timer(S) ->
    S.

%% What a user wrote wrong is an error for the caller, not the end of this process.
send_config(Port, #state{name = Name}) ->
    try barrel_p2p_drv:config(barrel_p2p_config:settings(own_name(Name), Port))
    catch
        error:{Who, Reason} when Who =:= barrel_p2p_dist; Who =:= barrel_p2p ->
            {error, {bad_config, text(io_lib:format("~tp", [Reason]))}};
        error:Reason ->
            {error, {bad_config, text(io_lib:format("~tp", [Reason]))}}
    end.

own_name(undefined) -> atom_to_list(node());
own_name(Name) -> Name.

do_listen([Port | Rest], S) ->
    case S#state.udp_port =:= Port orelse send_config(Port, S) of
        {error, _} = Error ->
            {reply, Error, S};
        _ ->
            case barrel_p2p_drv:listen() of
                {ok, {_, _} = Bound} ->
                    {reply, {ok, Bound}, S#state{bound = Bound, udp_port = Port}};
                {error, {eaddrinuse, _}} when Rest =/= [] ->
                    do_listen(Rest, S);
                {error, _} = Error ->
                    {reply, Error, S}
            end
    end.

hand_over(Id, #state{acceptor = Pid} = S) when is_pid(Pid) ->
    case is_process_alive(Pid) of
        true ->
            Pid ! {?MODULE, incoming, Id},
            S;
        false ->
            hand_over(Id, S#state{acceptor = undefined})
    end;
hand_over(_Id, #state{n_waiting = N} = S) when N >= ?MAX_WAITING ->
    S;      % the driver's deadline closes it
hand_over(Id, #state{waiting = Waiting, n_waiting = N} = S) ->
    S#state{waiting = [Id | Waiting], n_waiting = N + 1}.

limited_write({report, _, Event, Peer, Reason, _} = Report, #state{logged = Logged} = S) ->
    Now = erlang:monotonic_time(millisecond),
    Key = {Event, Peer, Reason},
    case Logged of
        #{Key := {T, N}} when Now - T < ?LOG_WINDOW_MS ->
            S#state{logged = Logged#{Key := {T, N + 1}}};
        #{Key := {_, N}} ->
            put_out(Report, N, S#state{logged = Logged#{Key := {Now, 0}}});
        _ ->
            Kept = case map_size(Logged) >= ?LOG_KEYS of
                       true -> maps:filter(fun(_, {T, _}) -> Now - T < ?LOG_WINDOW_MS end, Logged);
                       false -> Logged
                   end,
            New = case map_size(Kept) >= ?LOG_KEYS of
                      true -> #{Key => {Now, 0}};
                      false -> Kept#{Key => {Now, 0}}
                  end,
            put_out(Report, 0, S#state{logged = New})
    end.

%% Errors go out at once: the VM may be about to halt.
put_out({report, Level, _, _, _, _} = Report, Suppressed, #state{held = Held} = S) ->
    case Level =/= error andalso length(Held) < ?MAX_HELD andalso booting() of
        true ->
            Held =:= [] andalso erlang:send_after(?HOLD_MS, self(), flush_held),
            S#state{held = [{Report, Suppressed} | Held]};
        false ->
            write(Report, Suppressed),
            S
    end.

%% The handler of early boot is still there.
booting() ->
    lists:member(simple, logger:get_handler_ids()).

text(Data) ->
    case unicode:characters_to_binary(Data) of
        Bin when is_binary(Bin) -> Bin;
        _ -> iolist_to_binary(io_lib:format("~tp", [Data]))
    end.
