%% SPDX-License-Identifier: Apache-2.0
%% The distribution carrier as the VM knows it: `erl -proto_dist barrel_p2p' makes net_kernel call
%% this module (OTP's "alternative carrier" interface), which sets up the driver, dials and accepts.
%%
%% The data path is not here: once a connection is up its port is the distribution controller and
%% C moves every byte. What stays is one process per connection in dist_util's loop, for ticks,
%% statistics and options.
-module(barrel_p2p_dist).

%% Called by net_kernel.
-export([listen/1, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1, address/0,
         address/1, is_node_name/1, setopts/2, getopts/2]).
%% For users.
-export([listen_port/0, project_defaults/0, validate_auth_config/1]).
%% Spawned, or called by dist_util's loop.
-export([acceptor/1, do_accept/6, do_setup/7, tick/1, getstat/1]).

-include_lib("kernel/include/net_address.hrl").
-include_lib("kernel/include/dist_util.hrl").

-define(EPMD_HINT, "this node was started without -epmd_module barrel_p2p_epmd").
%% What the driver reports before dist_util's own timer (or ours) would kill the process silently.
-define(TIMER_MARGIN_MS, 300).
%% The node that we dial has answered and it will not be: no other address can help.
-define(VERDICTS, [key_mismatch, untrusted_key, signature_invalid, auth_rejected,
                   auth_callback_failed, peer_ts_skew, auth_response_late, unexpected_auth_ok]).
-define(LAST_WORDS_MS, 200).
-define(FAILURE, {?MODULE, failure}).
-define(CLAIMED, {?MODULE, claimed}).
-define(UP, {?MODULE, up}).
-define(THROUGH, {?MODULE, through}).
-define(REFUSED, {?MODULE, refused}).
-define(NOKS, {?MODULE, noks}).
-define(DIALLING, {?MODULE, dialling}).
-define(PEER, {?MODULE, peer}).
%% How long a connection that the peer prefers may take to arrive before we dial again; doubled each
%% time.
-define(NOK_WAIT_MS, 250).
-define(NOK_WAIT_MAX_MS, 2000).

%% --- boot --------------------------------------------------------------------

-spec listen(atom()) -> {ok, {pid(), #net_address{}, pos_integer()}} | {error, term()}.
listen(Name) ->
    {ok, Host} = inet:gethostname(),
    listen(Name, Host).

%% Brings the node up, in four steps: TLS material, environments, defaults, validation; then
%% identity, cookie, UDP port and registration with discovery. An error names the step:
%%
%%   {cert_ensure_failed, {Err, Text}}     step 1, Text says which file and what to do
%%   {environment_failed, Reason}          step 2
%%   {defaults_failed, Reason}             step 3
%%   {barrel_p2p_dist, Reason}             step 4: auth_enabled_without_callback,
%%                                         {bad_config, Key, Value, Want}, {auth_callback_not_found,
%%                                         MFA}, {conflicting_module, quic_dist, File}
%%   {barrel_p2p, cookie_only_nodes_with_default_cookie}   step 4
%%   {driver_failed | config_failed | listen_failed, {Err, Text}}   before and after the steps
%%   eaddrinuse                            the configured UDP port is taken
%%   duplicate_name                        another node on this machine has the name
-spec listen(atom(), string()) -> {ok, {pid(), #net_address{}, pos_integer()}} | {error, term()}.
listen(Name, Host) ->
    %% An `undef' that escapes would make net_kernel try listen/1.
    try do_listen(Name, Host)
    catch
        error:undef:Stack -> {error, {undef, hd(Stack)}}
    end.

do_listen(Name, Host) ->
    Node = atom_to_list(Name) ++ "@" ++ Host,
    case barrel_p2p_boot:prepare(Node) of
        {ok, Pid} ->
            case open_socket() of
                {ok, {Port, AddrText}} ->
                    Address = #net_address{address = {ip(AddrText), Port}, host = Host,
                                           protocol = quic, family = inet},
                    register_node(Name, Port, Pid, Address);
                {error, Reason} ->
                    barrel_p2p_node:stop(),
                    barrel_p2p_boot:failed(listen, Reason)
            end;
        {error, _} = Error ->
            Error
    end.

