%% SPDX-License-Identifier: Apache-2.0
%% Control calls to the driver and their encoding, for the modules that wrap the commands.
-module(barrel_p2p_drv_ctl).

-export([control/3, node_control/2, result/1, ok/1, counters/1]).
-export([tlv/2, untlv/1, encode/2, text/1]).

-type error() :: barrel_p2p_drv:error().

%% Of the node port.
-spec node_control(byte(), iodata()) -> {ok, binary()} | error().
node_control(Op, Data) ->
    control(barrel_p2p_node_port, Op, Data).

-spec control(port() | atom(), byte(), iodata()) -> {ok, binary()} | error().
control(Port, Op, Data) ->
    try port_control(Port, Op, Data) of
        Bin -> result(Bin)
    catch
        error:_ -> {error, {closed, <<"the port is closed">>}}
    end.

%% A reply, also one that comes as a message.
-spec result(binary()) -> {ok, binary()} | error().
result(<<0, Result/binary>>) -> {ok, Result};
result(<<1, Len, Err:Len/binary, Text/binary>>) -> {error, {binary_to_atom(Err, latin1), Text}};
result(Other) -> {error, {bad_reply, unicode:characters_to_binary(io_lib:format("~tp", [Other]))}}.

ok({ok, _}) -> ok;
ok({error, _} = Error) -> Error.

%% Names and values, as the statistics have them.
counters({ok, Bin}) ->
    {ok, maps:from_list([{K, V} || <<L, K:L/binary, V:64>> <= Bin])};
counters({error, _} = Error) ->
    Error.

%% One item of the arguments: its key, and its value as it is.
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
