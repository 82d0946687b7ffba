/* clients.c - one thread, poll, and a ring of requests for each client. See clients.h.
 *
 * A request lives in a slot of its client's ring from the first byte that is known to be its own
 * until its answer was written. The batcher has it in between; of a slot it then touches only the
 * request and `done`.
 */
#include "clients.h"

#include "mem.h"
#include "meta.h"
#include "run.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_BYTES   4095 /* of a path: what the system takes */
#define BUFFER_BYTES 16384
#define IMAGE_BYTES  ((size_t)32 << 20) /* of a client at a time */
#define STOP_NS      UINT64_C(5000000000)
#define PAUSE_NS     UINT64_C(100000000) /* after the system refused a connection */

struct slot {
    tacit_request request;
    int wake;
    atomic_bool done;
    bool whole;     /* all of it was received */
    bool submitted; /* to the batcher */
    uint64_t received;
    uint8_t *bytes;
    size_t room;
    bool named;
    char path[LINE_BYTES + 1];
};

enum place { AT_LINE, IN_LONG_LINE, IN_BYTES, IN_REFUSED_BYTES };

struct client {
    int in, out;
    bool stream; /* its descriptors are not ours: they block, and stay open */
    struct slot *slots;
    float *vectors; /* (queue, dim) */
    unsigned first, used;
    unsigned next;   /* of the used ones, the first that submit has not passed */
    unsigned inside; /* submitted, and the answer not written */
    size_t held;     /* bytes of images in slots */

    char buffer[BUFFER_BYTES]; /* [from, to) was read and not yet understood */
    size_t from, to;
    enum place place;
    uint64_t left; /* of the image that is being received, or passed over */
    uint64_t read_at;
    bool hungry; /* nothing can be done before more was read */
    bool ended;  /* nothing more will be read */
    bool lost;   /* what follows cannot be understood */
    bool gone;   /* nobody is there for answers */
    tacit_status status;
    tacit_err err; /* why it is gone, or lost */

    char *text; /* the answer that is being written */
    size_t text_at, text_size;
    uint64_t wrote_at;
};

struct loop {
    const tacit_clients_options *options;
    tacit_clients_result *result;
    tacit_listener *listener; /* NULL: one stream */
    struct client **clients;
    struct pollfd *polls; /* wake, listener, clients */
    unsigned count;
    bool stopping;
    uint64_t stopped_at, accept_at;
};

/* Clients ------------------------------------------------------------------------------------- */

static void client_close(struct client *c, unsigned queue)
{
    for (unsigned i = 0; c->slots && i < queue; i++)
        tacit_free(c->slots[i].bytes);
    tacit_free(c->slots);
    tacit_free(c->vectors);
    tacit_free(c->text);
    if (!c->stream)
        close(c->in);
    tacit_free(c);
}

/* Takes the descriptors where it succeeds. NULL where memory is short. */
static struct client *client_open(const tacit_clients_options *o, int in, int out, bool stream)
{
    size_t text, floats, bytes;
    struct client *c = tacit_calloc(1, sizeof *c);
    if (!c)
        return NULL;
    bool fits = tacit_mul_size(o->queue, o->dim, &floats) &&
                tacit_mul_size(floats, sizeof(float), &bytes) &&
                tacit_mul_size(o->dim, 16, &text) &&
                tacit_add_size(text, 6 * (LINE_BYTES + sizeof(tacit_err)) + 256, &text);
    *c = (struct client){ .in = in, .out = out, .stream = stream, .hungry = true };
    c->slots = tacit_calloc(o->queue, sizeof *c->slots);
    c->vectors = fits ? tacit_alloc(bytes) : NULL;
    c->text = fits ? tacit_alloc(text) : NULL;
    if (!c->slots || !c->vectors || !c->text) {
        c->stream = true; /* the caller keeps what it gave */
        client_close(c, o->queue);
        return NULL;
    }
    for (unsigned i = 0; i < o->queue; i++)
        c->slots[i].wake = o->wake;
    return c;
}

static struct slot *slot_at(const struct loop *l, const struct client *c, unsigned i)
{
    return &c->slots[(c->first + i) % l->options->queue];
}

