/* clients.h - requests from a stream or from many connections, answers back in their order.
 *
 * What a client sends: a line with the path of an image file (LF or CRLF); or a line `bytes N` and,
 * right behind its LF, N bytes that are a JPEG or PNG. A file whose path begins with "bytes " is
 * reached as ./bytes. Each request has one line for an answer, an object of JSON:
 *
 *     {"path":"a.jpg","vector":[0.25,...]}             9 digits: every float32 is read back exactly
 *     {"path":"b.jpg","status":"malformed","error":"b.jpg: ..."}
 *
 * path is null for bytes, and where there was none. A count is sent before the bytes because an
 * image may hold any byte; in decimal, in a line, so that a shell can write it.
 *
 * Promises:
 *  (1) answers come in the order of the requests of that client, one for each, whatever happens;
 *  (2) memory is bounded, whatever a client sends or does not read: it has at most `queue` requests
 *      that are not answered, and is not read from meanwhile; lines up to 4095 bytes, longer ones
 *      are passed over and answered by an error; up to 32 MiB of images' bytes at a time, a longer
 *      image is passed over likewise;
 *  (3) a client that stalls, vanishes, or sends garbage costs the others nothing, and one with many
 *      requests at most two batches, behind which theirs come before the rest; a `bytes` line that
 *      makes no sense ends its client's requests, since what follows cannot be told apart;
 *  (4) after a stop nothing more is read; requests that were taken up are computed and answered,
 *      unless their client does not read for 5 seconds. The reader of a stream is waited for.
 */
#ifndef TACIT_CLIENTS_H
#define TACIT_CLIENTS_H

#include "batcher.h"
#include "histogram.h"
#include "listener.h"
#include "status.h"

#include <stdatomic.h>
#include <stdint.h>

typedef struct tacit_clients_options {
    tacit_batcher *batcher;
    unsigned batch;         /* the batcher's                                              */
    size_t dim;             /* floats of a vector                                         */
    unsigned queue;         /* requests of a client that are not answered, at most        */
    unsigned clients;       /* connections at a time; others wait until they are accepted */
    int wake;               /* an eventfd; whoever sets *stop adds to it                  */
    const atomic_int *stop; /* not 0: stop                                                */
} tacit_clients_options;

typedef struct tacit_clients_result {
    tacit_histogram times; /* of vectors: from the read of the request's last byte to the write of
                              the answer's last                                                 */
    uint64_t vectors, errors;
    uint64_t lost; /* taken up, and their client gone */
} tacit_clients_result;

/* One client, until it ends or the stop. An error of reading or writing is an error; a `bytes` line
 * that makes no sense is TACIT_EFORMAT. */
tacit_status tacit_clients_stream(const tacit_clients_options *options, int in, int out,
                                  tacit_clients_result *result, tacit_err *err);

/* Many, until the stop; the listener is then closed before anything else. */
tacit_status tacit_clients_listen(const tacit_clients_options *options, tacit_listener *listener,
                                  tacit_clients_result *result, tacit_err *err);

#endif
