%% SPDX-License-Identifier: Apache-2.0
%% Loads the port driver and wraps its control commands: the only module that knows their numbers.
%%
%% Works at early boot: no file server, no code outside kernel and stdlib. Every wrapper returns
%% `{ok, Result}' or `{error, {Err, Text}}': Err is an atom of the driver's fixed table, Text one
%% sentence for people. A port that is gone gives `{error, {closed, Text}}'.
-module(barrel_p2p_drv).

-export([load/0, library/0]).
-export([open_node/0, open_connect/0, open_attach/1, hand_over/2, close/1]).
-export([config/1, listen/0, detach/1, stats/0]).
-export([resolve_host/4, resolve_srv/4]).
-export([tls_ensure/3, dir_resolve/3]).
-export([trust_store/3, trust_store_if_new/3, trust_lookup/2, trust_delete/2, trust_list/1,
         fingerprint/1]).
-export([connect/6, peer/1, recv/1, send/2, tick/1, pre_nodeup/1, post_nodeup/1, getstat/1,
         setopts/2, getopts/2, conn_stats/1]).
-export([idle_ask/3, idle_answer/3, idle_close/1]).
-export([member_start/1, member_step/1, member_views/0, member_needs/1, member_stats/0,
         member_stop/0]).
-export([auth_send/3, auth_recv/1, auth_done/3, peer_certificate/1]).
-export([cert_info/2, rotate_cert/3, rotate_identity/3, server_binding/0]).
-export([keypair_ensure/1, keypair_save/3, keypair_new/0, public_key/1, sign/2, verify/3,
         random/1, name_match/2]).

%% For the other modules barrel_p2p_drv_* and barrel_p2p_relay.
-export([control/3, node_control/2, result/1]).

-export_type([error/0, config/0, dist_option/0]).

-type error() :: {error, {Err :: atom(), Text :: binary()}}.
-type config() :: [{atom(), iodata() | integer() | boolean()}].
-type dist_option() :: {priority | tos | recbuf | sndbuf, non_neg_integer()} | {nodelay, boolean()}.

-define(DRIVER, "barrel_p2p_drv").
-define(NODE_PORT, barrel_p2p_node_port).

-define(OP_CONFIG, 1).
-define(OP_LISTEN, 2).
-define(OP_DETACH, 3).
-define(OP_STATS, 4).
-define(OP_TLS_ENSURE, 9).
-define(OP_DIR_RESOLVE, 10).
-define(OP_TRUST_STORE, 11).
-define(OP_TRUST_STORE_IF_NEW, 12).
-define(OP_TRUST_LOOKUP, 13).
-define(OP_TRUST_DELETE, 14).
-define(OP_TRUST_LIST, 15).
-define(OP_FINGERPRINT, 16).
-define(OP_RESOLVE, 17).
-define(OP_CONNECT, 20).
-define(OP_PEER, 21).
-define(OP_RECV, 22).
-define(OP_PRE_NODEUP, 23).
-define(OP_POST_NODEUP, 24).
-define(OP_GETSTAT, 25).
-define(OP_SETOPTS, 26).
-define(OP_GETOPTS, 27).
-define(OP_AUTH_SEND, 28).
-define(OP_AUTH_RECV, 29).
-define(OP_PEERCERT, 30).
-define(OP_AUTH_DONE, 31).
-define(OP_CONN_STATS, 32).
-define(OP_CERT_INFO, 40).
-define(OP_ROTATE_CERT, 41).
-define(OP_ROTATE_IDENTITY, 42).
-define(OP_SERVER_BINDING, 43).
-define(OP_KEYPAIR_ENSURE, 44).
-define(OP_KEYPAIR_SAVE, 45).
-define(OP_KEYPAIR_NEW, 46).
-define(OP_PUBLIC_KEY, 47).
-define(OP_SIGN, 48).
-define(OP_VERIFY, 49).
-define(OP_RANDOM, 50).
-define(OP_NAME_MATCH, 51).
-define(OP_MEMBER_START, 60).
-define(OP_MEMBER_STEP, 61).
-define(OP_MEMBER_VIEWS, 62).
-define(OP_MEMBER_STATS, 63).
-define(OP_MEMBER_STOP, 64).
-define(OP_MEMBER_NEEDS, 65).
-define(OP_IDLE_ASK, 70).
-define(OP_IDLE_ANSWER, 71).
-define(OP_IDLE_CLOSE, 72).

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

%% Asks DNS and waits: Servers is "" (the system's) or as c-ares reads it, Ms the time for a server's
%% first answer. A caller that gives up earlier gets the answer as a message.
-spec resolve_host(string(), auto | inet | inet6, string(), 1..60000) ->
          {ok, Ttl :: non_neg_integer(), [inet:ip_address()]} | error().
resolve_host(Host, Family, Servers, Ms) ->
    F = case Family of auto -> 0; inet -> 4; inet6 -> 6 end,
    case resolve([tlv(1, text(Host)), tlv(2, <<0>>), tlv(3, <<F>>)], Servers, Ms) of
        {ok, <<Ttl:32, Bin/binary>>} -> {ok, Ttl, [ip(A) || <<L, A:L/binary>> <= Bin]};
        {error, _} = Error -> Error
    end.

ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(Bin) -> list_to_tuple([N || <<N:16>> <= Bin]).

%% The SRV records of Host ("": of all nodes) in Domain, in the order in which to use them.
-spec resolve_srv(string(), string(), string(), 1..60000) ->
          {ok, Ttl :: non_neg_integer(), [{Target :: string(), inet:port_number()}]} | error().
resolve_srv(Host, Domain, Servers, Ms) ->
    case resolve([tlv(1, text(Domain)), tlv(2, <<1>>), [tlv(7, text(Host)) || Host =/= ""]],
                 Servers, Ms) of
        {ok, <<Ttl:32, Bin/binary>>} ->
            {ok, Ttl, [{binary_to_list(T), P}
                       || <<_Priority:16, _Weight:16, P:16, L, T:L/binary>> <= Bin]};
        {error, _} = Error ->
            Error
    end.

resolve(Args, Servers, Ms) ->
    Id = erlang:unique_integer([positive]),
    case node_control(?OP_RESOLVE, [Args, tlv(4, <<Id:64>>), tlv(5, text(Servers)),
                                    tlv(6, <<Ms:32>>)]) of
        {ok, _} ->
            receive
                {barrel_p2p_resolved, Id, Bin} -> result(Bin)
            end;
        {error, _} = Error ->
            Error
    end.

%% Uses the TLS files as they are, or makes a self-signed pair when both are missing.
-spec tls_ensure(iodata(), iodata(), iodata()) -> {ok, NotAfterUnix :: integer()} | error().
tls_ensure(CertFile, KeyFile, CommonName) ->
    case node_control(?OP_TLS_ENSURE, [tlv(1, text(CertFile)), tlv(2, text(KeyFile)),
                                       tlv(3, text(CommonName))]) of
        {ok, <<NotAfter:64>>} -> {ok, NotAfter};
        {error, _} = Error -> Error
    end.

%% The directory that belongs to Node under Dir; Dir itself when the user named it (Explicit).
-spec dir_resolve(iodata(), boolean(), iodata()) -> {ok, file:filename()} | error().
dir_resolve(Dir, Explicit, Node) ->
    case node_control(?OP_DIR_RESOLVE, [tlv(1, text(Dir)), tlv(2, encode(bool, Explicit)),
                                        tlv(3, text(Node))]) of
        {ok, Path} -> {ok, unicode:characters_to_list(Path)};
        {error, _} = Error -> Error
    end.

-spec trust_store(iodata(), iodata(), <<_:256>>) -> ok | error().
trust_store(KeyDir, Node, Key) ->
    ok(node_control(?OP_TRUST_STORE, trust(KeyDir, Node, Key))).

-spec trust_store_if_new(iodata(), iodata(), <<_:256>>) -> ok | error().
trust_store_if_new(KeyDir, Node, Key) ->
    ok(node_control(?OP_TRUST_STORE_IF_NEW, trust(KeyDir, Node, Key))).

trust(KeyDir, Node, Key) ->
    [tlv(1, text(KeyDir)), tlv(2, text(Node)), tlv(3, Key)].

-spec trust_lookup(iodata(), iodata()) -> {ok, <<_:256>>} | error().
trust_lookup(KeyDir, Node) ->
    node_control(?OP_TRUST_LOOKUP, [tlv(1, text(KeyDir)), tlv(2, text(Node))]).

-spec trust_delete(iodata(), iodata()) -> ok | error().
trust_delete(KeyDir, Node) ->
    ok(node_control(?OP_TRUST_DELETE, [tlv(1, text(KeyDir)), tlv(2, text(Node))])).

-spec trust_list(iodata()) -> {ok, [{Node :: string(), <<_:256>>}]} | error().
trust_list(KeyDir) ->
    case node_control(?OP_TRUST_LIST, tlv(1, text(KeyDir))) of
        {ok, Bin} -> {ok, [{binary_to_list(N), K} || <<L, N:L/binary, K:32/binary>> <= Bin]};
        {error, _} = Error -> Error
    end.

%% "SHA256:..." of a 32-byte public key.
-spec fingerprint(<<_:256>>) -> {ok, binary()} | error().
fingerprint(Key) ->
    node_control(?OP_FINGERPRINT, Key).

%% --- own keys and certificate ------------------------------------------------

%% What the TLS files hold. `binding' is the SHA-256 of the certificate, `generated' says that this
%% program (or upstream) made it.
-spec cert_info(iodata(), iodata()) ->
          {ok, #{binding := <<_:256>>, not_before := integer(), not_after := integer(),
                 generated := boolean()}} | error().
