// How the numbers of a block of the KV cache lie; knows nothing of who writes or reads them.
//
// Numbers have 16 bits and lie in pairs, as products want them, so that nobody has to transpose what is read in every step: a
// pair is two numbers of a key, or one number of two values. A block of a KV head is whole groups of 16 keys, in one half of
// the cache [group][pair of head_dim][16 keys][2], and their values in the other, [pair of keys][head_dim][2].

#pragma once

#include <stdint.h>

namespace {

constexpr int64_t kGroupKeys = 16;

// The place of the first pair of a key, counted in pairs; the next is kGroupKeys further.
inline int64_t paired_key_place(int64_t offset, int64_t head_dim) {
  return offset / kGroupKeys * (head_dim / 2) * kGroupKeys + offset % kGroupKeys;
}

// The place of the first number of a value; the next is 2 further.
inline int64_t paired_value_place(int64_t offset, int64_t head_dim) { return offset / 2 * 2 * head_dim + offset % 2; }

}  // namespace
