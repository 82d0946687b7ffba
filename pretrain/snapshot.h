/* snapshot.h - the whole state of a run in one file, and back.
 *
 * A safetensors file: "value.<name>" of every tensor in training, "state0.<name>" and
 * "state1.<name>" of the optimiser, "teacher.<name>", "memory.<name>"; under "tacit.pretrain" in
 * its metadata the format's number, then "method", "step", "epoch_steps", "config" and "xxh3",
 * XXH3-128 of all that (the tensors in the order of their names).
 *
 * At every instant and after any crash:
 *  (1) a path refers to a complete snapshot, old or new, or to none;
 *  (2) a failed save leaves what was there untouched;
 *  (3) a load gives exactly what was saved, or an error.
 */
#ifndef TACIT_SNAPSHOT_H
#define TACIT_SNAPSHOT_H

#include "engine.h"

/* config: the settings' text. */
tacit_status tacit_snapshot_save(const char *path, tacit_engine *engine, const char *config,
                                 tacit_err *err);

/* Into an engine that was opened and, where it is to go on, scheduled, with settings of which none
 * that is not free may differ. After a failure the engine's values are of no use until another load
 * succeeds. TACIT_ECONFLICT: whole, but of another method, other settings or as many images as give
 * other epochs. All else but TACIT_ENOMEM: damaged, or nothing that was saved here. */
tacit_status tacit_snapshot_load(const char *path, tacit_engine *engine, tacit_err *err);

#endif
