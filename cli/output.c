/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands print: results as lines or JSON, errors and warnings. */
#include "cli/cli.h"

#include "auth/identity.h"
#include "base/err.h"
#include "cli/key_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HEX_CAP (2 * BP_SHA256_LEN + 1)

static void print_value(const json_t *v)
{
    if (json_is_string(v)) {
        fputs(json_string_value(v), stdout);
    } else if (json_is_integer(v)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else {
        fputs(json_is_true(v) ? "yes" : "no", stdout);
    }
}

static void print_lines(json_t *o)
{
    const char *name;
    json_t *v;
    int width = 0;

    json_object_foreach(o, name, v)
    {
        int len = (int)strlen(name);
        width = !json_is_null(v) && len > width ? len : width;
    }
    json_object_foreach(o, name, v)
    {
        int n = 0;
        if (json_is_null(v)) {
            continue;
        }
        for (; name[n] != '\0'; n++) {
            putchar(name[n] == '_' ? ' ' : name[n]);
        }
        printf("%*s", width - n + 2, "");
        print_value(v);
        putchar('\n');
    }
}

static int print_json(const json_t *o)
{
    if (json_dumpf(o, stdout, JSON_INDENT(2)) != 0) {
        return CLI_FAILED;
    }
    return putchar('\n') == EOF ? CLI_FAILED : CLI_OK;
}

int cli_print(const struct cli *c, json_t *o)
{
    int status = CLI_OK;

    if (o == NULL) {
        return cli_fail_rc(c, BP_E_NOMEM, NULL);
    }
    if (c->json) {
        status = print_json(o);
    } else {
        print_lines(o);
    }
    json_decref(o);
    return status;
}

int cli_fail(const struct cli *c, int status, const char *code, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fprintf(stderr, "barrel-p2p %s: %s\n", c->name, text);
    if (c->json) {
        json_t *o = json_pack("{s:s, s:s%}", "error", code, "message", text, strlen(text));
        if (o == NULL) { /* a name that is not UTF-8 */
            o = json_pack("{s:s}", "error", code);
        }
        (void)print_json(o);
        json_decref(o);
    }
    return status;
}

int cli_fail_rc(const struct cli *c, int rc, const struct bp_errbuf *err)
{
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : bp_err_text(rc);
    int status = CLI_FAILED;

    if (rc == BP_E_NOT_FOUND) {
        status = CLI_NOT_FOUND;
    } else if (rc == BP_E_EXISTS || rc == BP_E_MISMATCH) {
        status = CLI_EXISTS;
    }
    return cli_fail(c, status, bp_err_atom(rc), "%s", text);
}

void cli_warn(const char *fmt, ...)
{
    va_list ap;

    fputs("warning: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void cli_warn_err(const struct bp_errbuf *err)
{
    if (err->warning) {
        cli_warn("%s", err->text);
    }
}

int cli_finish(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return CLI_OK;
    }
    fprintf(stderr, "barrel-p2p: cannot write the output: %s\n", strerror(errno));
    return CLI_FAILED;
}

int cli_add_key(json_t *o, const uint8_t pub[static BP_KEY_LEN])
{
    uint8_t hash[BP_SHA256_LEN];
    char text[BP_FINGERPRINT_TEXT];
    char hex[HEX_CAP];
    char base64[CLI_KEY_BASE64_CAP];
    int rc = bp_fingerprint_sha256(pub, hash);

    if (rc != 0) {
        return rc;
    }
    bp_fingerprint_text(pub, text);
    cli_hex(hash, sizeof(hash), hex);
    rc = cli_key_base64(pub, base64);
    if (rc == 0 && (json_object_set_new(o, "fingerprint", json_string(text)) != 0 ||
                    json_object_set_new(o, "fingerprint_hex", json_string(hex)) != 0 ||
                    json_object_set_new(o, "public_key", json_string(base64)) != 0)) {
        rc = BP_E_NOMEM;
    }
    return rc;
}

const char *cli_time(int64_t unix_time, char out[static 32])
{
    time_t t = (time_t)unix_time;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        (void)snprintf(out, 32, "%lld", (long long)unix_time);
    }
    return out;
}