cert_info(CertFile, KeyFile) ->
    case node_control(?OP_CERT_INFO, [tlv(1, text(CertFile)), tlv(2, text(KeyFile))]) of
        {ok, <<Binding:32/binary, From:64/signed, To:64/signed, Generated>>} ->
            {ok, #{binding => Binding, not_before => From, not_after => To,
                   generated => Generated =:= 1}};
        {error, _} = Error ->
            Error
    end.

%% A new pair in place of a generated one; the directory of the old one, "" if there was none.
-spec rotate_cert(iodata(), iodata(), iodata()) -> {ok, Backup :: file:filename()} | error().
rotate_cert(CertFile, KeyFile, CommonName) ->
    path(node_control(?OP_ROTATE_CERT, [tlv(1, text(CertFile)), tlv(2, text(KeyFile)),
                                        tlv(3, text(CommonName))])).

-spec rotate_identity(iodata(), iodata(), boolean()) ->
          {ok, Backup :: file:filename()} | error().
rotate_identity(KeyDir, Node, Announce) ->
    path(node_control(?OP_ROTATE_IDENTITY, [tlv(1, text(KeyDir)), tlv(2, text(Node)),
                                            tlv(3, encode(bool, Announce))])).

path({ok, Path}) -> {ok, unicode:characters_to_list(Path)};
path({error, _} = Error) -> Error.

