/* vit_seeded.c - a source of reproducible small values with a ViT's names and shapes. See vit.h.
 *
 * Untrained: weights, biases and tokens are uniform with the standard deviation 0.02 of ViT's
 * initialisation, the gains of norms and layer scales are that much around 1.
 */
#include "vit_internal.h"

#include <string.h>

static tacit__range range_of(const tacit__slot *slot)
{
    const char *name = slot->name;
    bool gain = strstr(name, strstr(name, "norm") ? ".weight" : ".gamma") != NULL;
    return (tacit__range){ gain ? 1.0f : 0.0f, 0.0346410162f }; /* 0.02 * sqrt(3) */
}

tacit_status tacit_vit_seeded(const tacit_vit_config *config, uint64_t seed,
                              tacit_tensor_source *source, tacit_err *err)
{
    *source = (tacit_tensor_source){ 0 };
    tacit_status st = tacit__vit_check(config, err);
    if (st < 0)
        return st;
    size_t count = tacit__vit_slot_count(config);
    tacit__slot *slots = tacit_calloc(count, sizeof *slots);
    if (!slots)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", count);
    count = tacit__vit_slots(config, NULL, slots);
    return tacit__seeded_open(source, slots, count, range_of, seed, err);
}

void tacit_vit_seeded_close(tacit_tensor_source *source)
{
    tacit__seeded_close(source);
}
