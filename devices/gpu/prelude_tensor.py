"""Helper functions of the generated CUDA C++ for products on tensor cores, by whole warps.

A warp's product is of 16 rows, 16 deep, and 8 columns. Numbers are rounded on their way from shared
memory or registers; sums are float32. Which of the 16 a thread brings is as good as any other
order, since both operands keep it: four that lie side by side, or those that it has as results.
"""

from __future__ import annotations

__all__ = ["TENSOR_HELPERS"]

TENSOR_HELPERS = {
    "w_exp_near": """\
// exp(x), good enough for what tensor cores round
__device__ f32 w_exp_near(f32 x) {
#ifdef __CUDA_ARCH__
  f32 y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f)); return y;
#else
  return exp2f(x * 1.44269504f);
#endif
}
""",
    "w_part": """\
// four numbers rounded for tensor cores: to tf32 (KIND 0), bf16 (1) or f16 (2)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template<i32 KIND> struct w_part { u32 v[KIND ? 2 : 4]; };
template<i32 KIND> __device__ w_part<KIND> w_rounded(f32 x0, f32 x1, f32 x2, f32 x3) {
  const f32 x[4] = {x0, x1, x2, x3};
  w_part<KIND> y;
#pragma unroll
  for (i32 u = 0; u < (KIND ? 2 : 4); ++u) {
    if (KIND == 0) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y.v[u]) : "f"(x[u]));
    if (KIND == 1)
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y.v[u]) : "f"(x[2 * u + 1]), "f"(x[2 * u]));
    if (KIND == 2)
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y.v[u]) : "f"(x[2 * u + 1]), "f"(x[2 * u]));
  }
  return y;
}
#else
template<i32 KIND> struct w_part { f32 v[4]; };
template<i32 KIND> __device__ w_part<KIND> w_rounded(f32 x0, f32 x1, f32 x2, f32 x3) {
  w_part<KIND> y = {{x0, x1, x2, x3}};
  for (i32 u = 0; u < 4; ++u) {
    if (KIND == 0 && y.v[u] - y.v[u] == 0)
      y.v[u] = w_bits<f32>((w_bits<u32>(y.v[u]) + 0x1000u) & ~0x1FFFu);
    if (KIND == 1) y.v[u] = w_bf16_f32(w_f32_bf16(y.v[u]));
    if (KIND == 2) y.v[u] = w_f16_f32(w_f32_f16(y.v[u]));
  }
  return y;
}
#endif
""",
    "w_mma": """\
// 16 rows x 8 columns += 16 rows x 16 by 16 x 8 columns, by a warp; thread 4 g + t has rows g and
// g + 8 of columns 2 t and 2 t + 1, four of the 16 of these rows (a0, a1), and four of column g (b)
template<i32 KIND> __device__ void w_mma(f32& c0, f32& c1, f32& c2, f32& c3, w_part<KIND> a0,
                                         w_part<KIND> a1, w_part<KIND> b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#pragma unroll
  for (i32 u = 0; u < (KIND ? 2 : 4); u += 2) {
    if (KIND == 0)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
          "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
          : "r"(a0.v[u]), "r"(a1.v[u]), "r"(a0.v[u + 1]), "r"(a1.v[u + 1]),
            "r"(b.v[u]), "r"(b.v[u + 1]));
    if (KIND == 1)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
          "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
          : "r"(a0.v[u]), "r"(a1.v[u]), "r"(a0.v[u + 1]), "r"(a1.v[u + 1]),
            "r"(b.v[u]), "r"(b.v[u + 1]));
    if (KIND == 2)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
          "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
          : "r"(a0.v[u]), "r"(a1.v[u]), "r"(a0.v[u + 1]), "r"(a1.v[u + 1]),
            "r"(b.v[u]), "r"(b.v[u + 1]));
  }
#elif !defined(__CUDA_ARCH__)
  f32 own[12], all[32][12];
  for (i32 u = 0; u < 4; ++u) { own[u] = a0.v[u]; own[4 + u] = a1.v[u]; own[8 + u] = b.v[u]; }
  w_exchange(own, all);
  const i32 g = (i32)threadIdx.x % 32 / 4, t = (i32)threadIdx.x % 4;
  for (i32 k = 0; k < 4; ++k)
    for (i32 u = 0; u < 4; ++u) {
      const f32 x = all[4 * g + k][u], y = all[4 * g + k][4 + u];
      const f32 left = all[8 * t + k][8 + u], right = all[8 * t + 4 + k][8 + u];
      c0 += x * left; c1 += x * right; c2 += y * left; c3 += y * right;
    }
#endif
}
""",
    "w_mma_rows": """\
// sum[r][t] += N products of a row 8 r further than a with one of b: of each 8, a thread's two
template<i32 KIND, i32 N, i32 A_PITCH, i32 B_PITCH, i32 R, i32 C>
__device__ void w_mma_rows(f32 (&sum)[R][C], const f32* a, const f32* b) {
#pragma unroll 2
  for (i32 k = 0; k < N; k += 16) {
    w_part<KIND> x[R];
#pragma unroll
    for (i32 r = 0; r < R; ++r) {
      const w_vec<f32, 4> z = *(const w_vec<f32, 4>*)(a + r * 8 * A_PITCH + k);
      x[r] = w_rounded<KIND>(z.v[0], z.v[1], z.v[2], z.v[3]);
    }
#pragma unroll
    for (i32 t = 0; t < C; t += 2) {
      const w_vec<f32, 4> z = *(const w_vec<f32, 4>*)(b + t / 2 * 8 * B_PITCH + k);
      const w_part<KIND> y = w_rounded<KIND>(z.v[0], z.v[1], z.v[2], z.v[3]);
#pragma unroll
      for (i32 r = 0; r < R; r += 2)
        w_mma<KIND>(sum[r][t], sum[r][t + 1], sum[r + 1][t], sum[r + 1][t + 1], x[r], x[r + 1], y);
    }
  }
}
""",
    "w_mma_columns": """\
// sum[r][t] += products of a's rows, as w_mma_rows leaves them, with columns of b
template<i32 KIND, i32 PITCH, i32 R, i32 N, i32 C>
__device__ void w_mma_columns(f32 (&sum)[R][C], const f32 (&a)[R][N], const f32* b) {
#pragma unroll
  for (i32 k = 0; k < N; k += 4) {
    w_part<KIND> x[R];
#pragma unroll
    for (i32 r = 0; r < R; ++r)
      x[r] = w_rounded<KIND>(a[r][k], a[r][k + 1], a[r][k + 2], a[r][k + 3]);
#pragma unroll
    for (i32 t = 0; t < C; t += 2) {
      const f32* z = b + 4 * k * PITCH + 4 * t;
      const w_part<KIND> y = w_rounded<KIND>(z[0], z[PITCH], z[8 * PITCH], z[9 * PITCH]);
#pragma unroll
      for (i32 r = 0; r < R; r += 2)
        w_mma<KIND>(sum[r][t], sum[r][t + 1], sum[r + 1][t], sum[r + 1][t + 1], x[r], x[r + 1], y);
    }
  }
}
""",
}