/* A slot for the next request; there must be room. */
static struct slot *take(const struct loop *l, struct client *c)
{
    struct slot *s = slot_at(l, c, c->used++);
    s->named = s->whole = s->submitted = false;
    s->received = c->read_at;
    atomic_store_explicit(&s->done, false, memory_order_relaxed);
    s->request.input =
        (tacit_input){ .vector = c->vectors + (size_t)(s - c->slots) * l->options->dim };
    return s;
}

/* The oldest slot's answer was written. */
static void release(const struct loop *l, struct client *c)
{
    struct slot *s = slot_at(l, c, 0);
    c->held -= s->request.input.path ? 0 : s->request.input.size;
    if (s->room > IMAGE_BYTES / l->options->queue) { /* a smaller one is kept for the next image */
        tacit_free(s->bytes);
        s->bytes = NULL;
        s->room = 0;
    }
    c->first = (c->first + 1) % l->options->queue;
    c->inside -= s->submitted;
    c->used--;
    assert(c->next > 0);
    c->next--;
}

/* On the batcher's thread. The slot may be gone once `done` is set. */
static void request_done(tacit_request *request)
{
    struct slot *s = request->ctx;
    int wake = s->wake;
    atomic_store_explicit(&s->done, true, memory_order_release);
    ssize_t n = write(wake, &(uint64_t){ 1 }, sizeof(uint64_t));
    (void)n; /* a full one wakes as it is */
}

/* In order, and no more than keep the network busy: one batch that is computed, one that waits. So
 * a client with one request waits for few of another's, however many those are. */
static void submit(const struct loop *l, struct client *c)
{
    for (; c->next < c->used && c->inside < 2 * l->options->batch; c->next++) {
        struct slot *s = slot_at(l, c, c->next);
        if (!s->whole)
            return;
        if (atomic_load_explicit(&s->done, memory_order_relaxed))
            continue; /* refused */
        s->submitted = true;
        s->request.done = request_done;
        s->request.ctx = s;
        c->inside++;
        tacit_batcher_submit(l->options->batcher, &s->request);
    }
}

static void refuse(struct slot *s, tacit_status status, const char *why)
{
    s->request.input.status = tacit_fail(&s->request.input.err, status, "%s", why);
    s->whole = true;
    atomic_store_explicit(&s->done, true, memory_order_relaxed);
}

/* Requests ------------------------------------------------------------------------------------ */

/* The count of a `bytes` line; false where it is none. */
static bool read_count(const char *digits, size_t size, uint64_t *count)
{
    *count = 0;
    if (!size || size > 15)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        *count = 10 * *count + (uint64_t)(digits[i] - '0');
    }
    return true;
}

/* `bytes N`: false where the client must wait until others of its images were answered. */
static bool begin_bytes(const struct loop *l, struct client *c, const char *digits, size_t size)
{
    static const char nonsense[] = "'bytes' is followed by no count: use a line 'bytes N', and for "
                                   "a file ./bytes; no more is read";
    uint64_t count;
    bool good = read_count(digits, size, &count), fits = good && count <= IMAGE_BYTES;
    if (fits && c->held && c->held + count > IMAGE_BYTES)
        return false;
    struct slot *s = take(l, c);
    c->left = count;
    c->place = IN_REFUSED_BYTES;
    if (!good) {
        refuse(s, TACIT_EFORMAT, nonsense);
        c->ended = c->lost = true;
        c->status = tacit_fail(&c->err, TACIT_EFORMAT, "%s", nonsense);
        c->place = AT_LINE;
        c->from = c->to = 0;
    } else if (!fits) {
        refuse(s, TACIT_ELIMIT, "an image of more than 33554432 bytes: send its path");
    } else {
        s->bytes = tacit_renew(s->bytes, &s->room, (size_t)count);
        if (!s->bytes) {
            refuse(s, TACIT_ENOMEM, "out of memory for an image's bytes");
        } else {
            s->request.input.bytes = s->bytes;
            s->request.input.size = (size_t)count;
            c->held += (size_t)count;
            c->place = IN_BYTES;
        }
    }
    return true;
}