%% SHA-256 of the certificate that new connections get.
-spec server_binding() -> {ok, <<_:256>>} | error().
server_binding() ->
    node_control(?OP_SERVER_BINDING, <<>>).

%% Loads and checks the key pair in KeyDir, or makes one.
-spec keypair_ensure(iodata()) -> ok | error().
keypair_ensure(KeyDir) ->
    ok(node_control(?OP_KEYPAIR_ENSURE, tlv(1, text(KeyDir)))).

-spec keypair_save(iodata(), <<_:256>>, <<_:256>>) -> ok | error().
keypair_save(KeyDir, Public, Seed) ->
    ok(node_control(?OP_KEYPAIR_SAVE, [tlv(1, text(KeyDir)), tlv(2, Public), tlv(3, Seed)])).

-spec keypair_new() -> {ok, {Public :: <<_:256>>, Seed :: <<_:256>>}} | error().
keypair_new() ->
    case node_control(?OP_KEYPAIR_NEW, <<>>) of
        {ok, <<Public:32/binary, Seed:32/binary>>} -> {ok, {Public, Seed}};
        {error, _} = Error -> Error
    end.

%% The public key of a seed.
-spec public_key(<<_:256>>) -> {ok, <<_:256>>} | error().
public_key(Seed) ->
    node_control(?OP_PUBLIC_KEY, tlv(1, Seed)).

