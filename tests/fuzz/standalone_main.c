/* SPDX-License-Identifier: Apache-2.0 */
/* Replays corpus files through a fuzz target without libFuzzer: usage: fuzz_x FILE... */
#include "fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t len = 0;
    size_t cap = 0;
    int c;

    if (f == NULL) {
        perror(path);
        return 1;
    }
    while ((c = fgetc(f)) != EOF) {
        if (len == cap) {
            cap = cap != 0 ? cap * 2 : 4096;
            data = realloc(data, cap);
            if (data == NULL) {
                abort();
            }
        }
        data[len++] = (uint8_t)c;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++) {
        failed |= replay(argv[i]);
    }
    printf("ok %s: %d inputs\n", argv[0], argc - 1);
    return failed;
}
