/* default_backbone.c - see default_backbone.h. The assembler takes the file in as it is: a compiler
 * would need minutes and a gigabyte for an array of as many numbers. */
#include "default_backbone.h"

#include "default_backbone_stamp.h" /* the file's sum: compiled anew when it changes */

__asm__(".section .rodata\n"
        ".balign 64\n"
        ".globl tacit__default_begin\n"
        ".hidden tacit__default_begin\n"
        "tacit__default_begin:\n"
        ".incbin \"" TACIT_DEFAULT_BACKBONE "\"\n"
        ".globl tacit__default_end\n"
        ".hidden tacit__default_end\n"
        "tacit__default_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const unsigned char tacit__default_begin[], tacit__default_end[];

const void *tacit__default_backbone(size_t *size)
{
    *size = (size_t)(tacit__default_end - tacit__default_begin);
    return tacit__default_begin;
}
