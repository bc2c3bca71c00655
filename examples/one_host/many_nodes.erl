%% SPDX-License-Identifier: Apache-2.0
%% What each node of examples/one_host/many_nodes does: waits until discovery knows all of them, and
%% connects to those that it knows.
-module(many_nodes).

-export([start/1]).

start([N]) ->
    Others = list_to_integer(N) - 1,
    spawn(fun() ->
                  find(Others),
                  mark("found"),
                  connect(Others),
                  mark("ready")
          end).

%% Looking costs little: files that have not changed are not read again.
find(Others) ->
    case known() of
        List when length(List) > Others -> ok;
        _ -> timer:sleep(100), find(Others)
    end.

known() ->
    {ok, List} = barrel_p2p_discovery:list_nodes(net_adm:localhost()),
    [list_to_atom(Name) || {Name, _} <- List].

connect(Others) ->
    Up = nodes(connected),
    %% Of two nodes one dials: else half of the connections would be begun twice.
    lists:foreach(fun net_kernel:connect_node/1,
                  [Node || Node <- known(), Node > node(), not lists:member(Node, Up)]),
    case length(nodes(connected)) of
        Others -> ok;
        _ -> timer:sleep(100), connect(Others)
    end.

mark(Dir) ->
    ok = file:write_file(filename:join(Dir, atom_to_list(node())), "").
