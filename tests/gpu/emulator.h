// Runs generated CUDA C++ on the host: every thread of a block is a coroutine, and barriers and
// shuffles are the points at which the next one goes on. Compiled by a C++ compiler in front of the
// very text that NVRTC gets; blocks run one after another, so that atomics need nothing.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static       // the threads of a block share what no other block uses meanwhile
#define w_memory(name, count) float* const name = (float*)emulator::memory(4 * (count))

struct EmulatedIndex { unsigned x, y, z; };
static EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;

// ---- threads

namespace emulator {

const int WARP = 32, MOST = 1024;
const size_t STACK = 128 << 10;

struct Barrier {                // opens when all that wait for it have come
  int waiting = 0;
  unsigned long generation = 0;
};

#ifdef __x86_64__
// To another stack: what a call must keep is pushed on the old one. (swapcontext would do, but makes
// two system calls, which takes ten times as long.)
struct Context { void* sp; };
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** from, void* to);
asm(R"(
  .text
  .local emulator_switch
  .type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
inline void switch_to(Context& from, Context& to) { emulator_switch(&from.sp, to.sp); }
inline void prepare(Context& c, char* stack, size_t size, void (*entry)()) {
  void** top = (void**)(((unsigned long)stack + size) & ~15ul);
  *--top = nullptr;             // where a call would have left its return address
  *--top = (void*)entry;
  c.sp = top - 6;
}
#else
typedef ucontext_t Context;
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& c, char* stack, size_t size, void (*entry)()) {
  getcontext(&c);
  c.uc_stack.ss_sp = stack;
  c.uc_stack.ss_size = size;
  c.uc_link = nullptr;
  makecontext(&c, entry, 0);
}
#endif

struct Thread {
  Context context;
  bool alive = false;
};

static Thread threads[MOST];
static char* stacks = nullptr;
static Context scheduler;
static unsigned char* shared = nullptr;     // what a launch gives to a block, and bytes behind it
static unsigned shared_bytes = 0;
const unsigned SHARED = 227 << 10, BEHIND = 256;
static int current = 0, count = 0, alive = 0;
static unsigned long progress = 0;
static Barrier block_barrier, warp_barriers[MOST / WARP];
static unsigned words[MOST];    // what threads show to the others of their warp
static void (*body)(void*);
static void* body_data;

[[noreturn]] inline void fail(const char* why) {
  std::fprintf(stderr, "emulator: %s (block %u, thread %d)\n", why, blockIdx.x, current);
  std::abort();
}

inline void yield() { switch_to(threads[current].context, scheduler); }

inline void wait(Barrier& barrier, int all) {
  const unsigned long generation = barrier.generation;
  if (++barrier.waiting == all) {
    barrier.waiting = 0;
    ++barrier.generation;
    ++progress;
  }
  while (barrier.generation == generation) yield();
}

inline int warp_size() {        // of the current thread's warp
  const int begin = current / WARP * WARP;
  return count - begin < WARP ? count - begin : WARP;
}

static void enter() {
  body(body_data);
  threads[current].alive = false;
  --alive;
  ++progress;
  if (block_barrier.waiting) fail("a thread ended while others wait at a barrier");
  yield();
}

inline void run_block(int n) {
  if (n > MOST) fail("a block of more than 1024 threads");
  if (!stacks) stacks = (char*)std::malloc(STACK * MOST);
  count = alive = n;
  for (int i = 0; i < n; ++i) {
    prepare(threads[i].context, stacks + STACK * i, STACK, enter);
    threads[i].alive = true;
  }
  while (alive) {
    const unsigned long before = progress;
    for (int i = 0; i < n; ++i) {
      if (!threads[i].alive) continue;
      current = i;
      threadIdx.x = (unsigned)i;
      switch_to(scheduler, threads[i].context);
    }
    if (progress == before) fail("all threads wait: not all of them came to a barrier");
  }
}