open_socket() ->
    barrel_p2p_node:listen(barrel_p2p_config:port_candidates(barrel_p2p_config:dist_listen_port())).

register_node(Name, Port, Pid, Address) ->
    Epmd = net_kernel:epmd_module(),
    case Epmd:register_node(Name, Port, inet) of
        {ok, Creation} ->
            warn_other_epmd(Epmd),
            {ok, {Pid, Address, Creation}};
        {error, Reason} when Epmd =:= erl_epmd ->
            barrel_p2p_node:stop(),
            barrel_p2p_boot:failed(carrier, {barrel_p2p_dist, {not_published, Epmd, Reason}});
        {error, _} = Error ->
            barrel_p2p_node:stop(),
            Error
    end.

%% OTP's own was most likely left by mistake; any other one was meant.
warn_other_epmd(erl_epmd) ->
    barrel_p2p_node:report(warning, other_epmd_module, <<"any">>, erl_epmd,
                           ["this node is known to the EPMD daemon only, and asks it alone for "
                            "others: ", ?EPMD_HINT]);
warn_other_epmd(_) ->
    ok.

ip(Text) ->
    case inet:parse_address(Text) of
        {ok, Ip} -> Ip;
        {error, _} -> {0, 0, 0, 0}
    end.

%% Fills the defaults into `{quic, [{dist, _}]}' (step 3); what the user set stays. Keys:
%% auth_callback, auth_handshake_timeout (ms, 10000), discovery_module, cert_file, key_file.
-spec project_defaults() -> ok.
project_defaults() ->
    barrel_p2p_config:project().

%% Step 4 for the given value of `{quic, [{dist, Dist}]}'. Raises
%% `{barrel_p2p_dist, auth_enabled_without_callback}' and the other reasons of listen/2.
-spec validate_auth_config([term()]) -> ok.
validate_auth_config(Dist) ->
    barrel_p2p_config:validate(Dist).

%% The UDP port that this node listens on.
-spec listen_port() -> {ok, inet:port_number()} | undefined.
listen_port() ->
    case barrel_p2p_node:listen_info() of
        {ok, {Port, _}} -> {ok, Port};
        undefined -> undefined
    end.

%% Called instead of listen/2 on a node without a listener (`-dist_listen false', a dynamic name):
%% such a node is set up here. What is wrong ends the boot, with the reasons of listen/2.
-spec address() -> #net_address{}.
address() ->
    {ok, Host} = inet:gethostname(),
    address(Host).

%% What newer net_kernels call instead (OTP 27 does, 25 does not): Host is the host part of our name.
-spec address(string()) -> #net_address{}.
address(Host) ->
    case barrel_p2p_boot:ensure_ready(atom_to_list(node())) of
        ok -> ok;
        {error, Reason} -> exit(Reason)
    end,
    #net_address{host = Host, protocol = quic, family = inet}.

-spec close(pid()) -> ok.
close(_Listen) ->
    barrel_p2p_node:stop().

