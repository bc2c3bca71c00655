%% SPDX-License-Identifier: Apache-2.0
%% Reads and checks the configuration: boot flags, then the application environments, then defaults.
%%
%% Runs inside net_kernel at early boot: no file server, nothing outside kernel and stdlib.
-module(barrel_p2p_config).

-export([load_env/0, project/0, validate/1, validate_runtime/0, apply_cookie/0]).
-export([flag/1, dist/2, dist_listen_port/0, port_candidates/1, settings/2, auth_callback/0,
         tls_files/0, cert_dir/0, key_dir/0, absolute/1, nodes/0, discovery_module/0,
         handshake_timeout/0]).
-export([get/1, effective/0, advertised/2]).

-include("barrel_p2p.hrl").
-compile({no_auto_import, [get/1]}).   % the dictionary is not used here

-define(DEFAULT_HANDSHAKE_TIMEOUT_MS, 10000).
-define(DEFAULT_TIMESTAMP_WINDOW_MS, 30000).
-define(DEFAULT_SETUP_TIME_MS, 7000).
-define(BASE_DIR, {?MODULE, base_dir}).
-define(PROJECTED, {?MODULE, projected}).

%% --- the steps of listen/1 ---------------------------------------------------

%% Step 2: loads the environments of `quic' and `barrel_p2p', so that what a sys.config says about
%% them is visible before any application starts. No `quic' application needs to exist.
-spec load_env() -> ok | {error, term()}.
load_env() ->
    case load_app(barrel_p2p) of
        ok -> load_spec(quic);
        {error, _} = Error -> Error
    end.

load_app(App) ->
    case application:load(App) of
        ok -> ok;
        {error, {already_loaded, _}} -> ok;
        {error, {"no such file or directory", _}} -> load_spec(App);
        {error, Reason} -> {error, {App, Reason}}
    end.

load_spec(App) ->
    Spec = {application, App,
            [{description, "environment of barrel_p2p"}, {vsn, "0"}, {modules, []},
             {registered, []}, {applications, [kernel, stdlib]}, {env, []}]},
    case application:load(Spec) of
        ok -> ok;
        {error, {already_loaded, _}} -> ok;
        {error, Reason} -> {error, {App, Reason}}
    end.

%% Step 3: fills in what `{quic, [{dist, _}]}' does not say: auth_callback, auth_handshake_timeout,
%% discovery_module, cert_file, key_file. Boot flags come first, then what the user set, then the
%% default; a key that is there, even with the value `undefined', is never changed. Flags that are
%% refused or have no effect come along, so that validate/1 says so.
-spec project() -> ok.
project() ->
    {CertFile, KeyFile} = tls_files(),
    Timeout = env(auth_handshake_timeout, ?DEFAULT_HANDSHAKE_TIMEOUT_MS),
    Defaults = [{auth_handshake_timeout, Timeout},
                {discovery_module, barrel_p2p_discovery},
                {cert_file, unicode:characters_to_binary(CertFile)},
                {key_file, unicode:characters_to_binary(KeyFile)}]
        ++ [{auth_callback, ?BP_BUILTIN_AUTH} || env(auth_enabled, true) =/= false],
    User = user_dist(),
    Flags = flags([{cert_file, "cert"}, {key_file, "key"}, {auth_callback, "auth_callback"},
                   {auth_handshake_timeout, "auth_handshake_timeout"}, {nodes, "nodes"},
                   {register_with_epmd, "register_with_epmd"}, {psk_callback, "psk_callback"},
                   {cacert_file, "cacert"}]),
    Kept = [Item || Item <- User, not lists:keymember(item_key(Item), 1, Flags)],
    Missing = [D || {K, _} = D <- Defaults,
                    not proplists:is_defined(K, Flags), not proplists:is_defined(K, Kept)],
    %% effective/0 must tell them from what the user said; a second boot finds them in User.
    persistent_term:put(?PROJECTED, Missing ++ [Old || Old <- persistent_term:get(?PROJECTED, []),
                                                        lists:member(Old, Kept)]),
    application:set_env(quic, dist, Flags ++ Kept ++ Missing).

item_key({Key, _}) -> Key;
item_key(Key) -> Key.

user_dist() ->
    case application:get_env(quic, dist) of
        {ok, List} when is_list(List) -> List;
        _ -> []
    end.

flags(Names) ->
    lists:append([[{Key, parse_flag(Key, V)} || V <- flag_values("quic_dist_" ++ Name, Name)]
                  || {Key, Name} <- Names]).

parse_flag(auth_handshake_timeout, "infinity") -> infinity;
parse_flag(auth_handshake_timeout, V) -> to_integer(V);
parse_flag(register_with_epmd, "true") -> true;
parse_flag(register_with_epmd, "false") -> false;
parse_flag(nodes, V) ->
    case erl_scan:string(V ++ ".") of
        {ok, Tokens, _} ->
            case erl_parse:parse_term(Tokens) of
                {ok, Term} -> Term;
                {error, _} -> V
            end;
        _ -> V
    end;
parse_flag(_, V) -> V.

%% `-quic_dist_Name V' or `-quic_dist Name V'.
flag_values(Flag, Name) ->
    case flag(list_to_atom(Flag)) of
        {ok, V} ->
            [V];
        undefined ->
            case init:get_argument(quic_dist) of
                {ok, Lists} -> lists:sublist([V || [N, V] <- Lists, N =:= Name], 1);
                error -> []
            end
    end.