/* A line without its end; false as begin_bytes. */
static bool take_line(const struct loop *l, struct client *c, const char *line, size_t size)
{
    static const char bytes[] = "bytes ";
    size_t head = sizeof bytes - 1;
    if (size && line[size - 1] == '\r')
        size--;
    if ((size >= head && !memcmp(line, bytes, head)) ||
        (size == head - 1 && !memcmp(line, bytes, size)))
        return begin_bytes(l, c, line + (size < head ? size : head), size < head ? 0 : size - head);
    struct slot *s = take(l, c);
    if (!size || memchr(line, 0, size)) {
        refuse(s, TACIT_EINVAL, size ? "a path with a zero byte" : "an empty line");
        return true;
    }
    memcpy(s->path, line, size);
    s->path[size] = 0;
    s->named = true;
    s->request.input.path = s->path;
    s->whole = true;
    return true;
}

/* One step from what was read; false where it takes more bytes, or room. */
static bool parse_line(const struct loop *l, struct client *c)
{
    char *line = c->buffer + c->from, *end = memchr(line, '\n', c->to - c->from);
    size_t size = end ? (size_t)(end - line) : c->to - c->from, next = size + (end != NULL);
    bool whole = end || (c->ended && (size || c->place == IN_LONG_LINE));
    if (c->place == AT_LINE && size > LINE_BYTES + 1) /* a CR may be on top */
        c->place = IN_LONG_LINE;
    if (!whole) {
        c->hungry = true;
        if (c->place == IN_LONG_LINE)
            c->from = c->to = 0;
        return false;
    }
    if (c->used == l->options->queue)
        return false;
    if (c->place == IN_LONG_LINE || (size == LINE_BYTES + 1 && line[size - 1] != '\r')) {
        refuse(take(l, c), TACIT_ELIMIT, "a line of more than 4095 bytes");
        c->place = AT_LINE;
    } else if (!take_line(l, c, line, size)) {
        return false;
    }
    c->from = c->lost ? c->to : c->from + next;
    return true;
}

static bool parse_bytes(const struct loop *l, struct client *c)
{
    struct slot *s = slot_at(l, c, c->used - 1);
    size_t n = c->to - c->from < c->left ? c->to - c->from : (size_t)c->left;
    if (c->place == IN_BYTES && n)
        memcpy(s->bytes + (s->request.input.size - c->left), c->buffer + c->from, n);
    c->from += n;
    c->left -= n;
    if (c->left && !c->ended) {
        c->hungry = true;
        return false;
    }
    if (c->place == IN_BYTES && !c->left)
        s->whole = true;
    else if (c->place == IN_BYTES)
        refuse(s, TACIT_EFORMAT, "the input ends within an image's bytes");
    c->place = AT_LINE;
    return true;
}

/* As many requests as were read and find room. */
static void parse(const struct loop *l, struct client *c)
{
    c->hungry = false;
    while (!c->gone && !c->lost && (c->from < c->to || c->place != AT_LINE || !c->ended)) {
        bool more = c->place == IN_BYTES || c->place == IN_REFUSED_BYTES ? parse_bytes(l, c)
                                                                         : parse_line(l, c);
        if (!more)
            break;
    }
    if (c->from && c->from < c->to)
        memmove(c->buffer, c->buffer + c->from, c->to - c->from);
    c->to -= c->from;
    c->from = 0;
}

static void receive(const struct loop *l, struct client *c)
{
    /* Bytes of an image go where they belong. */
    bool direct = c->place == IN_BYTES && c->to == 0;
    struct slot *s = direct ? slot_at(l, c, c->used - 1) : NULL;
    void *to = direct ? (void *)(s->bytes + (s->request.input.size - c->left)) : c->buffer + c->to;
    ssize_t n = read(c->in, to, direct ? (size_t)c->left : BUFFER_BYTES - c->to);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    c->read_at = tacit_clock_ns();
    if (n > 0 && direct) {
        c->left -= (size_t)n;
        s->received = c->read_at;
    } else if (n > 0) {
        c->to += (size_t)n;
    } else {
        c->ended = true;
        if (n < 0) {
            c->gone = !c->stream; /* a stream that cannot be read may still take answers */
            c->status = tacit_fail_errno(&c->err, "standard input");
        }
    }
}

/* Answers ------------------------------------------------------------------------------------- */

