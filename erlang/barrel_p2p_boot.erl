%% SPDX-License-Identifier: Apache-2.0
%% Brings the carrier up inside net_kernel: the driver, the four steps of listen/2, the cookie.
-module(barrel_p2p_boot).

-export([prepare/1, ensure_ready/1, failed/2, reason_text/1]).

%% Everything that does not need the UDP port: also what a node without a listener runs. Node is
%% "n@h", or "nonode@nohost" before a dynamic node has its name.
-spec prepare(string()) -> {ok, pid()} | {error, term()}.
prepare(Node) ->
    case barrel_p2p_node:attach(self(), Node) of
        {ok, Pid} ->
            case steps(Node) of
                ok ->
                    warm_up(),
                    {ok, Pid};
                {error, _} = Error ->
                    barrel_p2p_node:stop(),
                    Error
            end;
        {error, Reason} ->
            failed(driver, Reason)
    end.

%% The first connect would load these (a release has them since its boot), on both sides, one after
%% the other; nobody waits for them here.
warm_up() ->
    _ = spawn(fun() -> lists:foreach(fun code:ensure_loaded/1, [dist_util, io_lib]) end),
    ok.

steps(Node) ->
    %% Step 1 must know where the user wants the files, so the environments are loaded first; a
    %% failure of that is step 2's and is reported as such.
    case barrel_p2p_config:load_env() of
        ok -> step_tls(Node);
        {error, Reason} -> failed(environment, Reason)
    end.

step_tls(Node) ->
    {CertFile, KeyFile} = barrel_p2p_config:tls_files(),
    case barrel_p2p_drv_keys:tls_ensure(CertFile, KeyFile, Node) of
        {ok, _NotAfter} ->
            _ = barrel_p2p_rotate:check_cert(CertFile, KeyFile, Node),
            step_defaults();
        {error, Reason} ->
            failed(tls, Reason)
    end.

step_defaults() ->
    try barrel_p2p_dist:project_defaults() of
        ok -> step_validation()
    catch
        _:Reason -> failed(defaults, Reason)
    end.

step_validation() ->
    try barrel_p2p_dist:validate_auth_config(application:get_env(quic, dist, [])) of
        ok -> configure()
    catch
        error:{Who, _} = Reason when Who =:= barrel_p2p_dist; Who =:= barrel_p2p ->
            failed(validation, Reason)
    end.

%% Open, though it was asked for: say so.
warn_cookie_only([]) ->
    ok;
warn_cookie_only(Names) ->
    barrel_p2p_node:report(
      warning, cookie_only_nodes, <<"any">>, cookie_only_nodes,
      io_lib:format("nodes that call themselves ~tp connect with the cookie alone, without proof of "
                    "who they are (cookie_only_nodes): meant for nodes that have no key",
                    [Names])).

configure() ->
    warn_cookie_only(application:get_env(barrel_p2p, cookie_only_nodes, [])),
    barrel_p2p_config:apply_cookie(),
    try barrel_p2p_config:port_candidates(barrel_p2p_config:dist_listen_port()) of
        [Port | _] ->
            case barrel_p2p_node:configure(Port) of
                {ok, _Fingerprint} -> ok;
                {error, Reason} -> failed(config, Reason)
            end
    catch
        error:{barrel_p2p_dist, _} = Reason -> failed(validation, Reason)
    end.

%% One line for people, and the reason that net_kernel prints before it gives up. When the VM is
%% still booting it halts on this, and the log would not be written any more.
-spec failed(atom(), term()) -> {error, term()}.
failed(Step, Reason) ->
    {Name, Error} = failure(Step, Reason),
    Text = unicode:characters_to_binary([Name, " failed: ", reason_text(Reason)]),
    case init:get_status() of
        {starting, _} ->
            erlang:display_string("barrel_p2p: " ++ unicode:characters_to_list(Text) ++ "\n");
        _ ->
            barrel_p2p_node:report_now(error, boot_failed, <<"any">>, Error, Text)
    end,
    {error, Error}.

failure(tls, R) -> {"step 1 of 4, TLS material,", {cert_ensure_failed, plain(R)}};
failure(environment, R) -> {"step 2 of 4, application environments,", {environment_failed, R}};
failure(defaults, R) -> {"step 3 of 4, defaults,", {defaults_failed, R}};
failure(validation, R) -> {"step 4 of 4, validation,", R};
failure(driver, R) -> {"loading the driver", {driver_failed, plain(R)}};
failure(config, R) -> {"configuring the driver", {config_failed, plain(R)}};
failure(carrier, R) -> {"publishing this node", R};
failure(listen, {duplicate_name, _}) -> {"claiming the node name", duplicate_name};
failure(listen, {eaddrinuse, _}) -> {"opening the UDP port", eaddrinuse};
failure(listen, R) -> {"opening the UDP port", {listen_failed, plain(R)}}.

%% net_kernel prints with erlang:display, which shows strings but not binaries as text.
plain({Err, Text}) when is_binary(Text) -> {Err, unicode:characters_to_list(Text)};
plain(Other) -> Other.

-spec reason_text(term()) -> iodata().
reason_text({_, Text}) when is_binary(Text) -> Text;
reason_text({barrel_p2p_dist, auth_enabled_without_callback}) ->
    "auth_enabled is true but {quic,[{dist,[{auth_callback,undefined}]}]} switches authentication "
        "off: remove that entry, or say {barrel_p2p,[{auth_enabled,false}]} if you mean it";
reason_text({barrel_p2p_dist, {bad_config, Key, Value, Want}}) ->
    io_lib:format("~ts is ~tp: ~ts (`barrel-p2p config check FILE` checks a whole sys.config)",
                  [Key, Value, Want]);
reason_text({barrel_p2p_dist, {auth_callback_not_found, Callback}}) ->
    io_lib:format("auth_callback is ~tp, and there is no such function: is its module in the code path?",
                  [Callback]);
reason_text({barrel_p2p, cookie_only_nodes_with_default_cookie}) ->
    "cookie_only_nodes lets nodes in that have the cookie alone, and this one is public: set your own "
        "with -setcookie or {barrel_p2p,[{dist_cookie,_}]}";
reason_text({barrel_p2p_dist, {conflicting_module, Module, File}}) ->
    io_lib:format("the code path has another carrier's module ~ts (~ts, of the package 'quic'), "
                  "which reads the same configuration: remove that package", [Module, File]);
reason_text({barrel_p2p_epmd, {wrong_carrier, Driver}}) ->
    io_lib:format("its distribution would run over ~tp, without encryption by this carrier, and this "
                  "-epmd_module is for -proto_dist barrel_p2p alone: give both flags or neither",
                  [Driver]);
reason_text({barrel_p2p_dist, {not_published, Epmd, Reason}}) ->
    io_lib:format("~tp says ~tp: start the node with -epmd_module barrel_p2p_epmd", [Epmd, Reason]);
reason_text(Reason) ->
    io_lib:format("~tp", [Reason]).

%% The same for a node without a listener, once per net_kernel (the caller).
-spec ensure_ready(string()) -> ok | {error, term()}.
ensure_ready(Node) ->
    case barrel_p2p_node:ready(self()) of
        true ->
            ok;
        false ->
            try prepare(Node) of
                {ok, _} -> ok;
                {error, _} = Error -> Error
            catch
                error:Reason -> {error, Reason}
            end
    end.
