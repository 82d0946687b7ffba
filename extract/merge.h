/* merge.h - the parts of a sharded extraction to one: the bytes of the run that was not sharded. */
#ifndef TACIT_MERGE_H
#define TACIT_MERGE_H

#include "status.h"

#include <jansson.h>
#include <stddef.h>

/* parts: finished folders, in any order, one for each shard of one recipe. meta gets the object of
 * the new meta.json, to be released by json_decref. Memory does not grow with the rows. */
tacit_status tacit_merge(const char *out, char *const *parts, size_t count, json_t **meta,
                         tacit_err *err);

#endif