static void format(const struct loop *l, struct client *c, const struct slot *s)
{
    const tacit_input *input = &s->request.input;
    char *at = c->text;
    at += sprintf(at, "{\"path\":");
    at = s->named ? tacit_json_quote(at, s->path) : at + sprintf(at, "null");
    if (input->status < 0) {
        at += sprintf(at, ",\"status\":\"%s\",\"error\":", tacit_reason(input->status));
        at = tacit_json_quote(at, input->err.text);
    } else {
        at += sprintf(at, ",\"vector\":[");
        for (size_t i = 0; i < l->options->dim; i++) {
            double value = (double)input->vector[i];
            /* Most readers take -0 for a whole number, which has no sign. */
            bool minus_zero = value == 0 && signbit(value);
            at += sprintf(at, minus_zero ? "%s%.1f" : "%s%.9g", i ? "," : "", value);
        }
        *at++ = ']';
    }
    memcpy(at, "}\n", 2);
    c->text_at = 0;
    c->text_size = (size_t)(at + 2 - c->text);
}

/* Writes what can be written now; false where the answer is not through. */
static bool write_text(struct client *c)
{
    while (c->text_at < c->text_size) {
        ssize_t n = write(c->out, c->text + c->text_at, c->text_size - c->text_at);
        if (n >= 0) {
            c->text_at += (size_t)n;
            c->wrote_at = tacit_clock_ns();
        } else if (errno == EAGAIN && c->stream) {
            poll(&(struct pollfd){ .fd = c->out, .events = POLLOUT }, 1, -1);
        } else if (errno == EAGAIN) {
            return false;
        } else if (errno != EINTR) {
            c->gone = true;
            c->status = tacit_fail_errno(&c->err, "standard output");
            return false;
        }
    }
    return true;
}

/* Answers that are ready, in order; whether there was one. */
static bool answer(const struct loop *l, struct client *c)
{
    tacit_clients_result *result = l->result;
    bool any = false;
    while (c->next && !c->gone) {
        struct slot *s = slot_at(l, c, 0);
        if (!atomic_load_explicit(&s->done, memory_order_acquire))
            break;
        if (!c->text_size)
            format(l, c, s);
        if (!write_text(c))
            break;
        c->text_size = c->text_at = 0;
        if (s->request.input.status >= 0) {
            tacit_histogram_add(&result->times, c->wrote_at - s->received);
            result->vectors++;
        } else {
            result->errors++;
        }
        release(l, c);
        any = true;
    }
    return any;
}

/* The loop ------------------------------------------------------------------------------------ */

static void advance(const struct loop *l, struct client *c)
{
    do {
        if (!c->gone) {
            parse(l, c);
            submit(l, c);
        }
    } while (answer(l, c));
}

/* No more of this client is read; a request of which a part is missing is dropped. */
static void end_requests(const struct loop *l, struct client *c)
{
    if (!c->ended && c->place == IN_BYTES)
        c->held -= slot_at(l, c, --c->used)->request.input.size;
    c->ended = true;
    c->hungry = false;
    c->place = AT_LINE;
    c->from = c->to = 0;
}

/* Whether nothing is left to be done for it; requests of one that is gone are called back. */
static bool is_over(const struct loop *l, struct client *c)
{
    bool computed = false;
    if (!c->gone)
        return c->ended && !c->used && c->from == c->to && c->place == AT_LINE;
    for (unsigned i = 0; i < c->used; i++) {
        struct slot *s = slot_at(l, c, i);
        if (s->submitted && !atomic_load_explicit(&s->done, memory_order_acquire)) {
            tacit_batcher_cancel(l->options->batcher, &s->request);
            computed = true;
        }
    }
    return !computed;
}

static void begin_stop(struct loop *l)
{
    l->stopping = true;
    l->stopped_at = tacit_clock_ns();
    if (l->listener)
        tacit_listener_close(l->listener);
    for (unsigned i = 0; i < l->count; i++)
        end_requests(l, l->clients[i]);
}

static void accept_clients(struct loop *l)
{
    while (l->count < l->options->clients) {
        int fd = accept4(l->listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN)
                l->accept_at = tacit_clock_ns() + PAUSE_NS;
            return;
        }
        struct client *c = client_open(l->options, fd, fd, false);
        if (c)
            l->clients[l->count++] = c;
        else
            close(fd); /* no memory: it sees an end, and may try again */
    }
}

