%% SPDX-License-Identifier: Apache-2.0
%% Finds nodes: asks a chain of backends, each within a time limit, and keeps their answers.
%%
%% The chain is `{barrel_p2p, [{discovery_backends, [Module | {Module, Opts}]}]}', default static
%% entries, files, DNS; it is read at each call. Backends have the behaviour quic_discovery;
%% `{quic, [{dist, [{discovery_module, Module}]}]}' replaces the whole chain by one.
%%
%% Our own static and file backends are asked directly and never kept: they keep to the limit themselves
%% and cost no more than a look into the cache. All others run in a process of their own.
-module(barrel_p2p_discovery).

%% The chain, also as a discovery module of others.
-export([init/1, register/3, unregister/2, lookup/2, lookup_all/2, list_nodes/1]).
%% For the other modules of the carrier.
-export([publish/2, withdraw/2, find/2, forget/2, all_nodes/1, ask_each/2]).
-export([create_table/0, bounded/2, cached/3, parallel/1, flag_hung/1, clear_hung/1]).

-export_type([address/0, host/0]).

-type host() :: string() | binary() | atom() | inet:ip_address().
-type address() :: {host(), inet:port_number()}.
-type backend() :: {module(), Opts :: term()}.

-define(TABLE, ?MODULE).
-define(LOCAL(M), (M =:= barrel_p2p_discovery_static orelse M =:= barrel_p2p_discovery_file)).
-define(CACHE_MAX, 4096).
%% A backend that has hung is left out for so long: else each dial would wait for it.
-define(PAUSE_MS, 5000).
%% When what could not be registered is tried again; twice as long after each failure.
-define(REGISTER_AGAIN_MS, 2000).
-define(REGISTER_AGAIN_MAX_MS, 60000).
%% No answer is kept longer.
-define(MAX_TTL_MS, 86400000).

%% --- the chain as a discovery module -------------------------------------------

