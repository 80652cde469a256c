"""Helper functions of the generated CUDA C++: element types, conversions, integers, floats.

A kernel's text begins with those of them that it uses (`needed`). No header is included, so that
NVRTC needs nothing but itself. 16-bit floats are computed with as `f32` and rounded after every
operation; integers wrap, which C++ leaves undefined, so that arithmetic goes by way of unsigned.
"""

from __future__ import annotations

import re
from functools import cache

from weft.devices.gpu.prelude_complex import COMPLEX_HELPERS
from weft.devices.gpu.prelude_teams import TEAM_HELPERS
from weft.devices.gpu.prelude_tensor import TENSOR_HELPERS
from weft.devices.gpu.prelude_tiles import TILE_HELPERS

__all__ = ["HELPERS", "TYPES", "needed"]

TYPES = """\
typedef signed char i8; typedef short i16; typedef int i32; typedef long long i64;
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32;
typedef unsigned long long u64; typedef float f32; typedef double f64;
template<class T> struct alignas(2 * sizeof(T)) w_complex { T re, im; };
typedef w_complex<f32> c64; typedef w_complex<f64> c128;
"""

_INTEGERS = {
    "w_wide": """\
// the unsigned type in which an integer type's arithmetic wraps
template<class T> struct w_wide { typedef u32 type; };
template<> struct w_wide<i64> { typedef u64 type; };
template<> struct w_wide<u64> { typedef u64 type; };
""",
    "w_neg": """\
template<class T> __device__ T w_neg(T x) { return (T)(0 - (typename w_wide<T>::type)x); }
""",
    "w_magnitude": """\
template<class T> __device__ typename w_wide<T>::type w_magnitude(T x) {
  typedef typename w_wide<T>::type W;
  return x < 0 ? 0 - (W)x : (W)x;
}
""",
    "w_truncated": """\
// x / y towards zero; 0 where y is 0, -x where y is -1
template<class T> __device__ T w_truncated(T x, T y) {
  if (y == 0) return 0;
  if ((T)-1 < 0 && y == (T)-1) return w_neg(x);
  return x / y;
}
""",
    "w_floor_div": """\
template<class T> __device__ T w_floor_div(T x, T y) {
  typedef typename w_wide<T>::type W;
  T q = w_truncated(x, y);
  T r = y == 0 ? (T)0 : (T)((W)x - (W)q * (W)y);
  return r != 0 && (r < 0) != (y < 0) ? (T)(q - 1) : q;
}
""",
    "w_floor_mod": """\
template<class T> __device__ T w_floor_mod(T x, T y) {
  typedef typename w_wide<T>::type W;
  if (y == 0) return 0;
  T r = (T)((W)x - (W)w_truncated(x, y) * (W)y);
  return r != 0 && (r < 0) != (y < 0) ? (T)(r + y) : r;
}
""",
    "w_trunc_mod": """\
template<class T> __device__ T w_trunc_mod(T x, T y) {
  typedef typename w_wide<T>::type W;
  return y == 0 ? (T)0 : (T)((W)x - (W)w_truncated(x, y) * (W)y);
}
""",
    "w_ipow": """\
// by repeated squaring, for y >= 0
template<class T> __device__ T w_ipow(T x, T y) {
  typedef typename w_wide<T>::type W;
  W out = 1, base = (W)x;
  for (W power = y < 0 ? 0 : (W)y; power; power >>= 1) {
    if (power & 1) out *= base;
    base *= base;
  }
  return (T)out;
}
""",
    "w_gcd": """\
template<class T> __device__ T w_gcd(T x, T y) {
  typename w_wide<T>::type a = w_magnitude(x), b = w_magnitude(y);
  while (b) { auto r = a % b; a = b; b = r; }
  return (T)a;
}
""",
    "w_lcm": """\
template<class T> __device__ T w_lcm(T x, T y) {
  typename w_wide<T>::type a = w_magnitude(x), b = w_magnitude(y), g = a, h = b;
  while (h) { auto r = g % h; g = h; h = r; }
  return g ? (T)(a / g * b) : (T)0;
}
""",
    "w_shift_left": """\
template<class T> __device__ T w_shift_left(T x, T y) {
  typedef typename w_wide<T>::type W;
  return (W)y < 8 * sizeof(T) ? (T)((W)x << y) : (T)0;
}
""",
    "w_shift_right": """\
template<class T> __device__ T w_shift_right(T x, T y) {
  typedef typename w_wide<T>::type W;
  return (T)(x >> ((W)y < 8 * sizeof(T) ? (i32)y : (i32)(8 * sizeof(T) - 1)))
      * (T)((W)y < 8 * sizeof(T) || (T)-1 < 0);
}
""",
    "w_popcnt": """\
template<class T> __device__ u8 w_popcnt(T x) {
  const u64 mask = ~0ull >> (64 - 8 * sizeof(T));
  return (u8)__popcll((u64)w_magnitude(x) & mask);
}
""",
    "w_index_div": """\
// floor(a / b) of an index that may be negative, b > 0
template<class T> __device__ T w_index_div(T a, T b) { T q = a / b; return q - (a % b < 0); }
""",
    "w_index_mod": """\
template<class T> __device__ T w_index_mod(T a, T b) { T r = a % b; return r < 0 ? r + b : r; }
""",
    "w_over": """\
// x / y of numbers that are not negative: most are small, and divided in a quarter of the time
__device__ i64 w_over(i64 x, i64 y) {
  return (u64)(x | y) >> 32 ? x / y : (i64)((u32)x / (u32)y);
}
""",
    "w_index_min": """\
template<class T> __device__ T w_index_min(T a, T b) { return a < b ? a : b; }
""",
    "w_clamp": """\
// an index that a check has found, or will find, to be outside its axis is kept inside
__device__ i64 w_clamp(i64 i, i64 below) {
  return i < 0 ? 0 : i < below ? i : below > 0 ? below - 1 : 0;
}
""",
    "w_threefry": """\
__device__ u64 w_threefry(u64 key, u64 counter) {
  const u32 rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const u32 k0 = (u32)key, k1 = (u32)(key >> 32), keys[3] = {k0, k1, k0 ^ k1 ^ 0x1BD11BDAu};
  u32 x0 = (u32)counter + k0, x1 = (u32)(counter >> 32) + k1;
#pragma unroll
  for (u32 i = 0; i < 20; ++i) {
    const u32 n = rotations[i % 8];
    x0 += x1;
    x1 = x0 ^ (x1 << n | x1 >> (32 - n));
    if (i % 4 == 3) {
      const u32 s = i / 4 + 1;
      x0 += keys[s % 3];
      x1 += keys[(s + 1) % 3] + s;
    }
  }
  return (u64)x0 | (u64)x1 << 32;
}
""",
}