/* Waits until something can be done, and does what belongs to one descriptor alone. */
static void wait_and_receive(struct loop *l)
{
    uint64_t now = tacit_clock_ns(), number;
    bool paused = l->accept_at > now;
    bool listens = l->listener && !l->stopping && !paused && l->count < l->options->clients;
    unsigned count = l->count;
    l->polls[0] = (struct pollfd){ .fd = l->options->wake, .events = POLLIN };
    l->polls[1] = (struct pollfd){ .fd = listens ? l->listener->fd : -1, .events = POLLIN };
    for (unsigned i = 0; i < count; i++) {
        struct client *c = l->clients[i];
        bool reads = c->hungry && !c->ended, writes = !c->stream && c->text_size;
        /* A connection is always watched for its end, a stream, whose end may come before its
         * bytes were read, only when it is to be read. */
        l->polls[2 + i] = (struct pollfd){
            .fd = c->gone || (c->stream && !reads) ? -1 : c->in,
            .events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)),
        };
    }
    if (poll(l->polls, 2 + count, paused || l->stopping ? 100 : -1) < 0)
        return; /* a signal, or no memory for a moment */
    if (l->polls[0].revents && read(l->options->wake, &number, sizeof number) < 0)
        number = 0; /* somebody woke us all the same */
    for (unsigned i = 0; i < count; i++) {
        struct client *c = l->clients[i];
        short events = l->polls[2 + i].revents;
        if (!c->stream && (events & (POLLERR | POLLHUP | POLLNVAL)))
            c->gone = true;
        else if (events & ~POLLOUT)
            receive(l, c);
    }
    if (l->polls[1].revents)
        accept_clients(l);
}

/* Until all is over; *err: why a stream did not end well. */
static tacit_status run(struct loop *l, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    while (l->count || (l->listener && !l->stopping)) {
        if (!l->stopping && atomic_load(l->options->stop)) {
            begin_stop(l);
        } else {
            wait_and_receive(l);
        }
        uint64_t now = tacit_clock_ns();
        for (unsigned i = 0; i < l->count;) {
            struct client *c = l->clients[i];
            advance(l, c);
            uint64_t since = c->wrote_at > l->stopped_at ? c->wrote_at : l->stopped_at;
            if (l->stopping && c->text_size && now > since + STOP_NS)
                c->gone = true;
            if (!is_over(l, c)) {
                i++;
                continue;
            }
            for (unsigned k = 0; k < c->used; k++)
                l->result->lost += slot_at(l, c, k)->whole;
            if (c->stream && c->status < 0) {
                st = c->status;
                if (err)
                    *err = c->err;
            }
            client_close(c, l->options->queue);
            l->clients[i] = l->clients[--l->count];
        }
    }
    return st;
}

static tacit_status open_loop(struct loop *l, const tacit_clients_options *options,
                              tacit_clients_result *result, unsigned clients, tacit_err *err)
{
    *l = (struct loop){ .options = options, .result = result };
    *result = (tacit_clients_result){ 0 };
    l->clients = tacit_calloc(clients, sizeof *l->clients);
    l->polls = tacit_calloc(clients + 2, sizeof *l->polls);
    return l->clients && l->polls ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory");
}

static void close_loop(struct loop *l)
{
    tacit_free(l->clients);
    tacit_free(l->polls);
}

tacit_status tacit_clients_stream(const tacit_clients_options *options, int in, int out,
                                  tacit_clients_result *result, tacit_err *err)
{
    struct loop l;
    tacit_status st = open_loop(&l, options, result, 1, err);
    if (st >= 0 && !(l.clients[0] = client_open(options, in, out, true)))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a queue of %u: use a shorter --queue",
                        options->queue);
    l.count = 1;
    if (st >= 0)
        st = run(&l, err);
    close_loop(&l);
    return st;
}

tacit_status tacit_clients_listen(const tacit_clients_options *options, tacit_listener *listener,
                                  tacit_clients_result *result, tacit_err *err)
{
    struct loop l;
    tacit_status st = open_loop(&l, options, result, options->clients, err);
    l.listener = listener;
    if (st >= 0)
        st = run(&l, err);
    close_loop(&l);
    return st;
}
