%% SPDX-License-Identifier: Apache-2.0
%% What the driver interface and the file server lack (driver/nif.c, in the driver's library).
-module(barrel_p2p_nif).

-export([load/1, pid_number/1, make_private_dir/1]).

%% The library without its extension. Loaded when the driver is: an on_load function would run before
%% there is a file server.
-spec load(file:filename()) -> ok | barrel_p2p_drv:error().
load(Library) ->
    case erlang:load_nif(Library, 0) of
        ok -> ok;
        {error, {reload, _}} -> ok;     % it is there already
        {error, {_, Text}} -> {error, {driver_not_loaded, unicode:characters_to_binary(Text)}}
    end.

%% A process of this node as the driver knows it.
-spec pid_number(pid()) -> non_neg_integer().
pid_number(_Pid) ->
    erlang:nif_error(not_loaded).

%% Makes a directory that is nobody else's from its first moment on, and says whether it did. A binary with
%% a NUL at its end; the parent must be there.
-spec make_private_dir(binary()) -> boolean().
make_private_dir(_Path) ->
    erlang:nif_error(not_loaded).
