/* masked_vit.c - see masked_vit.h. */
#include "masked_vit.h"

#include <assert.h>
#include <string.h>

#define PAD 16

tacit_status tacit_masked_vit_declare(tacit_masked_vit *m, const tacit_vit_train_config *config,
                                      size_t max_batch, size_t max_masked, size_t values,
                                      const char *head, tacit_params *params, tacit_work *work,
                                      tacit_err *err)
{
    *m = (tacit_masked_vit){ .max_masked = max_masked, .ld = values + PAD };
    tacit_status st = tacit_vit_train_declare(&m->vit, config, max_batch, 0, params, work, err);
    if (st == TACIT_OK)
        st = tacit_vit_train_add_mask_token(&m->vit, params, work, err);
    if (st == TACIT_OK)
        st = tacit_dense_declare(&m->predict, head, config->dim, values, true, 0, NULL,
                                 (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = 0.02 },
                                 TACIT_ZEROS, max_batch * max_masked, params, work, err);
    return st;
}

void tacit_masked_vit_close(tacit_masked_vit *m)
{
    tacit_vit_train_close(&m->vit);
    *m = (tacit_masked_vit){ 0 };
}

bool tacit_masked_vit_plan(const tacit_masked_vit *m, size_t *total)
{
    size_t batch = m->vit.max_batch, rows = batch * m->max_masked;
    return tacit_arena_plan(total, batch * m->vit.patches, 1) &&
           tacit_arena_plan(total, batch + 1, sizeof *m->first) &&
           tacit_arena_plan(total, rows, sizeof *m->patches) &&
           tacit_arena_plan(total, rows, sizeof *m->wanted) &&
           tacit_arena_plan(total, rows, m->ld * sizeof(float)) &&
           tacit_vit_train_plan(&m->vit, total);
}

void tacit_masked_vit_take(tacit_masked_vit *m, tacit_arena *arena)
{
    size_t batch = m->vit.max_batch, rows = batch * m->max_masked;
    m->masks = tacit_arena_take(arena, batch * m->vit.patches, 1);
    m->first = tacit_arena_take(arena, batch + 1, sizeof *m->first);
    m->patches = tacit_arena_take(arena, rows, sizeof *m->patches);
    m->wanted = tacit_arena_take(arena, rows, sizeof *m->wanted);
    m->predictions = tacit_arena_take(arena, rows, m->ld * sizeof(float));
    tacit_vit_train_take(&m->vit, arena);
}

/* The rows that the masks ask for. */
static void count_rows(tacit_masked_vit *m, size_t batch)
{
    size_t patches = m->vit.patches, lead = m->vit.lead;
    m->rows = 0;
    for (size_t image = 0; image < batch; image++) {
        m->first[image] = (uint32_t)m->rows;
        for (size_t i = 0; i < patches; i++)
            if (m->masks[image * patches + i]) {
                assert(m->rows - m->first[image] < m->max_masked);
                m->wanted[m->rows] = (uint32_t)(image * (lead + patches) + lead + i);
                m->patches[m->rows++] = (uint32_t)i;
            }
    }
    m->first[batch] = (uint32_t)m->rows;
}

void tacit_masked_vit_forward(tacit_masked_vit *m, const float *images, size_t batch, bool drop)
{
    count_rows(m, batch);
    m->vit.masked = m->masks;
    /* Small grids can be left without a mask: then all is made, and nothing predicted. */
    tacit_trunk_want(&m->vit.trunk, m->rows ? m->wanted : NULL, m->rows);
    const float *tokens = tacit_vit_train_forward(&m->vit, images, batch, NULL, 0, drop);
    if (m->rows)
        tacit_dense_forward(m->vit.work, &m->predict, m->rows, tokens, m->vit.trunk.ld,
                            m->predictions, m->ld, NULL);
}

void tacit_masked_vit_backward(tacit_masked_vit *m)
{
    tacit_trunk *trunk = &m->vit.trunk;
    if (m->rows)
        tacit_dense_backward(m->vit.work, &m->predict, m->rows, m->predictions, m->ld,
                             trunk->normed, trunk->ld, m->vit.d, trunk->ld, NULL);
    else
        memset(m->vit.d, 0, trunk->results * trunk->ld * sizeof *m->vit.d);
    tacit_vit_train_backward(&m->vit);
}

double tacit_masked_vit_flops(const tacit_masked_vit *m)
{
    return tacit_vit_train_flops(&m->vit.config, 0, m->max_masked) +
           6 * (double)m->max_masked * (double)m->predict.in * (double)m->predict.out;
}
