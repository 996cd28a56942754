// All-reduce and all-gather between processes of one host, through shared memory; called by native.py. Knows nothing of layers.
//
// Every rank runs the same exchanges in the same order and numbers them alike. For each it copies its rows into its slot, says so,
// waits until all have, and reads all slots. Odd and even exchanges use different halves of the memory: a rank that writes a half
// again has seen everybody publish the exchange in between, which they do only after they have read what is overwritten now.
// Rows that do not fit into a slot go in pieces, each an exchange of its own.
//
// Ranks share a host's cores, so whoever waits spins for a moment only, since the others are at the same place of the same step,
// and then sleeps until it is woken. A rank that dies leaves the others waiting until their processes are ended from outside, or
// until the time is up: then the exchange has failed for good, and whoever called must not use what it computed.

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <string.h>

#include "yeoul/kernels/exchange/exchange.h"
#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int64_t kSpinNanoseconds = 20000;
constexpr int kSpinsBetweenLooks = 32;  // at the clock

int64_t now_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t row_bytes(const ExchangeCall& call, int64_t rank) {
  return (call.sizes == nullptr ? call.size : call.sizes[rank]) * bytes_of(call.type);
}

int64_t rows_of_an_exchange(const ExchangeCall& call) {
  int64_t most = 1;
  for (int64_t rank = 0; rank < call.exchange->num_ranks; ++rank)
    most = row_bytes(call, rank) > most ? row_bytes(call, rank) : most;
  return call.exchange->slot_bytes / most;
}

char* slot_of(const Exchange& exchange, int64_t number, int64_t rank) {
  return exchange.slots + ((number & 1) * exchange.num_ranks + rank) * exchange.slot_bytes;
}

void publish(const Exchange& exchange, int64_t number, int64_t shape, int64_t num_bytes) {
  RankState& mine = exchange.states[exchange.rank];
  mine.shapes[number & 1] = shape;
  __atomic_store_n(&mine.num_exchanges, number + 1, __ATOMIC_RELAXED);
  __atomic_store_n(&mine.num_bytes, mine.num_bytes + num_bytes, __ATOMIC_RELAXED);
  __atomic_store_n(&mine.num_published, (uint32_t)(number + 1), __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&mine.num_sleepers, __ATOMIC_SEQ_CST) > 0)
    syscall(SYS_futex, &mine.num_published, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

bool has_published(const RankState& other, int64_t number, uint32_t* seen) {
  *seen = __atomic_load_n(&other.num_published, __ATOMIC_SEQ_CST);
  return (int32_t)(*seen - (uint32_t)(number + 1)) >= 0;
}

// Sleeps until the other rank publishes, or the deadline; false at the deadline.
bool sleep_until_published(RankState& other, int64_t number, int64_t deadline) {
  uint32_t seen;
  bool is_there = false, is_late = false;
  __atomic_add_fetch(&other.num_sleepers, 1, __ATOMIC_SEQ_CST);
  while (!(is_there = has_published(other, number, &seen)) && !is_late) {
    const timespec until = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};
    syscall(SYS_futex, &other.num_published, FUTEX_WAIT_BITSET, seen, &until, nullptr, FUTEX_BITSET_MATCH_ANY);
    is_late = now_nanoseconds() >= deadline;
  }
  __atomic_sub_fetch(&other.num_sleepers, 1, __ATOMIC_SEQ_CST);
  return is_there;
}

// Every thread of the team waits by itself, so that none spins for longer than a moment.
void wait_for_all(Exchange& exchange, int64_t number) {
  int64_t start = 0;
  uint32_t seen;
  for (int64_t rank = 0; rank < exchange.num_ranks; ++rank) {
    RankState& other = exchange.states[rank];
    for (int spins = 1; !has_published(other, number, &seen); ++spins) {
      if (__atomic_load_n(&exchange.has_failed, __ATOMIC_RELAXED)) return;
      relax();
      if (spins % kSpinsBetweenLooks != 0) continue;
      const int64_t now = now_nanoseconds();
      start = start == 0 ? now : start;
      if (now - start < kSpinNanoseconds) continue;
      if (!sleep_until_published(other, number, now + exchange.timeout_nanoseconds)) {
        __atomic_store_n(&exchange.has_failed, kLate, __ATOMIC_RELAXED);
        return;
      }
    }
  }
}

