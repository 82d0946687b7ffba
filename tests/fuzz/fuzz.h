/* fuzz.h - what every fuzz target has, and the check they share.
 *
 * A target is one file fuzz_<name>.c with LLVMFuzzerTestOneInput, and a row in meson.build. It
 * is linked with libFuzzer (-Dfuzzing=true) or with replay.c, which runs it once on every seed.
 */
#ifndef TACIT_FUZZ_H
#define TACIT_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise is a crash, also in builds without assert. */
#define FUZZ_CHECK(ok)                                                                             \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #ok);               \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
