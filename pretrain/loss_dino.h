/* loss_dino.h - DINO's loss (Caron et al. 2021, arXiv:2104.14294, eqs. 1 to 4): the student's crops
 * are to be given the probabilities that the teacher gives the global ones.
 *
 * With the teacher's q = softmax((t - c) / T_t) of the two global crops and the student's
 * log p = log softmax(s / T_s) of all V, global ones first:
 *   L = the mean over images and over the 2 (V - 1) pairs of different crops of -sum_k q_k log p_k.
 * The centre c is a moving average of the mean of t over the rows of a step, and moves behind the
 * step that used it.
 */
#ifndef TACIT_LOSS_DINO_H
#define TACIT_LOSS_DINO_H

#include "dense.h"

#define TACIT_DINO_GLOBAL 2 /* crops that the teacher sees */

typedef struct tacit_dino {
    size_t crops, dim; /* V > 1, outputs */
    double student_temperature;
    const tacit_work *work;
} tacit_dino;

/* What the loss needs of the work's scratch, for images up to max_images. */
void tacit_dino_declare(tacit_dino *loss, size_t crops, size_t dim, double student_temperature,
                        size_t max_images, tacit_work *work);

/* teacher (2, images, dim), student (V, images, dim), centre (dim), tight. Gives the loss over
 * `of` >= images, of which these may be a part: parts add up. The teacher's logits become their
 * probabilities, the student's their gradients. */
double tacit_dino_loss(const tacit_dino *loss, size_t images, size_t of, double teacher_temperature,
                       const float *centre, float *teacher, float *student);

/* sum = the sum of `rows` of the teacher's logits, or with more added to it: the centre's. */
void tacit_dino_sum(const tacit_dino *loss, size_t rows, const float *teacher, bool more,
                    float *sum);
/* centre = momentum centre + (1 - momentum) sum / rows; sum: of a step's teacher rows. */
void tacit_dino_move(const tacit_dino *loss, double momentum, size_t rows, const float *sum,
                     float *centre);

/* linspace(start, final, warmup)[epoch], and final behind it. */
double tacit_dino_temperature(double start, double final, double warmup, double epoch);

#endif
