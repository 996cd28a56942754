// The memory that ranks on one host exchange numbers through, and this process's end of it; see exchange.cpp.
//
// native.py fills Exchange, and must agree; layout.py knows how large the memory is.

#pragma once

#include <stdint.h>

// A rank's place in the shared memory. A line of its own: everybody reads it, one rank writes it.
struct RankState {
  alignas(64) uint32_t num_published;  // exchanges whose numbers lie ready; wraps around
  uint32_t num_sleepers;               // of other ranks that wait for the next one
  int64_t shapes[2];                   // of the last even and the last odd exchange, before it is published
  int64_t num_exchanges;               // for whoever looks (layout.py): those published, and the bytes that lay ready in them
  int64_t num_bytes;
};

enum Failure : int64_t { kLate = 1, kOtherShape = 2 };  // another rank did not come in time, or with other rows

// This process's end. Shared memory: [num_ranks] RankState, then two halves of [num_ranks] slots of slot_bytes bytes.
struct Exchange {
  RankState* states;
  char* slots;
  int64_t slot_bytes;
  int64_t num_ranks;
  int64_t rank;
  int64_t timeout_nanoseconds;  // how long to wait for another rank
  int64_t num_planned;          // exchanges that this rank was asked for so far, pieces counted
  int64_t has_failed;           // a Failure; nothing is exchanged any more
};
