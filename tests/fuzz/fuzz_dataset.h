/* fuzz_dataset.h - walks a data set in a file and checks what dataset.h promises of any input:
 * every item is named and numbered, every failure is told, and passing over items changes none. */
#ifndef TACIT_FUZZ_DATASET_H
#define TACIT_FUZZ_DATASET_H

#include "dataset.h"
#include "fuzz.h"
#include "fuzz_file.h"

#include <string.h>

/* Called for each item that is read. */
typedef void fuzz_look(const tacit_item *item, const uint8_t *data, size_t size);

static inline uint64_t fuzz_mix(uint64_t hash, const char *text)
{
    for (; text && *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return (hash ^ (text ? 1 : 2)) * 0x100000001b3u;
}

/* A number for all paths and labels, or the status where the set ends in an error: what stands just
 * before a damage may be seen only by reading it. Bit i%8 of skip: item i is passed over. */
static inline uint64_t fuzz_walk(const char *path, tacit_dataset_kind kind, unsigned skip,
                                 const uint8_t *data, size_t size, fuzz_look *look)
{
    tacit_dataset *set;
    tacit_item item = { 0 };
    tacit_err err = { "" };
    uint64_t hash = 0xcbf29ce484222325u, n = 0;
    bool more = true;
    tacit_status st = tacit_dataset_open(&set, path, kind, &err);
    FUZZ_CHECK((st == TACIT_OK) == (set != NULL));
    uint64_t count = set ? tacit_dataset_count(set) : 0;
    while (st == TACIT_OK && more) {
        bool pass = skip >> (n & 7) & 1;
        st = pass ? tacit_dataset_skip(set, &item, &more, &err)
                  : tacit_dataset_next(set, &item, &more, &err);
        if (st < 0 || !more)
            break;
        FUZZ_CHECK(item.index == n++ && item.path && item.size <= item.capacity);
        FUZZ_CHECK((item.form == TACIT_ITEM_FILE) == (item.file != NULL));
        FUZZ_CHECK((item.form == TACIT_ITEM_BAD) == (item.status < 0 && item.problem.text[0]));
        FUZZ_CHECK(item.form != TACIT_ITEM_PIXELS || item.size == 3 * item.width * item.height);
        if (!pass)
            look(&item, data, size);
        hash = fuzz_mix(fuzz_mix(hash, item.path), item.label);
    }
    if (st < 0)
        FUZZ_CHECK(st != TACIT_ENOMEM && err.text[0]);
    else
        FUZZ_CHECK(n && (count == UINT64_MAX || count == n));
    if (set) { /* it stays ended */
        FUZZ_CHECK(tacit_dataset_next(set, &item, &more, &err) == TACIT_OK && !more);
    }
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    return st < 0 ? (uint64_t)st : hash;
}

static inline int fuzz_dataset(const uint8_t *data, size_t size, tacit_dataset_kind kind,
                               fuzz_look *look)
{
    const char *path = fuzz_file(data, size);
    uint64_t read = fuzz_walk(path, kind, 0, data, size, look);
    FUZZ_CHECK(fuzz_walk(path, kind, size ? data[size - 1] : 255, data, size, look) == read);
    FUZZ_CHECK(fuzz_walk(path, kind, 255, data, size, look) == read);
    fuzz_walk(path, TACIT_DATASET_AUTO, 255, data, size, look);
    return 0;
}

#endif
