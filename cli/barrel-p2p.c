/* SPDX-License-Identifier: Apache-2.0 */
/* The command `barrel-p2p`: the table of subcommands. */
#include "cli/cli.h"
#include "cli/remote.h"

#include <stdio.h>
#include <sys/stat.h>

#define REMOTE_OPTIONS                                                                             \
    (CLI_OPT_DIR | CLI_OPT_JSON | CLI_OPT_TIMEOUT | CLI_OPT_DISCOVERY | CLI_OPT_REMOTE)

#define FIND_TEXT                                                                                  \
    "\n\n"                                                                                         \
    "NODE is looked for where nodes look for each other: --static, endpoint files of this\n"       \
    "directory and this user, --discovery-dir, DNS."

#define REMOTE_TEXT                                                                                \
    "\n\n"                                                                                         \
    "The command is a hidden node, barrel_p2p_USER@HOST, with a key of its own below\n"            \
    "~/.config/barrel_p2p (or --dir), made at the first use. The cookie is the first line of\n"    \
    "~/.erlang.cookie, dist_cookie of --config, or --cookie, which other users of this\n"          \
    "machine can see; a node that was given none has barrel_p2p. A node with\n"                    \
    "{auth_trust_mode, strict} must be told the key: `barrel-p2p fingerprint --dir\n"              \
    "~/.config/barrel_p2p/data/keys` shows it.\n\n"                                                \
    "--relay goes through a UDP forwarder, which knows where the node is, or a SOCKS 5 proxy.\n"   \
    "Behind it ?mtu=N says what it takes. A password is never part of the URL."

