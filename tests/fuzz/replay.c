/* replay.c - runs a fuzz target once on every file under the given folders: the seeds and the
 * inputs that once broke it stay in the normal test suite. */
#include "fuzz.h"

#include <ftw.h>
#include <string.h>

static size_t count;

static int replay(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)at;
    if (kind != FTW_F)
        return 0;
    size_t size = (size_t)st->st_size;
    uint8_t *bytes = malloc(size ? size : 1); /* exact, so that a read past the end is seen */
    FILE *file = fopen(path, "rb");
    if (!bytes || !file || fread(bytes, 1, size, file) != size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return 1;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    count++;
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], replay, 16, FTW_PHYS))
            return 1;
    printf("%zu inputs\n", count);
    return !count;
}
