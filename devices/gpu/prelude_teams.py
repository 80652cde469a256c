"""Helper functions of the generated CUDA C++ for reductions: accumulators, and joining threads."""

from __future__ import annotations

__all__ = ["TEAM_HELPERS"]

TEAM_HELPERS = {
    "w_memory": """\
#ifndef w_memory
// so many f32 of dynamic shared memory, which a launch asks for
#define w_memory(name, count) extern __shared__ __align__(16) f32 name[]
#endif
""",
    "w_total": """\
// a long sum: runs of 16 added plainly, and the runs with compensation (Knuth's two-sum)
template<class F> struct w_total {
  F part, sum, rest; i32 turns;
  __device__ void start() { part = sum = rest = 0; turns = 0; }
  __device__ void flush() {
    const F s = sum + part, b = s - sum;
    rest += (sum - (s - b)) + (part - b);
    sum = s; part = 0; turns = 0;
  }
  __device__ void add(F x) { part += x; if (++turns == 16) flush(); }
  __device__ F result() { flush(); return rest == rest ? sum + rest : sum; }
};
""",
    "w_best": """\
// the value that comes first in an argmax or argmin, and its position; NaN beats all
template<class T> struct w_best { T value; i64 at; };
template<class T> __device__ w_best<T> w_none() { w_best<T> b; b.value = T(); b.at = -1; return b; }
template<bool most, class T> __device__ bool w_beats(T a, T b) {
  return (most ? w_gt(a, b) : w_lt(a, b)) && !w_is_nan(b) || (w_is_nan(a) && !w_is_nan(b));
}
template<bool most, class T> __device__ w_best<T> w_better(w_best<T> a, w_best<T> b) {
  if (b.at < 0) return a;
  if (a.at < 0 || w_beats<most>(b.value, a.value)) return b;
  return !w_beats<most>(a.value, b.value) && b.at < a.at ? b : a;
}
template<bool most, class T> __device__ w_best<T> w_take(w_best<T> a, T value, i64 at) {
  w_best<T> b; b.value = value; b.at = at;
  return w_better<most>(a, b);
}
""",
    "w_shuffle": """\
template<class S> __device__ S w_shuffle(S s, i32 distance) {
  union { S s; u32 words[(sizeof(S) + 3) / 4]; } u, other;
  u.words[(sizeof(S) + 3) / 4 - 1] = 0;
  u.s = s;
#pragma unroll
  for (i32 i = 0; i < (i32)((sizeof(S) + 3) / 4); ++i)
    other.words[i] = __shfl_xor_sync(0xFFFFFFFFu, u.words[i], distance);
  return other.s;
}
""",
    "w_join_lanes": """\
// the values of N neighbouring threads joined, for each of them; N <= 32, a power of two
template<i32 N, class S, class J> __device__ S w_join_lanes(S s, J join) {
#pragma unroll
  for (i32 d = N / 2; d > 0; d /= 2) s = join(s, w_shuffle(s, d));
  return s;
}
""",
    "w_join_block": """\
// the values of all N threads of the block joined, for each of them; N is a power of two > 32
template<i32 N, class S, class J> __device__ S w_join_block(u8* memory, S s, J join) {
  S* parts = (S*)memory;
  s = w_join_lanes<32>(s, join);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = s;
  __syncthreads();
  return w_join_lanes<N / 32>(parts[threadIdx.x % (N / 32)], join);
}
""",
    "w_join_columns": """\
// the values of the N threads of each of R columns joined; thread t is number t / R of column t % R
template<i32 N, i32 R, class S, class J> __device__ S w_join_columns(u8* memory, S s, J join) {
  S* parts = (S*)memory;
  __syncthreads();
  parts[threadIdx.x] = s;
#pragma unroll
  for (i32 half = N / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half * R)
      parts[threadIdx.x] = join(parts[threadIdx.x], parts[threadIdx.x + half * R]);
  }
  __syncthreads();
  return parts[threadIdx.x % R];
}
""",
    "w_owner": """\
// which of so many warps a key is of: by a multiplication that spreads neighbours (Knuth, 6.4)
__device__ u32 w_owner(u64 key, u32 warps) {
  return (u32)((u64)((u32)(key ^ key >> 32) * 2654435761u) * warps >> 32);
}
""",
    "w_fma": """\
// a * b + c, rounded once where that is one instruction
__device__ f32 w_fma(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
__device__ f64 w_fma(f64 a, f64 b, f64 c) { return fma(a, b, c); }
template<class F> __device__ w_complex<F> w_fma(w_complex<F> a, w_complex<F> b, w_complex<F> c) {
  return w_cx(w_fma(a.re, b.re, w_fma(-a.im, b.im, c.re)),
              w_fma(a.re, b.im, w_fma(a.im, b.re, c.im)));
}
template<class T> __device__ T w_fma(T a, T b, T c) {
  typedef typename w_wide<T>::type W;
  return (T)((W)a * (W)b + (W)c);
}
""",
    "w_plus": """\
template<class T> __device__ T w_plus(T a, T b) { return a + b; }
template<class F> __device__ w_complex<F> w_plus(w_complex<F> a, w_complex<F> b) {
  return w_cx(a.re + b.re, a.im + b.im);
}
""",
    "w_fail": """\
// note that a check failed, unless one has before: its number, and the value that is not allowed
__device__ void w_fail(i64* status, i64 number, i64 value) {
  if (atomicCAS((u64*)status, 0ull, (u64)number) == 0) status[1] = value;
}
""",
    "w_atomic": """\
// *p = f(*p), by compare and swap; of 2, 4 or 8 bytes
template<class T, class F> __device__ void w_atomic(T* p, F f) {
  if (sizeof(T) == 8) {
    u64 seen = *(volatile u64*)p, old;
    do {
      old = seen; seen = atomicCAS((u64*)p, old, w_as<u64>(f(w_as<T>(old))));
    } while (seen != old);
  } else if (sizeof(T) == 4) {
    u32 seen = *(volatile u32*)p, old;
    do {
      old = seen; seen = atomicCAS((u32*)p, old, w_as<u32>(f(w_as<T>(old))));
    } while (seen != old);
  } else {    // within the word that holds it
    u32* word = (u32*)((u64)p & ~3ull);
    const u32 shift = 8 * (u32)((u64)p & 3), mask = (sizeof(T) == 2 ? 0xFFFFu : 0xFFu) << shift;
    u32 seen = *(volatile u32*)word, old;
    do {
      old = seen;
      const u32 mine = w_as<u32>(f(w_as<T>((old & mask) >> shift))) << shift & mask;
      seen = atomicCAS(word, old, (old & ~mask) | mine);
    } while (seen != old);
  }
}
""",
    "w_as": """\
// the bytes of one type at the beginning of another's
template<class To, class From> __device__ To w_as(From x) {
  union { From from; To to; u64 zero; } u; u.zero = 0; u.from = x; return u.to;
}
""",
}
