/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of libbarrel_p2p: 0 is success, everything else is negative. The library never prints,
 * aborts or changes `errno` on purpose; what a program may want to tell people comes as text.
 *
 *   class    codes         what to do
 *   peer     -1..-99       the peer's fault: its connection has ended
 *   local    -100..-199    try later, or change what was asked
 *   fatal    -200..        no memory or no randomness: give up the object
 *
 * A program tests for the codes that have a name here. All others have a name and a sentence as
 * text, which is what belongs into a log.
 */
#ifndef BARREL_P2P_ERROR_H
#define BARREL_P2P_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* What the shared library exports. */
#define BP_API __attribute__((visibility("default")))

enum bp_error {
    BP_ERROR_NONE = 0,

    BP_ERROR_AUTH_KEY_MISMATCH = -17, /* the peer's key is not the one that is pinned to its name */
    BP_ERROR_AUTH_UNTRUSTED = -18,    /* the peer's key is not trusted, and trust is strict */
    BP_ERROR_AUTH_REJECTED = -22,     /* the peer refuses our key */
    BP_ERROR_PEER_CLOSED = -50,       /* the peer closed the connection */
    BP_ERROR_COOKIE = -33,            /* the peer has another cookie */
    BP_ERROR_NOT_ALLOWED = -34,       /* the peer does not want us: "nok", "not_allowed", "alive" */

    BP_ERROR_AGAIN = -100,          /* would block: nothing there, or no room */
    BP_ERROR_NOT_FOUND = -101,      /* no such node or connection */
    BP_ERROR_LIMIT = -102,          /* a limit is reached; the text says which */
    BP_ERROR_TIMEOUT = -103,        /* */
    BP_ERROR_IDLE_TIMEOUT = -104,   /* nothing was heard from the peer */
    BP_ERROR_REFUSED = -105,        /* nothing listens at the peer's address */
    BP_ERROR_INVALID = -106,        /* an argument or a setting cannot be used */
    BP_ERROR_STATE = -107,          /* not now: the call's documentation says when */
    BP_ERROR_EXISTS = -108,         /* such a connection is there already */
    BP_ERROR_SYSTEM = -110,         /* the operating system refused */
    BP_ERROR_FILE = -111,           /* a file cannot be used */
    BP_ERROR_LOCAL_CLOSE = -113,    /* we closed the connection */
    BP_ERROR_ADDR_IN_USE = -114,    /* somebody has the UDP port */
    BP_ERROR_DUPLICATE_NAME = -115, /* another node on this machine has the name */
    BP_ERROR_NOT_DIALLER = -140, /* the peer has dialled: only it can move the connection there */
    BP_ERROR_MIGRATION_DISABLED = -141, /* the peer does not allow migration */
    BP_ERROR_NO_SPARE_CID = -142,       /* the peer gave no connection id for another path */
    BP_ERROR_PATH_FAILED = -143,        /* the peer could not move it */
    BP_ERROR_BUSY = -144,               /* the connection is being moved already */
    BP_ERROR_RELAY = -145,              /* the relay cannot be used; the text says why */

    BP_ERROR_NOMEM = -200,
    BP_ERROR_INTERNAL = -201,
    BP_ERROR_CRYPTO = -202
};

/*
 * The error's name as logs and counters show it ("key_mismatch"), and one sentence for people. Of
 * any number; never NULL; static. From any thread.
 */
BP_API const char *bp_error_name(int error);
BP_API const char *bp_error_text(int error);

/*
 * What the calling thread's last failed call of the library has to say: what was tried, on which
 * file or peer, why it failed, what to do. Never NULL; "" if no call failed yet. Valid until the
 * thread's next call of the library. A call that succeeds leaves it.
 */
BP_API const char *bp_error_detail(void);
/* Its error; 0 if no call failed yet. For libei, whose erl_errno is EIO for many things. */
BP_API int bp_error_last(void);

#ifdef __cplusplus
}
#endif

#endif
