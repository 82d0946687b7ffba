/* loss_dvae.h - the two parts of a discrete VAE's loss: how far the result is from the image, and
 * how far the choice among the codes is from one that prefers none (Ramesh et al. 2021,
 * arXiv:2102.12092, eq. 1; microsoft/unilm's beit, modeling_discrete_vae.py).
 */
#ifndef TACIT_LOSS_DVAE_H
#define TACIT_LOSS_DVAE_H

#include "dense.h"

/* What the losses need of the work's scratch, for up to max_batch images and max_rows rows of
 * codes. */
void tacit_dvae_loss_declare(size_t max_batch, size_t max_rows, size_t codes, tacit_work *work);

/* x and t (batch, n). Gives factor times the sum of (x - t)^2; x becomes its gradient. PyTorch's
 * mse_loss, with factor 1 / (batch n). */
double tacit_square_loss(const tacit_work *work, size_t batch, size_t n, float *x, const float *t,
                         double factor);

/* logits (rows, codes), of which each row says q = softmax(row). Gives factor times the sum of
 * KL(q, uniform) = sum_k q_k (log q_k + log codes), in nats, over the rows; the logits become
 * weight times its gradient. */
double tacit_uniform_kl_loss(const tacit_work *work, size_t rows, size_t codes, float *logits,
                             double weight, double factor);

#endif