%% Any `n@h' may be ours: discovery is asked when we dial.
-spec select(node()) -> boolean().
select(Node) ->
    is_node_name(Node).

-spec is_node_name(term()) -> boolean().
is_node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _], [_ | _]] -> true;
        _ -> false
    end;
is_node_name(_) ->
    false.

%% --- accepting ---------------------------------------------------------------

%% One process hands authenticated connections to net_kernel; it outlives every one of them.
-spec accept(pid()) -> pid().
accept(_Listen) ->
    spawn_opt(?MODULE, acceptor, [self()], [link, {priority, max}]).

%% @private
acceptor(Kernel) ->
    process_flag(trap_exit, true),
    ok = barrel_p2p_node:set_acceptor(),
    acceptor_loop(Kernel).

acceptor_loop(Kernel) ->
    receive
        {barrel_p2p_node, incoming, Id} ->
            try incoming(Kernel, Id)
            catch
                exit:{kernel_down, Reason} -> exit(Reason);
                Class:Reason:Stack -> accept_crash(Class, Reason, Stack)
            end;
        {barrel_p2p_conn, accepted, Port} ->
            announce(Kernel, Port);
        {'EXIT', Kernel, Reason} ->
            exit(Reason);
        _ ->                    % exits of ports and helpers
            ok
    end,
    acceptor_loop(Kernel).

accept_crash(Class, Reason, Stack) ->
    barrel_p2p_node:report(error, accept_failed, <<"unknown">>, Class,
                           io_lib:format("~tp ~tp", [Reason, Stack])).

incoming(Kernel, Id) ->
    case barrel_p2p_drv:detach(Id) of
        ok ->
            case barrel_p2p_drv:open_attach(Id) of
                {ok, Port} -> incoming_port(Kernel, Port);
                {error, {Err, Text}} -> gone(Err, Text)
            end;
        {error, {Err, Text}} ->
            gone(Err, Text)
    end.

%% It ended before we came: the driver has said why.
gone(Err, Text) ->
    barrel_p2p_node:report(debug, accept_gone, <<"unknown">>, Err, Text).

incoming_port(Kernel, Port) ->
    case barrel_p2p_drv_conn:peer(Port) of
        {ok, #{state := authenticated}} ->
            announce(Kernel, Port);
        {ok, Peer} ->
            barrel_p2p_conn:accept(Port, Peer, barrel_p2p_config:auth_callback(),
                                   barrel_p2p_config:handshake_timeout(), self());
        {error, {Err, Text}} ->
            barrel_p2p_drv:close(Port),
            gone(Err, Text)
    end.

announce(Kernel, Port) ->
    Kernel ! {accept, self(), Port, inet, quic},
    receive
        {Kernel, controller, Pid} ->
            %% Pid must hear from us even when the port is dead by now: it finds out itself.
            barrel_p2p_drv:hand_over(Port, Pid),
            flush_to(Pid, Port),
            Pid ! {self(), controller},
            ok;
        {Kernel, unsupported_protocol} ->
            barrel_p2p_drv:close(Port),
            barrel_p2p_node:report(error, accept_failed, <<"unknown">>, unsupported_protocol,
                                   <<"net_kernel does not listen with this carrier">>);
        {'EXIT', Kernel, Reason} ->
            exit({kernel_down, Reason})
    end.

flush_to(Pid, Port) ->
    receive
        {Port, _} = Msg ->
            Pid ! Msg,
            flush_to(Pid, Port);
        {'EXIT', Port, _} ->
            flush_to(Pid, Port)
    after 0 ->
        ok
    end.

-spec accept_connection(pid(), port(), node(), list(), non_neg_integer()) -> pid().
accept_connection(AcceptPid, Port, MyNode, Allowed, SetupTime) ->
    spawn_opt(?MODULE, do_accept, [self(), AcceptPid, Port, MyNode, Allowed, SetupTime],
              dist_util:net_ticker_spawn_options()).

%% @private
do_accept(Kernel, AcceptPid, Port, MyNode, Allowed, SetupTime) ->
    receive
        {AcceptPid, controller} -> ok
    end,
    Timer = dist_util:start_timer(SetupTime),
    case barrel_p2p_drv_conn:peer(Port) of
        {ok, Peer0} ->
            apply_options(Port, inet_dist_listen_options),
            Peer = Peer0#{direction => accepted},
            put(?PEER, Peer),
            HsData = hs_data(Kernel, MyNode, Port, Timer),
            handshake(fun dist_util:handshake_other_started/1, HsData#hs_data{allowed = Allowed},
                      Peer);
        {error, {Err, Text}} ->
            gone(Err, Text),
            ?shutdown2(no_node, {Err, Text})
    end.

%% --- dialling ----------------------------------------------------------------

-spec setup(node(), normal | hidden, node(), shortnames | longnames, non_neg_integer()) -> pid().
setup(Node, Type, MyNode, NameDomain, SetupTime) ->
    Ready = barrel_p2p_boot:ensure_ready(own_name(MyNode)),
    spawn_opt(?MODULE, do_setup, [self(), Ready, Node, Type, MyNode, NameDomain, SetupTime],
              dist_util:net_ticker_spawn_options()).

%% A node that has yet to be named by its first peer has no name to authenticate with.
own_name(MyNode) ->
    case node() of
        nonode@nohost -> "nonode@nohost";
        _ -> atom_to_list(MyNode)
    end.

%% @private
do_setup(_Kernel, {error, Reason}, Node, _Type, _MyNode, _NameDomain, _SetupTime) ->
    give_up(error, Node, carrier_not_ready, barrel_p2p_boot:reason_text(Reason));
do_setup(Kernel, ok, Node, Type, MyNode, NameDomain, SetupTime) ->
    {Name, Host} = split_name(Node, NameDomain),
    Timer = dist_util:start_timer(SetupTime),
    Deadline = erlang:monotonic_time(millisecond) + SetupTime - margin(SetupTime),
    {Adapter, _} = Through = barrel_p2p_relay:dial_options(Node),
    put(?THROUGH, Through),
    case found_or_relayed(addresses(Name, Host), Adapter) of
        {ok, Version, Addresses} ->
            HsData = fun(Port) ->
                (hs_data(Kernel, MyNode, Port, Timer))#hs_data{
                  other_node = Node, other_version = Version, request_type = Type}
            end,
            connect(Node, Host, Addresses, Deadline, HsData, 0);
        {error, Reason} ->
            give_up(notice, Node, not_found,
                    [io_lib:format("discovery knows no address of it (~tp): ", [Reason]),
                     not_found_hint(net_kernel:epmd_module())])
    end.

not_found_hint(erl_epmd) ->
    ?EPMD_HINT;
not_found_hint(_) ->
    "is it started with -epmd_module barrel_p2p_epmd? on another machine, name it in "
        "{quic,[{dist,[{nodes,[{Node,{Host,Port}}]}]}]}".

%% Noks: how often the peer has refused us because of a connection of its own.
connect(Node, Host, Addresses, Deadline, HsData, Noks) ->
    put(?NOKS, Noks),
    Peer = #{node => Node, name => atom_to_binary(Node, utf8), fingerprint => <<>>,
             direction => dialled, host => Host},
    case dial(Peer, Addresses, Deadline, HsData, []) of
        nok ->
            connect(Node, Host, Addresses, Deadline, HsData, Noks + 1);
        {error, {Err, Text}} ->
            %% What was kept about it may be old: the next attempt asks anew.
            barrel_p2p_discovery:forget(atom_to_list(Node), [Ip || {Ip, _} <- Addresses]),
            give_up(warning, Node, Err, [Text | noks_text(Noks)])
    end.

noks_text(0) -> [];
noks_text(_) -> "; before, it preferred a connection of its own to us, and that has not come".

margin(SetupTime) ->
    min(?TIMER_MARGIN_MS, SetupTime div 10).

-spec give_up(logger:level(), node(), atom(), iodata()) -> no_return().
give_up(Level, Node, Err, Text) ->
    barrel_p2p_node:report(Level, connect_failed, atom_to_binary(Node, utf8), Err, Text),
    ?shutdown2(Node, {Err, unicode:characters_to_binary(Text)}).

%% The same rules as OTP's own carriers.
split_name(Node, NameDomain) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _] = Name, [_ | _] = Host] ->
            Dotted = lists:member($., Host),
            Address = case inet:parse_address(Host) of
                          {ok, _} -> true;
                          {error, _} -> false
                      end,
            if
                NameDomain =:= longnames, not Dotted, not Address ->
                    give_up(error, Node, bad_hostname,
                            "this node uses long names (-name) and that is a short one");
                NameDomain =:= shortnames, Dotted ->
                    give_up(error, Node, bad_hostname,
                            "this node uses short names (-sname) and that is a long one");
                true ->
                    {Name, Host}
            end;
        _ ->
            give_up(error, Node, bad_node_name, "a node name is name@host")
    end.

%% All addresses in the order to try. Another epmd module than ours gives one.
addresses(Name, Host) ->
    Epmd = net_kernel:epmd_module(),
    _ = code:ensure_loaded(Epmd),
    case erlang:function_exported(Epmd, addresses_please, 2) of
        true ->
            case Epmd:addresses_please(Name, Host) of
                {ok, [_ | _] = Addresses} -> {ok, 5, Addresses};
                {ok, []} -> {error, not_found};
                {error, _} = Error -> Error
            end;
        false ->
            epmd_address(Epmd, Name, Host)
    end.

epmd_address(Epmd, Name, Host) ->
    Found = case erlang:function_exported(Epmd, address_please, 3) of
                true -> Epmd:address_please(Name, Host, inet);
                false -> inet:getaddr(Host, inet)
            end,
    case Found of
        {ok, Ip, Port, Version} ->
            {ok, Version, [{Ip, Port}]};
        {ok, Ip} ->
            case Epmd:port_please(Name, Ip) of
                {port, Port, Version} -> {ok, Version, [{Ip, Port}]};
                Other -> {error, Other}
            end;
        {error, _} = Error ->
            Error
    end.

%% A relay may know where a node is that nobody else can find.
found_or_relayed({ok, _, _} = Found, _) ->
    Found;
found_or_relayed({error, _} = Error, Adapter) ->
    case barrel_p2p_relay:address(Adapter) of
        {ok, Address} -> {ok, 5, [Address]};
        error -> Error
    end.

%% The first address where the node answers. Returns when it cannot be had at any, or is `nok'.
dial(_Peer, [], _Deadline, _HsData, Errors) ->
    {error, summary(Errors)};
