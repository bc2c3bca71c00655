%% SPDX-License-Identifier: Apache-2.0
%% Hundreds of links or monitors between two nodes, each of which must fire once, with its reason.
%% Runs in the nodes.
-module(bp_signals).

-export([start/3, ask/2]).
-export([owner/4, victims/1, victim/1]).

-include("bp_test.hrl").

%% A process with N links or monitors to processes in Node.
start(Node, Kind, N) ->
    Pid = spawn(?MODULE, owner, [self(), Node, Kind, N]),
    receive {Pid, ready} -> Pid end.

%% `{add, N}': so many more. `fired': those that have fired. `{finish, Share}': one of so many ends
%% now, 1: all that are left. `result': once all that were ended have fired, how many; fails if one
%% fired twice, or another, or with another reason.
ask(Owner, What) ->
    M = monitor(process, Owner),
    Owner ! {What, self(), M},
    receive
        {M, Answer} -> demonitor(M, [flush]), Answer;
        {'DOWN', M, process, _, Reason} -> error({owner, Reason})
    after ?LONG -> error({owner_silent, process_info(Owner, [current_stacktrace])})
    end.

%% @private
owner(Parent, Node, Kind, N) ->
    process_flag(trap_exit, true),
    Alive = set(Node, Kind, N, #{}),
    Parent ! {self(), ready},
    owner(Node, Kind, Alive, #{}, #{}).

%% Alive: #{Pid => Number}, Ending: those told to, Fired: numbers.
owner(Node, Kind, Alive, Ending, Fired) ->
    receive
        {{add, N}, From, Tag} ->
            From ! {Tag, ok},
            owner(Node, Kind, set(Node, Kind, N, Alive), Ending, Fired);
        {fired, From, Tag} ->
            From ! {Tag, maps:keys(Fired)},
            owner(Node, Kind, Alive, Ending, Fired);
        {{finish, Share}, From, Tag} ->
            Chosen = maps:filter(fun(_, No) -> No rem Share =:= 0 end, Alive),
            [Pid ! {bye, No} || {Pid, No} <- maps:to_list(Chosen)],
            From ! {Tag, ok},
            owner(Node, Kind, maps:without(maps:keys(Chosen), Alive), maps:merge(Ending, Chosen),
                  Fired);
        {result, From, Tag} when map_size(Fired) =:= map_size(Ending) ->
            %% what fires twice does so before the answer to this comes
            {} = erpc:call(Node, erlang, list_to_tuple, [[]]),
            receive
                {Down, _, _} = M when Down =:= 'EXIT' -> exit({twice, M});
                {'DOWN', _, _, _, _} = M -> exit({twice, M})
            after 0 -> From ! {Tag, map_size(Fired)}
            end,
            owner(Node, Kind, Alive, Ending, Fired);
        {'EXIT', Pid, Reason} when Kind =:= link ->
            owner(Node, Kind, Alive, Ending, fire(Pid, Reason, Ending, Fired));
        {'DOWN', _, process, Pid, Reason} when Kind =:= monitor ->
            owner(Node, Kind, Alive, Ending, fire(Pid, Reason, Ending, Fired))
    end.

fire(Pid, Reason, Ending, Fired) ->
    case Ending of
        #{Pid := No} when is_map_key(No, Fired) -> exit({twice, No, Reason});
        #{Pid := No} when Reason =:= {bye, No} -> Fired#{No => fired};
        _ -> exit({wrong, Pid, Reason})
    end.

set(Node, Kind, N, Alive) ->
    First = map_size(Alive),
    Pids = erpc:call(Node, ?MODULE, victims, [N]),
    [case Kind of
         link -> link(Pid);
         monitor -> monitor(process, Pid)
     end || Pid <- Pids],
    maps:merge(Alive, maps:from_list(lists:zip(Pids, lists:seq(First + 1, First + N)))).

%% @private
victims(N) ->
    [spawn(?MODULE, victim, [none]) || _ <- lists:seq(1, N)].

%% @private
victim(_) ->
    receive {bye, _} = Reason -> exit(Reason) end.
