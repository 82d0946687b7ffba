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
    void (*close)(void *state); /* state is never NULL */
} tacit__reader;

struct tacit_dataset {
    const tacit__reader *reader;
    void *state;
    tacit_dataset_kind kind;
    uint64_t count; /* UINT64_MAX: only reading to the end tells */
    uint64_t index; /* of the next item */
    bool ended;
};

/* Each fills reader, state and count, or leaves nothing behind. */
tacit_status tacit__folder_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__list_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__single_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__tar_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__cifar_open(tacit_dataset *set, const char *path, tacit_err *err);
tacit_status tacit__idx_open(tacit_dataset *set, const char *path, tacit_err *err);

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

#endif
