/* loss_tokens.h - the loss of BEiT (Bao et al. 2021, arXiv:2106.08254, eq. 2;
 * engine_for_pretraining.py of microsoft/unilm): L = the mean over all masked patches of the cross
 * entropy of a patch's logits with its token.
 */
#ifndef TACIT_LOSS_TOKENS_H
#define TACIT_LOSS_TOKENS_H

#include "dense.h"

/* What the loss needs of the work's scratch, for so many rows. */
void tacit_token_loss_declare(size_t max_rows, tacit_work *work);

/* logits (rows, codes), ld apart, with the tokens (rows), each less than codes. Gives share times
 * the loss; the logits become its gradients. To *accuracy (may be NULL) share times the share of
 * the rows is added whose largest logit, the first of equals, is the token's. 0 where there are no
 * rows. */
double tacit_token_loss(const tacit_work *work, size_t rows, size_t codes, const uint32_t *tokens,
                        double share, float *logits, size_t ld, double *accuracy);

#endif
