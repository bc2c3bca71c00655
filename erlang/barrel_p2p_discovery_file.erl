%% SPDX-License-Identifier: Apache-2.0
%% Discovery by files: `<dir>/<node>.endpoint' holds `{"host": "...", "port": N}', or `{"host",Port}.'
%% as upstream 0.1.0 has it (WIRE 9). Both are read; `{barrel_p2p, [{discovery_file_format, json |
%% term}]}' says which is written.
%%
%% Nodes of one user on one machine find each other with no configuration, started in the same
%% directory or not, because they use two places:
%%
%%   1. data/discovery in the working directory of the boot, which can be shared between machines;
%%   2. the user's runtime directories: $XDG_RUNTIME_DIR/barrel_p2p (if that variable names a
%%      directory of ours) and /tmp/barrel_p2p-<uid>. They are created with mode 0700 and used only
%%      if they are directories (no links) that belong to us and that nobody else can enter.
%%
%% A node is written to all of them and looked up in that order; every address found is tried, so a
%% file that a killed node left behind costs one refused dial. Files are removed at a clean stop.
%% `{barrel_p2p, [{discovery_dir, Dir}]}' replaces 1 and switches 2 off;
%% `{barrel_p2p, [{runtime_dir, Dir | none}]}' replaces 2 or switches it off.
-module(barrel_p2p_discovery_file).
-behaviour(quic_discovery).

-export([init/1, register/3, unregister/2, unregister/1, lookup/2, lookup_all/2, list_nodes/1]).
-export([directories/0]).

-include_lib("kernel/include/file.hrl").
-include("barrel_p2p.hrl").

-spec init(map()) -> {ok, undefined}.
init(_Opts) ->
    {ok, undefined}.

%% Writes the file in all directories; an error only if none could be written.
-spec register(string() | node(), inet:port_number(), term()) -> {ok, term()} | {error, term()}.
register(Node, Port, State) ->
    Name = to_list(Node),
    _ = barrel_p2p_node:ensure_started(),
    Format = barrel_p2p_config:get(discovery_file_format),
    Addresses = barrel_p2p_config:advertised(public_host(Name), Port),
    Results = in_directories(fun(Dir) -> {write, Dir, Name, Addresses, Format} end),
    case {lists:member(ok, Results), Results} of
        {true, _} -> {ok, State};
        {false, [Error | _]} -> Error;
        {false, []} -> {ok, State}
    end.

%% The results of Request(Dir) for all directories, at the same time and within `discovery_timeout': a
%% mount may hang, and holds nobody up for longer, and the driver refuses to wait for it again until it
%% comes back. One line says so, another one that it is back.
in_directories(Request) ->
    Dirs = directories(),
    Limit = barrel_p2p_config:get(discovery_timeout),
    Results = barrel_p2p_drv_files:run([Request(Dir) || Dir <- Dirs], Limit),
    lists:foreach(fun({Dir, Result}) -> note_hung(Dir, Result, Limit) end, lists:zip(Dirs, Results)),
    Results.

note_hung(Dir, {error, {hung, _}}, Limit) ->
    barrel_p2p_discovery:flag_hung(Dir) andalso
        barrel_p2p_node:report(
          warning, discovery_dir_hung, <<"any">>, Dir,
          io_lib:format("the directory did not answer within ~b ms (discovery_timeout), so what it says "
                        "about nodes is not known and what this node has to say may not be there; it is "
                        "left out until it answers again", [Limit]));
note_hung(_, {error, {timeout, _}}, _) ->
    ok;
note_hung(Dir, _, _) ->
    barrel_p2p_discovery:clear_hung(Dir) andalso
        barrel_p2p_node:report(notice, discovery_dir_back, <<"any">>, Dir,
                               <<"the directory answers again">>).

%% The address that we are bound to, if it is a certain one; else the host part of our name.
public_host(Name) ->
    [_, Host] = string:split(Name, "@"),
    case barrel_p2p_node:listen_info() of
        {ok, {_, Any}} when Any =:= "0.0.0.0"; Any =:= "::"; Any =:= "" -> Host;
        {ok, {_, Address}} -> Address;
        undefined -> Host
    end.

%% Removes Node's files wherever they say what we wrote: others belong to another life of that node.
-spec unregister(string() | node(), inet:port_number()) -> ok.
unregister(Node, Port) ->
    [{_, Written} | _] = barrel_p2p_config:advertised("", Port),
    delete(to_list(Node), Written).

%% Removes Node's files whatever they say: for a node that is gone for good.
-spec unregister(string() | node()) -> ok.
unregister(Node) ->
    _ = barrel_p2p_node:ensure_started(),
    delete(to_list(Node), any).

delete(Name, Port) ->
    _ = in_directories(fun(Dir) -> {delete, Dir, Name, Port} end),
    ok.

-spec lookup(string() | node(), string()) -> {ok, {string(), inet:port_number()}} | {error, term()}.
lookup(Node, Host) ->
    case lookup_all(Node, Host) of
        {ok, [Address | _]} -> {ok, Address};
        {error, _} = Error -> Error
    end.

%% A file that cannot be read or parsed is an error only if no other directory knows the node.
-spec lookup_all(string() | node(), string()) ->
          {ok, [{string(), inet:port_number()}, ...]} | {error, not_found | {atom(), binary()}}.