%% Ed25519.
-spec sign(<<_:256>>, binary()) -> {ok, <<_:512>>} | error().
sign(Seed, Message) ->
    node_control(?OP_SIGN, [tlv(1, Seed), tlv(2, Message)]).

-spec verify(<<_:256>>, binary(), <<_:512>>) -> boolean().
verify(Public, Message, Signature) ->
    node_control(?OP_VERIFY, [tlv(1, Public), tlv(2, Message), tlv(3, Signature)])
        =:= {ok, <<1>>}.

%% 1 to 1024 bytes that are good for keys.
-spec random(1..1024) -> {ok, binary()} | error().
random(N) ->
    node_control(?OP_RANDOM, tlv(1, <<N:16>>)).

%% Does the pattern of cookie_only_nodes cover the name?
-spec name_match(iodata(), iodata()) -> boolean().
name_match(Pattern, Name) ->
    node_control(?OP_NAME_MATCH, [tlv(1, text(Pattern)), tlv(2, text(Name))]) =:= {ok, <<1>>}.

%% --- connection ports --------------------------------------------------------

%% Starts dialling Node at Ip:Port; later the port's owner gets `{Port, {authenticated, Name, Fp}}',
%% `{Port, {tls_connected}}' or `{Port, {failed, Err, Text}}'.
%% Relay: barrel_p2p_relay:arguments/1.
-spec connect(port(), iodata(), {inet:ip_address(), inet:port_number()}, pos_integer(), iodata(),
              pos_integer() | undefined) -> ok | error().
connect(Port, Node, {Ip, UdpPort}, TimeoutMs, Relay, MaxDatagram) ->
    ok(control(Port, ?OP_CONNECT,
               [tlv(1, text(Node)), tlv(2, text(inet:ntoa(Ip))), tlv(3, <<UdpPort:16>>),
                tlv(4, <<TimeoutMs:32>>), [tlv(5, <<MaxDatagram:16>>) || MaxDatagram =/= undefined],
                Relay])).

%% Who is at the other end: name (may be empty), ip, port, fingerprint, state.
-spec peer(port()) -> {ok, #{name := binary(), ip := inet:ip_address() | undefined,
                             port := inet:port_number(), fingerprint := binary(),
                             state := needs_auth | authenticated}} | error().
peer(Port) ->
    case control(Port, ?OP_PEER, <<>>) of
        {ok, Bin} ->
            {ok, lists:foldl(fun peer_item/2,
                             #{name => <<>>, ip => undefined, port => 0, fingerprint => <<>>,
                               state => needs_auth}, untlv(Bin))};
        {error, _} = Error ->
            Error
    end.

peer_item({1, Name}, M) -> M#{name := Name};
peer_item({2, Text}, M) ->
    case inet:parse_address(binary_to_list(Text)) of
        {ok, Ip} -> M#{ip := Ip};
        {error, _} -> M
    end;
peer_item({3, <<Port:16>>}, M) -> M#{port := Port};
peer_item({4, Fp}, M) -> M#{fingerprint := Fp};
peer_item({5, <<1>>}, M) -> M#{state := authenticated};
peer_item(_, M) -> M.

