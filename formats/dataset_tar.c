/* dataset_tar.c - images in a tar, after webdataset's naming.
 *
 * A member's key is its name up to the first dot after the last slash; the rest is the suffix.
 * Consecutive members of one key are a sample. Each member of it with an image's extension is an
 * item; the text of `cls` is the label of them all, wherever it stands in the sample. Members with
 * a path component __like this__, without a suffix, or whose base name begins with a dot are passed
 * over. A tar without `cls` has no labels, whatever its folders.
 *
 * A path that does not exist and has braces names several tars, read one after the other:
 * {000..012} and {a,b}, nested; items are then "shard.tar/member".
 *
 * Read as a stream and one sample at a time, because the label may come last. A sample ends early
 * at 64 images or 512 MiB.
 */
#include "dataset_internal.h"
#include "mem.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MOST_SHARDS 65536
#define MOST_PATH   4096
#define MOST_LABEL  4096
enum { MOST_MEMBERS = 64 };

typedef struct tar_set {
    char **shards;
    size_t shard_count, shard_capacity, at_shard;
    size_t common; /* bytes of a shard's path that its items' names leave out */
    tacit__stream stream;
    bool held;  /* the entry read last belongs to the next sample    */
    bool ended; /* no more entries; error tells why                  */
    tacit_status error;
    tacit_err problem;
    tacit_item sample; /* its path is the key, its label the label         */
    tacit_item members[MOST_MEMBERS];
    size_t member_count, given;
    uint64_t bytes;     /* of the sample's images                                          */
    uint64_t unread_to; /* where its first image ends in the tar, when that was not read */
} tar_set;

static void tar_close(void *state)
{
    tar_set *s = state;
    tacit__stream_close(&s->stream);
    for (size_t i = 0; i < s->shard_count; i++)
        tacit_free(s->shards[i]);
    tacit_free(s->shards);
    for (size_t i = 0; i < MOST_MEMBERS; i++)
        tacit_item_free(&s->members[i]);
    tacit_item_free(&s->sample);
    tacit_free(s);
}

/* ---------------------------------------------------------------- shards */

static tacit_status add_shard(tar_set *s, const char *path, tacit_err *err)
{
    struct stat info;
    if (s->shard_count == MOST_SHARDS)
        return tacit_fail(err, TACIT_ELIMIT, "the braces name more than %d tars", MOST_SHARDS);
    if (stat(path, &info) < 0)
        return tacit__fail_open(err, path);
    if (s->shard_count == s->shard_capacity) {
        size_t want = s->shard_capacity ? 2 * s->shard_capacity : 16;
        char **grown =
            tacit_realloc(s->shards, s->shard_count * sizeof *grown, want * sizeof *grown);
        if (!grown)
            return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        s->shards = grown;
        s->shard_capacity = want;
    }
    if (!(s->shards[s->shard_count] = tacit_strdup(path)))
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    s->shard_count++;
    return TACIT_OK;
}

/* The brace that closes the one at open, and whether a comma parts what is between; NULL: none. */
static const char *closing(const char *open, bool *comma)
{
    int depth = 0;
    *comma = false;
    for (const char *p = open; *p; p++) {
        depth += (*p == '{') - (*p == '}');
        *comma |= *p == ',' && depth == 1;
        if (depth == 0)
            return p;
    }
    return NULL;
}

/* "{from..to}" in digits, rising; width is the digits to write, 0 = as many as it takes. */
static bool parse_range(const char *open, const char *close, unsigned *from, unsigned *to,
                        int *width)
{
    const char *p = open + 1;
    size_t m = strspn(p, "0123456789"), n;
    if (m == 0 || m > 9 || strncmp(p + m, "..", 2))
        return false;
    n = strspn(p + m + 2, "0123456789");
    if (n == 0 || n > 9 || p + m + 2 + n != close)
        return false;
    *from = *to = 0;
    for (size_t i = 0; i < m; i++)
        *from = *from * 10 + (unsigned)(p[i] - '0');
    for (size_t i = 0; i < n; i++)
        *to = *to * 10 + (unsigned)(p[m + 2 + i] - '0');
    *width = (m > 1 && *p == '0') || (n > 1 && p[m + 2] == '0') ? (int)(m > n ? m : n) : 0;
    return *from <= *to;
}

/* Adds what the pattern names; its braces before `done` are plain characters. Each call takes one
 * pair of braces off, so the depth is bounded by the pattern's length. */
