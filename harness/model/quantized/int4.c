// A few rows times packed 4-bit matrices on processors with AVX2, in the order that torch's kernel
// has there: blocks of 32 outputs, for every input 16 bytes, an output of the block's first half in
// the lower four bits of each and one of the second half in the upper four.
// W = (code - 8) * scale + shift.

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 8, HALF = 16, ROWS = 2 * HALF, MIDDLE = 8 };

static inline __m256i spread(const uint8_t *bytes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
}

static inline __m256 low(__m256i codes) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32(15)));
}

static inline __m256 high(__m256i codes) { return _mm256_cvtepi32_ps(_mm256_srli_epi32(codes, 4)); }

// dots[0..3] += x * the codes of 32 outputs.
static inline void add(__m256 *dots, const uint8_t *codes, const float *x) {
    __m256 value = _mm256_broadcast_ss(x);
    __m256i left = spread(codes), right = spread(codes + LANES);
    dots[0] = _mm256_fmadd_ps(value, low(left), dots[0]);
    dots[1] = _mm256_fmadd_ps(value, low(right), dots[1]);
    dots[2] = _mm256_fmadd_ps(value, high(left), dots[2]);
    dots[3] = _mm256_fmadd_ps(value, high(right), dots[3]);
}

static inline float of_bfloat16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// One row and one block: sums of code times input within a group, then the group's grid.
static void block(const uint8_t *codes, const uint16_t *grid, const float *x, float *out,
                  long outputs, long inputs, long group) {
    float total[ROWS] = {0}, dots[ROWS];
    for (long first = 0; first < inputs; first += group, grid += 2 * outputs) {
        // Even and odd inputs apart: an addition waits for the one before it.
        __m256 even[4] = {0}, odd[4] = {0};
        float sum = 0;
        for (long k = first; k < first + group; k += 2, codes += 2 * HALF) {
            add(even, codes, x + k);
            add(odd, codes + HALF, x + k + 1);
            sum += x[k] + x[k + 1];
        }
        for (int i = 0; i < 4; i++)
            _mm256_storeu_ps(dots + i * LANES, _mm256_add_ps(even[i], odd[i]));
        for (int n = 0; n < ROWS; n++) {
            float scale = of_bfloat16(grid[2 * n]), shift = of_bfloat16(grid[2 * n + 1]);
            total[n] += scale * (dots[n] - MIDDLE * sum) + shift * sum;
        }
    }
    memcpy(out, total, sizeof total);
}

// x float32 [rows, inputs], codes [outputs / 32, inputs, 16], grid bfloat16 [groups, outputs, 2],
// out float32 [rows, outputs].
void int4_rows(const uint8_t *codes, const uint16_t *grid, const float *x, float *out, long rows,
               long outputs, long inputs, long group, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long n = 0; n < outputs; n += ROWS)
        for (long row = 0; row < rows; row++)
            block(codes + n * inputs / 2, grid + 2 * n, x + row * inputs, out + row * outputs + n,
                  outputs, inputs, group);
}
