"""Helper functions of the generated CUDA C++ for tiles in shared memory: copies, and products.

A thread has R x C elements of a product's result, and adds up outer products of what it reads of
the two operands, four numbers at a time. Tiles lie in shared memory as they do in memory, so that
copies need not go by way of registers (`cp.async`, from sm_80 on). `STEP` is the distance, in
elements, between a thread's rows of a tile. On the host, copies are done at once.
"""

from __future__ import annotations

__all__ = ["TILE_HELPERS"]

TILE_HELPERS = {
    "w_copy_async": """\
// N numbers to shared memory, or zeros; they are there after w_copies_done and a barrier
template<i32 N> __device__ void w_copy_async(f32* to, const f32* from, bool inside) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const u32 place = (u32)__cvta_generic_to_shared(to), bytes = inside ? 4 * N : 0;
  if (N == 4)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(place), "l"(from),
                 "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" :: "r"(place), "l"(from),
                 "r"(bytes), "n"(4 * N) : "memory");
#else
  w_vec<f32, N> x = {};
  if (inside) x = *(const w_vec<f32, N>*)from;
  *(w_vec<f32, N>*)to = x;
#endif
}
""",
    "w_copies_done": """\
// wait for this thread's copies
__device__ void w_copies_done() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
""",
    "w_rows_by_rows": """\
// sum[r][t] += the products of N numbers of a's row r and b's row t, added up; N is a multiple of 4
template<i32 N, i32 A_STEP, i32 B_STEP, i32 R, i32 C>
__device__ void w_rows_by_rows(f32 (&sum)[R][C], const f32* a, const f32* b) {
#pragma unroll 2
  for (i32 c = 0; c < N; c += 4) {
    w_vec<f32, 4> x[R];
#pragma unroll
    for (i32 r = 0; r < R; ++r) x[r] = *(const w_vec<f32, 4>*)(a + r * A_STEP + c);
#pragma unroll
    for (i32 t = 0; t < C; ++t) {
      const w_vec<f32, 4> y = *(const w_vec<f32, 4>*)(b + t * B_STEP + c);
#pragma unroll
      for (i32 u = 0; u < 4; ++u) {
#pragma unroll
        for (i32 r = 0; r < R; ++r) sum[r][t] = w_fma(x[r].v[u], y.v[u], sum[r][t]);
      }
    }
  }
}
""",
    "w_rows_by_columns": """\
// sum[r][t] += the products of N numbers of a's row r and b's column t, added up; columns are
// groups of 4, so far apart; rows of b are PITCH apart; N is a multiple of 4
template<i32 N, i32 A_STEP, i32 PITCH, i32 APART, i32 R, i32 C>
__device__ void w_rows_by_columns(f32 (&sum)[R][C], const f32* a, const f32* b) {
#pragma unroll 2
  for (i32 c = 0; c < N; c += 4) {
    w_vec<f32, 4> x[R];
#pragma unroll
    for (i32 r = 0; r < R; ++r) x[r] = *(const w_vec<f32, 4>*)(a + r * A_STEP + c);
#pragma unroll
    for (i32 u = 0; u < 4; ++u) {
#pragma unroll
      for (i32 g = 0; g < C / 4; ++g) {
        const w_vec<f32, 4> y = *(const w_vec<f32, 4>*)(b + (c + u) * PITCH + g * APART);
#pragma unroll
        for (i32 t = 0; t < 4; ++t) {
#pragma unroll
          for (i32 r = 0; r < R; ++r)
            sum[r][4 * g + t] = w_fma(x[r].v[u], y.v[t], sum[r][4 * g + t]);
        }
      }
    }
  }
}
""",
    "w_columns_by_columns": """\
// sum[r][t] += the products of N rows' numbers in a's column r and b's column t; columns are groups
// of 4, so far apart; rows are PITCHes apart
template<i32 N, i32 A_PITCH, i32 A_APART, i32 B_PITCH, i32 B_APART, i32 R, i32 C>
__device__ void w_columns_by_columns(f32 (&sum)[R][C], const f32* a, const f32* b) {
#pragma unroll 4
  for (i32 c = 0; c < N; ++c) {
    w_vec<f32, 4> x[R / 4];
#pragma unroll
    for (i32 g = 0; g < R / 4; ++g) x[g] = *(const w_vec<f32, 4>*)(a + c * A_PITCH + g * A_APART);
#pragma unroll
    for (i32 h = 0; h < C / 4; ++h) {
      const w_vec<f32, 4> y = *(const w_vec<f32, 4>*)(b + c * B_PITCH + h * B_APART);
#pragma unroll
      for (i32 r = 0; r < R; ++r) {
#pragma unroll
        for (i32 t = 0; t < 4; ++t)
          sum[r][4 * h + t] = w_fma(x[r / 4].v[r % 4], y.v[t], sum[r][4 * h + t]);
      }
    }
  }
}
""",
    "w_fresh": """\
// N numbers that another block may have written meanwhile
template<i32 N> __device__ w_vec<f32, N> w_fresh(const f32* from) {
  w_vec<f32, N> x;
#ifdef __CUDA_ARCH__
  if (N == 4)
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.v[0]), "=f"(x.v[N / 4]),
                 "=f"(x.v[N / 2]), "=f"(x.v[N - 1]) : "l"(from) : "memory");
  else
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x.v[0]) : "l"(from) : "memory");
#else
  x = *(const w_vec<f32, N>*)from;
#endif
  return x;
}
""",
    "w_await": """\
// wait until so many blocks have had their turn, and see what they wrote
__device__ void w_await(const f32* turns, i32 turn) {
  if (threadIdx.x == 0) {
    while (*(const volatile f32*)turns != (f32)turn) {}
    __threadfence();
  }
  __syncthreads();
}
""",
    "w_hand_on": """\
// let the next block have its turn, which sees what this one wrote
__device__ void w_hand_on(f32* turns, i32 turn) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    *(volatile f32*)turns = (f32)(turn + 1);
  }
}
""",
}