_BITS = {
    "w_bits": """\
template<class To, class From> __device__ To w_bits(From x) {
  union { From from; To to; } u; u.from = x; return u.to;
}
""",
    "w_f16_f32": """\
__device__ f32 w_f16_f32(u16 h) {
#ifdef __CUDA_ARCH__
  f32 x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h)); return x;
#else
  const u32 sign = (u32)(h & 0x8000u) << 16, mag = h & 0x7FFFu;
  const u32 bits = mag >= 0x7C00u ? (mag << 13) + (224u << 23)
                                  : w_bits<u32>(w_bits<f32>(mag << 13) * 0x1p112f);
  return w_bits<f32>(bits | sign);
#endif
}
""",
    "w_f32_f16": """\
// to the nearest, halves to even
__device__ u16 w_f32_f16(f32 x) {
#ifdef __CUDA_ARCH__
  u16 h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x)); return h;
#else
  const u32 u = w_bits<u32>(x), sign = u >> 16 & 0x8000u, mag = u & 0x7FFFFFFFu;
  if (mag > 0x7F800000u) return (u16)(sign | 0x7E00u);
  if (mag >= 0x477FF000u) return (u16)(sign | 0x7C00u);
  if (mag < 0x38800000u) return (u16)(sign | (w_bits<u32>(w_bits<f32>(mag) + 0.5f) - 0x3F000000u));
  return (u16)(sign | (mag + (mag >> 13 & 1) + 0xFFFu - (112u << 23)) >> 13);
#endif
}
""",
    "w_bf16_f32": """\
__device__ f32 w_bf16_f32(u16 b) { return w_bits<f32>((u32)b << 16); }
""",
    "w_f32_bf16": """\
__device__ u16 w_f32_bf16(f32 x) {
  const u32 u = w_bits<u32>(x);
  return x != x ? (u16)(u >> 16 | 0x40u) : (u16)((u + (u >> 16 & 1) + 0x7FFFu) >> 16);
}
""",
    "w_odd_f32": """\
// to f32 such that rounding that to 16 bits rounds only once: lost bits go into the last one
__device__ f32 w_odd_f32(f64 x) {
  const u64 u = w_bits<u64>(x);
  const u64 lost = (u64)((u & 0x1FFFFFFFu) != 0) << 29;
  return x != x ? (f32)x : (f32)w_bits<f64>((u & ~0x1FFFFFFFull) | lost);
}
""",
    "w_to_i32": """\
// as x86's conversions, which NumPy's astype uses: what is out of range becomes the least integer
template<class F> __device__ i32 w_to_i32(F x) {
  return x > (F)-2147483904.0 && (f64)x > -2147483649.0 && (f64)x < 2147483648.0
      ? (i32)x : (i32)0x80000000u;
}
""",
    "w_to_i64": """\
template<class F> __device__ i64 w_to_i64(F x) {
  return x >= (F)-9223372036854775808.0 && x < (F)9223372036854775808.0
      ? (i64)x : (i64)0x8000000000000000ull;
}
""",
    "w_to_u64": """\
template<class F> __device__ u64 w_to_u64(F x) {
  const F half = (F)9223372036854775808.0;
  return x >= half ? (u64)w_to_i64(x - half) ^ 0x8000000000000000ull : (u64)w_to_i64(x);
}
""",
    "w_vec": """\
// elements that one instruction moves
template<class T, i32 N> struct alignas(N * sizeof(T)) w_vec { T v[N]; };
""",
}

