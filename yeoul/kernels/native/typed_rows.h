// Rows of numbers whose type is known only when a call comes, and memory that a thread keeps; for the fused operations.

#pragma once

#include <stdlib.h>

#include "yeoul/kernels/native/lanes.h"
#include "yeoul/kernels/native/numbers.h"

namespace {

constexpr int64_t kSerialNumbers = 65536;  // numbers below which waking a thread costs more than it saves
constexpr int64_t kPieceNumbers = 2048;    // numbers that a thread of a team takes at a time
constexpr int64_t kPartNumbers = 512;      // of a row that is cut so that several threads can share it

inline int64_t rows_of_a_piece(int64_t size) { return size < kPieceNumbers ? kPieceNumbers / size : 1; }

// Rows cut into parts of as many numbers, the last of a row perhaps shorter; parts are numbered row by row.
struct RowParts {
  int64_t size;
  int64_t part_size;
  int64_t count;  // of a row

  RowParts(int64_t row_size, int64_t numbers) : size(row_size), part_size(numbers), count((row_size + numbers - 1) / numbers) {}

  int64_t row(int64_t part) const { return part / count; }
  int64_t begin(int64_t part) const { return part % count * part_size; }
  int64_t end(int64_t part) const { return begin(part) + part_size < size ? begin(part) + part_size : size; }
};

// Memory that a thread keeps from call to call.
struct Scratch {
  float* numbers = nullptr;
  int64_t size = 0;
  float* at_least(int64_t wanted) {
    if (wanted > size) {
      free(numbers);
      numbers = (float*)aligned_alloc(64, (size_t)((wanted * 4 + 63) / 64 * 64));
      if (numbers == nullptr) abort();
      size = wanted;
    }
    return numbers;
  }
  ~Scratch() { free(numbers); }
};

inline int64_t bytes_of(int32_t type) { return type == kFloat32 ? 4 : 2; }

inline const char* address_of(const void* base, int64_t index, int32_t type) {
  return (const char*)base + index * bytes_of(type);
}

inline char* address_of(void* base, int64_t index, int32_t type) { return (char*)base + index * bytes_of(type); }

inline Floats load_typed(const char* source, int32_t type, int count) {
  if (type == kBFloat16) return load_some((const BFloat16*)source, count);
  if (type == kFloat16) return load_some((const Float16*)source, count);
  return load_some((const float*)source, count);
}

inline void store_typed(char* target, int32_t type, Floats value, int count) {
  if (type == kBFloat16) return store_some((BFloat16*)target, value, count);
  if (type == kFloat16) return store_some((Float16*)target, value, count);
  store_some((float*)target, value, count);
}

template <int number>
struct Count {
  static constexpr int kNumber = number;
};

// Calls compute(Count<...>{}) with the count, which is known when it is compiled; not for 0, nor for more than kMost.
template <int kMost, class Compute>
inline void with_count(int count, Compute compute) {
  if constexpr (kMost > 0) {
    if (count == kMost) return compute(Count<kMost>{});
    with_count<kMost - 1>(count, compute);
  }
}

// How many of the lanes at `place` lie before `size`.
inline int lanes_left(int64_t size, int64_t place) { return size - place < kLanes ? (int)(size - place) : kLanes; }

// Calls visit(place, count) for each vector of `size` numbers; all but the last are known to be whole when it is compiled.
template <class Visit>
inline void for_each_vector(int64_t size, Visit visit) {
  int64_t place = 0;
  for (; place + kLanes <= size; place += kLanes) visit(place, kLanes);
  if (place < size) visit(place, (int)(size - place));
}

}  // namespace
