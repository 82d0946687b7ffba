/* output.c - parts, syncs, locks, resume. See output.h; "(2)" below is an invariant there. */
#include "output.h"

#include "atomic_file.h"
#include "index.h"
#include "mem.h"
#include "meta.h"
#include "npy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Index lines wait for the sync of their rows, this long and this many at most. */
#define SYNC_SECONDS 2.0
#define SYNC_LINES   4096

#define JSON_LIMIT ((size_t)1 << 20)

enum name { ROWS, ROWS_PART, INDEX, INDEX_PART, RUN, META, NAMES };

static const char *const names[NAMES] = {
    [ROWS] = "embeddings.npy", [ROWS_PART] = "embeddings.npy.part",
    [INDEX] = "index.tsv",     [INDEX_PART] = "index.tsv.part",
    [RUN] = "run.json",        [META] = "meta.json",
};

struct tacit_output {
    char *dir, *paths[NAMES];
    int lock, rows_fd, index_fd;
    tacit_dtype dtype;
    size_t shape[3], row_bytes;
    unsigned rank;
    uint64_t rows, lines;           /* added so far, with what was kept */
    uint64_t kept_lines, kept_rows; /* from an earlier run              */
    tacit_index *earlier;           /* the kept lines, while they are verified */
    char *held;                     /* lines that wait, see (2) */
    size_t held_size, held_capacity, held_lines;
    bool rows_unsynced, broken, started, fresh;
    double last_sync;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* JSON ---------------------------------------------------------------------------------------- */

static void describe(const json_t *value, char *out, size_t size)
{
    char *text =
        value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    snprintf(out, size, "%.200s", text ? text : "not there");
    free(text);
}

static bool excepted(const char *name, const char *const *except)
{
    while (except && *except)
        if (!strcmp(name, *except++))
            return true;
    return false;
}

static tacit_status compare(const char *prefix, const json_t *recipe, const json_t *other,
                            const char *const *except, tacit_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)recipe, key, value)
    {
        char name[256], mine[256], theirs[256];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
        const json_t *there = json_object_get(other, key);
        if (excepted(name, except))
            continue;
        if (json_is_object(value) && json_is_object(there)) {
            tacit_status st = compare(name, value, there, except, err);
            if (st < 0)
                return st;
        } else if (!json_equal(value, there)) {
            describe(value, mine, sizeof mine);
            describe(there, theirs, sizeof theirs);
            return tacit_fail(err, TACIT_ECONFLICT, "%s is %s here and %s there", name, mine,
                              theirs);
        }
    }
    return TACIT_OK;
}

tacit_status tacit_recipe_compare(const json_t *recipe, const json_t *other,
                                  const char *const *except, tacit_err *err)
{
    char *text = tacit_json_dump(recipe, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_t *written = text ? json_loads(text, 0, NULL) : NULL;
    tacit_status st = written ? compare("", written, other, except, err)
                              : tacit_fail(err, TACIT_ENOMEM, "out of memory for the recipe");
    json_decref(written);
    tacit_free(text);
    return st;
}

static tacit_status read_json(const char *path, json_t **value, tacit_err *err)
{
    char *text = NULL;
    size_t size = 0;
    *value = NULL;
    tacit_status st = tacit_file_read(path, JSON_LIMIT, &text, &size, err);
    if (st < 0)
        return st;
    json_error_t problem;
    *value = json_loadb(text, size, 0, &problem);
    tacit_free(text);
    if (!json_is_object(*value)) {
        json_decref(*value);
        *value = NULL;
        return tacit_fail(err, TACIT_EFORMAT, "%s: is damaged or not ours", path);
    }
    return TACIT_OK;
}

static tacit_status write_json(const char *path, const json_t *value, tacit_err *err)
{
    char *text = tacit_json_dump(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    size_t size = strlen(text);
    text[size] = '\n'; /* in place of the 0, which is not written */
    tacit_status st = tacit_file_replace(path, text, size + 1, err);
    tacit_free(text);
    return st;
}

/* The folder ---------------------------------------------------------------------------------- */

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Makes path and its parents. path is written to and restored. */
static tacit_status make_folders(char *path, tacit_err *err)
{
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char saved = *p;
        *p = 0;
        int failed = mkdir(path, 0777) && errno != EEXIST;
        if (failed)
            tacit_fail_errno(err, "%s: the folder cannot be made", path);
        *p = saved;
        if (failed)
            return TACIT_EIO;
        if (!saved)
            return TACIT_OK;
    }
}

static tacit_status lock_folder(tacit_output *o, tacit_err *err)
{
    o->lock = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->lock < 0)
        return tacit_fail_errno(err, "%s: the output folder cannot be opened", o->dir);
    if (flock(o->lock, LOCK_EX | LOCK_NB) == 0)
        return TACIT_OK;
    if (errno == EWOULDBLOCK)
        return tacit_fail(err, TACIT_ECONFLICT, "%s: another process is writing there", o->dir);
    return tacit_fail_errno(err, "%s: the output folder cannot be locked", o->dir);
}

