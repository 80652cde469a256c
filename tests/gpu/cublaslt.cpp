// A double of cuBLASLt for tests: its calls, as the header declares them, done on the host.
//
// It refuses what the library refuses: leading dimensions shorter than a column, pointers that are
// less aligned than was promised, attributes of another size.
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>

typedef std::complex<double> number;
enum { INVALID = 7, UNSUPPORTED = 15 };

struct Desc { int compute, scale, op[2]; unsigned epilogue; void* bias; void* aux; int64_t ld, step; };
struct Layout { int type; uint64_t rows, columns; int64_t ld; int batch; int64_t step; };
struct Preference { uint64_t workspace; unsigned aligned[4]; };
struct Result { uint64_t algo[8]; size_t workspace; int state; float waves; int reserved[4]; };

static float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16; float out; std::memcpy(&out, &bits, 4); return out;
}
static uint16_t to_bf16(float x) {
  uint32_t bits; std::memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
static size_t size_of(int type) {
  return type == 0 ? 4 : type == 1 || type == 4 ? 8 : type == 5 ? 16 : 2;
}
static number load(int type, const void* p, int64_t i) {
  switch (type) {
    case 0: return ((const float*)p)[i];
    case 1: return ((const double*)p)[i];
    case 2: return (double)((const _Float16*)p)[i];
    case 4: return ((const std::complex<float>*)p)[i];
    case 5: return ((const number*)p)[i];
    default: return from_bf16(((const uint16_t*)p)[i]);
  }
}
static void store(int type, void* p, int64_t i, number x) {
  switch (type) {
    case 0: ((float*)p)[i] = (float)x.real(); break;
    case 1: ((double*)p)[i] = x.real(); break;
    case 2: ((_Float16*)p)[i] = (_Float16)(float)x.real(); break;
    case 4: ((std::complex<float>*)p)[i] = std::complex<float>(x); break;
    case 5: ((number*)p)[i] = x; break;
    default: ((uint16_t*)p)[i] = to_bf16((float)x.real());
  }
}
static float rounded(int compute, double x) {       // of operands: 10, 7 or 10 bits of mantissa
  const int dropped = compute == 77 ? 13 : compute == 75 ? 16 : compute == 74 ? 13 : 0;
  float y = (float)x;
  uint32_t bits; std::memcpy(&bits, &y, 4);
  if (dropped && std::isfinite(y)) bits = (bits + (1u << (dropped - 1))) >> dropped << dropped;
  std::memcpy(&y, &bits, 4);
  return y;
}

extern "C" {

static int live = 0, calls = 0;
int double_calls() { return calls; }

int cublasLtCreate(void** handle) { *handle = (void*)&live; return 0; }
int cublasLtMatmulDescCreate(Desc** out, int compute, int scale) {
  *out = new Desc{compute, scale, {0, 0}, 1, 0, 0, 0, 0};
  return 0;
}
int cublasLtMatmulDescSetAttribute(Desc* d, int what, const void* p, size_t size) {
  const size_t want = what == 8 || what == 11 || what == 12 || what == 13 ? 8 : 4;
  if (size != want) return INVALID;
  switch (what) {
    case 3: case 4: d->op[what - 3] = *(const int*)p; return 0;
    case 7: d->epilogue = *(const unsigned*)p; return 0;
    case 8: d->bias = *(void* const*)p; return 0;
    case 11: d->aux = *(void* const*)p; return 0;
    case 12: d->ld = *(const int64_t*)p; return 0;
    case 13: d->step = *(const int64_t*)p; return 0;
  }
  return INVALID;
}
int cublasLtMatrixLayoutCreate(Layout** out, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  if (ld < (int64_t)rows) return INVALID;
  *out = new Layout{type, rows, columns, ld, 1, 0};
  return 0;
}
int cublasLtMatrixLayoutSetAttribute(Layout* l, int what, const void* p, size_t size) {
  if (what == 5 && size == 4) l->batch = *(const int*)p;
  else if (what == 6 && size == 8) l->step = *(const int64_t*)p;
  else return INVALID;
  return 0;
}
int cublasLtMatmulPreferenceCreate(Preference** out) {
  *out = new Preference{0, {256, 256, 256, 256}};
  return 0;
}
int cublasLtMatmulPreferenceDestroy(Preference* p) { delete p; return 0; }
int cublasLtMatmulPreferenceSetAttribute(Preference* w, int what, const void* p, size_t size) {
  if (what == 1 && size == 8) w->workspace = *(const uint64_t*)p;
  else if (what >= 5 && what <= 8 && size == 4) w->aligned[what - 5] = *(const unsigned*)p;
  else return INVALID;
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void*, Desc* d, Layout* a, Layout* b, Layout*, Layout* out,
                                   Preference* w, int wanted, Result* result, int* found) {
  *found = 0;
  const uint64_t m = out->rows, n = out->columns, k = d->op[0] ? a->rows : a->columns;
  if ((d->op[0] ? a->columns : a->rows) != m || (d->op[1] ? b->columns : b->rows) != k ||
      (d->op[1] ? b->rows : b->columns) != n || wanted != 1) return INVALID;
  std::memset(result, 0, sizeof *result);
  result->algo[0] = w->aligned[0];
  result->workspace = 512;
  *found = 1;
  return 0;
}
int cublasLtMatmul(void*, Desc* d, const void* alpha, const void* a, Layout* la, const void* b,
                   Layout* lb, const void* beta, const void* c, Layout* lc, void* out, Layout* ld,
                   const uint64_t* algo, void* workspace, size_t bytes, void*) {
  ++calls;
  for (const void* p : {a, b, c, (const void*)out})
    if ((uintptr_t)p % algo[0]) return INVALID;
  if (bytes < 512 || !workspace) return INVALID;
  std::memset(workspace, 0x5A, bytes);
  const number one = load(d->scale, alpha, 0), zero = load(d->scale, beta, 0);
  const uint64_t m = ld->rows, n = ld->columns, k = d->op[0] ? la->rows : la->columns;
  for (int batch = 0; batch < ld->batch; ++batch)
    for (uint64_t j = 0; j < n; ++j)
      for (uint64_t i = 0; i < m; ++i) {
        number sum = 0;
        for (uint64_t h = 0; h < k; ++h) {
          number x = load(la->type, a, batch * la->step + (d->op[0] ? h + i * la->ld : i + h * la->ld));
          number y = load(lb->type, b, batch * lb->step + (d->op[1] ? j + h * lb->ld : h + j * lb->ld));
          if (d->compute >= 74) {
            x = number(rounded(d->compute, x.real()), rounded(d->compute, x.imag()));
            y = number(rounded(d->compute, y.real()), rounded(d->compute, y.imag()));
          }
          sum += x * y;
        }
        sum = one * sum;
        if (zero != 0.0) sum += zero * load(lc->type, c, batch * lc->step + i + j * lc->ld);
        if (d->epilogue & 4) sum += load(ld->type, d->bias, (int64_t)i);
        if (d->epilogue & 2) sum = sum.real() > 0 ? sum.real() : 0.0;
        if (d->epilogue & 32) {
          const double x = sum.real();
          if (d->epilogue & 128) store(ld->type, d->aux, batch * d->step + i + j * d->ld, x);
          sum = 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        }
        store(ld->type, out, batch * ld->step + i + j * ld->ld, sum);
      }
  return 0;
}

}  // extern "C"
