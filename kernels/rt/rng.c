/* rng.c - Philox4x32-10. See rng.h. */
#include "rng.h"

void tacit_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t tacit_rng_u32(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t block[4];
    tacit_philox(seed, stream, index / 4, block);
    return block[index % 4];
}

float tacit_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (float)(tacit_rng_u32(seed, stream, index) >> 8) * 0x1p-24f;
}