/* Temporaries of a process that was killed while it wrote a JSON file. */
static void remove_temporaries(tacit_output *o)
{
    DIR *dir = opendir(o->dir);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *n = entry->d_name;
        size_t length = strlen(n);
        bool ours = !strncmp(n, "run.json.", 9) || !strncmp(n, "meta.json.", 10);
        if (ours && length > 4 && !strcmp(n + length - 4, ".tmp"))
            unlinkat(dirfd(dir), n, 0);
    }
    closedir(dir);
}

/* Which state the folder is in, or why it is refused. */
static tacit_status judge(tacit_output *o, const json_t *recipe, bool resume,
                          tacit_output_state *state, tacit_err *err)
{
    bool unfinished = exists(o->paths[RUN]), finished = exists(o->paths[META]);
    *state = TACIT_OUTPUT_NEW;
    if (!unfinished && !finished) {
        for (int i = 0; i < NAMES; i++)
            if (exists(o->paths[i]))
                return tacit_fail(err, TACIT_ECONFLICT,
                                  "%s: is there already and of unknown origin: choose another "
                                  "output folder",
                                  o->paths[i]);
        return TACIT_OK;
    }
    if (!resume)
        return tacit_fail(err, TACIT_ECONFLICT,
                          unfinished ? "%s: holds an unfinished run: go on with it by --resume, or "
                                       "choose another output folder"
                                     : "%s: holds a finished run: choose another output folder",
                          o->dir);
    json_t *there;
    tacit_status st = read_json(o->paths[unfinished ? RUN : META], &there, err);
    if (st < 0)
        return st;
    /* The weights' hash counts, not where they lie. */
    st = tacit_recipe_compare(recipe, there, (const char *const[]){ "model.weights", NULL }, err);
    json_decref(there);
    if (st < 0)
        return tacit_fail_at(err, st, "%s: holds another run", o->dir);
    *state = unfinished ? TACIT_OUTPUT_RESUMED : TACIT_OUTPUT_COMPLETE;
    return TACIT_OK;
}

/* The parts --------------------------------------------------------------------------------- */

static void write_header(const tacit_output *o, char header[TACIT_NPY_HEADER])
{
    uint64_t shape[4] = { o->rows };
    for (unsigned i = 0; i < o->rank; i++)
        shape[i + 1] = o->shape[i];
    tacit_npy_header(header, o->dtype, shape, o->rank + 1);
}

static tacit_status open_part(const char *path, int *fd, tacit_err *err)
{
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    return *fd < 0 ? tacit_fail_errno(err, "%s: cannot be made", path) : TACIT_OK;
}

/* What of the earlier parts holds: complete lines whose rows are there. Sets kept_* and the two
 * lengths. Parts that are not even begun keep nothing. */
