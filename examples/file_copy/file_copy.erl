%% SPDX-License-Identifier: Apache-2.0
%% Copies files between two nodes over a tagged stream of barrel_p2p, with a progress bar and a
%% checksum; a copy whose connection ends goes on where it was.
%%
%%   on the receiving node    file_copy:serve("/srv/incoming").
%%   on the sending node      file_copy:send("big.iso", 'b@host').
%%
%% One stream for each attempt:
%%
%%   sender     NameLen:16, Name, Size:64
%%   receiver   Offset:64                 bytes that it has already, from an earlier attempt
%%   sender     the bytes from there on, then the SHA-256 of the whole file; end
%%   receiver   0: it has all, and the sum is right; 1: it is not; end
-module(file_copy).

-export([serve/1, stop/1, send/2, send/3]).
-export([main/1]).

-define(TAG, <<"file_copy">>).
-define(CHUNK, 1000000).
-define(RETRY_MS, 500).
-define(ANSWER_MS, 60000).
-define(SHA_LEN, 32).

%% --- receiving -------------------------------------------------------------------

%% Takes files into Dir until stop/1. An unfinished one is kept as Name.part.
-spec serve(file:filename()) -> {ok, pid()} | {error, term()}.
serve(Dir) ->
    {ok, _} = application:ensure_all_started(barrel_p2p),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Pid = spawn(fun() -> acceptor(Dir, #{}) end),
    case barrel_p2p_streams:register_acceptor(?TAG, Pid) of
        ok -> {ok, Pid};
        {error, _} = Error -> exit(Pid, kill), Error
    end.

-spec stop(pid()) -> ok.
stop(Pid) ->
    exit(Pid, kill),
    barrel_p2p_streams:unregister_acceptor(?TAG).

%% A process for each stream: a slow disk holds up its own copy alone. Of two that write the same
%% file the older one ends: the connection that feeds it is gone, and it may not know yet.
acceptor(Dir, Writers) ->
    Acceptor = self(),
    receive
        {mstream, Ref, opened, From} ->
            Pid = spawn(fun() ->
                receive go -> ok end,
                receive_file(Acceptor, Ref, From, Dir)
            end),
            _ = quic_dist:controlling_process(Ref, Pid),
            Pid ! go,
            acceptor(Dir, Writers);
        {writes, Path, Pid} ->
            ok = end_process(maps:get(Path, Writers, none)),
            Pid ! {writes, Path},
            acceptor(Dir, Writers#{Path => Pid});
        _ ->
            acceptor(Dir, Writers)
    end.

end_process(none) ->
    ok;
end_process(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

receive_file(Acceptor, Ref, From, Dir) ->
    {ok, <<Len:16>>, In1} = take(Ref, 2, <<>>),
    {ok, <<Name:Len/binary, Size:64>>, In2} = take(Ref, Len + 8, In1),
    Path = filename:join(Dir, safe_name(Name)),
    Part = Path ++ ".part",
    Acceptor ! {writes, Path, self()},
    receive {writes, Path} -> ok end,
    {ok, File} = file:open(Part, [read, write, raw, binary]),
    {Have, Hash} = hash_file(File, 0, Size, crypto:hash_init(sha256)),
    {ok, Have} = file:position(File, Have),
    ok = file:truncate(File),
    ok = quic_dist:send(Ref, <<Have:64>>),
    Have > 0 andalso say("~ts from ~ts: goes on after ~b of ~b bytes", [Path, From, Have, Size]),
    case write_file(Ref, File, Size - Have, Hash, In2) of
        {ok, Sum, In3} ->
            {ok, Wanted, <<>>} = take(Ref, ?SHA_LEN, In3),
            ok = file:close(File),
            finish(Sum =:= Wanted, Ref, Part, Path),
            say("~ts from ~ts: ~b bytes, ~s", [Path, From, Size, verdict(Sum =:= Wanted)]);
        {cut, Left} ->
            ok = file:close(File),
            say("~ts from ~ts: the connection ended after ~b of ~b bytes; they are kept for the next "
                "attempt", [Path, From, Size - Left, Size])
    end.

verdict(true) -> "the checksum is right";
verdict(false) -> "the checksum is WRONG: deleted".

finish(true, Ref, Part, Path) ->
    ok = file:rename(Part, Path),
    ok = quic_dist:send(Ref, <<0>>, true),
    await_closed(Ref);
finish(false, Ref, Part, _Path) ->
    ok = file:delete(Part),             % nobody knows which byte is wrong
    ok = quic_dist:send(Ref, <<1>>, true),
    await_closed(Ref).

await_closed(Ref) ->
    receive {quic_dist_stream, Ref, closed} -> ok after ?ANSWER_MS -> ok end.

write_file(_, _, 0, Hash, In) ->
    {ok, crypto:hash_final(Hash), In};
write_file(Ref, File, Left, Hash, <<>>) ->
    case next(Ref) of
        {ok, Bin} -> write_file(Ref, File, Left, Hash, Bin);
        _ -> {cut, Left}
    end;
write_file(Ref, File, Left, Hash, In) ->
    N = min(Left, byte_size(In)),
    <<Bin:N/binary, Rest/binary>> = In,
    ok = file:write(File, Bin),
    write_file(Ref, File, Left - N, crypto:hash_update(Hash, Bin), Rest).

%% Whatever a peer says, it stays in the directory.
safe_name(Name) ->
    case filename:basename(binary_to_list(Name)) of
        Bad when Bad =:= ""; Bad =:= "."; Bad =:= ".." -> error({bad_name, Name});
        Good -> Good
    end.

%% --- sending -----------------------------------------------------------------------

send(File, Node) ->
    send(File, Node, #{}).

%% Sends File; a connection that ends is dialled again, until `patience' (ms, 60000) has brought nothing
%% forward. `progress' is called with bytes done and size; default: a bar on standard output, where what
%% happens is said, too.
%% Result: bytes that crossed the network, and attempts.
-spec send(file:filename(), node(), map()) ->
          {ok, #{sent := non_neg_integer(), attempts := pos_integer()}} | {error, term()}.
send(File, Node, Options) ->
    {ok, _} = application:ensure_all_started(barrel_p2p),
    case file:open(File, [read, raw, binary]) of
        {ok, Fd} ->
            Progress = maps:get(progress, Options, fun bar/2),
            try start(Fd, filename:basename(File), Node, Progress, Options)
            after
                file:close(Fd)
            end;
        {error, _} = Error ->
            Error
    end.

start(Fd, Name, Node, Progress, Options) ->
    {ok, Size} = file:position(Fd, eof),
    attempts(#{fd => Fd, name => unicode:characters_to_binary(Name), node => Node, size => Size,
               progress => Progress, patience => maps:get(patience, Options, 60000)},
             0, 1, 0, now_ms(), none).

%% Best: how far any attempt has come, at the time At. Said: why the last one failed, if it came no
%% further than those before.
attempts(#{patience := Patience} = Job, Sent, N, Best, At, Said) ->
    case once_taken(attempt(Job), Best) of
        {ok, Bytes} ->
            {ok, #{sent => Sent + Bytes, attempts => N}};
        {error, _} = Error ->
            Error;
        {again, Why, Bytes, Done} ->
            {Best1, At1} = case Done > Best of
                               true -> {Done, now_ms()};
                               false -> {Best, At}
                           end,
            Wait = Patience - (now_ms() - At1),
            Done =< Best andalso Why =:= Said orelse say_again(Why, Done, Wait, Job),
            case Wait > 0 of
                true ->
                    timer:sleep(?RETRY_MS),
                    attempts(Job, Sent + Bytes, N + 1, Best1, At1, Why);
                false ->
                    {error, Why}
            end
    end.

say_again(not_connected, 0, Wait, #{node := Node}) ->
    say("cannot connect to ~ts; trying for ~b s", [Node, max(0, Wait) div 1000]);
say_again({refused, _}, _, _, #{node := Node}) ->
    say("~ts does not take files again yet; trying again", [Node]);
say_again(_, Done, _, #{node := Node, size := Size}) ->
    say("the connection to ~ts ended at ~b of ~b MB; trying again",
        [Node, Done div 1000000, Size div 1000000]).

%% A receiver that has been killed is back before it takes files again.
once_taken({error, {refused, _} = Why}, Best) when Best > 0 -> {again, Why, 0, 0};
once_taken(Result, _) -> Result.

attempt(#{node := Node, name := Name, size := Size} = Job) ->
    case barrel_p2p_streams:open(?TAG, Node) of
        {ok, Ref} ->
            _ = quic_dist:send(Ref, <<(byte_size(Name)):16, Name/binary, Size:64>>),
            case take(Ref, 8, <<>>) of
                {ok, <<Offset:64>>, <<>>} -> send_from(Offset, Ref, Job);
                {refused, Code} -> {error, {refused, Code}};
                cut -> {again, connection_ended, 0, 0}
            end;
        {error, Why} ->
            {again, Why, 0, 0}
    end.

send_from(Offset, Ref, #{fd := Fd, size := Size} = Job) ->
    Offset > 0 andalso say("goes on after ~b MB, which are there already", [Offset div 1000000]),
    {Offset, Hash} = hash_file(Fd, 0, Offset, crypto:hash_init(sha256)),
    case send_bytes(Fd, Offset, Ref, Hash, Job) of
        {ok, Sum} ->
            case quic_dist:send(Ref, Sum, true) of
                ok -> answer(Ref, Size, Offset);
                {error, Why} -> {again, Why, Size - Offset, Size}
            end;
        {cut, Why, Done} ->
            {again, Why, Done - Offset, Done}
    end.

send_bytes(Fd, Done, Ref, Hash, #{size := Size, progress := Progress} = Job) ->
    Progress(Done, Size),
    case Done < Size of
        false ->
            {ok, crypto:hash_final(Hash)};
        true ->
            {ok, Bin} = file:pread(Fd, Done, min(?CHUNK, Size - Done)),
            case quic_dist:send(Ref, Bin) of
                ok -> send_bytes(Fd, Done + byte_size(Bin), Ref, crypto:hash_update(Hash, Bin), Job);
                {error, Why} -> {cut, Why, Done}
            end
    end.

answer(Ref, Size, Offset) ->
    case take(Ref, 1, <<>>) of
        {ok, <<0>>, _} -> {ok, Size - Offset};
        {ok, <<1>>, _} -> {error, checksum};
        {refused, Code} -> {error, {refused, Code}};
        cut -> {again, connection_ended, Size - Offset, Size}
    end.

%% --- both -------------------------------------------------------------------------------

%% The hash over the first Size bytes, or as many as there are: {Bytes, Hash}.
hash_file(Fd, At, Size, Hash) ->
    case file:pread(Fd, At, min(?CHUNK, Size - At)) of
        {ok, Bin} when byte_size(Bin) > 0 ->
            hash_file(Fd, At + byte_size(Bin), Size, crypto:hash_update(Hash, Bin));
        _ ->
            {At, Hash}
    end.

%% N bytes of a stream, and what came after them.
take(_, N, In) when byte_size(In) >= N ->
    <<Bin:N/binary, Rest/binary>> = In,
    {ok, Bin, Rest};
take(Ref, N, In) ->
    case next(Ref) of
        {ok, Bin} -> take(Ref, N, <<In/binary, Bin/binary>>);
        Other -> Other
    end.

next(Ref) ->
    receive
        {quic_dist_stream, Ref, {data, Bin, false}} -> {ok, Bin};
        {quic_dist_stream, Ref, {data, <<>>, true}} -> cut;
        {quic_dist_stream, Ref, {data, Bin, true}} -> {ok, Bin};
        {quic_dist_stream, Ref, {reset, 16#100}} -> {refused, 16#100};
        {quic_dist_stream, Ref, {reset, _}} -> cut;
        {quic_dist_stream, Ref, closed} -> cut
    after ?ANSWER_MS ->
        _ = quic_dist:reset_stream(Ref),
        cut
    end.

%% A bar of 40 characters, drawn anew when a percent more is done.
bar(Done, Size) ->
    Percent = case Size of 0 -> 100; _ -> Done * 100 div Size end,
    case get({?MODULE, bar}) of
        Percent ->
            ok;
        _ ->
            put({?MODULE, bar}, Percent),
            Full = Percent * 40 div 100,
            io:format("\r[~s~s] ~3b % of ~b MB~s",
                      [lists:duplicate(Full, $=), lists:duplicate(40 - Full, $\s), Percent,
                       Size div 1000000, [$\n || Percent =:= 100]])
    end.

%% A line of its own, below a bar that is not full.
say(Format, Args) ->
    case erase({?MODULE, bar}) of
        Percent when is_integer(Percent), Percent < 100 -> io:nl();
        _ -> ok
    end,
    io:format(Format ++ "~n", Args).

now_ms() ->
    erlang:monotonic_time(millisecond).

%% --- for the script `copy' ----------------------------------------------------------------

-spec main([string()]) -> no_return().
main(["serve", Dir]) ->
    {ok, _} = serve(Dir),
    io:format("~s takes files into ~ts~n", [node(), Dir]),
    receive after infinity -> ok end;
main(["send", File, Node]) ->
    T0 = now_ms(),
    case send(File, list_to_atom(Node)) of
        {ok, #{sent := Sent, attempts := N}} ->
            Ms = max(1, now_ms() - T0),
            io:format("~b MB in ~.1f s (~b MB/s), ~b attempt~s; the checksum is right~n",
                      [Sent div 1000000, Ms / 1000, Sent div Ms div 1000, N, ["s" || N > 1]]),
            halt(0);
        {error, Why} ->
            say("not copied: ~ts", [why(Why, File, Node)]),
            halt(1)
    end;
main(_) ->
    io:format(standard_error, "copy serve DIR NAME | copy send FILE NODE~n", []),
    halt(64).

why({refused, 16#100}, _, Node) -> io_lib:format("~ts takes no files: nobody serves there", [Node]);
why({refused, Code}, _, Node) -> io_lib:format("~ts has reset the stream with ~b", [Node, Code]);
why(checksum, _, Node) -> io_lib:format("the checksum is wrong; ~ts has deleted the file", [Node]);
why(not_connected, _, Node) -> io_lib:format("cannot connect to ~ts", [Node]);
why(connection_ended, _, Node) -> io_lib:format("the connection to ~ts ends every time", [Node]);
why(Why, File, _) -> io_lib:format("~ts: ~ts", [File, file:format_error(Why)]).
