%% SPDX-License-Identifier: Apache-2.0
%% A gen_server for the suites: echoes, tells, and ends with a reply.
-module(bp_stop_server).
-behaviour(gen_server).

-export([init/1, handle_call/3, handle_cast/2]).

init(State) ->
    {ok, State}.

handle_call({echo, Term}, _From, State) ->
    {reply, {ok, Term}, State};
handle_call({stop, Reply}, _From, State) ->
    {stop, normal, Reply, State};
handle_call(no_answer, _From, State) ->
    {noreply, State}.

handle_cast({tell, To, Msg}, State) ->
    To ! Msg,
    {noreply, State}.