static tacit_status scan_parts(tacit_output *o, uint64_t *index_bytes, tacit_err *err)
{
    struct stat info;
    if (fstat(o->rows_fd, &info))
        return tacit_fail_errno(err, "%s", o->paths[ROWS_PART]);
    uint64_t size = (uint64_t)info.st_size;
    uint64_t there = size > TACIT_NPY_HEADER ? (size - TACIT_NPY_HEADER) / o->row_bytes : 0;
    tacit_index *index;
    tacit_status st = tacit_index_open(&index, o->paths[INDEX_PART], err);
    if (st == TACIT_EFORMAT)
        return TACIT_OK; /* the header is missing or cut off: begin anew */
    if (st < 0)
        return st;
    *index_bytes = strlen(TACIT_INDEX_HEADER);
    tacit_index_line line;
    bool more = true;
    while ((st = tacit_index_next(index, &line, &more, err)) >= 0 && more) {
        if (line.usable && line.row >= there)
            break;
        o->kept_lines++;
        o->kept_rows += line.usable;
        *index_bytes = line.end;
    }
    tacit_index_close(&index);
    return st == TACIT_EFORMAT ? TACIT_OK : st; /* a torn line and all behind it are done again */
}

/* Opens the parts, and cuts them to what holds. */
static tacit_status open_parts(tacit_output *o, tacit_err *err)
{
    tacit_status st;
    /* A crash while the parts got their final names: (1) is kept by taking the names away. */
    if (exists(o->paths[ROWS]) &&
        (st = tacit_file_rename(o->paths[ROWS], o->paths[ROWS_PART], err)) < 0)
        return st;
    if (exists(o->paths[INDEX]) &&
        (st = tacit_file_rename(o->paths[INDEX], o->paths[INDEX_PART], err)) < 0)
        return st;
    if (exists(o->paths[META]) && unlink(o->paths[META]))
        return tacit_fail_errno(err, "%s: cannot be removed", o->paths[META]);
    if ((st = open_part(o->paths[ROWS_PART], &o->rows_fd, err)) < 0 ||
        (st = open_part(o->paths[INDEX_PART], &o->index_fd, err)) < 0)
        return st;
    uint64_t index_bytes = 0;
    if ((st = scan_parts(o, &index_bytes, err)) < 0)
        return st;
    o->rows = o->kept_rows;
    o->lines = o->kept_lines;
    if (ftruncate(o->rows_fd, (off_t)(TACIT_NPY_HEADER + o->rows * o->row_bytes)))
        return tacit_fail_errno(err, "%s: cannot be cut", o->paths[ROWS_PART]);
    if (ftruncate(o->index_fd, (off_t)index_bytes))
        return tacit_fail_errno(err, "%s: cannot be cut", o->paths[INDEX_PART]);
    if (lseek(o->index_fd, 0, SEEK_END) < 0)
        return tacit_fail_errno(err, "%s", o->paths[INDEX_PART]);
    char header[TACIT_NPY_HEADER];
    write_header(o, header);
    st = tacit_pwrite_all(o->rows_fd, header, sizeof header, 0, o->paths[ROWS_PART], err);
    if (st >= 0 && !index_bytes)
        st = tacit_write_all(o->index_fd, TACIT_INDEX_HEADER, strlen(TACIT_INDEX_HEADER),
                             o->paths[INDEX_PART], err);
    if (st >= 0 && o->kept_lines)
        st = tacit_index_open(&o->earlier, o->paths[INDEX_PART], err);
    return st;
}

static tacit_status plan(tacit_output *o, const char *dir, tacit_dtype dtype, const size_t *shape,
                         unsigned rank, tacit_err *err)
{
    o->dtype = dtype;
    o->row_bytes = tacit_dtype_size(dtype);
    o->rank = rank;
    bool fits = true;
    for (unsigned i = 0; i < rank; i++) {
        o->shape[i] = shape[i];
        fits = fits && tacit_mul_size(o->row_bytes, shape[i], &o->row_bytes);
    }
    if (!fits || !o->row_bytes)
        return tacit_fail(err, TACIT_ELIMIT, "a row of features is empty or too long");
    o->dir = tacit_strdup(dir);
    if (!o->dir)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (int i = 0; i < NAMES; i++) {
        size_t room = strlen(dir) + strlen(names[i]) + 2;
        o->paths[i] = tacit_alloc(room);
        if (!o->paths[i])
            return tacit_fail(err, TACIT_ENOMEM, "out of memory");
        snprintf(o->paths[i], room, "%s/%s", dir, names[i]);
    }
    return TACIT_OK;
}

