/* SPDX-License-Identifier: Apache-2.0 */
/* The node's TLS certificate and key on disk: used if there, made if not (WIRE 1.2). */
#ifndef BP_TLS_FILES_H
#define BP_TLS_FILES_H

#include "io/files.h"

#define BP_TLS_CERT_FILE    "node.crt"
#define BP_TLS_KEY_FILE     "node.key"
/* Added to the certificate's path: the next certificate, while bp_rotate_cert replaces the key. */
#define BP_TLS_CERT_WAITING ".new"

struct bp_tls_cred;

/*
 * Both files there: used as they are. Both missing: a pair is generated for the common name `cn`
 * (directories 0700, key 0600, certificate 0644, each appearing whole). Only one there: an error
 * that names the other; a user's file is never replaced. Of several processes that start at once
 * one makes the pair, the others wait up to a second for it and load it. A rotation that a crash
 * interrupted (io/rotate.h) is finished. `*out` has one reference,
 * the caller's (bp_tls_cred_unref). On success `err` may carry a warning: other users can read the
 * key, or the certificate has expired.
 * Errors: BP_E_FILE (missing half, unreadable, truncated, garbage), BP_E_KEYPAIR (key of another
 * certificate), BP_E_INVALID (cn), BP_E_NOMEM, BP_E_CRYPTO; always with a sentence.
 */
int bp_tls_files_ensure(const char *cert_file, const char *key_file, const char *cn,
                        struct bp_tls_cred **out, struct bp_errbuf *err) BP_MUST_CHECK;

/* The same without making anything: files that are missing are BP_E_FILE. */
int bp_tls_files_load(const char *cert_file, const char *key_file, struct bp_tls_cred **out,
                      struct bp_errbuf *err) BP_MUST_CHECK;

#endif
