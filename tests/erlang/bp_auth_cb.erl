%% SPDX-License-Identifier: Apache-2.0
%% A user's own authentication callback for the suites; BP_CB in the node's environment says what
%% it does: accept | deny | crash | hang | junk | name (claims BP_CB_NAME). What an accepting one
%% saw is in seen/0.
-module(bp_auth_cb).

-export([authenticate/3, seen/0]).

authenticate(Conn, Role, Timeout) ->
    behave(os:getenv("BP_CB", "accept"), Conn, Role, Timeout).

%% [#{role, timeout, address, certificate, got, pid}], newest first.
seen() ->
    persistent_term:get(?MODULE, []).

behave("accept", Conn, Role, Timeout) ->
    Hello = iolist_to_binary(["hello from ", atom_to_list(node())]),
    Got = case Role of
        client ->
            ok = barrel_p2p_conn:send(Conn, Hello, fin),
            recv_all(Conn, Timeout, <<>>);
        server ->
            In = recv_all(Conn, Timeout, <<>>),
            ok = barrel_p2p_conn:send(Conn, binary:part(Hello, 0, 5)),
            Rest = byte_size(Hello) - 5,
            ok = barrel_p2p_conn:send(Conn, binary:part(Hello, 5, Rest), fin),
            In
    end,
    Seen = #{role => Role, timeout => Timeout, address => barrel_p2p_conn:peer_address(Conn),
             certificate => barrel_p2p_conn:peer_certificate(Conn), got => Got, pid => self()},
    persistent_term:put(?MODULE, [Seen | seen()]),
    {ok, accepted};
behave("deny", _, _, _) ->
    {error, not_today};
behave("crash", _, _, _) ->
    error(callback_bug);
behave("hang", _, _, _) ->
    receive never -> ok end;
behave("junk", _, _, _) ->
    whatever;
behave("name", _, _, _) ->
    {ok, #{node => list_to_binary(os:getenv("BP_CB_NAME"))}}.

recv_all(Conn, Timeout, Acc) ->
    case barrel_p2p_conn:recv(Conn, Timeout) of
        {ok, Data, nofin} -> recv_all(Conn, Timeout, <<Acc/binary, Data/binary>>);
        {ok, Data, fin} -> <<Acc/binary, Data/binary>>
    end.
