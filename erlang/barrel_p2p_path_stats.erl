%% SPDX-License-Identifier: Apache-2.0
%% What a connection knows of its network path. Keys and units are those of upstream, plus some.
-module(barrel_p2p_path_stats).

-export([summary/1, srtt/1, connection/1]).

-export_type([summary/0]).

%% Times are in microseconds, sizes in bytes, counts since the connection was made. `srtt' and its
%% kin begin anew when the path changes. `in_recovery': something waits for its acknowledgement
%% longer than a probe timeout. `congested': more than two congestion windows of data wait to be sent
%% (in recovery: one). `packets_lost' is undefined where ngtcp2 does not tell (before 1.16).
-type summary() :: #{srtt := non_neg_integer(), latest_rtt := non_neg_integer(),
                     min_rtt := non_neg_integer(), rtt_var := non_neg_integer(),
                     cwnd := non_neg_integer(), bytes_in_flight := non_neg_integer(),
                     in_recovery := boolean(), congested := boolean(),
                     bytes_sent := non_neg_integer(), bytes_received := non_neg_integer(),
                     packets_sent := non_neg_integer(), packets_received := non_neg_integer(),
                     packets_lost := non_neg_integer() | undefined,
                     datagram_size := pos_integer(), pending := non_neg_integer(),
                     local := barrel_p2p_drv_path:endpoint() | undefined,
                     remote := barrel_p2p_drv_path:endpoint() | undefined,
                     relay := binary() | undefined,
                     migrations := non_neg_integer(), silent_ms := non_neg_integer()}.
-type no_connection() :: not_connected | no_conn.

%% not_connected: there is no connection to Node; no_conn: it uses another carrier.
-spec summary(node()) -> {ok, summary()} | {error, no_connection()}.
summary(Node) ->
    case barrel_p2p_path:port(Node) of
        {ok, Port} ->
            case {barrel_p2p_drv_conn:stats(Port), barrel_p2p_drv_path:path(Port)} of
                {{ok, Counters}, {ok, #{local := Local, remote := Remote, relay := Relay}}} ->
                    {ok, (map(Counters))#{local => Local, remote => Remote, relay => Relay}};
                _ ->
                    {error, not_connected}
            end;
        {error, _} = Error ->
            Error
    end.

map(C) ->
    #{<<"pending">> := Pending, <<"cwnd">> := Cwnd, <<"in_recovery">> := Recovery} = C,
    Copied = maps:from_list([{K, maps:get(atom_to_binary(K, utf8), C)} || K <- copied()]),
    Copied#{in_recovery => Recovery =/= 0,
            congested => Pending > Cwnd * (2 - Recovery),
            packets_received => maps:get(<<"datagrams_received">>, C),
            packets_lost => maps:get(<<"packets_lost">>, C, undefined)}.

copied() ->
    [srtt, latest_rtt, min_rtt, rtt_var, cwnd, bytes_in_flight, bytes_sent, bytes_received,
     packets_sent, datagram_size, pending, migrations, silent_ms].

%% The smoothed round-trip time in microseconds.
-spec srtt(node()) -> {ok, non_neg_integer()} | {error, no_connection()}.
srtt(Node) ->
    case summary(Node) of
        {ok, #{srtt := Srtt}} -> {ok, Srtt};
        {error, _} = Error -> Error
    end.

%% The process that looks after the connection.
-spec connection(node()) -> {ok, pid()} | {error, no_connection()}.
connection(Node) ->
    case barrel_p2p_path:port(Node) of
        {ok, Port} ->
            case erlang:port_info(Port, connected) of
                {connected, Pid} -> {ok, Pid};
                undefined -> {error, not_connected}
            end;
        {error, _} = Error ->
            Error
    end.