_FLOATS = {
    "w_maximum": """\
template<class T> __device__ T w_maximum(T a, T b) { return a >= b || a != a ? a : b; }
""",
    "w_minimum": """\
template<class T> __device__ T w_minimum(T a, T b) { return a <= b || a != a ? a : b; }
""",
    "w_fmax": """\
template<class T> __device__ T w_fmax(T a, T b) { return a >= b || b != b ? a : b; }
""",
    "w_fmin": """\
template<class T> __device__ T w_fmin(T a, T b) { return a <= b || b != b ? a : b; }
""",
    "w_sign": """\
template<class T> __device__ T w_sign(T x) {
  return x > 0 ? (T)1 : x < 0 ? (T)-1 : x != x ? x : (T)0;
}
""",
    "w_float": """\
// a float type's facts
template<class F> struct w_float;
template<> struct w_float<f32> {
  typedef i32 bits;
  static const i32 mantissa = 23, bias = 127;
};
template<> struct w_float<f64> {
  typedef i64 bits;
  static const i32 mantissa = 52, bias = 1023;
};
""",
    "w_frexp": """\
// x = m 2^e with 1/2 <= |m| < 1; zeros, infinities and NaN as they are, with e = 0
template<class F> __device__ F w_frexp(F x, i32* e) {
  typedef typename w_float<F>::bits I;
  const I mantissa = w_float<F>::mantissa, bias = w_float<F>::bias, all = 2 * bias + 1;
  *e = 0;
  if (x == 0 || x != x || x - x != 0) return x;
  I u = w_bits<I>(x);
  if (!(u >> mantissa & all)) {
    u = w_bits<I>(x * (F)((I)1 << (mantissa + 1)));
    *e = -(i32)(mantissa + 1);
  }
  *e += (i32)((u >> mantissa & all) - (bias - 1));
  return w_bits<F>((u & ~(all << mantissa)) | (bias - 1) << mantissa);
}
""",
    "w_frexp_mantissa": """\
template<class F> __device__ F w_frexp_mantissa(F x) { i32 e; return w_frexp(x, &e); }
""",
    "w_frexp_exponent": """\
template<class F> __device__ i32 w_frexp_exponent(F x) { i32 e; w_frexp(x, &e); return e; }
""",
    "w_spacing": """\
template<class F> __device__ F w_spacing(F x) {
  typedef typename w_float<F>::bits I;
  return w_bits<F>(w_bits<I>(x + (F)0) + 1) - x;
}
""",
    "w_step_16": """\
// nextafter on the grid of 16-bit floats: their bits, as sign and magnitude, moved by one
template<class Get> __device__ f32 w_step_16(f32 x, f32 y, u16 bits, Get get) {
  if (x != x || y != y) return x + y;
  if (x == y) return y;
  if (x == 0) return get(y < 0 ? 0x8001 : 1);
  return get((u16)((x < 0 ? y < x : y > x) ? bits + 1 : bits - 1));
}
""",
    "w_nextafter_f16": """\
__device__ f32 w_nextafter_f16(f32 x, f32 y) {
  return w_step_16(x, y, w_f32_f16(x), [](u16 b) { return w_f16_f32(b); });
}
""",
    "w_nextafter_bf16": """\
__device__ f32 w_nextafter_bf16(f32 x, f32 y) {
  return w_step_16(x, y, w_f32_bf16(x), [](u16 b) { return w_bf16_f32(b); });
}
""",
    "w_spacing_f16": """\
__device__ f32 w_spacing_f16(f32 x) {
  const f32 inf = w_bits<f32>(0x7F800000u);
  return fabsf(x) == inf ? w_bits<f32>(0x7FC00000u) : w_nextafter_f16(x, inf) - x;
}
""",
    "w_spacing_bf16": """\
__device__ f32 w_spacing_bf16(f32 x) {
  const f32 inf = w_bits<f32>(0x7F800000u);
  return fabsf(x) == inf ? w_bits<f32>(0x7FC00000u)
                         : w_nextafter_bf16(x, w_bits<i32>(x) < 0 ? -inf : inf) - x;
}
""",
    "w_remainder": """\
template<class F> __device__ F w_remainder(F x, F y, F mod) {   // mod = fmod(x, y)
  if (mod == 0) return y < 0 || (y == 0 && w_bits<typename w_float<F>::bits>(y) < 0) ? -(F)0 : (F)0;
  return (y < 0) != (mod < 0) && mod == mod ? mod + y : mod;
}
""",
    "w_floor_divide": """\
template<class F> __device__ F w_floor_divide(F x, F y, F mod) {
  if (y == 0) return x / y;
  F div = (x - mod) / y;
  if (mod != 0 && (y < 0) != (mod < 0)) div -= 1;
  if (div != 0) {
    F whole = floor(div);
    return div - whole > (F)0.5 ? whole + 1 : whole;
  }
  const F q = x / y;
  return w_bits<typename w_float<F>::bits>(q) < 0 ? -(F)0 : (F)0;
}
""",
    "w_logistic": """\
template<class F> __device__ F w_logistic(F x, F e) {           // e = exp(-|x|)
  return (x >= 0 ? (F)1 : e) / ((F)1 + e);
}
""",
    "w_logaddexp": """\
__device__ f64 w_logaddexp(f64 x, f64 y) {
  return (x > y ? x : y) + log1p(exp(x == y ? 0.0 : -fabs(x - y)));
}
""",
    "w_logaddexp2": """\
__device__ f64 w_logaddexp2(f64 x, f64 y) {
  return (x > y ? x : y) + log1p(exp2(x == y ? 0.0 : -fabs(x - y))) * 1.4426950408889634;
}
""",
    "w_hypot": """\
__device__ f64 w_hypot(f64 x, f64 y) { return hypot(x, y); }
__device__ f32 w_hypot(f32 x, f32 y) { return (f32)hypot((f64)x, (f64)y); }
""",
    "w_erf_inv": """\
// Winitzki's approximation, then Halley's method
__device__ f64 w_erf_inv(f64 x) {
  const f64 size = fabs(x), inf = w_bits<f64>(0x7FF0000000000000ull);
  if (!(size < 1)) return size == 1 ? copysign(inf, x) : w_bits<f64>(0x7FF8000000000000ull);
  f64 y = size * 0.886226925452758;
  if (size > 1e-4) {
    const f64 half = log1p(-size * size) / 2, base = 4.33074675019 + half;
    y = sqrt(sqrt(base * base - half / 0.0735) - base);
  }
  for (i32 i = 0; i < 3; ++i) {
    const f64 rest = size < 0.5 ? erf(y) - size : (1 - size) - erfc(y);
    const f64 step = rest * 0.886226925452758 * exp(y * y);
    y -= step / (1 + y * step);
  }
  return copysign(y, x);
}
""",
}

HELPERS: dict[str, str] = {**_INTEGERS, **_BITS, **_FLOATS, **COMPLEX_HELPERS, **TEAM_HELPERS,
                          **TILE_HELPERS, **TENSOR_HELPERS}
_NAME = re.compile(r"\bw_\w+")


@cache
def _needs(name: str) -> tuple[str, ...]:
    return tuple(n for n in dict.fromkeys(_NAME.findall(HELPERS[name]))
                 if n in HELPERS and n != name)


def needed(text: str) -> str:
    """The helpers that a text uses, each after those that it uses itself.

    >>> needed("w_neg(x)").splitlines()[0]
    "// the unsigned type in which an integer type's arithmetic wraps"
    """
    out: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in out:
            for other in _needs(name):
                visit(other)
            out[name] = None

    for name in dict.fromkeys(_NAME.findall(text)):
        if name in HELPERS:
            visit(name)
    return "".join(HELPERS[name] for name in out)