dial(Peer, [{Ip, UdpPort} | Rest], Deadline, HsData, Errors) ->
    Left = Deadline - erlang:monotonic_time(millisecond),
    case Left > 0 of
        false ->
            dial(Peer, [], Deadline, HsData, Errors);
        true ->
            %% The last address has all the time that is left, earlier ones their share.
            case dial_one(Peer#{ip => Ip, port => UdpPort}, HsData,
                          max(1, Left div (length(Rest) + 1))) of
                nok ->
                    nok;
                {error, {Err, Text}} ->
                    Next = case lists:member(Err, ?VERDICTS) of
                               true -> [];
                               false -> Rest
                           end,
                    dial(Peer, Next, Deadline, HsData, [{Err, at(Text, Ip, UdpPort)} | Errors])
            end
    end.

%% What a node answered says more than that another address is silent.
summary([]) ->
    {timeout, <<"no time was left to dial">>};
summary(Newest) ->
    Errors = lists:reverse(Newest),
    Silence = [timeout, econnrefused, system_error],
    [{Err, _} | _] = [E || {Why, _} = E <- Errors, not lists:member(Why, Silence)] ++ Errors,
    {Err, unicode:characters_to_binary(lists:join("; ", [Text || {_, Text} <- Errors]))}.

at(Text, Ip, UdpPort) ->
    unicode:characters_to_binary([Text, " (at ", address_text({Ip, UdpPort}), ")"]).

