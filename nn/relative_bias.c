/* relative_bias.c - see relative_bias.h. */
#include "relative_bias.h"

#include <string.h>

size_t tacit_relative_rows(size_t lead, size_t h, size_t w)
{
    return (2 * h - 1) * (2 * w - 1) + (lead ? 3 : 0);
}

size_t tacit_relative_row(size_t lead, size_t h, size_t w, size_t a, size_t b)
{
    size_t n = (2 * h - 1) * (2 * w - 1);
    if (a < lead || b < lead)
        return a < lead && b < lead ? n + 2 : a < lead ? n : n + 1;
    a -= lead;
    b -= lead;
    return (a / w + h - 1 - b / w) * (2 * w - 1) + a % w + w - 1 - b % w;
}

tacit_status tacit_relative_bias_declare(tacit_relative_bias *r, size_t side, size_t lead,
                                         size_t heads, tacit_params *params, tacit_err *err)
{
    *r = (tacit_relative_bias){
        .side = side, .lead = lead, .heads = heads, .tokens = lead + side * side
    };
    return tacit_params_add(params, "rel_pos_bias.relative_position_bias_table", 2,
                            (const size_t[]){ tacit_relative_rows(lead, side, side), heads },
                            TACIT_ZEROS, &r->table, err);
}

bool tacit_relative_bias_plan(const tacit_relative_bias *r, size_t *total)
{
    size_t pairs;
    return tacit_mul_size(r->tokens, r->tokens, &pairs) &&
           tacit_mul_size(pairs, r->heads, &pairs) &&
           tacit_arena_plan(total, pairs, sizeof(float)) &&
           tacit_arena_plan(total, pairs, TACIT_RELATIVE_SLOTS * sizeof(float));
}

static size_t pairs_of(const tacit_relative_bias *r)
{
    return r->heads * r->tokens * r->tokens;
}

void tacit_relative_bias_take(tacit_relative_bias *r, tacit_arena *arena)
{
    r->bias = tacit_arena_take(arena, pairs_of(r), sizeof(float));
    r->slots = tacit_arena_take(arena, pairs_of(r), TACIT_RELATIVE_SLOTS * sizeof(float));
}

typedef struct job {
    const tacit_relative_bias *r;
    const tacit_kernels *kernels;
} job;

static void head_chunk(void *ctx, size_t head, unsigned worker)
{
    (void)worker;
    const tacit_relative_bias *r = ((const job *)ctx)->r;
    size_t n = r->tokens;
    float *bias = r->bias + head * n * n;
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++)
            *bias++ =
                r->table
                    ->value[tacit_relative_row(r->lead, r->side, r->side, a, b) * r->heads + head];
}

void tacit_relative_bias_forward(tacit_relative_bias *r, tacit_pool *pool)
{
    job j = { r, NULL };
    tacit_parallel_for(pool, r->heads, head_chunk, &j);
}

void tacit_relative_bias_clear(tacit_relative_bias *r)
{
    memset(r->slots, 0, TACIT_RELATIVE_SLOTS * pairs_of(r) * sizeof *r->slots);
}

static void head_back_chunk(void *ctx, size_t head, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_relative_bias *r = j->r;
    size_t n = r->tokens, at = head * n * n;
    float *d = r->slots + at;
    for (size_t s = 1; s < TACIT_RELATIVE_SLOTS; s++)
        j->kernels->add_f32(n * n, d, r->slots + s * pairs_of(r) + at, d);
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++)
            r->table->grad[tacit_relative_row(r->lead, r->side, r->side, a, b) * r->heads + head] +=
                *d++;
}

void tacit_relative_bias_backward(tacit_relative_bias *r, const tacit_kernels *kernels,
                                  tacit_pool *pool)
{
    job j = { r, kernels };
    tacit_parallel_for(pool, r->heads, head_back_chunk, &j);
}
