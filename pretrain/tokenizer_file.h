/* tokenizer_file.h - the tokenizer of a run, as tokenizer.h reads it.
 *
 * Safetensors with the authors' names of the tensors. Its metadata: "tacit.tokenizer", the format's
 * number, then "method" and "config", the lines of all settings that the weights depend on.
 */
#ifndef TACIT_TOKENIZER_FILE_H
#define TACIT_TOKENIZER_FILE_H

#include "checkpoint.h"
#include "engine.h"

tacit_status tacit_tokenizer_file_write(const char *path, tacit_engine *engine, tacit_err *err);

/* Whether a file says that it is one. */
bool tacit_tokenizer_file_is(const tacit_checkpoint *file);
/* The settings of a file that was opened, with its method; to be closed, read well or badly. */
tacit_status tacit_tokenizer_file_settings(const tacit_checkpoint *file, const char *path,
                                           tacit_config *config, tacit_err *err);

/* The values of all tensors of params, which were opened; the file may have more. */
tacit_status tacit_tokenizer_file_load(const tacit_checkpoint *file, const char *path,
                                       tacit_params *params, tacit_err *err);
/* The values of one tensor, which has `name` in the source; F32 of the same shape. */
tacit_status tacit_tokenizer_file_tensor(const tacit_tensor_source *source, const char *name,
                                         tacit_param *param, tacit_err *err);

#endif
