/* eigen.h - eigenvalues and eigenvectors of a symmetric matrix, in double.
 *
 * Householder's reflections to a tridiagonal matrix, then implicit QL steps with Wilkinson's shift
 * (Golub and Van Loan, "Matrix Computations", sections 8.3.1 and 8.3.3). One thread; the same bits
 * on every CPU. About 8 n^3 FLOP.
 */
#ifndef TACIT_EIGEN_H
#define TACIT_EIGEN_H

#include <stddef.h>

/* a (n, n), symmetric, is overwritten. values (n), in no order; row i of vectors (n, n) is the unit
 * vector of value i. scratch (2 n). What is not finite gives what is not, in finite time. */
void tacit_eigen_symmetric(size_t n, double *a, double *values, double *vectors, double *scratch);

#endif