// A rank that computes other rows than the others would add up rows of different requests, and nobody would ever know. Only for
// who has a part in adding up: a thread that comes late may find what others wrote for the exchange after the next.
void compare_shapes(Exchange& exchange, int64_t number, int64_t shape) {
  if (__atomic_load_n(&exchange.has_failed, __ATOMIC_RELAXED)) return;
  for (int64_t rank = 0; rank < exchange.num_ranks; ++rank)
    if (exchange.states[rank].shapes[number & 1] != shape) __atomic_store_n(&exchange.has_failed, kOtherShape, __ATOMIC_RELAXED);
}

void sum_row(const ExchangeCall& call, int64_t number, int64_t row, char* target) {
  const Exchange& exchange = *call.exchange;
  for (int64_t place = 0; place < call.size; place += kLanes) {
    const int count = lanes_left(call.size, place);
    const int64_t offset = (row * call.size + place) * bytes_of(call.type);
    Floats total = load_typed(slot_of(exchange, number, 0) + offset, call.type, count);
    for (int64_t rank = 1; rank < exchange.num_ranks; ++rank)
      total = total + load_typed(slot_of(exchange, number, rank) + offset, call.type, count);
    store_typed(target + place * bytes_of(call.type), call.type, total, count);
  }
}

void join_row(const ExchangeCall& call, int64_t number, int64_t row, char* target) {
  for (int64_t rank = 0; rank < call.exchange->num_ranks; ++rank) {
    const int64_t num_bytes = row_bytes(call, rank);
    memcpy(target, slot_of(*call.exchange, number, rank) + row * num_bytes, (size_t)num_bytes);
    target += num_bytes;
  }
}

int64_t output_row_bytes(const ExchangeCall& call) {
  if (call.sizes == nullptr) return row_bytes(call, 0);
  int64_t total = 0;
  for (int64_t rank = 0; rank < call.exchange->num_ranks; ++rank) total += row_bytes(call, rank);
  return total;
}

// Called once before each run, by one thread: the place where exchanges get their numbers.
Plan plan_exchange(const ExchangeCall& call) {
  const int64_t num_rows = rows_of_an_exchange(call);
  const_cast<ExchangeCall&>(call).first = call.exchange->num_planned;
  call.exchange->num_planned += (call.num_rows + num_rows - 1) / num_rows;
  return {call.num_rows * call.size <= kSerialNumbers, 0};
}

void run_exchange(const ExchangeCall& call, Team& team) {
  Exchange& exchange = *call.exchange;
  const int64_t most_rows = rows_of_an_exchange(call), mine = row_bytes(call, exchange.rank), whole = output_row_bytes(call);
  const int64_t piece = rows_of_a_piece(call.size > 0 ? call.size : 1);
  const int64_t shape = call.num_rows << 32 | whole;
  int64_t number = call.first;
  for (int64_t start = 0; start < call.num_rows; start += most_rows, ++number) {
    const int64_t num_rows = call.num_rows - start < most_rows ? call.num_rows - start : most_rows;
    team.share(num_rows, piece, [&](int64_t row, int64_t end) {
      if (mine == 0) return;  // a rank without columns has no memory to copy from
      const char* source = (const char*)call.input + (start + row) * mine;
      memcpy(slot_of(exchange, number, exchange.rank) + row * mine, source, (size_t)((end - row) * mine));
    });
    team.alone([&] { publish(exchange, number, shape, num_rows * mine); });
    wait_for_all(exchange, number);
    team.share(num_rows, piece, [&](int64_t row, int64_t end) {
      compare_shapes(exchange, number, shape);
      for (; row < end; ++row) {
        char* target = (char*)call.output + (start + row) * whole;
        call.sizes == nullptr ? sum_row(call, number, row, target) : join_row(call, number, row, target);
      }
    });
  }
}

}  // namespace

YEOUL_OPERATION(exchange, ExchangeCall, plan_exchange, run_exchange)