%% One message of the dist handshake: there now, or coming as `{Port, {hs, Msg}}' or
%% `{Port, {failed, Err, Text}}' (`wait'). One at a time.
-spec recv(port()) -> {ok, binary()} | wait | error().
recv(Port) ->
    case control(Port, ?OP_RECV, <<>>) of
        {ok, <<1, Msg/binary>>} -> {ok, Msg};
        {ok, <<0>>} -> wait;
        {error, _} = Error -> Error
    end.

%% Sends one message of the dist handshake.
-spec send(port(), iodata()) -> ok | {error, closed}.
send(Port, Data) ->
    command(Port, Data, []).

-spec tick(port()) -> ok | {error, closed}.
tick(Port) ->
    command(Port, [], [force]).

command(Port, Data, Options) ->
    try port_command(Port, Data, Options) of
        _ -> ok
    catch
        error:_ -> {error, closed}
    end.

-spec pre_nodeup(port()) -> ok | error().
pre_nodeup(Port) ->
    ok(control(Port, ?OP_PRE_NODEUP, <<>>)).

-spec post_nodeup(port()) -> ok | error().
post_nodeup(Port) ->
    ok(control(Port, ?OP_POST_NODEUP, <<>>)).

%% Frames and ticks received, sent, and the bytes that wait.
-spec getstat(port()) -> {ok, non_neg_integer(), non_neg_integer(), non_neg_integer()} | error().
getstat(Port) ->
    case control(Port, ?OP_GETSTAT, <<>>) of
        {ok, <<In:64, Out:64, Pending:64>>} -> {ok, In, Out, Pending};
        {error, _} = Error -> Error
    end.

-spec setopts(port(), [dist_option()]) -> ok | error().
setopts(Port, Opts) ->
    ok(control(Port, ?OP_SETOPTS,
               [begin {N, Type} = option(K), tlv(N, encode(Type, V)) end || {K, V} <- Opts])).

-spec getopts(port(), [atom()]) -> {ok, [dist_option()]} | error().
getopts(Port, Names) ->
    Keys = << <<(element(1, option(K)))>> || K <- Names >>,
    case control(Port, ?OP_GETOPTS, Keys) of
        {ok, Bin} -> {ok, [option_value(K, V) || {K, V} <- untlv(Bin)]};
        {error, _} = Error -> Error
    end.

option(priority) -> {1, u32};
option(tos) -> {2, u32};
option(recbuf) -> {3, u32};
option(sndbuf) -> {4, u32};
option(nodelay) -> {5, bool}.

option_value(1, <<V:32>>) -> {priority, V};
option_value(2, <<V:32>>) -> {tos, V};
option_value(3, <<V:32>>) -> {recbuf, V};
option_value(4, <<V:32>>) -> {sndbuf, V};
option_value(5, <<V>>) -> {nodelay, V =/= 0}.

-spec conn_stats(port()) -> {ok, #{binary() => non_neg_integer()}} | error().
conn_stats(Port) ->
    counters(control(Port, ?OP_CONN_STATS, <<>>)).

%% --- the byte channel of a user's auth callback --------------------------------

-spec auth_send(port(), boolean(), iodata()) -> ok | error().
auth_send(Port, Fin, Data) ->
    ok(control(Port, ?OP_AUTH_SEND, [encode(bool, Fin), Data])).

%% Bytes now, or later as `{Port, {auth_data, Data, Fin}}' or `{Port, {failed, Err, Text}}'.
-spec auth_recv(port()) -> {ok, binary(), boolean()} | wait | error().
auth_recv(Port) ->
    case control(Port, ?OP_AUTH_RECV, <<>>) of
        {ok, <<1, Fin, Data/binary>>} -> {ok, Data, Fin =/= 0};
        {ok, <<0>>} -> wait;
        {error, _} = Error -> Error
    end.

%% The callback's verdict; Name is the peer's node name or empty. `false' closes the connection.
-spec auth_done(port(), boolean(), iodata()) -> ok | error().
auth_done(Port, Ok, Name) ->
    Bin = text(Name),
    ok(control(Port, ?OP_AUTH_DONE, [encode(bool, Ok), byte_size(Bin), Bin])).

%% The peer's TLS certificate, DER.
-spec peer_certificate(port()) -> {ok, binary()} | error().
peer_certificate(Port) ->
    control(Port, ?OP_PEERCERT, <<>>).

%% --- connections that nobody uses (driver/idle_ops.c) ---------------------------

-type use() :: idle | not_up | not_ours | doubtful | live | used | young | streams | unsent.

%% Asks the other end to close the connection if nobody uses it (`idle'; else why it may not be
%% closed): idle and at least as old as MinAgeMs, or, Temporary, never used by a process at all.
-spec idle_ask(port(), boolean(), non_neg_integer()) -> {ok, use()} | error().
idle_ask(Port, Temporary, MinAgeMs) ->
    use(control(Port, ?OP_IDLE_ASK, [encode(bool, Temporary), <<MinAgeMs:32>>])).

