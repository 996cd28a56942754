// The threads that compute one list of operations together: how they share work, and how they wait for each other.
//
// Knows nothing of any operation. Every thread of the team walks through the whole list. Work is numbered and taken piece by
// piece, and a phase of work is over when all its pieces are computed, not when all threads have come by: a thread that the
// system has put aside for another process keeps nobody waiting, unless it sits on a piece, and finds when it is back that the
// others are further on. Whoever has nothing left to take spins; that lasts as long as somebody's last piece.

#pragma once

#include <sched.h>
#include <stdint.h>

namespace {

constexpr int kSpinsBeforeYielding = 2000;  // some tens of microseconds

// What the threads of a team see of each other. Zero before a list starts.
struct TeamState {
  alignas(64) uint64_t next = 0;  // the phase (upper half) and the first unit of it that nobody has taken (lower half)
  alignas(64) int64_t num_done = 0;
};

// Tells the processor that this thread waits for another.
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Team {
 public:
  const int size;
  char* const room;  // memory that a list's operations share, as much as the hungriest of them asked for

  Team(TeamState& state, int num_threads, char* memory) : size(num_threads), room(memory), state_(state) {}

  // Calls compute(begin, end) for pieces of the units 0 to count, on whatever thread takes them; returns when all are done.
  // All threads must call it with the same numbers. What it reads besides its units must not change while the list runs.
  template <class Compute>
  void share(int64_t count, int64_t piece, Compute compute) {
    if (count == 0) return;
    if (size == 1) return compute((int64_t)0, count);
    const uint64_t phase = phase_++;
    uint64_t seen = __atomic_load_n(&state_.next, __ATOMIC_ACQUIRE);
    while (seen >> 32 == phase) {
      const int64_t begin = (int64_t)(uint32_t)seen;
      if (begin >= count) {
        wait_for_end(phase);
        return;
      }
      const int64_t end = begin + piece < count ? begin + piece : count;
      if (!__atomic_compare_exchange_n(&state_.next, &seen, phase << 32 | (uint64_t)end, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        continue;
      compute(begin, end);
      if (__atomic_add_fetch(&state_.num_done, end - begin, __ATOMIC_ACQ_REL) == count) {
        state_.num_done = 0;
        __atomic_store_n(&state_.next, (phase + 1) << 32, __ATOMIC_RELEASE);
        return;
      }
      seen = __atomic_load_n(&state_.next, __ATOMIC_ACQUIRE);
    }
  }

  // The same for work that one thread does sooner than two could share it.
  template <class Compute>
  void alone(Compute compute) {
    share(1, 1, [&](int64_t, int64_t) { compute(); });
  }

 private:
  void wait_for_end(uint64_t phase) const {
    for (int spins = 0; __atomic_load_n(&state_.next, __ATOMIC_ACQUIRE) >> 32 == phase; ++spins) {
      spins < kSpinsBeforeYielding ? relax() : (void)sched_yield();
    }
  }

  TeamState& state_;
  uint64_t phase_ = 0;
};

}  // namespace
