/* dataset_internal.h - what the readers of the kinds of input share.
 *
 * A reader fills an item's texts, form and bytes; dataset.c numbers the items and ends the set
 * after the first error.
 */
#ifndef TACIT_DATASET_INTERNAL_H
#define TACIT_DATASET_INTERNAL_H

#include "dataset.h"

#include <sys/types.h>

/* Larger inputs are refused unread: the most pixels an image may have take as much as RGB8. */
#define TACIT__MOST_IMAGE_BYTES ((uint64_t)512 << 20)

typedef struct tacit__reader {
    /* The next item into an item that was cleared; *more false at the end. With skip the item's
     * bytes are not wanted. */
    tacit_status (*next)(void *state, tacit_item *item, bool skip, bool *more, tacit_err *err);
    void (*close)(void *state);                           /* state is never NULL */
    void (*stop_by)(void *state, const atomic_int *stop); /* NULL: it never waits */
} tacit__reader;

struct tacit_dataset {
    const tacit__reader *reader;
    void *state;
    tacit_dataset_kind kind; /* never AUTO when a reader is opened */
    uint64_t count;          /* UINT64_MAX: only reading to the end tells */
    uint64_t index;          /* of the next item */
    bool ended;
};

/* Each fills reader, state and count, or leaves nothing behind. */
tacit_status tacit__folder_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__list_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__single_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__tar_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__records_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__pack_open(tacit_dataset *set, const char *path, tacit_err *err);

/* The pack behind a set of kind PACK, which is now the caller's to close; the set then has ended.
 * NULL where it was taken before. */
struct tacit_pack *tacit__pack_take(tacit_dataset *set);

/* Whether a name ends in one of the extensions that count as an image, in any case. */
bool tacit__is_image_name(const char *name);

/* Why path could not be opened, from errno: TACIT_EINVAL where there is no such thing. */
tacit_status tacit__fail_open(tacit_err *err, const char *path);

/* Each item needs a path and a label (NULL = none); one of form FILE also a file. Path and file are
 * folder + "/" + name, or name alone where folder is "". */
tacit_status tacit__item_path(tacit_item *item, const char *folder, const char *name,
                              tacit_err *err);
tacit_status tacit__item_label(tacit_item *item, const char *label, tacit_err *err);
tacit_status tacit__item_file(tacit_item *item, const char *folder, const char *name,
                              tacit_err *err);
/* Room for size bytes; the first item->size of them are kept. */
tacit_status tacit__item_reserve(tacit_item *item, size_t size, tacit_err *err);

/* A regular file through libarchive: its bytes, a gzip around them taken off, or the members of a
 * tar. Zeroed before open; close accepts what never was opened. */
typedef struct tacit__stream {
    struct archive *archive;
    struct archive_entry *entry; /* the member that reads come from */
    int fd;
    bool zipped;
    uint64_t size, at; /* of the file */
    char *path, *buffer;
} tacit__stream;

typedef enum tacit__stream_form { TACIT__STREAM_BYTES, TACIT__STREAM_TAR } tacit__stream_form;

/* BYTES: the one member is entered. TAR: none is yet. */
tacit_status tacit__stream_open(tacit__stream *s, const char *path, tacit__stream_form form,
                                tacit_err *err);
void tacit__stream_close(tacit__stream *s);
/* The next member, *more false at the end. */
tacit_status tacit__stream_next(tacit__stream *s, bool *more, tacit_err *err);
/* Up to size bytes of the member; *got is less only at its end. */
tacit_status tacit__stream_read(tacit__stream *s, void *bytes, size_t size, size_t *got,
                                tacit_err *err);
/* The next piece as it lies in libarchive, and where in the member it belongs; *size 0 at the end.
 * Unlike read this fills no holes. */
tacit_status tacit__stream_block(tacit__stream *s, const void **bytes, size_t *size,
                                 uint64_t *offset, tacit_err *err);

#endif