%% Answers the other end's question, `{NodePort, {idle_asked, Port}}' to the node port's owner.
%% `idle': we have agreed.
-spec idle_answer(port(), boolean(), non_neg_integer()) -> {ok, use()} | error().
idle_answer(Port, Allowed, MinAgeMs) ->
    use(control(Port, ?OP_IDLE_ANSWER, [encode(bool, Allowed), <<MinAgeMs:32>>])).

%% The other end has agreed, `{NodePort, {idle_due, Port}}': closes the connection unless a message
%% came meanwhile. `again': the VM may have had one waiting.
-spec idle_close(port()) -> {ok, closed | called_off | again} | error().
idle_close(Port) ->
    case control(Port, ?OP_IDLE_CLOSE, <<(os:system_time(microsecond)):64>>) of
        {ok, <<0>>} -> {ok, called_off};
        {ok, <<1>>} -> {ok, closed};
        {ok, <<2>>} -> {ok, again};
        {error, _} = Error -> Error
    end.

use({ok, <<Use>>}) ->
    {ok, lists:nth(Use + 1, [idle, not_up, not_ours, doubtful, live, used, young, unsent, streams])};
use({error, _} = Error) ->
    Error.

%% --- membership (driver/member_ops.c) -----------------------------------------

-type member_args() :: [{byte(), iodata()}].
-type member_msg() :: {atom(), Ttl :: byte(), Flag :: 0 | 1, Subject :: binary(),
                       [{binary(), AgeMs :: non_neg_integer()}]}.
-type member_effect() :: joined | left | {connect | release | peer_up, binary()} |
                         {peer_down, binary(), atom()} | {send, binary(), member_msg()}.

%% Starts the state machine anew; result: ms until the first tick.
-spec member_start(member_args()) -> {ok, non_neg_integer()} | error().
member_start(Args) ->
    case node_control(?OP_MEMBER_START, member_args(Args)) of
        {ok, <<Ms:32>>} -> {ok, Ms};
        {error, _} = Error -> Error
    end.

%% One event; result: ms until the next tick, and what is to be done, in order.
-spec member_step(member_args()) -> {ok, {non_neg_integer(), [member_effect()]}} | error().
member_step(Args) ->
    case node_control(?OP_MEMBER_STEP, member_args(Args)) of
        {ok, <<Ms:32, Effects/binary>>} -> {ok, {Ms, member_effects(Effects)}};
        {error, _} = Error -> Error
    end.

-spec member_views() -> {ok, {[binary()], [binary()]}} | error().
member_views() ->
    case node_control(?OP_MEMBER_VIEWS, <<>>) of
        {ok, <<NActive:16, _:16, Names/binary>>} ->
            {ok, lists:split(NActive, [N || <<L, N:L/binary>> <= Names])};
        {error, _} = Error ->
            Error
    end.

%% Does a link, an attempt or a reply go over the channel to Node?
-spec member_needs(binary()) -> {ok, boolean()} | error().
member_needs(Node) ->
    case node_control(?OP_MEMBER_NEEDS, Node) of
        {ok, <<Needs>>} -> {ok, Needs =/= 0};
        {error, _} = Error -> Error
    end.

-spec member_stats() -> {ok, #{binary() => non_neg_integer()}} | error().
member_stats() ->
    counters(node_control(?OP_MEMBER_STATS, <<>>)).

-spec member_stop() -> ok | error().
member_stop() ->
    ok(node_control(?OP_MEMBER_STOP, <<>>)).

member_args(Args) ->
    [tlv(Key, iolist_to_binary(Value)) || {Key, Value} <- Args].

member_effects(<<1, _, L, Name:L/binary, Kind, Ttl, Flag, SL, Subject:SL/binary, N, Rest/binary>>) ->
    {Peers, Rest1} = member_peers(N, Rest, []),
    [{send, Name, {member_kind(Kind), Ttl, Flag, Subject, Peers}} | member_effects(Rest1)];
member_effects(<<Effect, Reason, L, Name:L/binary, Rest/binary>>) ->
    [member_effect(Effect, Name, Reason) | member_effects(Rest)];
member_effects(<<>>) ->
    [].

member_peers(0, Rest, Acc) -> {lists:reverse(Acc), Rest};
member_peers(N, <<Age:32, L, Name:L/binary, Rest/binary>>, Acc) ->
    member_peers(N - 1, Rest, [{Name, Age} | Acc]).

member_effect(0, Name, _) -> {connect, Name};
member_effect(2, Name, _) -> {release, Name};
member_effect(3, Name, _) -> {peer_up, Name};
member_effect(4, Name, Reason) -> {peer_down, Name, member_reason(Reason)};
member_effect(5, _, _) -> joined;
member_effect(6, _, _) -> left.

member_reason(0) -> dropped;
member_reason(1) -> graceful;
member_reason(2) -> nodedown;
member_reason(3) -> connect_failed.

member_kind(0) -> join;
member_kind(1) -> forward_join;
member_kind(2) -> disconnect;
member_kind(3) -> neighbor;
member_kind(4) -> neighbor_reply;
member_kind(5) -> shuffle;
member_kind(6) -> shuffle_reply.

%% --- encoding ----------------------------------------------------------------

%% @private
node_control(Op, Data) ->
    control(?NODE_PORT, Op, Data).

%% @private
control(Port, Op, Data) ->
    try port_control(Port, Op, Data) of
        Bin -> result(Bin)
    catch
        error:_ -> {error, {closed, <<"the port is closed">>}}
    end.

%% @private
result(<<0, Result/binary>>) -> {ok, Result};
result(<<1, Len, Err:Len/binary, Text/binary>>) -> {error, {binary_to_atom(Err, latin1), Text}};
result(Other) -> {error, {bad_reply, unicode:characters_to_binary(io_lib:format("~tp", [Other]))}}.

ok({ok, _}) -> ok;
ok({error, _} = Error) -> Error.

counters({ok, Bin}) ->
    {ok, maps:from_list([{K, V} || <<L, K:L/binary, V:64>> <= Bin])};
counters({error, _} = Error) ->
    Error.

tlv(Key, Value) ->
    [<<Key, (byte_size(Value)):16>>, Value].

untlv(Bin) ->
    [{K, V} || <<K, L:16, V:L/binary>> <= Bin].

encode(text, V) -> text(V);
encode(bool, true) -> <<1>>;
encode(bool, false) -> <<0>>;
encode(u8, V) -> <<V>>;
encode(u16, V) -> <<V:16>>;
encode(u32, V) -> <<V:32>>;
encode(u64, V) -> <<V:64>>.

text(V) when is_atom(V) -> atom_to_binary(V, utf8);
text(V) -> unicode:characters_to_binary(V).
