%% SPDX-License-Identifier: Apache-2.0
%% Loads the port driver, opens its ports, and wraps the node port's own commands. The others:
%% barrel_p2p_drv_conn      connections         barrel_p2p_drv_streams   user streams, tags
%% barrel_p2p_drv_path      paths, routes       barrel_p2p_drv_files     endpoint files
%% barrel_p2p_drv_keys      keys, certificate   barrel_p2p_drv_dns       DNS
%% barrel_p2p_drv_member    membership
%% Only these modules and barrel_p2p_relay know the commands' numbers.
%%
%% Works at early boot: no file server, no code outside kernel and stdlib. Every wrapper returns
%% `{ok, Result}' or `{error, {Err, Text}}': Err is an atom of the driver's fixed table, Text one
%% sentence for people. A port that is gone gives `{error, {closed, Text}}'.
-module(barrel_p2p_drv).

-export([load/0, library/0]).
-export([open_node/0, open_connect/0, open_attach/1, hand_over/2, close/1]).
-export([config/1, listen/0, detach/1, stats/0]).

-import(barrel_p2p_drv_ctl, [node_control/2, ok/1, counters/1, tlv/2, encode/2]).

-export_type([error/0, config/0]).

-type error() :: {error, {Err :: atom(), Text :: binary()}}.
-type config() :: [{atom(), iodata() | integer() | boolean()}].

-define(DRIVER, "barrel_p2p_drv").
-define(NODE_PORT, barrel_p2p_node_port).

-define(OP_CONFIG, 1).
-define(OP_LISTEN, 2).
-define(OP_DETACH, 3).
-define(OP_STATS, 4).

%% --- loading -----------------------------------------------------------------

%% Loads the driver for the calling process: it stays loaded while that process lives (or a port
%% of it is open), so the caller is the process that owns the node port.
-spec load() -> ok | error().
load() ->
    case library() of
        {ok, Dir} ->
            case erl_ddll:load(Dir, ?DRIVER) of
                ok -> barrel_p2p_nif:load(filename:join(Dir, ?DRIVER));
                {error, Desc} -> {error, {driver_not_loaded, load_text(Dir, Desc)}}
            end;
        {error, _} = Error ->
            Error
    end.

load_text(Dir, Desc) ->
    unicode:characters_to_binary(
        ["cannot load ", filename:join(Dir, ?DRIVER ".so"), ": ",
         erl_ddll:format_error(Desc), "; build it with `make driver' for this Erlang/OTP and "
         "install the packages that `make deps' names"]).

%% The directory that holds the driver: priv/ beside the ebin/ that this module was loaded from,
%% whatever the application's directory is called.
-spec library() -> {ok, file:filename()} | error().
library() ->
    case [Dir || Ebin <- ebin_dirs(), Dir <- [filename:join(filename:dirname(Ebin), "priv")],
                 is_file(filename:join(Dir, ?DRIVER ".so"))] of
        [Dir | _] ->
            {ok, Dir};
        [] ->
            Looked = lists:join(", ", [filename:dirname(E) ++ "/priv" || E <- ebin_dirs()]),
            {error, {driver_not_found,
                     unicode:characters_to_binary(
                         ["there is no " ?DRIVER ".so in ", Looked, "; run `make'"])}}
    end.

ebin_dirs() ->
    Loaded = case code:which(?MODULE) of
                 File when is_list(File), File =/= [] -> [filename:dirname(File)];
                 _ -> []        % cover compiled: look where the code path has it
             end,
    Beam = atom_to_list(?MODULE) ++ ".beam",
    InPath = case Loaded of
                 [] -> [D || D <- code:get_path(), is_file(filename:join(D, Beam))];
                 _ -> []
             end,
    [absolute(D) || D <- Loaded ++ InPath].

%% filename:absname/1 asks the file server, which is not there yet at boot.
absolute(Dir) ->
    case prim_file:get_cwd() of
        {ok, Cwd} -> filename:absname(Dir, Cwd);
        _ -> Dir
    end.

is_file(Name) ->
    case prim_file:read_file_info(Name) of
        {ok, _} -> true;
        {error, _} -> false
    end.

%% --- ports -------------------------------------------------------------------

