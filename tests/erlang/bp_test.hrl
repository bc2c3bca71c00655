%% SPDX-License-Identifier: Apache-2.0
%% Macros that the suites share.

-define(LONG, 60000).

%% Takes the first message that matches; fails with what is in the mailbox.
-define(RECV(Pattern), ?RECV(Pattern, ?LONG)).
-define(RECV(Pattern, Timeout),
        receive
            Pattern -> ok
        after Timeout ->
            error({no_message, ??Pattern, ?LINE, bp_procs:mailbox()})
        end).

%% Fails when a message that matches is there, or comes within `Timeout` ms.
-define(NO_RECV(Pattern, Timeout),
        (fun() ->
            receive
                (Pattern) = Unexpected__ -> error({unexpected_message, Unexpected__, ?LINE})
            after Timeout ->
                ok
            end
        end)()).

-define(EQ(Expected, Expr),
        (fun() ->
            Expected__ = (Expected),
            case (Expr) of
                Expected__ -> ok;
                Other__ -> error({not_equal, [{line, ?LINE}, {expr, ??Expr},
                                              {expected, Expected__}, {value, Other__}]})
            end
        end)()).