static tacit_status expand(tar_set *s, const char *pattern, size_t done, tacit_err *err)
{
    const char *open = strchr(pattern + done, '{'), *close;
    bool comma = false;
    unsigned from = 0, to = 0;
    int width = 0;
    for (; open; open = strchr(open + 1, '{'))
        if ((close = closing(open, &comma)) &&
            (comma || parse_range(open, close, &from, &to, &width)))
            break;
    if (!open)
        return add_shard(s, pattern, err);
    char *one = tacit_alloc(MOST_PATH);
    if (!one)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", pattern);
    tacit_status st = TACIT_OK;
    int head = (int)(open - pattern), n = 0;
    if (!comma)
        for (unsigned i = from; st == TACIT_OK && n < MOST_PATH && i <= to; i++) {
            n = snprintf(one, MOST_PATH, "%.*s%0*u%s", head, pattern, width, i, close + 1);
            if (n < MOST_PATH)
                st = expand(s, one, (size_t)head, err);
        }
    for (const char *part = open + 1; comma && st == TACIT_OK && n < MOST_PATH && part <= close;) {
        const char *end = part;
        for (int depth = 0; end < close && (depth || *end != ','); end++)
            depth += (*end == '{') - (*end == '}');
        n = snprintf(one, MOST_PATH, "%.*s%.*s%s", head, pattern, (int)(end - part), part,
                     close + 1);
        if (n < MOST_PATH)
            st = expand(s, one, (size_t)head, err);
        part = end + 1;
    }
    tacit_free(one);
    if (n >= MOST_PATH)
        return tacit_fail(err, TACIT_ELIMIT, "%s: longer than %d bytes", pattern, MOST_PATH);
    return st;
}

/* ---------------------------------------------------------------- members */

/* Length of the key and start of the suffix; false where the name is none of a sample's. */
static bool split_name(const char *name, size_t *key, const char **suffix)
{
    const char *base = name;
    for (const char *p = name;;) {
        size_t n = strcspn(p, "/");
        if (n >= 4 && !strncmp(p, "__", 2) && !strncmp(p + n - 2, "__", 2))
            return false;
        base = p;
        if (!p[n])
            break;
        p += n + 1;
    }
    const char *dot = strchr(base, '.');
    if (!dot || dot == base)
        return false;
    *key = (size_t)(dot - name);
    *suffix = dot + 1;
    return true;
}

static tacit_status read_label(tar_set *s, tacit_err *err)
{
    char text[MOST_LABEL + 1];
    size_t n;
    tacit_status st = tacit__stream_read(&s->stream, text, sizeof text, &n, err);
    if (st < 0 || n == sizeof text) /* too long for the name of a class */
        return st;
    text[n] = 0;
    char *from = text + strspn(text, " \t\r\n\v\f");
    for (n = strlen(from); n && strchr(" \t\r\n\v\f", from[n - 1]);)
        from[--n] = 0;
    return n ? tacit__item_label(&s->sample, from, err) : TACIT_OK;
}

/* Makes the member a bad item. */
static tacit_status refuse(tacit_item *member, tacit_status why, const char *tar, const char *what)
{
    member->form = TACIT_ITEM_BAD;
    member->status = tacit_fail(&member->problem, why, "%s: %s %s", tar, member->path, what);
    return TACIT_OK;
}

/* The entry's bytes into the member. The room grows with what is really there: a header can promise
 * more than the tar holds, to be filled with zeros. Such sparse members are not taken. */
static tacit_status read_member(tar_set *s, tacit_item *member, size_t size, tacit_err *err)
{
    while (member->size < size) {
        const void *bytes;
        size_t n;
        uint64_t offset;
        tacit_status st = tacit__stream_block(&s->stream, &bytes, &n, &offset, err);
        if (st < 0)
            return st;
        if (n == 0 || offset != member->size || n > size - member->size) {
            member->size = 0;
            return refuse(member, TACIT_EUNSUPPORTED, s->stream.path, "is a sparse member");
        }
        size_t whole = member->size + n, room = whole > member->capacity ? 2 * whole : whole;
        if ((st = tacit__item_reserve(member, room < size ? room : size, err)) < 0)
            return st;
        memcpy(member->bytes + member->size, bytes, n);
        member->size = whole;
    }
    return TACIT_OK;
}

/* What stands before a member's name in its item's: nothing where there is but one tar. */
static const char *shard_name(const tar_set *s)
{
    return s->shard_count > 1 ? s->shards[s->at_shard] + s->common : "";
}

/* Takes the entry as the sample's next image. Without `load` its bytes are left in the tar. */
static tacit_status add_member(tar_set *s, const char *name, bool load, tacit_err *err)
{
    struct archive_entry *entry = s->stream.entry;
    tacit_item *m = &s->members[s->member_count];
    uint64_t size = (uint64_t)archive_entry_size(entry);
    const char *shard = shard_name(s);
    tacit_status st = tacit__item_path(m, shard, name, err);
    if (st < 0)
        return st;
    m->size = 0;
    m->form = TACIT_ITEM_BYTES;
    m->status = TACIT_OK;
    m->problem.text[0] = 0;
    const char *tar = s->stream.path;
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
        refuse(m, TACIT_EUNSUPPORTED, tar, "is a link or a special file inside the tar");
    else if (archive_entry_sparse_count(entry) > 0)
        refuse(m, TACIT_EUNSUPPORTED, tar, "is a sparse member");
    else if (size > TACIT__MOST_IMAGE_BYTES)
        refuse(m, TACIT_ELIMIT, tar, "has more than the 512 MiB an image may have");
    else {
        s->bytes += size;
        if (!load)
            s->unread_to = (uint64_t)archive_filter_bytes(s->stream.archive, 0) + size;
        else if ((st = read_member(s, m, (size_t)size, err)) < 0)
            return st;
    }
    s->member_count++;
    return TACIT_OK;
}

