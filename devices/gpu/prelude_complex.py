"""Helper functions of the generated CUDA C++ for complex numbers.

Elementary functions are computed in double precision for both types, by the formulas of W. Kahan,
"Branch Cuts for Complex Elementary Functions" (1987), which are accurate everywhere and respect
signed zeros.
"""

from __future__ import annotations

__all__ = ["COMPLEX_HELPERS"]

COMPLEX_HELPERS = {
    "w_cx": """\
template<class F> __device__ w_complex<F> w_cx(F re, F im) {
  w_complex<F> z; z.re = re; z.im = im; return z;
}
""",
    "w_cadd": """\
template<class C> __device__ C w_cadd(C a, C b) { return w_cx(a.re + b.re, a.im + b.im); }
""",
    "w_csub": """\
template<class C> __device__ C w_csub(C a, C b) { return w_cx(a.re - b.re, a.im - b.im); }
""",
    "w_cmul": """\
template<class C> __device__ C w_cmul(C a, C b) {
  return w_cx(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}
""",
    "w_cdiv": """\
// Smith's algorithm, as NumPy divides
template<class F> __device__ w_complex<F> w_cdiv(w_complex<F> a, w_complex<F> b) {
  const F re = fabs(b.re), im = fabs(b.im);
  if (re >= im) {
    if (re == 0 && im == 0) return w_cx(a.re / re, a.im / re);
    const F ratio = b.im / b.re, scale = (F)1 / (b.re + b.im * ratio);
    return w_cx((a.re + a.im * ratio) * scale, (a.im - a.re * ratio) * scale);
  }
  const F ratio = b.re / b.im, scale = (F)1 / (b.im + b.re * ratio);
  return w_cx((a.re * ratio + a.im) * scale, (a.im * ratio - a.re) * scale);
}
""",
    "w_is_nan": """\
template<class T> __device__ bool w_is_nan(T x) { return x != x; }
template<class F> __device__ bool w_is_nan(w_complex<F> z) { return z.re != z.re || z.im != z.im; }
""",
    "w_lt": """\
template<class T> __device__ bool w_lt(T a, T b) { return a < b; }
template<class F> __device__ bool w_lt(w_complex<F> a, w_complex<F> b) {
  return (a.re < b.re && a.im == a.im && b.im == b.im) || (a.re == b.re && a.im < b.im);
}
""",
    "w_gt": """\
template<class T> __device__ bool w_gt(T a, T b) { return a > b; }
template<class F> __device__ bool w_gt(w_complex<F> a, w_complex<F> b) {
  return (a.re > b.re && a.im == a.im && b.im == b.im) || (a.re == b.re && a.im > b.im);
}
""",
    "w_cle": """\
template<class C> __device__ bool w_cle(C a, C b) {
  return (a.re < b.re && a.im == a.im && b.im == b.im) || (a.re == b.re && a.im <= b.im);
}
""",
    "w_cge": """\
template<class C> __device__ bool w_cge(C a, C b) {
  return (a.re > b.re && a.im == a.im && b.im == b.im) || (a.re == b.re && a.im >= b.im);
}
""",
    "w_csign": """\
// z / |z|; infinite parts by their signs
template<class F> __device__ w_complex<F> w_csign(w_complex<F> z) {
  const F nan = (F)w_bits<f64>(0x7FF8000000000000ull), zero = 0;
  if (z.re == 0 && z.im == 0) return w_cx(zero, zero);
  const bool inf_re = w_is_inf(z.re), inf_im = w_is_inf(z.im);
  if ((inf_re && inf_im) || (w_is_nan(z) && !inf_re && !inf_im)) return w_cx(nan, nan);
  if (inf_re) return w_cx(z.re > 0 ? (F)1 : (F)-1, zero);
  if (inf_im) return w_cx(zero, z.im > 0 ? (F)1 : (F)-1);
  const F size = w_hypot(z.re, z.im);
  return w_cx(z.re / size, z.im / size);
}
""",
    "w_is_inf": """\
template<class F> __device__ bool w_is_inf(F x) { return x == x && x - x != 0; }
""",
    "w_wide_c": """\
__device__ c128 w_wide_c(c64 z) { return w_cx((f64)z.re, (f64)z.im); }
__device__ c128 w_wide_c(c128 z) { return z; }
""",
    "w_narrow_c": """\
template<class C> __device__ C w_narrow_c(c128 z) { C c; c.re = z.re; c.im = z.im; return c; }
""",
    "w_cexp": """\
__device__ c128 w_cexp(c128 z) {
  if (z.im == 0) return w_cx(exp(z.re), z.im);
  if (w_is_inf(z.re) && z.im - z.im != 0)
    return z.re < 0 ? w_cx(0.0, 0.0) : w_cx(z.re, z.im - z.im);
  const f64 e = exp(z.re * 0.5);        // exp(re) may overflow where its products do not
  return z.re > 700.0 ? w_cx(e * cos(z.im) * e, e * sin(z.im) * e)
                      : w_cx(exp(z.re) * cos(z.im), exp(z.re) * sin(z.im));
}
""",
    "w_clog": """\
__device__ c128 w_clog(c128 z) {
  const f64 x = fmax(fabs(z.re), fabs(z.im)), y = fmin(fabs(z.re), fabs(z.im));
  f64 size;
  if (x > 0.5 && x < 2.0 && y < 2.0) size = 0.5 * log1p((x - 1.0) * (x + 1.0) + y * y);
  else if (x > 1e300) size = log(hypot(z.re * 0.5, z.im * 0.5)) + 0.6931471805599453;
  else if (x < 1e-290) size = log(hypot(z.re * 0x1p200, z.im * 0x1p200)) - 138.62943611198907;
  else size = log(hypot(z.re, z.im));
  return w_cx(size, atan2(z.im, z.re));
}
""",
    "w_csqrt": """\
__device__ c128 w_csqrt(c128 z) {
  if (z.re == 0 && z.im == 0) return w_cx(0.0, z.im);
  if (w_is_inf(z.im)) return w_cx(fabs(z.im), z.im);
  if (z.re != z.re) return w_cx(z.re, z.re);
  if (w_is_inf(z.re)) {
    const f64 other = z.im - z.im;      // 0 or NaN
    return z.re > 0 ? w_cx(z.re, copysign(other, z.im)) : w_cx(fabs(other), copysign(z.re, z.im));
  }
  f64 scale = 1.0, x = z.re, y = z.im;
  if (fabs(x) > 0x1p1000 || fabs(y) > 0x1p1000) { x *= 0x1p-100; y *= 0x1p-100; scale = 0x1p50; }
  else if (fabs(x) < 0x1p-900 && fabs(y) < 0x1p-900) {
    x *= 0x1p200; y *= 0x1p200; scale = 0x1p-100;
  }
  const f64 t = sqrt((fabs(x) + hypot(x, y)) * 0.5);
  return x >= 0 ? w_cx(t * scale, y / (2.0 * t) * scale)
                : w_cx(fabs(y) / (2.0 * t) * scale, copysign(t, y) * scale);
}
""",
    "w_csinh": """\
__device__ c128 w_csinh(c128 z) {
  if (z.im == 0) return w_cx(sinh(z.re), z.im);
  if (z.re == 0) return w_cx(z.re, sin(z.im));
  if (fabs(z.re) < 709.0) return w_cx(sinh(z.re) * cos(z.im), cosh(z.re) * sin(z.im));
  const f64 e = exp(fabs(z.re) * 0.5), half = 0.5 * e;
  return w_cx(copysign(half, z.re) * cos(z.im) * e, half * sin(z.im) * e);
}
""",
    "w_ccosh": """\
__device__ c128 w_ccosh(c128 z) {
  if (z.im == 0) return w_cx(cosh(z.re), z.re * z.im);
  if (z.re == 0) return w_cx(cos(z.im), z.re * sin(z.im));
  if (fabs(z.re) < 709.0) return w_cx(cosh(z.re) * cos(z.im), sinh(z.re) * sin(z.im));
  const f64 e = exp(fabs(z.re) * 0.5), half = 0.5 * e;
  return w_cx(half * cos(z.im) * e, copysign(half, z.re) * sin(z.im) * e);
}
""",
    "w_ctanh": """\
__device__ c128 w_ctanh(c128 z) {
  if (fabs(z.re) > 22.0) {
    const f64 turn = w_is_inf(z.im) ? 1.0 : sin(z.im) * cos(z.im);
    return w_cx(copysign(1.0, z.re), 4.0 * turn * exp(-2.0 * fabs(z.re)));
  }
  if (z.im == 0) return w_cx(tanh(z.re), z.im);
  const f64 t = tan(z.im), beta = 1.0 + t * t, s = sinh(z.re), rho = sqrt(1.0 + s * s);
  if (w_is_inf(t)) return w_cx(rho / s, 1.0 / t);
  const f64 below = 1.0 + beta * s * s;
  return w_cx(beta * rho * s / below, t / below);
}
""",
    "w_csin": """\
__device__ c128 w_csin(c128 z) {
  const c128 t = w_csinh(w_cx(-z.im, z.re));
  return w_cx(t.im, -t.re);
}
""",
    "w_ccos": """\
__device__ c128 w_ccos(c128 z) { return w_ccosh(w_cx(-z.im, z.re)); }
""",
    "w_ctan": """\
__device__ c128 w_ctan(c128 z) {
  const c128 t = w_ctanh(w_cx(-z.im, z.re));
  return w_cx(t.im, -t.re);
}
""",
    "w_casin": """\
__device__ c128 w_casin(c128 z) {
  const c128 a = w_csqrt(w_cx(1.0 - z.re, -z.im)), b = w_csqrt(w_cx(1.0 + z.re, z.im));
  if (fabs(z.re) > 1e8 || fabs(z.im) > 1e8) {       // asin z = pi/2 - acos z, by the logarithm
    const c128 l = w_clog(w_cx(fabs(z.re), fabs(z.im)));
    return w_cx(copysign(atan2(fabs(z.re), fabs(z.im)), z.re),
                copysign(l.re + 0.6931471805599453, z.im));
  }
  return w_cx(atan2(z.re, a.re * b.re - a.im * b.im), asinh(a.re * b.im - a.im * b.re));
}
""",
    "w_cacos": """\
__device__ c128 w_cacos(c128 z) {
  if (fabs(z.re) > 1e8 || fabs(z.im) > 1e8) {
    const c128 l = w_clog(w_cx(fabs(z.re), fabs(z.im)));
    return w_cx(atan2(fabs(z.im), z.re), -copysign(l.re + 0.6931471805599453, z.im));
  }
  const c128 a = w_csqrt(w_cx(1.0 - z.re, -z.im)), b = w_csqrt(w_cx(1.0 + z.re, z.im));
  return w_cx(2.0 * atan2(a.re, b.re), asinh(b.re * a.im - b.im * a.re));
}
""",
    "w_casinh": """\
__device__ c128 w_casinh(c128 z) {
  const c128 t = w_casin(w_cx(-z.im, z.re));
  return w_cx(t.im, -t.re);
}
""",
    "w_cacosh": """\
__device__ c128 w_cacosh(c128 z) {
  const c128 t = w_cacos(z);            // i acos z or -i acos z, whichever has a positive real part
  const bool turn = t.im < 0 || (t.im == 0 && w_bits<i64>(t.im) < 0);
  return turn ? w_cx(-t.im, t.re) : w_cx(t.im, -t.re);
}
""",
    "w_catanh": """\
__device__ c128 w_catanh(c128 z) {
  const f64 beta = copysign(1.0, z.re), x = fabs(z.re), y = -beta * z.im;
  const f64 far = 3e153, near = 1.0 / far, t = fabs(y) + near;
  f64 re, im;
  if (x > far || fabs(y) > far) {
    re = w_is_inf(y) ? 0.0 : x > fabs(y) ? 1.0 / (x + y / x * y) : x / y / (x / y * x + y);
    im = copysign(1.5707963267948966, y);
  } else if (x == 1.0) {
    re = log(sqrt(sqrt(4.0 + y * y)) / sqrt(t));
    im = copysign(0.5 * (1.5707963267948966 + atan(t * 0.5)), y);
  } else {
    re = 0.25 * log1p(4.0 * x / ((1.0 - x) * (1.0 - x) + t * t));
    im = 0.5 * atan2(2.0 * y, (1.0 - x) * (1.0 + x) - t * t);
  }
  return w_cx(beta * re, -beta * im);
}
""",
    "w_catan": """\
__device__ c128 w_catan(c128 z) {
  const c128 t = w_catanh(w_cx(-z.im, z.re));
  return w_cx(t.im, -t.re);
}
""",
    "w_cexp2": """\
__device__ c128 w_cexp2(c128 z) {
  return w_cexp(w_cx(z.re * 0.6931471805599453, z.im * 0.6931471805599453));
}
""",
    "w_clog2": """\
__device__ c128 w_clog2(c128 z) {
  const c128 l = w_clog(z);
  return w_cx(l.re * 1.4426950408889634, l.im * 1.4426950408889634);
}
""",
    "w_clog10": """\
__device__ c128 w_clog10(c128 z) {
  const c128 l = w_clog(z);
  return w_cx(l.re * 0.4342944819032518, l.im * 0.4342944819032518);
}
""",
    "w_cexpm1": """\
__device__ c128 w_cexpm1(c128 z) {
  const f64 half = sin(z.im * 0.5);
  return w_cx(expm1(z.re) * cos(z.im) - 2.0 * half * half, exp(z.re) * sin(z.im));
}
""",
    "w_clog1p": """\
__device__ c128 w_clog1p(c128 z) {
  return w_cx(log(hypot(z.re + 1.0, z.im)), atan2(z.im, z.re + 1.0));
}
""",
    "w_cpow": """\
// small whole exponents by multiplication, 0 to a power by cases, as NumPy's
template<class C> __device__ C w_cpow(C a, C b) {
  C out;
  if (b.re == 0 && b.im == 0) { out.re = 1; out.im = 0; return out; }
  if (a.re == 0 && a.im == 0) {
    out.re = out.im = b.re > 0 ? 0 : w_bits<f64>(0x7FF8000000000000ull);
    return out;
  }
  if (b.im == 0 && (b.re == 1 || b.re == 2 || b.re == 3))
    return b.re == 1 ? a : b.re == 2 ? w_cmul(a, a) : w_cmul(w_cmul(a, a), a);
  const c128 l = w_clog(w_wide_c(a)), p = w_wide_c(b);
  return w_narrow_c<C>(w_cexp(w_cmul(p, l)));
}
""",
    "w_corder": """\
template<class C> __device__ C w_cmaximum(C a, C b) { return w_cge(a, b) || w_is_nan(a) ? a : b; }
template<class C> __device__ C w_cminimum(C a, C b) { return w_cle(a, b) || w_is_nan(a) ? a : b; }
template<class C> __device__ C w_cfmax(C a, C b) { return w_cge(a, b) || w_is_nan(b) ? a : b; }
template<class C> __device__ C w_cfmin(C a, C b) { return w_cle(a, b) || w_is_nan(b) ? a : b; }
""",
}
for _name in ("w_cmaximum", "w_cminimum", "w_cfmax", "w_cfmin"):
    COMPLEX_HELPERS[_name] = f"""\
template<class C> __device__ C {_name}(C a, C b) {{
  return {"w_cge" if "max" in _name else "w_cle"}(a, b) || w_is_nan({
      "b" if "w_cf" in _name else "a"}) ? a : b;
}}
"""
del COMPLEX_HELPERS["w_corder"]