dial_one(#{node := Node, ip := Ip, port := UdpPort} = Peer, HsData, Timeout) ->
    case barrel_p2p_drv:open_connect() of
        {ok, Port} ->
            case barrel_p2p_relay:connect(Port, Node, {Ip, UdpPort}, Timeout, get(?THROUGH)) of
                ok ->
                    Result = begin_handshake(HsData(Port), Peer, Timeout),
                    barrel_p2p_drv:close(Port),
                    Result;
                {error, _} = Error ->
                    barrel_p2p_drv:close(Port),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% dist_util gives its first message while the driver dials and authenticates. That sends it as soon
%% as the peer takes it, and hs_recv/3, which waits for the answer, hears how the dial went.
begin_handshake(HsData, Peer, Timeout) ->
    put(?DIALLING, Timeout),
    put(?PEER, Peer),
    handshake(fun dist_util:handshake_we_started/1, HsData, Peer).

%% --- the dist handshake ------------------------------------------------------

hs_data(Kernel, MyNode, Port, Timer) ->
    #hs_data{kernel_pid = Kernel, this_node = MyNode, socket = Port, timer = Timer,
             this_flags = 0,
             reject_flags = dist_util:strict_order_flags(),
             f_send = fun hs_send/2,
             f_recv = fun hs_recv/3,
             f_setopts_pre_nodeup = fun barrel_p2p_drv_conn:pre_nodeup/1,
             f_setopts_post_nodeup = fun barrel_p2p_drv_conn:post_nodeup/1,
             f_getll = fun(P) -> {ok, P} end,
             f_address = fun(P, Node) ->
                 Peer = get(?PEER),
                 name_streams(P, Node, Peer),
                 tell_up(P, Node, Peer),
                 net_address(Peer, Node)
             end,
             f_handshake_complete = fun(_, _, _) -> put(?UP, true), ok end,
             mf_tick = fun ?MODULE:tick/1,
             mf_getstat = fun ?MODULE:getstat/1,
             mf_setopts = fun ?MODULE:setopts/2,
             mf_getopts = fun ?MODULE:getopts/2}.

