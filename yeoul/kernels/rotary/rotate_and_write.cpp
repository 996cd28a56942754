// Head norms, rotation and the write to the cache in one pass over a layer's heads, for one instruction set.
//
// Called by native.py. It is rms_norm, apply_rotary and write_cache one after the other; between them numbers stay float32.
// Knows nothing of layers.

#include "yeoul/kernels/native/cache_layout.h"
#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"
#include "yeoul/kernels/rms_norm/norm_factor.h"

namespace {

constexpr int kMaxHeadDim = 1024;

inline void read_numbers(const char* source, int64_t size, int32_t type, float* numbers) {
  for (int64_t place = 0; place < size; place += kLanes) {
    const int count = lanes_left(size, place);
    store_some(numbers + place, load_typed(source + place * bytes_of(type), type, count), count);
  }
}

inline void write_numbers(const float* numbers, int64_t size, char* target, int32_t type) {
  for (int64_t place = 0; place < size; place += kLanes)
    store_typed(target + place * bytes_of(type), type, load_some(numbers + place, lanes_left(size, place)),
                lanes_left(size, place));
}

// Reads a head, normalises it if there is a weight, and rotates each pair (i, i + head_dim / 2).
inline void read_rotated(const RotaryCall& call, const char* source, const float* weight, const float* cosines,
                         const float* sines, float* numbers) {
  const int64_t half = call.head_dim / 2;
  read_numbers(source, call.head_dim, call.heads_type, numbers);
  if (weight != nullptr) {
    const Floats factor = splat(norm_factor(numbers, call.head_dim, call.epsilon));
    for (int64_t place = 0; place < call.head_dim; place += kLanes) {
      const int count = lanes_left(call.head_dim, place);
      store_some(numbers + place, load_some(numbers + place, count) * factor * load_some(weight + place, count), count);
    }
  }
  for (int64_t place = 0; place < half; place += kLanes) {
    const int count = lanes_left(half, place);
    const Floats cosine = load_some(cosines + place, count), sine = load_some(sines + place, count);
    const Floats first = load_some(numbers + place, count), second = load_some(numbers + half + place, count);
    store_some(numbers + place, first * cosine - second * sine, count);
    store_some(numbers + half + place, second * cosine + first * sine, count);
  }
}

// Writes a key or value to a paired block.
inline void write_pairs(const RotaryCall& call, const float* numbers, int64_t part, int64_t offset, char* block) {
  BFloat16 rounded[kMaxHeadDim];
  write_numbers(numbers, call.head_dim, (char*)rounded, kBFloat16);
  if (part == 1) {
    BFloat16* target = (BFloat16*)block + paired_value_place(offset, call.head_dim);
    for (int64_t place = 0; place < call.head_dim; ++place) target[2 * place] = rounded[place];
    return;
  }
  char* target = block + 4 * paired_key_place(offset, call.head_dim);
  for (int64_t pair = 0; pair < call.head_dim / 2; ++pair) __builtin_memcpy(target + 4 * pair * kGroupKeys, rounded + 2 * pair, 4);
}

// Rotates the queries of a token in place and writes its keys, rotated, and its values to their slot.
void rotate_token(const RotaryCall& call, char* heads, const float* cosines, const float* sines, int64_t slot) {
  float numbers[kMaxHeadDim];
  const int64_t size = call.head_dim, bytes = size * bytes_of(call.heads_type);
  for (int64_t head = 0; head < call.num_heads; ++head, heads += bytes) {
    read_rotated(call, heads, call.query_weight, cosines, sines, numbers);
    write_numbers(numbers, size, heads, call.heads_type);
  }
  const int64_t block = slot / call.block_size, offset = slot % call.block_size;
  for (int64_t part = 0; part < 2; ++part)
    for (int64_t head = 0; head < call.num_kv_heads; ++head, heads += bytes) {
      const int64_t place = part * call.part_stride + block * call.block_stride + head * call.block_size * size;
      if (part == 0) {
        read_rotated(call, heads, call.key_weight, cosines, sines, numbers);
      } else {
        read_numbers(heads, size, call.heads_type, numbers);
      }
      char* target = address_of(call.cache, place, call.cache_type);
      if (call.is_paired) {
        write_pairs(call, numbers, part, offset, target);
      } else {
        write_numbers(numbers, size, address_of(target, offset * size, call.cache_type), call.cache_type);
      }
    }
}

Plan plan_rotary(const RotaryCall& call) { return {call.num_rows * call.heads_stride <= kSerialNumbers / 2, 0}; }

void run_rotary(const RotaryCall& call, Team& team) {
  team.share(call.num_rows, rows_of_a_piece(call.heads_stride), [&](int64_t token, int64_t end) {
    for (; token < end; ++token) {
      const int64_t angle = token * (call.head_dim / 2);
      rotate_token(call, address_of(call.heads, token * call.heads_stride, call.heads_type), call.cosines + angle,
                   call.sines + angle, call.slots[token]);
    }
  });
}

}  // namespace

YEOUL_OPERATION(rotate_and_write, RotaryCall, plan_rotary, run_rotary)
