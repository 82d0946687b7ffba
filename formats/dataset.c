/* dataset.c - the front door of the data sets: which kind it is, numbering, items. See dataset.h.
 */
#include "dataset.h"

#include "atomic_file.h"
#include "dataset_internal.h"
#include "mem.h"
#include "pack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kind_names[] = {
    [TACIT_DATASET_AUTO] = "auto",       [TACIT_DATASET_FOLDER] = "folder",
    [TACIT_DATASET_LIST] = "list",       [TACIT_DATASET_TAR] = "tar",
    [TACIT_DATASET_CIFAR10] = "cifar10", [TACIT_DATASET_CIFAR100] = "cifar100",
    [TACIT_DATASET_IDX] = "idx",         [TACIT_DATASET_PACK] = "pack",
};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

const char *tacit_dataset_kind_name(tacit_dataset_kind kind)
{
    return (size_t)kind < KINDS ? kind_names[kind] : "unknown";
}

tacit_status tacit_dataset_kind_parse(const char *name, tacit_dataset_kind *kind, tacit_err *err)
{
    for (size_t i = TACIT_DATASET_FOLDER; i < KINDS; i++)
        if (!strcmp(name, kind_names[i])) {
            *kind = (tacit_dataset_kind)i;
            return TACIT_OK;
        }
    return tacit_fail(
        err, TACIT_EINVAL,
        "\"%s\" is no kind of input: folder, list, tar, cifar10, cifar100, idx or pack", name);
}

/* torchvision's IMG_EXTENSIONS. What is not JPEG or PNG is an input all the same, so that it gets
 * its line in the report instead of being lost in silence. */
bool tacit__is_image_name(const char *name)
{
    static const char *const extensions[] = { ".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                              ".pgm", ".tif",  ".tiff", ".webp" };
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        size_t e = strlen(extensions[i]);
        if (n >= e && !strcasecmp(name + n - e, extensions[i]))
            return true;
    }
    return false;
}

tacit_status tacit__fail_open(tacit_err *err, const char *path)
{
    if (errno == ENOENT)
        return tacit_fail(err, TACIT_EINVAL, "%s: no such file or folder", path);
    if (errno == ENOTDIR)
        return tacit_fail(err, TACIT_EINVAL, "%s: not a folder, or below what is none", path);
    return tacit_fail_errno(err, "%s", path);
}

/* ---------------------------------------------------------------- items */

/* text = folder + "/" + name; name alone where folder is "". */
static tacit_status set_text(char **text, size_t *capacity, const char *folder, const char *name,
                             tacit_err *err)
{
    size_t head = strlen(folder), tail = strlen(name);
    bool slash = head && folder[head - 1] != '/';
    size_t n = head + slash + tail; /* both lie in memory: no overflow */
    if (n >= *capacity) {
        char *grown = tacit_alloc(n + n / 2 + 128);
        if (!grown)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for a name of %zu bytes", n);
        tacit_free(*text);
        *text = grown;
        *capacity = n + n / 2 + 128;
    }
    memcpy(*text, folder, head);
    if (slash)
        (*text)[head] = '/';
    memcpy(*text + head + slash, name, tail + 1);
    return TACIT_OK;
}

static void drop_text(char **text, size_t *capacity)
{
    tacit_free(*text);
    *text = NULL;
    *capacity = 0;
}

tacit_status tacit__item_path(tacit_item *item, const char *folder, const char *name,
                              tacit_err *err)
{
    return set_text(&item->path, &item->text_capacity[0], folder, name, err);
}

tacit_status tacit__item_label(tacit_item *item, const char *label, tacit_err *err)
{
    if (label)
        return set_text(&item->label, &item->text_capacity[1], "", label, err);
    drop_text(&item->label, &item->text_capacity[1]);
    return TACIT_OK;
}

tacit_status tacit__item_file(tacit_item *item, const char *folder, const char *name,
                              tacit_err *err)
{
    return set_text(&item->file, &item->text_capacity[2], folder, name, err);
}