tacit_status tacit_output_open(tacit_output **out, const char *dir, const json_t *recipe,
                               tacit_dtype dtype, const size_t *shape, unsigned rank, bool resume,
                               tacit_output_state *state, tacit_err *err)
{
    *out = NULL;
    tacit_output *o = tacit_calloc(1, sizeof *o);
    if (!o)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    o->lock = o->rows_fd = o->index_fd = -1;
    o->last_sync = seconds();
    tacit_status st = plan(o, dir, dtype, shape, rank, err);
    if (st < 0 || (st = make_folders(o->dir, err)) < 0 || (st = lock_folder(o, err)) < 0 ||
        (st = judge(o, recipe, resume, state, err)) < 0)
        goto fail;
    remove_temporaries(o);
    o->fresh = *state == TACIT_OUTPUT_NEW;
    if (o->fresh && (st = write_json(o->paths[RUN], recipe, err)) < 0)
        goto fail;
    o->started = *state != TACIT_OUTPUT_COMPLETE;
    if (o->started && (st = open_parts(o, err)) < 0)
        goto fail;
    *out = o;
    return TACIT_OK;

fail:
    o->broken = true;
    tacit_output_close(&o);
    return st;
}

void tacit_output_close(tacit_output **p)
{
    tacit_output *o = *p;
    *p = NULL;
    if (!o)
        return;
    if (o->started && !o->broken)
        tacit_output_sync(o, NULL);
    tacit_index_close(&o->earlier);
    if (o->rows_fd >= 0)
        close(o->rows_fd);
    if (o->index_fd >= 0)
        close(o->index_fd);
    if (o->fresh && !o->lines) {
        unlink(o->paths[ROWS_PART]);
        unlink(o->paths[INDEX_PART]);
        unlink(o->paths[RUN]); /* last, (3) */
        rmdir(o->dir);         /* refused where it holds anything else */
    }
    if (o->lock >= 0)
        close(o->lock);
    for (int i = 0; i < NAMES; i++)
        tacit_free(o->paths[i]);
    tacit_free(o->dir);
    tacit_free(o->held);
    tacit_free(o);
}

void tacit_output_discard(tacit_output **p)
{
    if (*p) {
        (*p)->broken = true;
        (*p)->lines = 0;
    }
    tacit_output_close(p);
}

uint64_t tacit_output_kept(const tacit_output *o, uint64_t *rows)
{
    *rows = o->kept_rows;
    return o->kept_lines;
}

tacit_status tacit_output_verify(tacit_output *o, const char *path, const char *label,
                                 const char **status, tacit_err *err)
{
    tacit_index_line line;
    bool more = false;
    tacit_status st = tacit_index_next(o->earlier, &line, &more, err);
    if (st < 0)
        return st;
    if (!more || strcmp(line.path, path) || strcmp(line.label, label ? label : ""))
        return tacit_fail(err, TACIT_ECONFLICT,
                          "the input changed since the run began: it now has '%s' where '%s' was; "
                          "choose another output folder",
                          path, more ? line.path : "nothing");
    *status = line.status;
    return TACIT_OK;
}

static tacit_status hold(tacit_output *o, const char *row, const char *line, size_t size,
                         tacit_err *err)
{
    size_t digits = strlen(row), need = o->held_size + digits + size;
    if (need > o->held_capacity) {
        size_t capacity = need + need / 2 + 4096;
        char *held = tacit_realloc(o->held, o->held_size, capacity);
        if (!held)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for the index");
        o->held = held;
        o->held_capacity = capacity;
    }
    memcpy(o->held + o->held_size, row, digits);
    memcpy(o->held + o->held_size + digits, line, size);
    o->held_size = need;
    o->held_lines++;
    return TACIT_OK;
}