lookup_all(Node, _Host) ->
    _ = barrel_p2p_node:ensure_started(),
    Name = to_list(Node),
    Results = in_directories(fun(Dir) -> {read, Dir, Name} end),
    Errors = [E || {error, {Err, _}} = E <- Results, Err =/= not_found],
    case {[A || {ok, List} <- Results, A <- List], Errors} of
        {[_ | _] = Addresses, _} -> {ok, in_order(Addresses, [])};
        {[], [Error | _]} -> Error;
        {[], []} -> {error, not_found}
    end.

in_order([], Seen) -> lists:reverse(Seen);
in_order([A | Rest], Seen) ->
    case lists:member(A, Seen) of
        true -> in_order(Rest, Seen);
        false -> in_order(Rest, [A | Seen])
    end.

-spec list_nodes(string()) -> {ok, [{string(), inet:port_number()}]}.
list_nodes(_Host) ->
    _ = barrel_p2p_node:ensure_started(),
    {ok, lists:usort([{Node, Port} || {ok, List} <- in_directories(fun(Dir) -> {list, Dir} end),
                                      {Node, _, Port} <- List])}.

%% The directories in use, in the order of lookup. Worked out again when what they follow from has
%% changed; a runtime directory that could not be used is looked at each time.
-spec directories() -> [file:filename()].
directories() ->
    Source = {application:get_env(barrel_p2p, discovery_dir),
              application:get_env(barrel_p2p, runtime_dir), os:getenv("XDG_RUNTIME_DIR")},
    case persistent_term:get({?MODULE, directories}, undefined) of
        {Source, Dirs} ->
            Dirs;
        _ ->
            Dirs = directories(element(1, Source)),
            length(Dirs) > 1 andalso persistent_term:put({?MODULE, directories}, {Source, Dirs}),
            Dirs
    end.

directories({ok, Dir}) ->
    [barrel_p2p_config:absolute(Dir) | configured_runtime([])];
directories(undefined) ->
    [barrel_p2p_config:absolute(?BP_DEFAULT_DISCOVERY_DIR)
     | configured_runtime(default_runtime())].

configured_runtime(Default) ->
    case application:get_env(barrel_p2p, runtime_dir) of
        {ok, none} -> [];
        {ok, Dir} -> private_dir(barrel_p2p_config:absolute(Dir), own_uid());
        undefined -> Default
    end.

default_runtime() ->
    case own_uid() of
        undefined ->
            [];
        Uid ->
            xdg_dir(os:getenv("XDG_RUNTIME_DIR"), Uid)
                ++ private_dir("/tmp/barrel_p2p-" ++ integer_to_list(Uid), Uid)
    end.

xdg_dir("/" ++ _ = Dir, Uid) ->
    Ours = filename:join(Dir, "barrel_p2p"),
    case persistent_term:get({?MODULE, private_dir, Ours}, undefined) of
        undefined ->
            case prim_file:read_file_info(Dir) of
                {ok, #file_info{type = directory, uid = Uid}} -> private_dir(Ours, Uid);
                _ -> []
            end;
        Found ->
            Found
    end;
xdg_dir(_, _) ->
    [].

%% [Dir] if it is ours alone, made if need be; else [].
%% A directory that was found to be ours stays ours (mode 0700, and /tmp is sticky), so it is looked at
%% once: file operations of the VM cost a connect more than everything else in discovery.
private_dir(_Dir, undefined) ->
    [];
private_dir(Dir, Uid) ->
    Key = {?MODULE, private_dir, Dir},
    case persistent_term:get(Key, undefined) of
        undefined ->
            Found = check_private_dir(Dir, Uid),
            Found =:= [] orelse persistent_term:put(Key, Found),
            Found;
        Found ->
            Found
    end.

check_private_dir(Dir, Uid) ->
    %% never for everybody, not even for a moment: other nodes boot as well, and refuse such a one
    prim_file:read_link_info(Dir) =:= {error, enoent} andalso
        barrel_p2p_nif:make_private_dir(unicode:characters_to_binary([Dir, 0])),
    case prim_file:read_link_info(Dir) of
        {ok, #file_info{type = directory, uid = Uid, mode = Mode}} when Mode band 8#077 =:= 0 ->
            [Dir];
        {ok, _} ->
            barrel_p2p_node:report(
              warning, runtime_dir_unsafe, <<"any">>, Dir,
              ["not used for discovery because it is not a directory of ours with mode 0700; "
               "remove it, or set {barrel_p2p, [{runtime_dir, Dir | none}]}"]),
            [];
        {error, _} ->
            []
    end.

%% The owner of /proc/self is the effective user of this process.
own_uid() ->
    Key = {?MODULE, own_uid},
    case persistent_term:get(Key, undefined) of
        undefined ->
            case prim_file:read_file_info("/proc/self") of
                {ok, #file_info{uid = Uid}} ->
                    persistent_term:put(Key, Uid),
                    Uid;
                {error, _} ->
                    undefined
            end;
        Uid ->
            Uid
    end.

to_list(V) when is_atom(V) -> atom_to_list(V);
to_list(V) when is_binary(V) -> binary_to_list(V);
to_list(V) -> V.