tacit_status tacit__item_reserve(tacit_item *item, size_t size, tacit_err *err)
{
    if (size <= item->capacity)
        return TACIT_OK;
    uint8_t *grown = tacit_realloc(item->bytes, item->size, size);
    if (!grown)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory: %zu bytes for one image", size);
    item->bytes = grown;
    item->capacity = size;
    return TACIT_OK;
}

tacit_status tacit_item_load(tacit_item *item, tacit_err *err)
{
    if (item->form == TACIT_ITEM_BAD)
        return tacit_fail(err, item->status, "%s", item->problem.text);
    if (item->form != TACIT_ITEM_FILE)
        return TACIT_OK;
    int fd = -1;
    uint64_t size = 0;
    item->size = 0;
    tacit_status st = tacit_open_regular(item->file, &fd, &size, err);
    if (st < 0)
        return st;
    if (size > TACIT__MOST_IMAGE_BYTES)
        st = tacit_fail(err, TACIT_ELIMIT, "%s: %llu bytes, more than the %llu an image may have",
                        item->file, (unsigned long long)size,
                        (unsigned long long)TACIT__MOST_IMAGE_BYTES);
    else if (!(st = tacit__item_reserve(item, (size_t)size, err)) &&
             !(st = tacit_pread_all(fd, item->bytes, (size_t)size, 0, item->file, err)))
        item->size = (size_t)size;
    close(fd);
    return st;
}

void tacit_item_free(tacit_item *item)
{
    if (!item)
        return;
    tacit_free(item->path);
    tacit_free(item->label);
    tacit_free(item->file);
    tacit_free(item->bytes);
    *item = (tacit_item){ 0 };
}

/* ---------------------------------------------------------------- which kind */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcasecmp(path + n - m, end);
}

/* A file by its name and its first bytes. *single: one image. */
static tacit_status detect_file(const char *path, tacit_dataset_kind *kind, bool *single,
                                tacit_err *err)
{
    unsigned char head[512] = { 0 };
    size_t n = 0;
    tacit__stream s = { 0 };
    tacit_status st = tacit__stream_open(&s, path, TACIT__STREAM_BYTES, err);
    if (st == TACIT_OK)
        st = tacit__stream_read(&s, head, sizeof head, &n, err);
    bool zipped = s.zipped;
    uint64_t size = s.size;
    tacit__stream_close(&s);
    if (st < 0)
        return st;
    if (!zipped && n >= TACIT_PACK_MAGIC_SIZE &&
        !memcmp(head, TACIT_PACK_MAGIC, TACIT_PACK_MAGIC_SIZE))
        *kind = TACIT_DATASET_PACK;
    else if (ends_with(path, ".tar") || ends_with(path, ".tar.gz") || ends_with(path, ".tgz") ||
             (n >= 262 && !memcmp(head + 257, "ustar", 5)))
        *kind = TACIT_DATASET_TAR;
    else if (n >= 4 && head[0] == 0 && head[1] == 0 && head[2] >= 0x08 && head[2] <= 0x0e &&
             head[3] >= 1 && head[3] <= 4)
        *kind = TACIT_DATASET_IDX;
    else if (ends_with(path, ".bin") && size % 3073 == 0 && head[0] < 10)
        *kind = TACIT_DATASET_CIFAR10;
    else if (ends_with(path, ".bin") && size % 3074 == 0 && head[0] < 20 && head[1] < 100)
        *kind = TACIT_DATASET_CIFAR100;
    else if (!memcmp(head, "\xff\xd8\xff", 3) || !memcmp(head, "\x89PNG", 4))
        *single = true;
    else {
        bool text = !zipped;
        for (size_t i = 0; i < n; i++)
            text &= head[i] >= 0x20 || !head[i] || strchr("\t\r\n\v\f", head[i]);
        if (!text)
            return tacit_fail(
                err, TACIT_EUNSUPPORTED,
                "%s: no tar, pack, CIFAR or IDX file and no list of paths; where it is one "
                "all the same, say which with --kind",
                path);
    }
    return TACIT_OK;
}