/* Whether an entry of this name and key cannot be part of the sample that is open. */
static bool begins_sample(const tar_set *s, const char *name, size_t key, bool image, bool label)
{
    if (!s->sample.path || strlen(s->sample.path) != key || memcmp(s->sample.path, name, key))
        return true;
    if (label)
        return s->sample.label;
    const char *shard = shard_name(s);
    if (!image)
        return false;
    if (s->member_count == MOST_MEMBERS ||
        s->bytes + (uint64_t)archive_entry_size(s->stream.entry) > TACIT__MOST_IMAGE_BYTES)
        return s->member_count > 0;
    for (size_t i = 0; i < s->member_count; i++) /* a name comes once in a sample */
        if (!strcasecmp(s->members[i].path + (*shard ? strlen(shard) + 1 : 0), name))
            return true;
    return false;
}

/* Reads entries until a sample with an image is complete, or until no more come. */
static tacit_status gather(tar_set *s, bool skip, tacit_err *err)
{
    tacit_status st;
    s->member_count = s->given = 0;
    s->bytes = s->unread_to = 0;
    for (;;) {
        if (!s->stream.archive) { /* a shard is done */
            if (++s->at_shard == s->shard_count) {
                s->ended = true;
                return TACIT_OK;
            }
            st = tacit__stream_open(&s->stream, s->shards[s->at_shard], TACIT__STREAM_TAR, err);
            if (st < 0)
                return st;
        }
        bool more = true;
        if (!s->held && (st = tacit__stream_next(&s->stream, &more, err)) < 0) {
            /* An image that was passed over is one only if all of it is there. */
            if ((uint64_t)archive_filter_bytes(s->stream.archive, 0) < s->unread_to)
                s->member_count = 0;
            return st;
        }
        s->held = false;
        if (!more) {
            tacit__stream_close(&s->stream);
            if (s->sample.path)
                s->sample.path[0] = 0;
            if (s->member_count)
                return TACIT_OK;
            continue;
        }
        struct archive_entry *entry = s->stream.entry;
        const char *name = archive_entry_pathname(entry), *suffix;
        size_t key;
        if (!name || archive_entry_filetype(entry) == AE_IFDIR || !split_name(name, &key, &suffix))
            continue;
        bool image = tacit__is_image_name(name), label = !strcasecmp(suffix, "cls");
        if (begins_sample(s, name, key, image, label)) {
            if (s->member_count) {
                s->held = true;
                return TACIT_OK;
            }
            s->bytes = 0;
            if ((st = tacit__item_path(&s->sample, "", name, err)) < 0 ||
                (st = tacit__item_label(&s->sample, NULL, err)) < 0)
                return st;
            s->sample.path[key] = 0;
        }
        if (image)
            st = add_member(s, name, !skip || s->member_count, err);
        else if (label)
            st = read_label(s, err);
        if (st < 0)
            return st;
    }
}

static tacit_status tar_next(void *state, tacit_item *item, bool skip, bool *more, tacit_err *err)
{
    tar_set *s = state;
    if (s->given == s->member_count && !s->ended) {
        s->error = gather(s, skip, &s->problem);
        s->ended |= s->error < 0; /* what came before the error is given first */
    }
    if (s->given == s->member_count)
        return s->error < 0 ? tacit_fail(err, s->error, "%s", s->problem.text) : TACIT_OK;
    tacit_item *m = &s->members[s->given++], was = *item;
    m->index = item->index;
    *item = *m;
    *m = was; /* its room serves the next sample */
    *more = true;
    return tacit__item_label(item, s->sample.label, err);
}

tacit_status tacit__tar_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = tar_next, .close = tar_close };
    struct stat info;
    tar_set *s = tacit_calloc(1, sizeof *s);
    if (!s)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st;
    if (stat(path, &info) == 0)
        st = add_shard(s, path, err);
    else {
        for (const char *p = path; *p && *p != '{'; p++)
            if (*p == '/')
                s->common = (size_t)(p - path) + 1;
        st = expand(s, path, 0, err);
    }
    if (st == TACIT_OK)
        st = tacit__stream_open(&s->stream, s->shards[0], TACIT__STREAM_TAR, err);
    /* One sample ahead: a tar without images is told here. */
    if (st == TACIT_OK) {
        st = s->error = gather(s, false, &s->problem);
        if (st < 0) {
            s->ended = true;
            st = s->member_count ? TACIT_OK : tacit_fail(err, st, "%s", s->problem.text);
        } else if (!s->member_count)
            st = tacit_fail(err, TACIT_EINVAL,
                            "%s: no image in the tar: members need a name such as 000.jpg", path);
    }
    if (st < 0) {
        tar_close(s);
        return st;
    }
    set->reader = &reader;
    set->state = s;
    return TACIT_OK;
}
