#include "cbfloat16.h"

#include <dnnl.h>
#include <stddef.h>

// The sibling of `dnnl_sgemm` and `dnnl_gemm_s8s8s32`: oneDNN exports it since 1.0 but declares it for its own tests only.
// It beats the matmul primitive on row-major matrices, needs no preparation for each shape, and takes any strides. Weak,
// so that a library without it is found out by `orpo_bf16_is_native` and not by the linker.
extern dnnl_status_t dnnl_gemm_bf16bf16f32(char transa, char transb, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k,
                                           float alpha, const uint16_t *a, dnnl_dim_t lda, const uint16_t *b,
                                           dnnl_dim_t ldb, float beta, float *c, dnnl_dim_t ldc) __attribute__((weak));

bool orpo_bf16_is_native(void) {
  if (dnnl_gemm_bf16bf16f32 == NULL) return false;
  switch (dnnl_get_effective_cpu_isa()) {
  case dnnl_cpu_isa_avx512_core_bf16:
  case dnnl_cpu_isa_avx512_core_amx: return true;
  default: return false;
  }
}

int orpo_bf16_multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                       const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  return dnnl_gemm_bf16bf16f32(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb,
                               beta, c, ldc);
}