/* By what path is. */
static tacit_status detect(const char *path, const struct stat *info, tacit_dataset_kind *kind,
                           bool *single, tacit_err *err)
{
    *kind = TACIT_DATASET_LIST;
    if (S_ISDIR(info->st_mode))
        *kind = TACIT_DATASET_FOLDER;
    else if (S_ISFIFO(info->st_mode) || S_ISCHR(info->st_mode)) /* as of <(find photos) */
        return TACIT_OK;
    else if (!S_ISREG(info->st_mode))
        return tacit_fail(
            err, TACIT_EINVAL,
            "%s: neither a folder nor a file: give a folder of images, a list, a tar, "
            "a pack, a CIFAR or an IDX file",
            path);
    else if (tacit__is_image_name(path))
        *single = true;
    else
        return detect_file(path, kind, single, err);
    return TACIT_OK;
}

/* ---------------------------------------------------------------- the set */

tacit_status tacit_dataset_open(tacit_dataset **set, const char *path, tacit_dataset_kind kind,
                                tacit_err *err)
{
    *set = NULL;
    bool single = false;
    struct stat info;
    tacit_status st = TACIT_OK;
    if (!strcmp(path, "-"))
        kind = kind == TACIT_DATASET_AUTO ? TACIT_DATASET_LIST : kind;
    else if (stat(path, &info) < 0) {
        if (errno != ENOENT || !strchr(path, '{') ||
            (kind != TACIT_DATASET_AUTO && kind != TACIT_DATASET_TAR))
            return tacit__fail_open(err, path);
        kind = TACIT_DATASET_TAR; /* several, in braces */
    } else if (kind == TACIT_DATASET_AUTO && (st = detect(path, &info, &kind, &single, err)) < 0)
        return st;
    tacit_dataset *s = tacit_calloc(1, sizeof *s);
    if (!s)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    s->kind = kind;
    s->count = UINT64_MAX;
    if (single)
        st = tacit__single_open(s, path, err);
    else
        switch (kind) {
        case TACIT_DATASET_FOLDER: st = tacit__folder_open(s, path, err); break;
        case TACIT_DATASET_AUTO:
        case TACIT_DATASET_LIST: st = tacit__list_open(s, path, err); break;
        case TACIT_DATASET_TAR: st = tacit__tar_open(s, path, err); break;
        case TACIT_DATASET_CIFAR10:
        case TACIT_DATASET_CIFAR100:
        case TACIT_DATASET_IDX: st = tacit__records_open(s, path, err); break;
        case TACIT_DATASET_PACK: st = tacit__pack_open(s, path, err); break;
        }
    if (st < 0) {
        tacit_free(s);
        return st;
    }
    *set = s;
    return TACIT_OK;
}

void tacit_dataset_close(tacit_dataset **set)
{
    if (!set || !*set)
        return;
    (*set)->reader->close((*set)->state);
    tacit_free(*set);
    *set = NULL;
}

tacit_dataset_kind tacit_dataset_kind_of(const tacit_dataset *set)
{
    return set->kind;
}

uint64_t tacit_dataset_count(const tacit_dataset *set)
{
    return set->count;
}

static tacit_status step(tacit_dataset *set, tacit_item *item, bool skip, bool *more,
                         tacit_err *err)
{
    *more = false;
    if (set->ended)
        return TACIT_OK;
    item->index = set->index;
    item->form = TACIT_ITEM_FILE;
    item->status = TACIT_OK;
    item->problem.text[0] = 0;
    item->size = item->width = item->height = 0;
    tacit_status st = set->reader->next(set->state, item, skip, more, err);
    if (st < 0 || !*more) {
        *more = false;
        set->ended = true;
        return st;
    }
    if (item->form != TACIT_ITEM_FILE)
        drop_text(&item->file, &item->text_capacity[2]);
    set->index++;
    return TACIT_OK;
}

void tacit_dataset_stop_by(tacit_dataset *set, const atomic_int *stop)
{
    if (set->reader->stop_by)
        set->reader->stop_by(set->state, stop);
}

tacit_status tacit_dataset_next(tacit_dataset *set, tacit_item *item, bool *more, tacit_err *err)
{
    return step(set, item, false, more, err);
}

tacit_status tacit_dataset_skip(tacit_dataset *set, tacit_item *item, bool *more, tacit_err *err)
{
    return step(set, item, true, more, err);
}