inline void prepare_shared(unsigned bytes) {
  if (bytes > SHARED) fail("more shared memory than a block can have");
  if (!shared) shared = (unsigned char*)std::aligned_alloc(256, SHARED + BEHIND);
  shared_bytes = bytes;
  std::memset(shared, 0xFF, bytes + BEHIND);      // numbers in it are NaN at first
}

inline void check_shared() {
  for (unsigned i = 0; i < BEHIND; ++i)
    if (shared[shared_bytes + i] != 0xFF) fail("a write behind the shared memory");
}

inline unsigned char* memory(unsigned bytes) {
  if (bytes > shared_bytes) fail("more shared memory than the launch gave");
  return shared;
}

}  // namespace emulator

// ---- what kernels call

inline void __syncthreads() { emulator::wait(emulator::block_barrier, emulator::count); }

inline void __threadfence() {}

inline void __syncwarp(unsigned = ~0u) {
  emulator::wait(emulator::warp_barriers[emulator::current / emulator::WARP],
                 emulator::warp_size());
}

inline int __syncthreads_or(int one) {
  static unsigned long seen[2];   // the barriers at which a thread said so, the latest two
  const unsigned long own = emulator::block_barrier.generation + 1;
  if (one) seen[own % 2] = own;
  __syncthreads();
  return seen[own % 2] == own;
}

inline unsigned __shfl_xor_sync(unsigned, unsigned word, int distance) {
  using namespace emulator;
  const int own = current, other = own ^ distance;
  words[own] = word;
  __syncwarp();
  const unsigned found = other / WARP == own / WARP && other < count ? words[other] : word;
  __syncwarp();
  return found;
}

inline unsigned __ballot_sync(unsigned, bool value) {
  using namespace emulator;
  const int begin = current / WARP * WARP;
  words[current] = value;
  __syncwarp();
  unsigned found = 0;
  for (int i = 0; i < WARP && begin + i < count; ++i) found |= words[begin + i] << i;
  __syncwarp();
  return found;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }

// what each thread of the warp has, for all of them
template<int N> void w_exchange(const float (&own)[N], float (&all)[32][N]) {
  using namespace emulator;
  static float shown[MOST][16];
  std::memcpy(shown[current], own, sizeof(own));
  __syncwarp();
  for (int i = 0; i < 32; ++i) std::memcpy(all[i], shown[current / WARP * WARP + i], sizeof(own));
  __syncwarp();
}

template<class T> T atomicCAS(T* p, T expected, T wanted) {
  const T old = *p;
  if (old == expected) *p = wanted;
  return old;
}
template<class T> T atomicAdd(T* p, T x) { const T old = *p; *p = old + x; return old; }
template<class T> T atomicMax(T* p, T x) { const T old = *p; if (x > old) *p = x; return old; }

inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

// ---- launches: arguments are taken from 8-byte slots, as the driver does

template<bool threads_meet, class... A> struct EmulatedLaunch {
  void (*kernel)(A...);
  void** params;

  template<size_t... I> void call(std::index_sequence<I...>) { kernel(*(A*)params[I]...); }
  void once() { call(std::index_sequence_for<A...>()); }

  void run(unsigned grid, unsigned block, unsigned shared) {
    gridDim = {grid, 1, 1};
    blockDim = {block, 1, 1};
    for (unsigned b = 0; b < grid; ++b) {
      blockIdx = {b, 0, 0};
      emulator::prepare_shared(shared);
      if (threads_meet) {
        emulator::body = [](void* self) { ((EmulatedLaunch*)self)->once(); };
        emulator::body_data = this;
        emulator::run_block((int)block);
      } else {
        for (unsigned t = 0; t < block; ++t) {
          threadIdx = {t, 0, 0};
          once();
        }
      }
      emulator::check_shared();
    }
  }
};

template<bool threads_meet, class... A>
void emulated_launch(void (*kernel)(A...), unsigned grid, unsigned block, unsigned shared,
                     void** params) {
  EmulatedLaunch<threads_meet, A...>{kernel, params}.run(grid, block, shared);
}
