#pragma once
// bf16 by the processor's own instructions: products summed in fp32, and rounding. In C because Swift has neither the
// instructions nor the library's function in a header.

#include <stdbool.h>
#include <stdint.h>

/// Whether bf16 products are faster than fp32 here: the processor multiplies bf16 by itself (AVX512_BF16, AMX), and
/// oneDNN has the function for it.
bool orpo_bf16_is_native(void);

/// C[m, n] = alpha A[m, k] B[k, n] + beta C; row-major, A stored as [k, m] and B as [n, k] when transposed. `lda`, `ldb`, `ldc`
/// are the distances between stored rows in elements. One call is one thread, as far as OpenMP was told so. Returns
/// oneDNN's status, 0 for success. Only where `orpo_bf16_is_native()`.
int orpo_bf16_multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                       const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c, int64_t ldc);

/// Rounds `count` values to bf16, to nearest with ties to even; subnormal numbers become zero. `to` may be the same
/// address as `from`. Only where `orpo_bf16_is_native()`.
void orpo_bf16_round(const float *from, uint16_t *to, int64_t count);

/// Rounds parameters to bf16 up or down, each with a threshold of its own that never changes: a hash of its place,
/// `first` for `from[0]`. A number that bf16 holds exactly stays as it is; of many small changes as large a share shows
/// as in fp32, wherever the numbers lie. Rounding to nearest would swallow changes of numbers that come from bf16, and
/// exaggerate those of numbers half way between two. Runs on any processor.
void orpo_bf16_round_parameters(const float *from, uint16_t *to, int64_t count, uint64_t first);