static const struct cli_command commands[] = {
    {
        .name = "keygen",
        .args = "",
        .summary = "make a node's identity: a private and a public Ed25519 key",
        .details = "Writes node.key (mode 0600) and node.pub. A node that finds none makes them\n"
                   "itself at its first boot; make them before to know a node's key in advance.\n"
                   "An identity that is there is only replaced with --force; the old one is kept\n"
                   "in backups/. Nodes that trust the old key refuse the new one until they are\n"
                   "told. Where the old key is in good hands, barrel_p2p_rotate:rotate_identity/0\n"
                   "on the running node is the gentler way.",
        .examples = "barrel-p2p keygen\n"
                    "barrel-p2p keygen --dir /var/lib/myapp/keys\n"
                    "barrel-p2p keygen --node b@host --json",
        .options = CLI_OPT_DIR | CLI_OPT_NODE | CLI_OPT_FORCE | CLI_OPT_JSON,
        .run = cli_keygen,
    },
    {
        .name = "fingerprint",
        .args = "[FILE|-]",
        .summary = "show the fingerprint of a public key",
        .details =
            "SHA-256 of the public key, in OpenSSH's form and in hex, and the key itself in\n"
            "base64, as `trust add --key` takes it. Without FILE: of this node. FILE holds\n"
            "32 bytes (node.pub), or the key in hex or base64; of a file that is called\n"
            "*.key, a private key, the public half is shown. - is the standard input.",
        .examples = "barrel-p2p fingerprint\n"
                    "barrel-p2p fingerprint --dir /var/lib/myapp/keys\n"
                    "barrel-p2p fingerprint b.pub",
        .options = CLI_OPT_DIR | CLI_OPT_NODE | CLI_OPT_JSON,
        .max_args = 1,
        .run = cli_fingerprint,
    },
    {
        .name = "trust",
        .summary = "which keys this node trusts",
        .subs = cli_trust_commands,
    },
    {
        .name = "cert",
        .summary = "the node's TLS certificate",
        .subs = cli_cert_commands,
    },
    {
        .name = "ping",
        .args = "NODE",
        .summary = "connect to a node and say how far away it is",
        .details =
            "Finds NODE, connects, and lets both prove who they are: key, cookie, protocol.\n"
            "Prints its address, its key and the round-trip time of the path." FIND_TEXT
                REMOTE_TEXT,
        .examples = "barrel-p2p ping a@host\n"
                    "barrel-p2p ping a@host --static a@host=192.0.2.1:4433 --timeout 500\n"
                    "barrel-p2p ping a@host --json",
        .options = REMOTE_OPTIONS,
        .min_args = 1,
        .max_args = 1,
        .run = cli_ping,
    },
    {
        .name = "call",
        .args = "NODE MODULE FUNCTION [ARGS|-]",
        .summary = "call a function on a node",
        .details =
            "ARGS is the list of all arguments as Erlang text, [] if it is left out; - is the\n"
            "standard input. The result is printed as Erlang text on one line. An exception\n"
            "there is an error here." FIND_TEXT REMOTE_TEXT,
        .examples = "barrel-p2p call a@host erlang nodes\n"
                    "barrel-p2p call a@host lists sum '[[1, 2, 3]]'\n"
                    "barrel-p2p call a@host Elixir.System version",
        .options = REMOTE_OPTIONS,
        .min_args = 3,
        .max_args = 4,
        .run = cli_rpc,
    },
    {
        .name = "send",
        .args = "NODE NAME TERM|-",
        .summary = "send a message to a registered process on a node",
        .details =
            "TERM is Erlang text; - is the standard input. When the command ends with success\n"
            "the message has arrived and there was a process with that name." FIND_TEXT REMOTE_TEXT,
        .examples = "barrel-p2p send a@host my_server '{reload, \"b.conf\"}'\n"
                    "barrel-p2p send a@host my_server - < term.txt",
        .options = REMOTE_OPTIONS,
        .min_args = 3,
        .max_args = 3,
        .run = cli_send,
    },
    {
        .name = "peers",
        .args = "NODE",
        .summary = "list the connections of a node, with their paths",
        .details =
            "Asks barrel_p2p:peers() on NODE, an Erlang node. --json has all counters of each\n"
            "connection." FIND_TEXT REMOTE_TEXT,
        .examples = "barrel-p2p peers a@host\n"
                    "barrel-p2p peers a@host --json",
        .options = REMOTE_OPTIONS,
        .min_args = 1,
        .max_args = 1,
        .run = cli_peers,
    },
    {
        .name = "resolve",
        .args = "NODE",
        .summary = "show where a node is, as each way of finding it says, and how long that took",
        .details =
            "Asks fixed entries, endpoint files and DNS, in the order of the chain, and shows "
            "what\n"
            "each answers; the first answer is what a node goes by, and the last line shows the\n"
            "addresses that it dials. Without options as a node in this directory would find it,\n"
            "with --config as the node with that sys.config, with --node as the node of that name.",
        .examples = "barrel-p2p resolve b@host2\n"
                    "barrel-p2p resolve b@host2 --config releases/1.0/sys.config\n"
                    "barrel-p2p resolve b@c.example.org --dns-domain example.org --json",
        .options = CLI_OPT_DISCOVERY | CLI_OPT_TIMEOUT | CLI_OPT_NODE | CLI_OPT_JSON,
        .min_args = 1,
        .max_args = 1,
        .run = cli_resolve,
    },
    {
        .name = "names",
        .args = "",
        .summary = "list the nodes that can be found",
        .details = "What fixed entries, endpoint files and the SRV records of --dns-domain say. A\n"
                   "node that was killed is listed until its next life stops cleanly.",
        .examples = "barrel-p2p names\n"
                    "barrel-p2p names --config releases/1.0/sys.config\n"
                    "barrel-p2p names --discovery-dir /shared --json",
        .options = CLI_OPT_DISCOVERY | CLI_OPT_TIMEOUT | CLI_OPT_NODE | CLI_OPT_JSON,
        .run = cli_names,
    },
    {
        .name = "config",
        .summary = "a node's configuration",
        .subs = cli_config_commands,
    },
    {0},
};

int main(int argc, char **argv)
{
    struct cli c = {0};
    bool done = false;
    int status;

    (void)umask(077);
    status = cli_parse(&c, commands, argc, argv, &done);
    if (status == CLI_OK && !done) {
        status = c.command->run(&c);
    }
    return cli_finish() != CLI_OK && status == CLI_OK ? CLI_FAILED : status;
}
