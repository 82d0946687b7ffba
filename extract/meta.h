/* meta.h - what meta.json and run.json say.
 *
 * The recipe is what decides the bytes of embeddings.npy and index.tsv: run.json holds it, and
 * meta.json the same keys and what was observed besides. Threads, batch and ISA are not in it,
 * because the result does not depend on them.
 */
#ifndef TACIT_META_H
#define TACIT_META_H

#include "cpu.h"
#include "dataset.h"
#include "extractor.h"
#include "run.h"
#include "status.h"

#include <jansson.h>

/* A string value of text in any encoding: bytes that are not UTF-8 become U+FFFD. */
json_t *tacit_json_text(const char *text);

/* The same as text of JSON, with its quotes, in memory that is there: 6 * strlen(text) + 3 bytes.
 * Gives its end, where a 0 stands. */
char *tacit_json_quote(char *out, const char *text);

/* The text of value, to be freed by tacit_free; NULL where memory is short. flags: jansson's. */
char *tacit_json_dump(const json_t *value, size_t flags);

/* A deep copy, NULL where memory is short: json_deep_copy then leaves parts out. */
json_t *tacit_json_copy(const json_t *value);

json_t *tacit_preprocessing_json(const tacit_recipe *recipe);

/* NULL where memory is short. dtype: of the rows, F32 or F16. images: as it was given. */
json_t *tacit_recipe_json(const tacit_model *model, tacit_dtype dtype, const char *weights,
                          const char *images, tacit_dataset_kind kind, unsigned shard,
                          unsigned shards);

/* The recipe's keys of a meta.json. */
json_t *tacit_meta_recipe(const json_t *meta);

/* How many inputs were unusable for which reason, by the words of tacit_reason; NULL where memory
 * is short. */
json_t *tacit_reasons_json(const uint64_t reasons[TACIT_REASONS]);

/* The recipe and the result of a run; NULL where memory is short. */
json_t *tacit_meta_json(const json_t *recipe, const tacit_model *model,
                        const tacit_threads *threads, const tacit_run_result *result);

#endif
