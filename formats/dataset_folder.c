/* dataset_folder.c - a folder of images, listed once.
 *
 * Order: images that lie in the folder itself first (no label), then the classes, which are its
 * sub-folders sorted by bytes, the name being the label. Within a class torchvision's ImageFolder
 * order: folders sorted by their whole path, in each the files sorted by name.
 *
 * Symlinks are followed. A link back to a folder that contains it, a folder that cannot be read and
 * an image name that is a FIFO, a socket or a device are bad items; other files are no inputs.
 *
 * Memory: the bytes of the names, and 10 to 18 for each file. No stat where the file system tells
 * the type and the entry is no symlink.
 */
#include "dataset_internal.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Symlinks can make a small tree look like 2^40 folders. */
#define MOST_FOLDERS ((size_t)1 << 22)
#define CHUNK        ((size_t)64 << 10)

#define PROBLEM_LOOP (-1) /* beside errno's positive numbers */

typedef struct folder {
    const char *path; /* under the root; "" is the root             */
    size_t parent;    /* while listing; the root is its own         */
    dev_t device;
    ino_t inode;
    size_t first, count; /* its images in names                        */
    int problem;         /* errno, or PROBLEM_LOOP; 0 = listed         */
} folder;

typedef struct chunk {
    struct chunk *next;
    char bytes[];
} chunk;

typedef struct folder_set {
    char *root;
    folder *folders;
    size_t folder_count, folder_capacity;
    const char **names; /* first byte 'f': a file; 's': something else that bears an image's name */
    size_t name_count, name_capacity;
    chunk *chunks;
    size_t chunk_left;
    char *full; /* the path being listed */
    size_t full_capacity;
    size_t at_folder, at_name; /* the next item */
} folder_set;

static void folder_close(void *state)
{
    folder_set *s = state;
    while (s->chunks) {
        chunk *next = s->chunks->next;
        tacit_free(s->chunks);
        s->chunks = next;
    }
    tacit_free(s->names);
    tacit_free(s->folders);
    tacit_free(s->full);
    tacit_free(s->root);
    tacit_free(s);
}

/* n bytes that live as long as the set; NULL where memory is short. Chunks are filled from the
 * end, so that what is left says where. */
static char *keep(folder_set *s, size_t n)
{
    if (n > s->chunk_left) {
        size_t size = n > CHUNK ? n : CHUNK;
        chunk *c = tacit_alloc(sizeof *c + size);
        if (!c)
            return NULL;
        c->next = s->chunks;
        s->chunks = c;
        s->chunk_left = size;
    }
    s->chunk_left -= n;
    return s->chunks->bytes + s->chunk_left;
}

/* Room for one more element of the array at *p. */
static bool grow(void *p, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity)
        return true;
    void *old, *grown;
    size_t want = *capacity ? *capacity : 64, bytes;
    memcpy(&old, p, sizeof old);
    if (!tacit_mul_size(want, *capacity ? 2 : 1, &want) || !tacit_mul_size(want, element, &bytes) ||
        !(grown = tacit_realloc(old, count * element, bytes)))
        return false;
    memcpy(p, &grown, sizeof grown);
    *capacity = want;
    return true;
}

static tacit_status no_memory(const folder_set *s, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory after %zu images", s->root,
                      s->name_count);
}

static tacit_status add_name(folder_set *s, char type, const char *name, tacit_err *err)
{
    size_t n = strlen(name) + 1;
    char *kept;
    if (!grow(&s->names, s->name_count, &s->name_capacity, sizeof *s->names) ||
        !(kept = keep(s, n + 1)))
        return no_memory(s, err);
    kept[0] = type;
    memcpy(kept + 1, name, n);
    s->names[s->name_count++] = kept;
    return TACIT_OK;
}