tacit_status tacit_output_add(tacit_output *o, const void *row, const char *line, size_t size,
                              tacit_err *err)
{
    char digits[24] = "";
    tacit_status st = TACIT_OK;
    if (row) {
        uint64_t offset = TACIT_NPY_HEADER + o->rows * o->row_bytes;
        st = tacit_pwrite_all(o->rows_fd, row, o->row_bytes, offset, o->paths[ROWS_PART], err);
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)o->rows);
    }
    if (st >= 0)
        st = hold(o, digits, line, size, err);
    if (st < 0) {
        o->broken = true;
        return st;
    }
    if (row) {
        o->rows++;
        o->rows_unsynced = true;
    }
    o->lines++;
    if (o->held_lines >= SYNC_LINES || seconds() - o->last_sync >= SYNC_SECONDS)
        st = tacit_output_sync(o, err);
    return st;
}

tacit_status tacit_output_sync(tacit_output *o, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    if (o->rows_unsynced && fdatasync(o->rows_fd))
        st = tacit_fail_errno(err, "%s: cannot be synced", o->paths[ROWS_PART]);
    if (st >= 0 && o->held_size) /* (2): behind the sync of the rows */
        st = tacit_write_all(o->index_fd, o->held, o->held_size, o->paths[INDEX_PART], err);
    if (st < 0) {
        o->broken = true;
        return st;
    }
    o->rows_unsynced = false;
    o->held_size = o->held_lines = 0;
    o->last_sync = seconds();
    return TACIT_OK;
}

static tacit_status sync_and_close(int *fd, const char *path, tacit_err *err)
{
    bool failed = fsync(*fd) != 0;
    tacit_status st = failed ? tacit_fail_errno(err, "%s: cannot be synced", path) : TACIT_OK;
    if (close(*fd) && st >= 0)
        st = tacit_fail_errno(err, "%s: cannot be closed", path);
    *fd = -1;
    return st;
}

tacit_status tacit_output_finish(tacit_output *o, const json_t *meta, tacit_err *err)
{
    char header[TACIT_NPY_HEADER];
    write_header(o, header);
    tacit_status st = tacit_output_sync(o, err);
    if (st < 0)
        return st;
    o->started = o->fresh = false; /* from here on close has nothing to save or to take back */
    st = tacit_pwrite_all(o->rows_fd, header, sizeof header, 0, o->paths[ROWS_PART], err);
    if (st < 0 || (st = sync_and_close(&o->rows_fd, o->paths[ROWS_PART], err)) < 0 ||
        (st = sync_and_close(&o->index_fd, o->paths[INDEX_PART], err)) < 0 ||
        (st = tacit_file_rename(o->paths[ROWS_PART], o->paths[ROWS], err)) < 0 ||
        (st = tacit_file_rename(o->paths[INDEX_PART], o->paths[INDEX], err)) < 0 ||
        (st = write_json(o->paths[META], meta, err)) < 0)
        return st;
    if (unlink(o->paths[RUN]))
        return tacit_fail_errno(err, "%s: cannot be removed", o->paths[RUN]);
    if (fsync(o->lock) && errno != EINVAL)
        return tacit_fail_errno(err, "%s: the folder cannot be synced", o->dir);
    return TACIT_OK;
}

tacit_status tacit_output_meta(const char *dir, json_t **meta, tacit_err *err)
{
    *meta = NULL;
    size_t room = strlen(dir) + 16;
    char *path = tacit_alloc(room);
    if (!path)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_status st = TACIT_OK;
    snprintf(path, room, "%s/%s", dir, names[RUN]);
    if (exists(path))
        st = tacit_fail(err, TACIT_EINVAL, "%s: holds an unfinished run: finish it by --resume",
                        dir);
    snprintf(path, room, "%s/%s", dir, names[META]);
    if (st >= 0 && !exists(path))
        st = tacit_fail(err, TACIT_EINVAL,
                        "%s: holds no embeddings of tacit extract (meta.json is "
                        "missing)",
                        dir);
    if (st >= 0)
        st = read_json(path, meta, err);
    tacit_free(path);
    return st;
}
