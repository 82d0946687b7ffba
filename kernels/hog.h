/* hog.h - the directions of the bins of hog_f32, which its definition and its vectors share. */
#ifndef TACIT_HOG_H
#define TACIT_HOG_H

/* cos and sin of k pi / 9, k from 1 to 8. */
#define TACIT_HOG_COS                                                                              \
    {                                                                                              \
        0.9396926207859084, 0.766044443118978, 0.5, 0.17364817766693036, -0.17364817766693036,     \
            -0.5, -0.766044443118978, -0.9396926207859084                                          \
    }
#define TACIT_HOG_SIN                                                                              \
    {                                                                                              \
        0.3420201433256687, 0.6427876096865394, 0.8660254037844386, 0.984807753012208,             \
            0.984807753012208, 0.8660254037844386, 0.6427876096865394, 0.3420201433256687          \
    }

#endif