static tacit_status add_folder(folder_set *s, size_t parent, const char *name, tacit_err *err)
{
    if (s->folder_count == MOST_FOLDERS)
        return tacit_fail(err, TACIT_ELIMIT,
                          "%s: more than %zu folders: give a list of the images instead", s->root,
                          MOST_FOLDERS);
    const char *above = s->folder_count ? s->folders[parent].path : "";
    size_t head = strlen(above), tail = strlen(name) + 1;
    char *path;
    if (!grow(&s->folders, s->folder_count, &s->folder_capacity, sizeof *s->folders) ||
        !(path = keep(s, head + 1 + tail)))
        return no_memory(s, err);
    memcpy(path, above, head);
    if (head)
        path[head++] = '/';
    memcpy(path + head, name, tail);
    s->folders[s->folder_count++] = (folder){ .path = path, .parent = parent };
    return TACIT_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a + 1, *(const char *const *)b + 1);
}

static size_t class_length(const char *path)
{
    return strcspn(path, "/");
}

static int by_class_then_path(const void *a, const void *b)
{
    const char *p = ((const folder *)a)->path, *q = ((const folder *)b)->path;
    size_t m = class_length(p), n = class_length(q);
    int order = memcmp(p, q, m < n ? m : n);
    if (!order && m != n)
        order = m < n ? -1 : 1;
    return order ? order : strcmp(p, q);
}

/* The type of an entry, symlinks followed. What cannot be looked at counts as a file: loading it
 * tells the reason. */
static mode_t entry_type(int fd, const struct dirent *entry)
{
    struct stat info;
    switch (entry->d_type) {
    case DT_REG: return S_IFREG;
    case DT_DIR: return S_IFDIR;
    case DT_LNK:
    case DT_UNKNOWN:
        return fstatat(fd, entry->d_name, &info, 0) == 0 ? info.st_mode & S_IFMT : S_IFREG;
    default: return S_IFIFO;
    }
}

static bool is_loop(const folder_set *s, const folder *f)
{
    for (const folder *up = f; up->path[0];) {
        up = &s->folders[up->parent];
        if (up->device == f->device && up->inode == f->inode)
            return true;
    }
    return false;
}

/* Opens folder `at` into *dir; a reason not to is noted as its problem. */
static tacit_status open_folder(folder_set *s, size_t at, DIR **dir, tacit_err *err)
{
    folder *f = &s->folders[at];
    size_t root = strlen(s->root), n = strlen(f->path);
    if (root + n + 2 > s->full_capacity) {
        tacit_free(s->full);
        s->full_capacity = root + n + 256;
        if (!(s->full = tacit_alloc(s->full_capacity)))
            return no_memory(s, err);
    }
    memcpy(s->full, s->root, root);
    if (n)
        s->full[root++] = '/';
    memcpy(s->full + root, f->path, n + 1);

    struct stat info;
    *dir = NULL;
    int fd = open(s->full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0) {
        f->problem = errno;
        goto fail;
    }
    f->device = info.st_dev;
    f->inode = info.st_ino;
    if (is_loop(s, f)) {
        f->problem = PROBLEM_LOOP;
        goto fail;
    }
    if ((*dir = fdopendir(fd)))
        return TACIT_OK;
    f->problem = errno;
fail:
    if (fd >= 0)
        close(fd);
    if (at > 0)
        return TACIT_OK;
    errno = f->problem; /* without the root there is no set */
    return tacit__fail_open(err, s->root);
}

static tacit_status list_folder(folder_set *s, size_t at, tacit_err *err)
{
    DIR *dir = NULL;
    tacit_status st = open_folder(s, at, &dir, err);
    if (st < 0 || !dir)
        return st;
    size_t first = s->name_count;
    for (const struct dirent *entry; st == TACIT_OK && (errno = 0, entry = readdir(dir));) {
        const char *name = entry->d_name;
        bool image = tacit__is_image_name(name);
        if (!strcmp(name, ".") || !strcmp(name, "..") || (!image && entry->d_type == DT_REG))
            continue;
        mode_t type = entry_type(dirfd(dir), entry);
        if (type == S_IFDIR)
            st = add_folder(s, at, name, err);
        else if (image)
            st = add_name(s, type == S_IFREG ? 'f' : 's', name, err);
    }
    if (st == TACIT_OK && errno) /* of readdir: what came before stays */
        s->folders[at].problem = errno;
    closedir(dir);
    s->folders[at].first = first;
    s->folders[at].count = s->name_count - first;
    if (s->folders[at].count > 1)
        qsort(s->names + first, s->folders[at].count, sizeof *s->names, by_name);
    return st;
}

