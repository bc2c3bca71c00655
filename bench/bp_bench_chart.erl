%% SPDX-License-Identifier: Apache-2.0
%% The comparison as a bar chart (SVG): each carrier's speed as a multiple of plain TCP's, on a
%% logarithmic scale, so that 1 is TCP and longer is faster, whatever is measured.
-module(bp_bench_chart).

-export([svg/1]).

-define(LEFT, 250).
-define(WIDTH, 860).
-define(BAR, 13).
-define(GAP, 16).
-define(TOP, 74).
-define(DECADES_LEFT, 2).       % 0.01 .. 10 times TCP
-define(DECADES, 3).

%% {Figure, Title, what a larger value means}
rows() ->
    [{rtt_p50, "round trip, 64 bytes", slower},
     {messages_1, "small messages, 1 pair", faster},
     {messages_16, "small messages, 16 pairs", faster},
     {bulk_1, "1 MB messages, 1 sender", faster},
     {bulk_8, "1 MB messages, 8 senders", faster},
     {bulk_ping_p50, "round trip during bulk", slower},
     {third_p50, "round trip to a third node during bulk", slower},
     {connect_p50, "connect, authentication included", slower}].

color(tcp_delay) -> "#9aa5b1";
color(tls) -> "#d98e04";
color(quic) -> "#1f6feb";
color(quic_1452) -> "#8ab4f8";
color(_) -> "#57606a".

-spec svg(bp_bench_report:result()) -> iodata().
svg(#{carriers := Carriers, samples := Samples, machine := Machine}) ->
    Bars = [C || C <- Carriers, C =/= tcp],
    Rows = [{Title, [{C, speed(Figure, C, Means, Samples)} || C <- Bars]}
            || {Figure, Title, Means} <- rows(),
               bp_bench_report:ratio(Figure, tcp, tcp, Samples) =/= none],
    RowHeight = length(Bars) * ?BAR + ?GAP,
    Height = ?TOP + length(Rows) * RowHeight + 30,
    [io_lib:format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ~b ~b\" "
                   "font-family=\"sans-serif\" font-size=\"12\">~n"
                   "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>~n",
                   [?WIDTH, Height]),
     text(16, 22, "start", "15", "#24292f", "Speed as a multiple of plain TCP distribution"),
     text(16, 40, "start", "11", "#57606a",
          [maps:get(date, Machine), ", ", maps:get(cpu, Machine), ", ",
           integer_to_list(maps:get(cores, Machine)), " cores, loopback; median of the rounds"]),
     legend(Bars), grid(Height),
     [row(Row, ?TOP + I * RowHeight) || {I, Row} <- lists:enumerate(0, Rows)],
     "</svg>\n"].

speed(Figure, Carrier, faster, Samples) ->
    bp_bench_report:ratio(Figure, Carrier, tcp, Samples);
speed(Figure, Carrier, slower, Samples) ->
    bp_bench_report:ratio(Figure, tcp, Carrier, Samples).

legend(Bars) ->
    [[io_lib:format("<rect x=\"~b\" y=\"50\" width=\"11\" height=\"11\" fill=\"~s\"/>~n",
                    [?LEFT + I * 140, color(C)]),
      text(?LEFT + I * 140 + 16, 60, "start", "12", "#24292f", bp_bench_carrier:title(C))]
     || {I, C} <- lists:enumerate(0, Bars)].

%% Lines at 0.01, 0.1, 1 and 10.
grid(Height) ->
    [[io_lib:format("<line x1=\"~b\" x2=\"~b\" y1=\"~b\" y2=\"~b\" stroke=\"~s\"/>~n",
                    [X, X, ?TOP - 4, Height - 24, Stroke]),
      text(X, Height - 10, "middle", "11", "#57606a", Label)]
     || {Exp, Label, Stroke} <- [{-2, "0.01", "#e1e4e8"}, {-1, "0.1", "#e1e4e8"},
                                 {0, "1 (TCP)", "#24292f"}, {1, "10", "#e1e4e8"}],
        X <- [at(math:pow(10, Exp))]].

row({Title, Values}, Y) ->
    Middle = Y + length(Values) * ?BAR div 2 + 4,
    [text(?LEFT - 10, Middle, "end", "12", "#24292f", Title),
     [bar(C, V, Y + I * ?BAR) || {I, {C, V}} <- lists:enumerate(0, Values), V =/= none]].

%% From 1 to the right if it is faster, to the left if it is slower.
bar(Carrier, {Median, _, _}, Y) ->
    {One, X} = {at(1), at(Median)},
    [io_lib:format("<rect x=\"~b\" y=\"~b\" width=\"~b\" height=\"~b\" fill=\"~s\"/>~n",
                   [min(One, X), Y, max(1, abs(X - One)), ?BAR - 2, color(Carrier)]),
     case X >= One of
         true -> text(X + 4, Y + 9, "start", "10", "#24292f", number(Median));
         false -> text(X - 4, Y + 9, "end", "10", "#24292f", number(Median))
     end].

%% Values outside of the scale end at its edge.
at(Value) ->
    Log = max(-?DECADES_LEFT * 1.0, min(?DECADES - ?DECADES_LEFT * 1.0, math:log10(Value))),
    ?LEFT + 30 + round((Log + ?DECADES_LEFT) * (?WIDTH - ?LEFT - 90) / ?DECADES).

number(V) when V < 0.095 -> float_to_list(V * 1.0, [{decimals, 3}]);
number(V) -> float_to_list(V * 1.0, [{decimals, 2}]).

text(X, Y, Anchor, Size, Fill, Text) ->
    io_lib:format("<text x=\"~b\" y=\"~b\" text-anchor=\"~s\" font-size=\"~s\" fill=\"~s\">"
                  "~ts</text>~n", [X, Y, Anchor, Size, Fill, escape(Text)]).

escape(Text) ->
    [case C of
         $& -> "&amp;";
         $< -> "&lt;";
         $> -> "&gt;";
         _ -> [C]
     end || C <- unicode:characters_to_list(Text)].
