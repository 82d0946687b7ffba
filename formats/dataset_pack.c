/* dataset_pack.c - a pack (pack.h) as a data set: paths and labels as those of the input that was
 * packed, in its order. A picture that is damaged or cannot be read is a bad item. */
#include "dataset_internal.h"
#include "mem.h"
#include "pack.h"

typedef struct pack_set {
    tacit_pack *pack; /* NULL when it was taken */
    size_t at;
} pack_set;

static void pack_close(void *state)
{
    pack_set *s = state;
    tacit_pack_close(&s->pack);
    tacit_free(s);
}

static tacit_status pack_next(void *state, tacit_item *item, bool skip, bool *more, tacit_err *err)
{
    pack_set *s = state;
    if (!s->pack || s->at == tacit_pack_count(s->pack))
        return TACIT_OK;
    tacit_pack_sample sample;
    tacit_pack_describe(s->pack, s->at, &sample);
    tacit_status st = tacit__item_path(item, "", sample.path, err);
    if (st == TACIT_OK)
        st = tacit__item_label(item, sample.label, err);
    if (st == TACIT_OK && !skip)
        st = tacit__item_reserve(item, sample.room, err);
    if (st < 0)
        return st;
    *more = true;
    item->form = TACIT_ITEM_PIXELS;
    if (!skip) {
        item->status = tacit_pack_read(s->pack, s->at, item->bytes, &item->problem);
        if (item->status < 0)
            item->form = TACIT_ITEM_BAD;
        else {
            item->width = sample.width;
            item->height = sample.height;
            item->size = 3 * sample.width * sample.height;
        }
    }
    s->at++;
    return TACIT_OK;
}

tacit_status tacit__pack_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = pack_next, .close = pack_close };
    pack_set *s = tacit_calloc(1, sizeof *s);
    if (!s)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st = tacit_pack_open(&s->pack, path, err);
    if (st < 0) {
        tacit_free(s);
        return st;
    }
    set->reader = &reader;
    set->state = s;
    set->count = tacit_pack_count(s->pack);
    return TACIT_OK;
}

struct tacit_pack *tacit__pack_take(tacit_dataset *set)
{
    pack_set *s = set->state;
    tacit_pack *pack = s->pack;
    s->pack = NULL;
    return pack;
}