-spec init(term()) -> {ok, map()}.
init(_Opts) ->
    {ok, #{}}.

%% Registers with every backend that can, and waits for them; one that fails is logged and tried again.
-spec register(string() | node(), inet:port_number(), term()) -> {ok, term()}.
register(Node, Port, State) ->
    _ = each(fun(B) -> register_with(B, to_list(Node), Port) end, backends()),
    {ok, State}.

-spec unregister(string() | node(), inet:port_number()) -> ok.
unregister(Node, Port) ->
    _ = each(fun(B) -> unregister_with(B, to_list(Node), Port) end, backends()),
    ok.

%% The first backend that knows the node wins.
-spec lookup(string() | node(), host()) -> {ok, address()} | {error, not_found}.
lookup(Node, Host) ->
    case lookup_all(Node, Host) of
        {ok, [Address | _]} -> {ok, Address};
        {error, _} = Error -> Error
    end.

-spec lookup_all(string() | node(), host()) -> {ok, [address(), ...]} | {error, not_found}.
lookup_all(Node, Host) ->
    lookup_chain(backends(), to_list(Node), to_list(Host)).

%% What all backends know, whatever the host unless a backend minds it.
-spec list_nodes(host()) -> {ok, [{string(), inet:port_number()}]}.
list_nodes(Host) ->
    {ok, list_chain(backends(), to_list(Host))}.

%% --- through the configured module -----------------------------------------------

%% Makes Node known; what fails is logged and tried again. Only our own backends are waited for: net_kernel calls this.
-spec publish(string(), inet:port_number()) -> ok.
publish(Node, Port) ->
    {Local, Others} = lists:partition(fun({M, _}) -> ?LOCAL(M) end, chain()),
    lists:foreach(fun(B) -> register_with(B, Node, Port) end, Local),
    lists:foreach(fun(B) -> spawn(fun() -> register_with(B, Node, Port) end) end, Others).

%% Takes Node away again where the entry still has this port.
-spec withdraw(string(), inet:port_number()) -> ok.
withdraw(Node, Port) ->
    _ = each(fun(B) -> unregister_with(B, Node, Port) end, chain()),
    ok.

%% The addresses of Node in the order in which to try them.
-spec find(string(), string()) -> [address()].
find(Node, Host) ->
    case lookup_chain(chain(), Node, Host) of
        {ok, Addresses} -> Addresses;
        {error, not_found} -> []
    end.

%% What was kept about Node and about hosts with one of these addresses: a dial has failed.
-spec forget(string(), [inet:ip_address()]) -> ok.
forget(Node, Ips) ->
    try ets:foldl(fun(Entry, Acc) -> [element(1, Entry) || is_about(Entry, Node, Ips)] ++ Acc end,
                  [], ?TABLE) of
        Keys -> lists:foreach(fun(Key) -> ets:delete(?TABLE, Key) end, Keys)
    catch
        error:badarg -> ok
    end.

is_about({{lookup, _, Node}, _, _}, Node, _) -> true;
is_about({{addresses, _, _}, {ok, Of, _}, _}, _, Ips) -> lists:any(fun(Ip) -> lists:member(Ip, Of) end, Ips);
is_about(_, _, _) -> false.

-spec all_nodes(string()) -> [{string(), inet:port_number()}].
all_nodes(Host) ->
    list_chain(chain(), Host).

%% What each backend of the chain says about Node, and after how many microseconds; nothing is taken
%% from the cache.
-spec ask_each(string(), string()) ->
          [{module(), {ok, [address(), ...]} | {error, term()}, non_neg_integer()}].
ask_each(Node, Host) ->
    [begin
         Start = erlang:monotonic_time(microsecond),
         Answer = case ask(B, lookup_fun(B, Node, Host)) of
                      {ok, Found, _} -> {ok, Found};
                      {error, _} = Error -> Error
                  end,
         {M, Answer, erlang:monotonic_time(microsecond) - Start}
     end || {M, _} = B <- chain()].

%% --- backends ------------------------------------------------------------------

-spec backends() -> [backend()].
backends() ->
    [case B of
         {Module, Opts} -> {Module, Opts};
         Module -> {Module, #{}}
     end || B <- barrel_p2p_config:get(discovery_backends)].

-spec chain() -> [backend()].
chain() ->
    case barrel_p2p_config:discovery_module() of
        ?MODULE -> backends();
        Module -> [{Module, #{}}]
    end.

register_with({Module, _} = B, Node, Port) ->
    case try_register(B, Node, Port) of
        ok ->
            ok;
        {error, Reason} ->
            barrel_p2p_node:report(warning, discovery_register_failed, Node, Module,
                                   ["other nodes may not find this one, it is tried again: ",
                                    reason_text(Reason)]),
            _ = spawn(fun() -> register_later(B, Node, Port, ?REGISTER_AGAIN_MS) end),
            ok
    end.

try_register({Module, _} = B, Node, Port) ->
    case exports(Module, register, 3) of
        true ->
            case ask(B, fun(State) -> Module:register(name(Module, Node), Port, State) end) of
                {ok, State} -> put_state(B, State), ok;
                {error, Reason} -> {error, Reason};
                Other -> {error, {bad_answer, Other}}
            end;
        false ->
            ok
    end.

%% A disk that was full has room again, a server is back: until it succeeds, while this node has that
%% name and port.
register_later({Module, _} = B, Node, Port, Ms) ->
    timer:sleep(Ms),
    case {barrel_p2p_node:listen_info(), barrel_p2p_node:node_name()} of
        {{ok, {Port, _}}, Node} ->
            case try_register(B, Node, Port) of
                ok ->
                    barrel_p2p_node:report(notice, discovery_registered, Node, Module,
                                           <<"other nodes can find this one now">>);
                {error, _} ->
                    register_later(B, Node, Port, min(2 * Ms, ?REGISTER_AGAIN_MAX_MS))
            end;
        _ ->
            ok
    end.

unregister_with({Module, _} = B, Node, Port) ->
    case exports(Module, unregister, 2) of
        true ->
            case ask(B, fun(_) -> Module:unregister(name(Module, Node), Port) end) of
                ok -> ok;
                Other -> complain(Module, Other)
            end;
        false ->
            ok
    end.

lookup_chain([], _Node, _Host) ->
    {error, not_found};
lookup_chain([{Module, _} = B | Rest], Node, Host) ->
    Ask = fun() -> ask(B, lookup_fun(B, Node, Host)) end,
    Answer = case ?LOCAL(Module) of
                 true -> Ask();
                 false -> cached({lookup, Module, Node}, Ask,
                                 fun(Error) -> complain(Module, Error) end)
             end,
    case Answer of
        {ok, Found, _} ->
            {ok, Found};
        {error, {Err, Text}} when Module =:= barrel_p2p_discovery_file, is_binary(Text) ->
            %% Bad files and directories that hang were reported once. The next backend may know better.
            lists:member(Err, [file_error, hung, timeout]) orelse complain(Module, {error, {Err, Text}}),
            lookup_chain(Rest, Node, Host);
        Error ->
            _ = ?LOCAL(Module) andalso complain(Module, Error),
            lookup_chain(Rest, Node, Host)
    end.

%% The result is {ok, Addresses, Seconds} or an error.
lookup_fun({Module, _}, Node, Host) ->
    Function = case exports(Module, lookup_all, 2) of
                   true -> lookup_all;
                   false -> lookup
               end,
    fun(_State) -> found(Module:Function(name(Module, Node), Host)) end.

found({ok, Found}) -> found({ok, Found, 0});
found({ok, {_, _} = Address, Ttl}) -> found({ok, [Address], Ttl});
found({ok, [_ | _] = List, Ttl} = Found) when is_integer(Ttl), Ttl >= 0 ->
    case lists:all(fun is_address/1, List) of
        true -> Found;
        false -> {error, {bad_answer, List}}
    end;
found({ok, [], _}) -> {error, not_found};
found({error, _} = Error) -> Error;
found(Other) -> {error, {bad_answer, Other}}.

is_address({Host, Port}) when is_integer(Port), Port > 0, Port < 65536 ->
    if
        is_tuple(Host) -> inet:ntoa(Host) =/= {error, einval};
        is_binary(Host) -> Host =/= <<>>;
        is_list(Host) -> Host =/= [] andalso io_lib:latin1_char_list(Host);
        true -> is_atom(Host)
    end;
is_address(_) ->
    false.

list_chain(Backends, Host) ->
    lists:usort(lists:append(each(fun(B) -> list_in(B, Host) end, Backends))).

list_in({Module, _} = B, Host) ->
    case exports(Module, list_nodes, 1) of
        true ->
            case ask(B, fun(_) -> Module:list_nodes(Host) end) of
                {ok, List} when is_list(List) ->
                    [{to_list(N), P} || {N, P} <- List, is_integer(P),
                                        is_atom(N) orelse is_list(N) orelse is_binary(N)];
                Other ->
                    complain(Module, Other),
                    []
            end;
        false ->
            []
    end.

%% Upstream's backends get the node as an atom.
name(Module, Node) when ?LOCAL(Module) -> Node;
name(barrel_p2p_discovery_dns, Node) -> Node;
name(_, Node) -> list_to_atom(Node).

%% --- one call ------------------------------------------------------------------

%% Fun(State) with the backend's state, within the limit. {error, {hung | crashed | paused | _, _}}.
ask({Module, _} = B, Fun) when ?LOCAL(Module) ->
    run(fun() -> in_state(B, Fun) end);
ask({Module, _} = B, Fun) ->
    case pause_left(Module) of
        true ->
            {error, paused};
        false ->
            case bounded(barrel_p2p_config:get(discovery_timeout), fun() -> in_state(B, Fun) end) of
                {error, {hung, _}} = Error ->
                    pause(Module),
                    Error;
                Result ->
                    Result
            end
    end.

in_state({Module, Opts} = B, Fun) ->
    case get_state(B) of
        {ok, State} ->
            Fun(State);
        none ->
            case exports(Module, init, 1) of
                true ->
                    case Module:init(Opts) of
                        {ok, State} ->
                            put_state(B, State),
                            Fun(State);
                        Other ->
                            {error, {init_failed, Other}}
                    end;
                false ->
                    Fun(undefined)
            end
    end.

%% Runs Fun in a process that is killed after Limit ms, whatever becomes of the caller.
-spec bounded(pos_integer(), fun(() -> T)) -> T | {error, {hung, pos_integer()} | {crashed, term()}}.
bounded(Limit, Fun) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({?MODULE, guard(Limit, Fun)}) end),
    receive
        {'DOWN', Ref, process, Pid, {?MODULE, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> {error, {crashed, Reason}}
    end.

guard(Limit, Fun) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({?MODULE, run(Fun)}) end),
    receive
        {'DOWN', Ref, process, Pid, {?MODULE, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> {error, {crashed, Reason}}
    after Limit ->
        exit(Pid, kill),
        {error, {hung, Limit}}
    end.

run(Fun) ->
    try Fun()
    catch
        Class:Reason -> {error, {crashed, {Class, Reason}}}
    end.

%% Fun for every backend: ours here, others at the same time, so that they take one limit together.
each(Fun, Backends) ->
    Jobs = [case ?LOCAL(M) of
                true -> {done, Fun(B)};
                false -> spawn_monitor(fun() -> exit({?MODULE, Fun(B)}) end)
            end || {M, _} = B <- Backends],
    [case Job of
         {done, Result} -> Result;
         {Pid, Ref} ->
             receive
                 {'DOWN', Ref, process, Pid, {?MODULE, Result}} -> Result;
                 {'DOWN', Ref, process, Pid, _} -> []
             end
     end || Job <- Jobs].

%% The results of all of Funs, which run at the same time.
-spec parallel([fun(() -> T)]) -> [T | {error, {crashed, term()}}].
parallel(Funs) ->
    Jobs = [spawn_monitor(fun() -> exit({?MODULE, run(F)}) end) || F <- Funs],
    [receive
         {'DOWN', Ref, process, Pid, {?MODULE, Result}} -> Result;
         {'DOWN', Ref, process, Pid, Reason} -> {error, {crashed, Reason}}
     end || {Pid, Ref} <- Jobs].

%% One log line for a backend that failed; a node that it does not know is no failure.
complain(_, {error, not_found}) -> ok;
complain(_, {error, paused}) -> ok;
complain(Module, {error, {Why, _} = Reason}) ->
    report(Module, Why, reason_text(Reason));
complain(Module, {error, Reason}) ->
    report(Module, failed, reason_text(Reason));
complain(Module, Other) ->
    report(Module, bad_answer, reason_text({bad_answer, Other})).

report(Module, Why, Text) ->
    barrel_p2p_node:report(warning, discovery_failed, atom_to_list(Module), Why,
                           ["left out: ", Text]).

reason_text({hung, Ms}) ->
    io_lib:format("no answer within ~b ms (discovery_timeout), not asked again for ~b ms",
                  [Ms, ?PAUSE_MS]);
reason_text({crashed, Reason}) ->
    io_lib:format("it crashed: ~tp", [Reason]);
reason_text({bad_answer, Answer}) ->
    io_lib:format("it gave what no backend may give: ~tp", [Answer]);
reason_text({_, Text}) when is_binary(Text) -> Text;
reason_text(Reason) -> io_lib:format("~tp", [Reason]).

exports(Module, Function, Arity) ->
    _ = code:ensure_loaded(Module),
    erlang:function_exported(Module, Function, Arity).

%% --- what is remembered ----------------------------------------------------------

%% Called by the process that owns the node port; without it nothing is kept.
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

%% The kept answer for Key, or Ask's, which is kept as long as it says: {ok, Value, Seconds} or
%% {error, _}. Failed is called with a new error.
-spec cached(tuple(), fun(() -> R), fun((R) -> _)) -> R when R :: {ok, term(), term()} | {error, term()}.
cached(Key, Ask, Failed) ->
    Now = erlang:monotonic_time(millisecond),
    case read(Key) of
        [{_, Value, Until}] when Now < Until ->
            Value;
        _ ->
            Value = Ask(),
            Ms = case Value of
                     {ok, _, infinity} -> 0;
                     {ok, _, Seconds} -> min(Seconds * 1000, ?MAX_TTL_MS);
                     {error, paused} -> 0;
                     {error, _} ->
                         Failed(Value),
                         barrel_p2p_config:get(discovery_negative_ttl)
                 end,
            Ms > 0 andalso write({Key, Value, erlang:monotonic_time(millisecond) + Ms}),
            Value
    end.

get_state({Module, Opts}) ->
    case read({state, Module}) of
        [{_, Opts, State}] -> {ok, State};
        _ -> none
    end.

put_state({Module, Opts}, State) ->
    write({{state, Module}, Opts, State}).

%% True for the first to say that Dir hangs; true for the first to say that it does not any more.
-spec flag_hung(file:filename()) -> boolean().
flag_hung(Dir) ->
    try ets:insert_new(?TABLE, {{hung, Dir}, true, true})
    catch error:badarg -> true
    end.

-spec clear_hung(file:filename()) -> boolean().
clear_hung(Dir) ->
    read({hung, Dir}) =/= [] andalso ets:take(?TABLE, {hung, Dir}) =/= [].

pause(Module) ->
    write({{paused, Module}, true, erlang:monotonic_time(millisecond) + ?PAUSE_MS}).

pause_left(Module) ->
    case read({paused, Module}) of
        [{_, _, Until}] -> erlang:monotonic_time(millisecond) < Until;
        [] -> false
    end.

read(Key) ->
    try ets:lookup(?TABLE, Key)
    catch error:badarg -> []
    end.

write(Entry) ->
    try
        ets:info(?TABLE, size) < ?CACHE_MAX orelse make_room(),
        ets:insert(?TABLE, Entry),
        ok
    catch
        error:badarg -> ok
    end.

%% All answers go: which ones are old does not matter at that size.
make_room() ->
    ets:match_delete(?TABLE, {{lookup, '_', '_'}, '_', '_'}),
    ets:match_delete(?TABLE, {{addresses, '_', '_'}, '_', '_'}),
    ets:match_delete(?TABLE, {{srv, '_', '_'}, '_', '_'}).

to_list(V) when is_atom(V) -> atom_to_list(V);
to_list(V) when is_binary(V) -> binary_to_list(V);
to_list(V) when is_tuple(V) -> inet:ntoa(V);
to_list(V) -> V.