%% A node with a dynamic name has it from us only now.
name_streams(Port, Node, #{name := Name}) ->
    case atom_to_binary(Node, utf8) of
        Name -> ok;
        _ -> _ = barrel_p2p_drv_streams:node_name(Port, Node), ok
    end.

net_address(#{ip := Ip, port := UdpPort} = Peer, Node) ->
    Host = case Peer of
               #{host := H} -> H;
               _ -> lists:last(string:split(atom_to_list(Node), "@"))
           end,
    #net_address{address = {Ip, UdpPort}, host = Host, protocol = quic, family = inet}.

hs_send(Port, Data) ->
    case iolist_to_binary(Data) of
        <<"sn", _/binary>> -> put(?REFUSED, true);      % nok, not_allowed
        _ -> ok
    end,
    barrel_p2p_drv_conn:send(Port, Data).

hs_recv(Port, _Length, _Timeout) ->
    case barrel_p2p_drv_conn:recv(Port) of
        {ok, Msg} -> hs_received(Msg);
        wait -> hs_wait(Port, get(?DIALLING));
        {error, Reason} -> hs_failed(Reason)
    end.

hs_wait(Port, undefined) ->
    receive
        {Port, {hs, Msg}} -> hs_received(Msg);
        {Port, {failed, Err, Text}} -> hs_failed({Err, Text})
    end;
hs_wait(Port, Timeout) ->
    receive
        {Port, {authenticated, Name, Fingerprint}} ->
            dialled(Port, (get(?PEER))#{name := Name, fingerprint := Fingerprint});
        {Port, {tls_connected}} ->
            Peer = get(?PEER),
            case barrel_p2p_conn:dialled(Port, Peer, barrel_p2p_config:auth_callback(), Timeout) of
                ok -> dialled(Port, Peer);
                {error, {Err, Text}} -> hs_failed({Err, Text})
            end;
        {Port, {failed, Err, Text}} ->
            hs_failed({Err, Text})
    after Timeout + margin(Timeout) div 2 ->
        #{ip := Ip, port := UdpPort} = get(?PEER),
        hs_failed({timeout, ["no answer from ", address_text({Ip, UdpPort})]})
    end.

dialled(Port, Peer) ->
    erase(?DIALLING),
    put(?PEER, Peer),
    apply_options(Port, inet_dist_connect_options),
    hs_wait(Port, undefined).

%% The peer prefers a connection of its own to us. net_kernel ends this process when that arrives.
%% But it may have ended already, while the peer is still in its handshake: then nothing arrives,
%% and dist_util would wait until the setup time is over. OTP 27 gets there easily.
hs_received(<<"snok">>) ->
    receive after min(?NOK_WAIT_MS bsl min(get(?NOKS), 3), ?NOK_WAIT_MAX_MS) ->
        throw({?MODULE, nok})
    end;
%% The name in the first message is for our log, should the handshake fail.
hs_received(<<$N, _Flags:64, _Creation:32, Len:16, Name:Len/binary, _/binary>> = Msg) ->
    get(?CLAIMED) =:= undefined andalso put(?CLAIMED, Name),
    {ok, binary_to_list(Msg)};
hs_received(Msg) ->
    {ok, binary_to_list(Msg)}.

%% The dial has failed: another address may do. Later dist_util drops some reasons on its way out:
%% keep it for the log line.
hs_failed(Reason) ->
    case erase(?DIALLING) of
        undefined ->
            put(?FAILURE, Reason),
            {error, Reason};
        _ ->
            throw({?MODULE, {error, Reason}})
    end.

%% Before net_kernel hears of it: whoever has dialled the node finds it in barrel_p2p:peers(). (The VM tells
%% subscribers of nodeup a moment earlier.)
tell_up(Port, Node, #{ip := Ip, port := UdpPort, fingerprint := Fp, direction := Dir}) ->
    barrel_p2p_node:peer_up(Node, Port, #{address => address_text({Ip, UdpPort}),
                                          fingerprint => Fp, direction => Dir}).

%% Runs dist_util's side of the handshake and, if that succeeds, its loop for as long as the
%% connection lives. A handshake that fails is worth one line that says what to do. Returns only to
%% say that it is worth another dial, or that the node was not there.
-spec handshake(fun((#hs_data{}) -> no_return()), #hs_data{}, map()) -> nok | barrel_p2p_drv:error().
handshake(Fun, HsData, Peer) ->
    try Fun(HsData)
    catch
        throw:{?MODULE, Result} ->
            Result;
        Class:Reason:Stack ->
            case get(?UP) of
                true -> erlang:raise(Class, Reason, Stack);
                undefined -> handshake_failed(Class, Reason, Stack, HsData#hs_data.other_node, Peer)
            end
    end.

-spec handshake_failed(error | exit | throw, term(), list(), term(), map()) -> no_return().
handshake_failed(Class, Reason, Stack, Node, Peer) ->
    case explain(Class, Reason, Stack, get(?FAILURE), maps:get(direction, Peer)) of
        silent ->
            last_words();
        {Err, Text} ->
            #{ip := Ip, port := UdpPort, name := Authenticated} = Peer,
            Name = case {Node, Authenticated, get(?CLAIMED)} of
                       {undefined, <<>>, undefined} -> <<"unknown">>;
                       {undefined, <<>>, Claimed} -> Claimed;
                       {undefined, _, _} -> Authenticated;
                       _ -> atom_to_binary(Node, utf8)
                   end,
            barrel_p2p_node:report(warning, handshake_failed, Name, Err,
                                   at(Text, Ip, UdpPort))
    end,
    case Class of
        exit -> exit(Reason);
        _ -> ?shutdown2(Node, {handshake_crashed, Reason})
    end.

%% A status that refuses the connection must reach the peer before the close does. In all other
%% cases this process ends at once: as long as it lives it is pending for net_kernel, which would
%% refuse the peer's next attempt, and the peer would wait for a connection of ours that never comes.
last_words() ->
    case get(?REFUSED) of
        true -> receive after ?LAST_WORDS_MS -> ok end;
        undefined -> ok
    end.

explain(exit, {recv_challenge_reply_failed, bad_cookie}, _, _, _) ->
    {bad_cookie, "its cookie is not ours: start both nodes with the same -setcookie or "
     "{barrel_p2p,[{dist_cookie,_}]}"};
explain(exit, {recv_challenge_ack_failed, bad_cookie}, _, _, _) ->
    {bad_cookie, "its cookie is not ours: start both nodes with the same -setcookie or "
     "{barrel_p2p,[{dist_cookie,_}]}"};
explain(exit, {recv_challenge_ack_failed, {error, {Err, Text}}}, _, _, _)
  when Err =/= timeout ->
    {bad_cookie, ["it refused us after it saw our answer to its challenge, most likely because the "
                  "cookies differ (", Text, "): start both nodes with the same -setcookie or "
                  "{barrel_p2p,[{dist_cookie,_}]}"]};
explain(exit, {recv_status_failed, not_allowed}, _, _, _) ->
    {not_allowed, "it does not allow us: see net_kernel:allow/1 and its log"};
explain(exit, {is_allowed, not_allowed}, _, _, _) ->
    {not_allowed, "refused: it is not in the list given to net_kernel:allow/1"};
explain(exit, {check_dflags_failed, Missing}, _, _, _) ->
    {check_dflags_failed, io_lib:format("its Erlang/OTP lacks ~tp: update it", [Missing])};
explain(exit, shutdown, _, {connection_closed, _}, accepted) ->
    silent;                     % the peer prefers another connection to us
explain(exit, {recv_name_failed, _}, _, {connection_closed, _}, accepted) ->
    silent;                     % the same as OTP 27 says it
explain(exit, {f_setopts_pre_nodeup_failed, _}, _, _, _) ->
    silent;                     % the driver has said it; OTP 25 exits with shutdown
explain(exit, Reason, _, {Err, Text}, _) ->
    {Err, ["the connection ended in the distribution handshake", stage(Reason), ": ", Text]};
explain(exit, shutdown, _, undefined, _) ->
    silent;                     % net_kernel prefers another connection to this node
explain(exit, Reason, _, undefined, _) ->
    {handshake_failed, io_lib:format("~tp", [Reason])};
explain(error, Reason, Stack, _, _) ->
    {handshake_failed, io_lib:format("malformed message: ~tp ~tp", [Reason, hd(Stack ++ [none])])};
explain(throw, Reason, _, _, _) ->
    {handshake_failed, io_lib:format("~tp", [Reason])}.

%% dist_util's word for the step that failed.
stage({Stage, _}) when is_atom(Stage) -> [" (", atom_to_list(Stage), ")"];
stage(_) -> "".

address_text({Ip, UdpPort}) ->
    case inet:ntoa(Ip) of
        Text when is_list(Text), tuple_size(Ip) =:= 8 ->
            "[" ++ Text ++ "]:" ++ integer_to_list(UdpPort);
        Text when is_list(Text) ->
            Text ++ ":" ++ integer_to_list(UdpPort);
        _ ->
            "unknown:" ++ integer_to_list(UdpPort)
    end.

%% --- called by dist_util's loop ----------------------------------------------

%% @private
tick(Port) ->
    case barrel_p2p_drv_conn:tick(Port) of
        ok ->
            ok;
        {error, closed} = Error ->
            self() ! {tcp_closed, Port},        % dist_util's word for it, whatever the carrier
            Error
    end.

%% @private
getstat(Port) ->
    barrel_p2p_drv_conn:getstat(Port).

%% Options of one connection (a port), or for connections to come (the "listen socket"):
%% {priority, 0..6}, {tos, 0..255}, {recbuf, Bytes}, {sndbuf, Bytes} of its UDP socket. nodelay and
%% keepalive are accepted and mean nothing: nothing is ever delayed, and QUIC keeps itself alive.
%% Others give `{error, einval}', active, deliver and packet `{error, {badopts, _}}'.
-spec setopts(port() | pid() | undefined, [term()]) -> ok | {error, term()}.
setopts(Socket, Opts) ->
    case [Opt || {K, _} = Opt <- Opts, K =:= active orelse K =:= deliver orelse K =:= packet] of
        [] ->
            case lists:all(fun option_ok/1, Opts) of
                true when is_port(Socket) -> set_port_options(Socket, Opts);
                true -> ok;
                false -> {error, einval}
            end;
        Bad ->
            {error, {badopts, Bad}}
    end.

set_port_options(Port, Opts) ->
    case [Opt || {K, _} = Opt <- Opts, K =/= keepalive] of
        [] ->
            ok;
        Known ->
            case barrel_p2p_drv_conn:setopts(Port, Known) of
                ok -> ok;
                {error, {closed, _}} -> {error, closed};
                {error, _} -> {error, einval}
            end
    end.

option_ok({priority, V}) -> is_integer(V) andalso V >= 0 andalso V =< 6;
option_ok({tos, V}) -> is_integer(V) andalso V >= 0 andalso V =< 255;
option_ok({K, V}) when K =:= recbuf; K =:= sndbuf -> is_integer(V) andalso V > 0;
option_ok({K, V}) when K =:= nodelay; K =:= keepalive -> is_boolean(V);
option_ok(_) -> false.

-spec getopts(port() | pid() | undefined, [atom()]) -> {ok, [{atom(), term()}]} | {error, term()}.
getopts(Port, Names) when is_port(Port) ->
    Known = [priority, tos, recbuf, sndbuf, nodelay],
    case lists:all(fun(N) -> N =:= keepalive orelse lists:member(N, Known) end, Names) of
        true ->
            case barrel_p2p_drv_conn:getopts(Port, [N || N <- Names, N =/= keepalive]) of
                {ok, Values} ->
                    All = [{keepalive, true} | Values],
                    {ok, [Item || N <- Names, {K, _} = Item <- All, K =:= N]};
                {error, {closed, _}} -> {error, closed};
                {error, _} -> {error, einval}
            end;
        false ->
            {error, einval}
    end;
getopts(_, _) ->
    {error, einval}.

%% kernel's inet_dist_listen_options and inet_dist_connect_options (net_kernel:setopts(new, _) adds
%% to them), as far as they mean something here.
apply_options(Port, Key) ->
    case application:get_env(kernel, Key) of
        {ok, Opts} when is_list(Opts) ->
            Mine = [O || {K, _} = O <- Opts, lists:member(K, [priority, tos, recbuf, sndbuf]),
                         option_ok(O)],
            Mine =:= [] orelse barrel_p2p_drv_conn:setopts(Port, Mine),
            ok;
        _ ->
            ok
    end.
