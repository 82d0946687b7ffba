/* run_folder.c - see run_folder.h; "(2)" below is a promise there. */
#include "run_folder.h"

#include "atomic_file.h"
#include "backbone_file.h"
#include "snapshot.h"
#include "tokenizer_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECKPOINT "checkpoint.safetensors"
#define BEFORE     "checkpoint-%" PRIu64 ".safetensors"
#define LOG_LINE   4096 /* bytes, at most */

char *tacit_run_folder_name(const tacit_run_folder *f, const char *name)
{
    size_t room = strlen(f->path) + strlen(name) + 2;
    char *path = tacit_alloc(room);
    if (path)
        snprintf(path, room, "%s/%s", f->path, name);
    return path;
}

static tacit_status out_of_memory(const tacit_run_folder *f, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", f->path);
}

/* What cannot be looked at is there: it must not be written over. */
static bool exists(const tacit_run_folder *f, const char *name)
{
    return faccessat(f->lock, name, F_OK, 0) == 0 || errno != ENOENT;
}

/* The step of checkpoint-<step>.safetensors; false where it is no such name. */
static bool step_of(const char *name, uint64_t *step)
{
    char again[64];
    return sscanf(name, "checkpoint-%" SCNu64, step) == 1 &&
           snprintf(again, sizeof again, BEFORE, *step) > 0 && !strcmp(again, name);
}