%% Step 4: refuses what would leave the node open or cannot work. Dist is the projected
%% `{quic, [{dist, Dist}]}'. Raises `{barrel_p2p_dist, Reason}'.
-spec validate([term()]) -> ok.
validate(Dist) ->
    Enabled = env(auth_enabled, true),
    is_boolean(Enabled) orelse bad(auth_enabled, Enabled, "true or false"),
    case {Enabled, parse_callback(proplists:get_value(auth_callback, Dist))} of
        {true, undefined} ->
            erlang:error({barrel_p2p_dist, auth_enabled_without_callback});
        {false, Callback} ->
            warn_auth_off(Callback);
        {true, Callback} ->
            check_callback(Callback)
    end,
    case other_quic_dist() of
        [] -> ok;
        [Where | _] -> erlang:error({barrel_p2p_dist, {conflicting_module, quic_dist, Where}})
    end,
    validate_runtime().

%% Files of a module quic_dist that is not ours (the hex package `quic' has one): whichever comes first
%% in the code path would be used, and half of the other's program with it.
other_quic_dist() ->
    Loaded = case code:is_loaded(quic_dist) of
                 {file, L} when is_list(L) -> [L];
                 _ -> []
             end,
    InPath = [filename:join(Dir, "quic_dist.beam") || Dir <- code:get_path()],
    [F || F <- Loaded ++ InPath, is_there(F),
          not is_there(filename:join(filename:dirname(F), ?MODULE_STRING ".beam"))].

is_there(File) ->
    element(1, prim_file:read_file_info(File)) =:= ok.

%% The values that may also change at run time: each key that is there, against the table.
-spec validate_runtime() -> ok.
validate_runtime() ->
    lists:foreach(fun validate_key/1, barrel_p2p_config_keys:all()),
    warn_ignored([K || #{key := K, place := P, type := ignored} <- barrel_p2p_config_keys:all(),
                       values(P, K) =/= []]),
    warn_unknown(barrel_p2p, application:get_all_env(barrel_p2p)),
    warn_unknown(dist, user_dist()),
    case env(cookie_only_nodes, []) of
        [] -> ok;
        _ ->
            case effective_cookie() of
                ?BP_DEFAULT_COOKIE ->
                    erlang:error({barrel_p2p, cookie_only_nodes_with_default_cookie});
                _ -> ok
            end
    end.

validate_key(#{key := Key, place := Place, type := Type}) ->
    lists:foreach(fun(Value) -> validate_value(Key, Type, Value) end, values(Place, Key)).

validate_value(Key, Type, Value) ->
    barrel_p2p_config_keys:check(Type, Value)
        orelse bad(Key, Value, barrel_p2p_config_keys:expects(Type)),
    ok.

%% What the environments say, in the order in which it counts.
values(barrel_p2p, Key) -> found(application:get_env(barrel_p2p, Key));
values(quic, Key) -> found(application:get_env(quic, Key));
values(dist, Key) -> [proplists:get_value(Key, user_dist()) || proplists:is_defined(Key, user_dist())];
values(both, Key) -> values(barrel_p2p, Key) ++ values(dist, Key).

found({ok, Value}) -> [Value];
found(undefined) -> [].

warn_ignored([]) ->
    ok;
warn_ignored(Keys) ->
    barrel_p2p_node:report(notice, keys_without_effect, <<"any">>, Keys,
                           <<"these keys are set and have no effect in this carrier; "
                             "docs/configuration.md says why">>).

%% One line for each, with the name that was meant. Below `quic' itself others may have keys.
warn_unknown(Where, Items) ->
    Keys = lists:usort([K || Item <- Items, K <- [item_key(Item)], is_atom(K)]),
    lists:foreach(fun(Key) -> warn_unknown_key(Where, Key) end, Keys -- [included_applications]).

warn_unknown_key(Where, Key) ->
    case barrel_p2p_config_keys:find(Key) of
        {ok, #{place := Place}} ->
            barrel_p2p_config_keys:stands_in(Where, Place) orelse
                warn_key(Where, Key, ["it has no effect there: it belongs into ",
                                      place_text(Place, Key)]);
        error ->
            warn_key(Where, Key, ["no such key",
                                  case barrel_p2p_config_keys:nearest(Where, Key) of
                                      {ok, Near} -> ["; did you mean ", atom_to_list(Near), "?"];
                                      none -> "; docs/configuration.md lists them"
                                  end])
    end.

warn_key(Where, Key, Text) ->
    barrel_p2p_node:report(warning, unknown_key, atom_to_list(Key), barrel_p2p,
                           [place_text(Where, Key), ": ", Text]).

place_text(barrel_p2p, Key) -> ["{barrel_p2p, [{", atom_to_list(Key), ", _}]}"];
place_text(quic, Key) -> ["{quic, [{", atom_to_list(Key), ", _}]}"];
place_text(dist, Key) -> ["{quic, [{dist, [{", atom_to_list(Key), ", _}]}]}"].

-spec bad(atom(), term(), string()) -> no_return().
bad(Key, Value, Want) ->
    erlang:error({barrel_p2p_dist, {bad_config, Key, hide(Key, Value), "must be " ++ Want}}).

%% Logs have no secrets.
hide(dist_cookie, _) -> '***';
hide(_, Value) -> hide(Value).

hide([H | T]) -> [hide(H) | hide(T)];
hide(T) when is_tuple(T) -> list_to_tuple(hide(tuple_to_list(T)));
hide(#{password := _} = Options) -> Options#{password := '***'};
hide(Value) -> Value.

check_callback({M, F}) ->
    _ = code:ensure_loaded(M),
    erlang:function_exported(M, F, 3)
        orelse erlang:error({barrel_p2p_dist, {auth_callback_not_found, {M, F, 3}}}),
    ok;
check_callback(Fun) when is_function(Fun, 3) ->
    ok.

warn_auth_off(undefined) ->
    barrel_p2p_node:report(
      warning, auth_disabled, <<"any">>, auth_enabled_false,
      <<"auth_enabled is false: peers are NOT authenticated, only the cookie protects this node, "
        "and nothing does against a man in the middle; remove {auth_enabled, false} to "
        "change it">>);
warn_auth_off(Callback) ->
    barrel_p2p_node:report(
      warning, auth_disabled, <<"any">>, auth_enabled_false,
      ["auth_enabled is false but {quic,[{dist,[{auth_callback,_}]}]} is set: ",
       io_lib:format("~tp", [Callback]), " alone decides who may connect"]),
    check_callback(Callback).

%% --- the cookie --------------------------------------------------------------

%% A configured `{barrel_p2p, [{dist_cookie, C}]}' is applied; else `-setcookie' (or `-nocookie')
%% stays; else the documented default `barrel_p2p', with a warning. Called before this node can
%% talk to anybody, so it does not matter whether and when the application starts.
-spec apply_cookie() -> ok.
apply_cookie() ->
    case {whereis(auth), cookie_choice()} of
        {undefined, _} -> ok;
        {_, keep} -> ok;
        {_, {configured, Cookie}} -> set_cookie(Cookie);
        {_, default} ->
            barrel_p2p_node:report(
              warning, default_cookie, <<"any">>, default_cookie,
              <<"the cookie is the public default 'barrel_p2p', not that of ~/.erlang.cookie: set your "
                "own with -setcookie or {barrel_p2p, [{dist_cookie, Cookie}]}, the same on all "
                "nodes">>),
            set_cookie(?BP_DEFAULT_COOKIE)
    end.

set_cookie(Cookie) ->
    true = auth:set_cookie(Cookie),
    ok.

cookie_choice() ->
    case application:get_env(barrel_p2p, dist_cookie) of
        {ok, C} when is_atom(C), C =/= undefined -> {configured, C};
        {ok, C} when is_list(C) -> {configured, list_to_atom(C)};
        {ok, C} when is_binary(C) -> {configured, binary_to_atom(C, utf8)};
        _ ->
            case cookie_flag() orelse init:get_argument(nocookie) =/= error of
                true -> keep;
                false -> default
            end
    end.

%% As OTP's auth server reads it: exactly one `-setcookie' with exactly one word is our cookie;
%% `-setcookie Node Cookie' is another node's.
cookie_flag() ->
    case init:get_argument(setcookie) of
        {ok, Lists} ->
            case [L || L <- Lists, length(L) < 2] of
                [[_]] -> true;
                _ -> false
            end;
        error ->
            false
    end.

effective_cookie() ->
    case cookie_choice() of
        {configured, C} -> C;
        default -> ?BP_DEFAULT_COOKIE;
        keep ->
            case whereis(auth) of
                undefined -> nocookie;
                _ -> auth:get_cookie()
            end
    end.

%% --- values ------------------------------------------------------------------

%% First value of a boot flag.
-spec flag(atom()) -> {ok, string()} | undefined.
flag(Name) ->
    case init:get_argument(Name) of
        {ok, [[Value | _] | _]} -> {ok, Value};
        _ -> undefined
    end.

env(Key, Default) ->
    application:get_env(barrel_p2p, Key, Default).

%% The value of a key of the table in the environments, else its default there.
-spec get(atom()) -> term().
get(Key) ->
    {ok, #{place := Place, default := Default}} = barrel_p2p_config_keys:find(Key),
    case values(Place, Key) of
        [Value | _] -> Value;
        [] -> Default
    end.

%% Every key of the table with the value in force and where it came from. A default is shown as the
%% table has it.
-spec effective() -> [{barrel_p2p_config_keys:place(), atom(), Value :: term(),
                       Origin :: default | environment | {flag, string()}}].
effective() ->
    [effective(K) || #{type := Type} = K <- barrel_p2p_config_keys:all(), Type =/= refused].

effective(#{key := Key, place := Place, default := Default, flags := Flags}) ->
    case [{F, V} || F <- Flags, V <- flag_text(F)] of
        [{Flag, Text} | _] ->
            {Place, Key, flag_value(Key, Text), {flag, Flag}};
        [] ->
            Projected = persistent_term:get(?PROJECTED, []),
            case values(Place, Key) of
                [Value | _] ->
                    Origin = case Place =/= barrel_p2p
                                 andalso lists:member({Key, Value}, Projected)
                                 andalso application:get_env(barrel_p2p, Key) =:= undefined of
                                 true -> default;
                                 false -> environment
                             end,
                    {Place, Key, Value, Origin};
                [] ->
                    {Place, Key, Default, default}
            end
    end.

flag_value(nodes, Text) -> parse_flag(nodes, Text);
flag_value(dist_cookie, Text) -> list_to_atom(Text);
flag_value(Key, Text) when Key =:= listen_port; Key =:= dist_port; Key =:= auth_handshake_timeout ->
    parse_flag(auth_handshake_timeout, Text);
flag_value(_, Text) -> Text.

flag_text("-quic_dist_" ++ Name) -> flag_values("quic_dist_" ++ Name, Name);
flag_text("-setcookie") ->
    case cookie_flag() andalso init:get_argument(setcookie) of
        {ok, Lists} -> hd([L || L <- Lists, length(L) < 2]);
        _ -> []
    end;
flag_text("-" ++ Name) ->
    case flag(list_to_atom(Name)) of
        {ok, Value} -> [Value];
        undefined -> []
    end.

%% What other nodes are told to dial: `advertise', else the given host; port 0 stands for Port.
-spec advertised(string(), inet:port_number()) -> [{string(), inet:port_number()}, ...].
advertised(Host, Port) ->
    case get(advertise) of
        undefined -> [{Host, Port}];
        List when is_list(List) ->
            case io_lib:char_list(List) of
                true -> [advertised_one(List, Port)];
                false -> [advertised_one(A, Port) || A <- List]
            end;
        One -> [advertised_one(One, Port)]
    end.

advertised_one({A, B, C, D} = Ip, Port) when is_integer(A), is_integer(B), is_integer(C),
                                             is_integer(D) ->
    {inet:ntoa(Ip), Port};
advertised_one(Ip, Port) when tuple_size(Ip) =:= 8 -> {inet:ntoa(Ip), Port};
advertised_one({Host, 0}, Port) -> advertised_one(Host, Port);
advertised_one({Host, Port}, _) -> advertised_one(Host, Port);
advertised_one(Host, Port) when is_atom(Host) -> {atom_to_list(Host), Port};
advertised_one(Host, Port) -> {unicode:characters_to_list(Host), Port}.

%% A key of `{quic, [{dist, _}]}'.
-spec dist(atom(), term()) -> term().
dist(Key, Default) ->
    proplists:get_value(Key, user_dist(), Default).

%% A key that may stand in either environment.
tuning(Key, Default) ->
    env(Key, dist(Key, Default)).

%% The configured UDP port; 0: any free one. Order: -quic_dist_port, -barrel_p2p_dist_port,
%% {quic, [{dist_port, P}]}, {barrel_p2p, [{listen_port, P}]}. Raises on what is not a port.
-spec dist_listen_port() -> inet:port_number().
dist_listen_port() ->
    Sources = [{"-quic_dist_port", fun() -> first(flag_values("quic_dist_port", "port")) end},
               {"-barrel_p2p_dist_port", fun() -> flag(barrel_p2p_dist_port) end},
               {"{quic, [{dist_port, _}]}", fun() -> application:get_env(quic, dist_port) end},
               {"{barrel_p2p, [{listen_port, _}]}",
                fun() -> application:get_env(barrel_p2p, listen_port) end}],
    first_port(Sources).

first([V | _]) -> {ok, V};
first([]) -> undefined.

first_port([]) ->
    0;
first_port([{Name, Read} | Rest]) ->
    case Read() of
        undefined ->
            first_port(Rest);
        {ok, Value} ->
            case to_integer(Value) of
                P when is_integer(P), P >= 0, P =< 65535 -> P;
                _ -> erlang:error({barrel_p2p_dist, {bad_config, Name, Value, "must be a port"}})
            end
    end.

%% The ports to try in order: the configured one, else kernel's inet_dist_listen_min..max, else 0.
-spec port_candidates(inet:port_number()) -> [inet:port_number(), ...].
port_candidates(0) ->
    case application:get_env(kernel, inet_dist_listen_min) of
        {ok, Min} when is_integer(Min) ->
            case application:get_env(kernel, inet_dist_listen_max) of
                {ok, Max} when is_integer(Max), Max >= Min -> lists:seq(Min, Max);
                _ -> [Min]
            end;
        _ ->
            [0]
    end;
port_candidates(Port) ->
    [Port].

%% The authentication callback in force: `undefined' is none.
-spec auth_callback() -> undefined | {module(), atom()} | fun((_, _, _) -> _).
auth_callback() ->
    parse_callback(dist(auth_callback, undefined)).

parse_callback(undefined) -> undefined;
parse_callback({M, F} = MF) when is_atom(M), is_atom(F) -> MF;
parse_callback(Fun) when is_function(Fun, 3) -> Fun;
parse_callback(Bin) when is_binary(Bin) -> parse_callback(binary_to_list(Bin));
parse_callback("undefined") -> undefined;
parse_callback(Text) when is_list(Text) ->
    case io_lib:latin1_char_list(Text) andalso string:split(Text, ":", all) of
        [[_ | _] = M, [_ | _] = F] -> {list_to_atom(M), list_to_atom(F)};
        _ -> bad(auth_callback, Text, "{Module, Function} or \"Module:Function\"")
    end;
parse_callback(Other) ->
    bad(auth_callback, Other, "{Module, Function} or \"Module:Function\"").

%% The directory of the TLS files and whether the user named it.
-spec cert_dir() -> {file:filename(), Explicit :: boolean()}.
cert_dir() ->
    case flag(barrel_p2p_dist_cert_dir) of
        {ok, Dir} -> {absolute(Dir), true};
        undefined -> dir(quic_cert_dir, ?BP_DEFAULT_CERT_DIR)
    end.

%% The directory of the identity key and whether the user named it.
-spec key_dir() -> {file:filename(), Explicit :: boolean()}.
key_dir() ->
    dir(auth_key_dir, ?BP_DEFAULT_KEY_DIR).

dir(Key, Default) ->
    case application:get_env(barrel_p2p, Key) of
        {ok, Dir} -> {absolute(Dir), true};
        undefined -> {absolute(Default), false}
    end.

%% Relative paths mean the working directory of the boot: a later change of it moves nothing.
%% (filename:absname/1 would ask the file server, which is not there yet at boot.)
-spec absolute(file:name_all()) -> file:filename().
absolute(Dir) ->
    unicode:characters_to_list(filename:absname(Dir, base_dir())).

base_dir() ->
    case persistent_term:get(?BASE_DIR, undefined) of
        undefined ->
            Dir = case prim_file:get_cwd() of
                      {ok, Cwd} -> Cwd;
                      _ -> "/"
                  end,
            persistent_term:put(?BASE_DIR, Dir),
            Dir;
        Dir ->
            Dir
    end.

%% The TLS files: -quic_dist_cert and -quic_dist_key, else cert_file and key_file of
%% `{quic, [{dist, _}]}', else node.crt and node.key in this node's certificate directory.
-spec tls_files() -> {file:filename(), file:filename()}.
tls_files() ->
    {tls_file("cert", cert_file, "node.crt"), tls_file("key", key_file, "node.key")}.

tls_file(Flag, Key, Default) ->
    case flag_values("quic_dist_" ++ Flag, Flag) of
        [File] ->
            absolute(File);
        [] ->
            case dist(Key, undefined) of
                undefined -> filename:join(barrel_p2p_node:cert_dir(), Default);
                File -> absolute(File)
            end
    end.

%% Static entries of `{quic, [{dist, [{nodes, _}]}]}'.
-spec nodes() -> [term()].
nodes() ->
    case dist(nodes, []) of
        List when is_list(List) -> List;
        _ -> []
    end.

-spec discovery_module() -> module().
discovery_module() ->
    dist(discovery_module, barrel_p2p_discovery).

%% Milliseconds for TLS, authentication and dist handshake together: the smaller of kernel's
%% net_setuptime (seconds) and auth_handshake_timeout.
-spec handshake_timeout() -> pos_integer().
handshake_timeout() ->
    Setup = case application:get_env(kernel, net_setuptime) of
                {ok, T} when is_number(T), T >= 120 -> 120000;
                {ok, T} when is_number(T), T > 0 -> round(T * 1000);
                _ -> ?DEFAULT_SETUP_TIME_MS
            end,
    case dist(auth_handshake_timeout, ?DEFAULT_HANDSHAKE_TIMEOUT_MS) of
        Ms when is_integer(Ms), Ms > 0 -> min(Ms, Setup);
        _ -> Setup
    end.

%% All settings of the driver for node Name and UDP port Port.
-spec settings(string(), inet:port_number()) -> barrel_p2p_drv:config().
settings(Name, Port) ->
    {CertFile, KeyFile} = tls_files(),
    {KeyDir, Explicit} = key_dir(),
    [{node_name, Name}, {cert_file, CertFile}, {key_file, KeyFile},
     {key_dir, KeyDir}, {key_dir_explicit, Explicit},
     {trust_mode, trust_mode(env(auth_trust_mode, tofu))},
     {auth_mode, auth_mode(auth_callback())},
     {handshake_timeout_ms, handshake_timeout()},
     {timestamp_window_ms, env(auth_timestamp_window, ?DEFAULT_TIMESTAMP_WINDOW_MS)},
     {port, Port}, {family, family(dist(family, auto))},
     {no_migration, not tuning(active_migration, true)},
     {log_level, log_level(env(log_level, info))}]
        ++ [{cookie_only, Pattern} || Pattern <- env(cookie_only_nodes, [])]
        ++ [{bind_address, Text} || Text <- bind_address()]
        ++ optional(dist_streams, dist_streams) ++ optional(max_frame_bytes, max_frame_bytes)
        ++ optional(max_datagram_bytes, max_datagram_bytes)
        ++ [{stream_preamble_timeout_ms, env(stream_preamble_timeout, 10000)}]
        ++ optional(keepalive, keepalive_ms) ++ optional(idle_timeout, idle_timeout_ms).

optional(Key, Setting) ->
    case tuning(Key, undefined) of
        V when is_integer(V), V >= 0 -> [{Setting, V}];
        _ -> []
    end.

trust_mode(strict) -> 1;
trust_mode(tofu) -> 0.

auth_mode(undefined) -> 0;
auth_mode(?BP_BUILTIN_AUTH) -> 1;
auth_mode(_) -> 2.

%% A bind address decides the family by itself.
family(inet) -> 4;
family(inet6) -> 6;
family(auto) -> 0;
family(Other) -> bad(family, Other, "inet, inet6 or auto").

%% `{quic, [{dist, [{bind, Addr}]}]}', else kernel's inet_dist_use_interface, else any address.
bind_address() ->
    case dist(bind, undefined) of
        undefined ->
            case application:get_env(kernel, inet_dist_use_interface) of
                {ok, Ip} -> [address_text(inet_dist_use_interface, Ip)];
                undefined -> []
            end;
        any -> [];
        Addr -> [address_text(bind, Addr)]
    end.

address_text(Key, Addr) when is_binary(Addr) ->
    address_text(Key, binary_to_list(Addr));
address_text(Key, Addr) when is_list(Addr) ->
    case inet:parse_address(Addr) of
        {ok, Ip} -> inet:ntoa(Ip);
        {error, _} -> bad(Key, Addr, "an IP address")
    end;
address_text(Key, Addr) ->
    case is_tuple(Addr) andalso inet:ntoa(Addr) of
        Text when is_list(Text) -> Text;
        _ -> bad(Key, Addr, "an IP address")
    end.

log_level(error) -> 0;
log_level(warning) -> 1;
log_level(info) -> 2;
log_level(debug) -> 3;
log_level(Other) -> bad(log_level, Other, "error, warning, info or debug").

to_integer(V) when is_list(V) ->
    case string:to_integer(V) of
        {N, ""} -> N;
        _ -> V
    end;
to_integer(V) ->
    V.
