/* code_use.c - see code_use.h. */
#include "code_use.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LEAST 0.1 /* share of the codes */

tacit_status tacit_code_use_declare(tacit_code_use *u, size_t codes, tacit_params *memory,
                                    tacit_err *err)
{
    *u = (tacit_code_use){ .codes = codes };
    tacit_status st = tacit_params_add(memory, "hits", 1, &codes, TACIT_ZEROS, &u->hits, err);
    if (st == TACIT_OK)
        u->hits->frozen = true;
    return st;
}

bool tacit_code_use_plan(const tacit_code_use *u, size_t *total)
{
    return tacit_arena_plan(total, u->codes, sizeof(uint32_t));
}

void tacit_code_use_take(tacit_code_use *u, tacit_arena *arena)
{
    u->step = tacit_arena_take(arena, u->codes, sizeof(uint32_t));
}

void tacit_code_use_epoch(tacit_code_use *u)
{
    memset(u->hits->value, 0, u->codes * sizeof(float));
}

void tacit_code_use_begin(tacit_code_use *u)
{
    memset(u->step, 0, u->codes * sizeof *u->step);
}

void tacit_code_use_count(tacit_code_use *u, size_t n, const uint32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        u->step[ids[i]]++;
}

void tacit_code_use_keep(tacit_code_use *u)
{
    for (size_t k = 0; k < u->codes; k++)
        u->hits->value[k] += (float)u->step[k];
}

void tacit_code_use_tell(const tacit_code_use *u, double *share, double *perplexity)
{
    double all = 0, entropy = 0, used = 0;
    for (size_t k = 0; k < u->codes; k++)
        all += (double)u->hits->value[k] + u->step[k];
    for (size_t k = 0; k < u->codes; k++) {
        double p = ((double)u->hits->value[k] + u->step[k]) / all;
        used += p > 0;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    *share = used / (double)u->codes;
    *perplexity = exp(entropy);
}

bool tacit_code_use_collapsed(const tacit_code_use *u, char *text, size_t size)
{
    size_t used = 0;
    double all = 0, most = (double)u->codes;
    for (size_t k = 0; k < u->codes; k++) {
        used += u->hits->value[k] > 0;
        all += (double)u->hits->value[k];
    }
    most = all < most ? all : most;
    if (!used || (used > 1 && (double)used >= LEAST * most))
        return false;
    snprintf(text, size, "all tokens of the epoch are %zu of %zu codes", used, u->codes);
    return true;
}
