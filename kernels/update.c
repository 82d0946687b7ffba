/* update.c - what a step does to each number of the parameters. Bound by memory. */
#include "simd.h"

#define LOAD(p)     (left == VF ? vf_load(p) : vf_load_n(p, left))
#define STORE(p, x) (left == VF ? vf_store(p, x) : vf_store_n(p, x, left))

void TACIT_NAME(tacit_sgd_f32)(size_t n, const tacit_sgd *sgd, const float *dw, float *v, float *w)
{
    const vf minus_rate = vf_set1(-sgd->rate), momentum = vf_set1(sgd->momentum);
    const vf decay = vf_set1(sgd->decay), scale = vf_set1(sgd->scale);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf at = LOAD(w + i), g = vf_mul(vf_fma(at, decay, LOAD(dw + i)), scale);
        vf speed = vf_fma(LOAD(v + i), momentum, g);
        STORE(v + i, speed);
        STORE(w + i, vf_fma(sgd->nesterov ? vf_fma(speed, momentum, g) : speed, minus_rate, at));
    }
}

void TACIT_NAME(tacit_adamw_f32)(size_t n, const tacit_adamw *a, const float *dw, float *m,
                                 float *v, float *w)
{
    const vf beta1_less = vf_set1(a->beta1_less), beta2_less = vf_set1(a->beta2_less);
    const vf beta2 = vf_set1(a->beta2), root = vf_set1(a->inverse_root), eps = vf_set1(a->eps);
    const vf minus_rate = vf_set1(-a->rate), keep = vf_set1(a->keep);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf g = LOAD(dw + i), first = LOAD(m + i);
        first = vf_fma(vf_sub(g, first), beta1_less, first);
        vf second = vf_fma(vf_mul(g, g), beta2_less, vf_mul(LOAD(v + i), beta2));
        vf step = vf_div(first, vf_fma(vf_sqrt(second), root, eps));
        STORE(m + i, first);
        STORE(v + i, second);
        STORE(w + i, vf_fma(step, minus_rate, vf_mul(LOAD(w + i), keep)));
    }
}

void TACIT_NAME(tacit_ema_f32)(size_t n, float less, const float *x, float *y)
{
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf at = LOAD(y + i);
        STORE(y + i, vf_fma(vf_sub(LOAD(x + i), at), vf_set1(less), at));
    }
}
