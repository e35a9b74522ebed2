#include "cbfloat16.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

// Compiled for the instruction whatever the rest is compiled for: callers ask `orpo_bf16_is_native()` first.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void orpo_bf16_round(const float *from, uint16_t *to,
                                                                                    int64_t count) {
  int64_t index = 0;
  for (; index + 32 <= count; index += 32) {
    const __m512 low = _mm512_loadu_ps(from + index), high = _mm512_loadu_ps(from + index + 16);
    _mm512_storeu_si512((void *)(to + index), (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
  for (; index < count; index += 16) {
    const __mmask16 lanes = count - index >= 16 ? 0xFFFF : (__mmask16)((1u << (count - index)) - 1);
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from + index));
    _mm256_mask_storeu_epi16(to + index, lanes, rounded);
  }
}
#else
void orpo_bf16_round(const float *from, uint16_t *to, int64_t count) {
  (void)from, (void)to, (void)count;
  __builtin_trap();
}
#endif

// Vectorised by the compiler.
void orpo_bf16_round_parameters(const float *from, uint16_t *to, int64_t count, uint64_t first) {
  for (int64_t index = 0; index < count; index++) {
    uint32_t threshold = (uint32_t)(first + (uint64_t)index) * 0x9E3779B1u;
    threshold = (threshold ^ threshold >> 15) * 0x85EBCA6Bu;
    uint32_t bits;
    memcpy(&bits, from + index, sizeof bits);
    to[index] = (uint16_t)((bits + (threshold >> 16)) >> 16);
  }
}