static tacit_status folder_label(const folder *f, tacit_item *item, tacit_err *err)
{
    char name[NAME_MAX + 1];
    size_t n = class_length(f->path);
    if (n == 0)
        return tacit__item_label(item, NULL, err);
    if (n < sizeof name) {
        memcpy(name, f->path, n);
        name[n] = 0;
        return tacit__item_label(item, name, err);
    }
    tacit_status st = tacit__item_label(item, f->path, err); /* no system known has longer names */
    if (st == TACIT_OK)
        item->label[n] = 0;
    return st;
}

static tacit_status folder_next(void *state, tacit_item *item, bool skip, bool *more,
                                tacit_err *err)
{
    folder_set *s = state;
    (void)skip;
    const folder *f = NULL;
    for (; s->at_folder < s->folder_count; s->at_folder++, s->at_name = 0) {
        f = &s->folders[s->at_folder];
        if (s->at_name < f->count + (f->problem != 0))
            break;
    }
    if (s->at_folder == s->folder_count)
        return TACIT_OK;
    const char *name = s->at_name < f->count ? s->names[f->first + s->at_name] : NULL;
    s->at_name++;
    tacit_status st = name ? tacit__item_path(item, f->path, name + 1, err)
                           : tacit__item_path(item, "", *f->path ? f->path : ".", err);
    if (st < 0 || (st = folder_label(f, item, err)) < 0)
        return st;
    *more = true;
    if (name && *name == 'f')
        return tacit__item_file(item, s->root, item->path, err);
    item->form = TACIT_ITEM_BAD;
    if (name)
        item->status = tacit_fail(&item->problem, TACIT_EUNSUPPORTED, "%s/%s: not a regular file",
                                  s->root, item->path);
    else if (f->problem == PROBLEM_LOOP)
        item->status = tacit_fail(&item->problem, TACIT_EUNSUPPORTED,
                                  "%s/%s: a link to a folder that contains it: not followed",
                                  s->root, item->path);
    else {
        errno = f->problem;
        item->status = tacit_fail_errno(&item->problem, "%s/%s: this folder cannot be read",
                                        s->root, item->path);
    }
    return TACIT_OK;
}

tacit_status tacit__folder_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = folder_next, .close = folder_close };
    tacit_status st = TACIT_OK;
    folder_set *s = tacit_calloc(1, sizeof *s);
    if (!s || !(s->root = tacit_strdup(path))) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    for (size_t n = strlen(s->root); n > 1 && s->root[n - 1] == '/';)
        s->root[--n] = 0;
    if ((st = add_folder(s, 0, "", err)) < 0)
        goto fail;
    for (size_t at = 0; at < s->folder_count; at++) /* grows while it goes */
        if ((st = list_folder(s, at, err)) < 0)
            goto fail;
    uint64_t count = s->name_count;
    for (size_t i = 0; i < s->folder_count; i++)
        count += s->folders[i].problem != 0;
    if (count == 0) {
        st = tacit_fail(err, TACIT_EINVAL,
                        "%s: no image in this folder or below (looked for .jpg .jpeg .png): name "
                        "the folder that holds them, or give a list file",
                        s->root);
        goto fail;
    }
    qsort(s->folders, s->folder_count, sizeof *s->folders, by_class_then_path);
    set->reader = &reader;
    set->state = s;
    set->count = count;
    return TACIT_OK;
fail:
    if (s)
        folder_close(s);
    return st;
}