%% Opens and registers the node port; the caller owns it and gets `{Port, {incoming, Id}}' and
%% `{Port, {log, Level, Event, Peer, Text}}'.
-spec open_node() -> {ok, port()} | error().
open_node() ->
    case open(?DRIVER " node") of
        {ok, Port} ->
            try register(?NODE_PORT, Port) of
                true -> {ok, Port}
            catch
                error:badarg ->
                    close(Port),
                    {error, {already_started, <<"another process owns the node port">>}}
            end;
        {error, _} = Error ->
            Error
    end.

%% A port for one connection that we dial; connect/5 comes next.
-spec open_connect() -> {ok, port()} | error().
open_connect() ->
    open(?DRIVER " connect").

%% A port for the accepted connection Id; detach/1 came before.
-spec open_attach(non_neg_integer()) -> {ok, port()} | error().
open_attach(Id) ->
    open(?DRIVER " attach " ++ integer_to_list(Id)).

open(Command) ->
    try open_port({spawn_driver, Command}, [binary]) of
        Port -> {ok, Port}
    catch
        error:Reason ->
            {error, {port_failed, unicode:characters_to_binary(
                                      io_lib:format("open_port ~ts: ~tp", [Command, Reason]))}}
    end.

%% Closes a port of ours, gone or not, and forgets its messages and its exit signal.
-spec close(port()) -> ok.
close(Port) ->
    unlink(Port),
    try port_close(Port)
    catch error:badarg -> ok
    end,
    flush(Port).

%% Makes Pid the owner of a port of ours, which may be gone, and lets go of it. Its messages so far
%% stay in the mailbox.
-spec hand_over(port(), pid()) -> ok.
hand_over(Port, Pid) ->
    try port_connect(Port, Pid)
    catch error:badarg -> ok
    end,
    unlink(Port),
    ok.

flush(Port) ->
    receive
        {Port, _} -> flush(Port);
        {'EXIT', Port, _} -> flush(Port)
    after 0 -> ok
    end.

%% --- the node port -----------------------------------------------------------

%% Applies the settings (see config_key/1 for names and units); again at run time for those that
%% may change. Result: our own key's fingerprint as text.
-spec config(config()) -> {ok, Fingerprint :: binary()} | error().
config(Settings) ->
    node_control(?OP_CONFIG, [config_item(K, V) || {K, V} <- Settings]).

config_item(Key, Value) ->
    {Number, Type} = config_key(Key),
    tlv(Number, encode(Type, Value)).

config_key(node_name) -> {1, text};
config_key(cert_file) -> {2, text};
config_key(key_file) -> {3, text};
config_key(key_dir) -> {4, text};
config_key(key_dir_explicit) -> {5, bool};
config_key(trust_mode) -> {6, u8};                 % 0 tofu, 1 strict
config_key(auth_mode) -> {7, u8};                  % 0 none, 1 built-in, 2 external callback
config_key(handshake_timeout_ms) -> {8, u32};
config_key(timestamp_window_ms) -> {9, u32};
config_key(cookie_only) -> {10, text};             % repeatable
config_key(dist_streams) -> {11, u8};
config_key(max_frame_bytes) -> {12, u64};
config_key(bind_address) -> {13, text};
config_key(port) -> {14, u16};
config_key(family) -> {15, u8};                    % 0 auto, 4, 6
config_key(keepalive_ms) -> {16, u32};
config_key(idle_timeout_ms) -> {17, u32};
config_key(log_level) -> {18, u8};                 % 0 error .. 3 debug
config_key(max_datagram_bytes) -> {19, u16};
config_key(stream_preamble_timeout_ms) -> {30, u32};
config_key(no_migration) -> {31, bool}.

-spec listen() -> {ok, {inet:port_number(), Address :: string()}} | error().
listen() ->
    case node_control(?OP_LISTEN, <<>>) of
        {ok, <<Port:16, Addr/binary>>} -> {ok, {Port, binary_to_list(Addr)}};
        {error, _} = Error -> Error
    end.

-spec detach(non_neg_integer()) -> ok | error().
detach(Id) ->
    ok(node_control(?OP_DETACH, <<Id:32>>)).

%% The node's counters.
-spec stats() -> {ok, #{binary() => non_neg_integer()}} | error().
stats() ->
    counters(node_control(?OP_STATS, <<>>)).