/* Calls visit for every name in the folder. */
static void each_name(const tacit_run_folder *f, void (*visit)(void *ctx, const char *name),
                      void *ctx)
{
    DIR *dir = opendir(f->path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        visit(ctx, entry->d_name);
    if (dir)
        closedir(dir);
}

/* What a process that was killed left while it wrote. */
static void remove_temporary(void *ctx, const char *name)
{
    const tacit_run_folder *f = ctx;
    size_t n = strlen(name);
    if ((!strncmp(name, "checkpoint.safetensors.", 23) ||
         !strncmp(name, "backbone.safetensors.", 21) ||
         !strncmp(name, "tokenizer.safetensors.", 22) || !strncmp(name, "config.ini.", 11) ||
         !strncmp(name, "pictures-", 9)) &&
        n > 4 && !strcmp(name + n - 4, ".tmp"))
        unlinkat(f->lock, name, 0);
}

tacit_status tacit_run_folder_open(tacit_run_folder *f, const char *path, bool resume,
                                   tacit_err *err)
{
    *f = (tacit_run_folder){ .lock = -1, .log = -1, .path = tacit_strdup(path) };
    if (!f->path)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        return tacit_fail_errno(err, "%s: the run's folder cannot be made", path);
    f->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock < 0)
        return tacit_fail_errno(err, "%s: the run's folder cannot be opened", path);
    if (flock(f->lock, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? tacit_fail(err, TACIT_ECONFLICT, "%s: another process trains there", path)
                   : tacit_fail_errno(err, "%s: the run's folder cannot be locked", path);
    f->begun = exists(f, "config.ini") || exists(f, CHECKPOINT);
    if (f->begun && !resume)
        return tacit_fail(err, TACIT_ECONFLICT,
                          "%s holds a run: add --resume to go on with it, or take another folder",
                          path);
    each_name(f, remove_temporary, f);
    return TACIT_OK;
}

void tacit_run_folder_close(tacit_run_folder *f)
{
    if (f->log >= 0)
        close(f->log);
    if (f->lock >= 0)
        close(f->lock);
    tacit_free(f->path);
    *f = (tacit_run_folder){ .lock = -1, .log = -1 };
}

tacit_status tacit_run_folder_describe(tacit_run_folder *f, const tacit_config *config,
                                       tacit_err *err)
{
    char *path = tacit_run_folder_name(f, "config.ini"), *text = tacit_config_text(config);
    size_t room = (text ? strlen(text) : 0) + 128;
    char *all = tacit_alloc(room);
    tacit_status st = TACIT_OK;
    if (path && text && all) {
        int n = snprintf(all, room, "# tacit " TACIT_VERSION " pretrain %s\n%s",
                         config->method->name, text);
        st = tacit_file_replace(path, all, (size_t)n, err);
    } else {
        st = out_of_memory(f, err);
    }
    tacit_free(path);
    tacit_free(text);
    tacit_free(all);
    return st;
}

/* Checkpoints --------------------------------------------------------------------------------- */

/* The newest checkpoint before `below`. */
typedef struct newest {
    uint64_t below, step;
    bool found;
    size_t count; /* of all */
} newest;

static void look_at(void *ctx, const char *name)
{
    newest *n = ctx;
    uint64_t step;
    if (!step_of(name, &step))
        return;
    n->count++;
    if (step < n->below && (!n->found || step > n->step)) {
        n->step = step;
        n->found = true;
    }
}

static void look_at_oldest(void *ctx, const char *name)
{
    newest *n = ctx;
    uint64_t step;
    if (!step_of(name, &step))
        return;
    n->count++;
    if (!n->found || step < n->step) {
        n->step = step;
        n->found = true;
    }
}

static tacit_status load(const tacit_run_folder *f, const char *name, tacit_engine *e,
                         tacit_err *err)
{
    char *path = tacit_run_folder_name(f, name);
    tacit_status st = path ? tacit_snapshot_load(path, e, err) : out_of_memory(f, err);
    tacit_free(path);
    return st;
}

/* Damage is passed over; another method, other settings, a lack of memory are not. */
static bool passes(tacit_status st)
{
    return st != TACIT_ECONFLICT && st != TACIT_ENOMEM;
}

tacit_status tacit_run_folder_load(tacit_run_folder *f, tacit_engine *e,
                                   void (*say)(void *ctx, const char *line), void *ctx,
                                   tacit_err *err)
{
    newest n = { .below = UINT64_MAX };
    char name[64] = CHECKPOINT;
    tacit_status st = TACIT_OK;
    bool any = exists(f, CHECKPOINT), tried = false;
    each_name(f, look_at, &n);
    while (any || n.found) {
        tacit_err problem = { "" };
        if (!any) {
            snprintf(name, sizeof name, BEFORE, n.step);
            n = (newest){ .below = n.step };
            each_name(f, look_at, &n);
        }
        any = false;
        tried = true;
        st = load(f, name, e, &problem);
        if (st == TACIT_OK) {
            f->saved = e->step;
            f->has_saved = !strcmp(name, CHECKPOINT);
            return TACIT_OK;
        }
        tacit_fail(err, st, "%s", problem.text);
        if (!passes(st))
            return st;
        if (say)
            say(ctx, problem.text);
    }
    return tried ? tacit_fail_at(err, st, "no checkpoint can be read") : TACIT_OK;
}

tacit_status tacit_run_folder_save(tacit_run_folder *f, tacit_engine *e, size_t keep,
                                   tacit_err *err)
{
    char name[64], *last = tacit_run_folder_name(f, CHECKPOINT);
    bool tokenizer = e->method->tokenizer;
    char *product =
        tacit_run_folder_name(f, tokenizer ? "tokenizer.safetensors" : "backbone.safetensors");
    char *config = tacit_config_text(e->learner.config);
    tacit_status st = TACIT_OK;
    if (!last || !product || !config)
        st = out_of_memory(f, err);
    /* A second name first, so that the last stays under its own until the rename (2). Where the
     * file system has no such links, only the last is kept. */
    bool again = f->has_saved && f->saved == e->step;
    if (st == TACIT_OK && f->log >= 0 && fdatasync(f->log) < 0) /* lines before their state */
        st = tacit_fail_errno(err, "%s: log.jsonl", f->path);
    snprintf(name, sizeof name, BEFORE, f->saved);
    if (st == TACIT_OK && keep > 1 && f->has_saved && !again &&
        linkat(f->lock, CHECKPOINT, f->lock, name, 0) < 0 && errno == EIO)
        st = tacit_fail_errno(err, "%s: a checkpoint cannot be kept", f->path);
    if (st == TACIT_OK)
        st = tacit_snapshot_save(last, e, config, err);
    if (st == TACIT_OK) {
        f->saved = e->step;
        f->has_saved = true;
        snprintf(name, sizeof name, BEFORE, e->step); /* of a run that went further before */
        unlinkat(f->lock, name, 0);
        for (newest n = { 0 };; n = (newest){ 0 }) {
            each_name(f, look_at_oldest, &n);
            if (n.count < keep || !n.count)
                break;
            snprintf(name, sizeof name, BEFORE, n.step);
            if (unlinkat(f->lock, name, 0) < 0)
                break;
        }
        st = tokenizer ? tacit_tokenizer_file_write(product, e, err)
                       : tacit_backbone_file_write(product, e, err);
    }
    tacit_free(last);
    tacit_free(product);
    tacit_free(config);
    return st;
}

/* To look at ----------------------------------------------------------------------------------- */

/* The first line of config.ini, as describe has it, names the method. */
tacit_status tacit_run_folder_settings(tacit_config *config, const char *path, tacit_err *err)
{
    const tacit_run_folder f = { .path = (char *)path };
    char method[64] = "", *text = NULL, *file = tacit_run_folder_name(&f, "config.ini");
    size_t size;
    *config = (tacit_config){ 0 };
    tacit_status st =
        file ? tacit_file_read(file, (size_t)1 << 20, &text, &size, err) : out_of_memory(&f, err);
    if (st == TACIT_OK &&
        (sscanf(text, "# tacit %*s pretrain %63s", method) != 1 || !tacit_method_find(method)))
        st = tacit_fail(err, TACIT_EFORMAT, "%s: its first line names no method of tacit pretrain",
                        file);
    if (st == TACIT_OK)
        st = tacit_config_open(config, tacit_method_find(method), err);
    if (st == TACIT_OK)
        st = tacit_config_parse(config, text, file, err);
    tacit_free(text);
    tacit_free(file);
    return st;
}

tacit_status tacit_run_folder_peek(tacit_engine *e, const char *path, tacit_err *err)
{
    const tacit_run_folder f = { .path = (char *)path };
    return load(&f, CHECKPOINT, e, err);
}

/* Log ----------------------------------------------------------------------------------------- */

/* Bytes of the whole lines of steps up to `step`, of which each begins with its step. */
static tacit_status log_size(int fd, uint64_t step, const char *path, uint64_t *size,
                             tacit_err *err)
{
    char line[LOG_LINE + 1];
    uint64_t of;
    for (*size = 0;;) {
        ssize_t n = pread(fd, line, LOG_LINE, (off_t)*size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tacit_fail_errno(err, "%s", path);
        line[n] = 0;
        const char *end = strchr(line, '\n');
        if (!end || sscanf(line, "{\"step\":%" SCNu64, &of) != 1 || of > step)
            return TACIT_OK;
        *size += (uint64_t)(end + 1 - line);
    }
}

tacit_status tacit_run_folder_log_open(tacit_run_folder *f, uint64_t step, tacit_err *err)
{
    uint64_t size;
    char *path = tacit_run_folder_name(f, "log.jsonl");
    if (!path)
        return out_of_memory(f, err);
    tacit_status st = TACIT_OK;
    f->log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (f->log < 0)
        st = tacit_fail_errno(err, "%s", path);
    else if ((st = log_size(f->log, step, path, &size, err)) == TACIT_OK &&
             ftruncate(f->log, (off_t)size) < 0)
        st = tacit_fail_errno(err, "%s", path);
    tacit_free(path);
    return st;
}

tacit_status tacit_run_folder_log(tacit_run_folder *f, const char *line, tacit_err *err)
{
    tacit_status st = tacit_write_all(f->log, line, strlen(line), "log.jsonl", err);
    return st < 0 ? tacit_fail_at(err, st, "%s", f->path) : st;
}
