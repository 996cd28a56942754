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

template <class Number, class Target>
inline void copy_numbers(const Number* source, int64_t size, Target* target) {
  for_each_vector(size, [&](int64_t place, int count) { store_some(target + place, load_some(source + place, count), count); });
}

// Rotates each pair (i, i + half) of a head; the target may be the source.
template <class Number, class Target>
inline void rotate(const Number* source, int64_t half, const float* cosines, const float* sines, Target* target) {
  for_each_vector(half, [&](int64_t place, int count) {
    const Floats cosine = load_some(cosines + place, count), sine = load_some(sines + place, count);
    const Floats first = load_some(source + place, count), second = load_some(source + half + place, count);
    store_some(target + place, first * cosine - second * sine, count);
    store_some(target + half + place, second * cosine + first * sine, count);
  });
}

// Normalises a head if there is a weight, and rotates it.
template <class Number, class Target>
inline void make_head(const RotaryCall& call, const Number* source, const float* weight, const float* cosines, const float* sines,
                      Target* target) {
  const int64_t half = call.head_dim / 2;
  if (weight == nullptr) return rotate(source, half, cosines, sines, target);
  float numbers[kMaxHeadDim];
  copy_numbers(source, call.head_dim, numbers);
  const Floats factor = splat(norm_factor(numbers, call.head_dim, call.epsilon));
  for_each_vector(call.head_dim, [&](int64_t place, int count) {
    store_some(numbers + place, load_some(numbers + place, count) * factor * load_some(weight + place, count), count);
  });
  rotate(numbers, half, cosines, sines, target);
}

// Writes every other of `size` numbers: another thread may be writing those between them.
template <class Number>
inline void write_every_other(const Number* numbers, int64_t size, Number* target) {
  int64_t place = 0;
#if defined(__AVX512BW__)
  for (; place + kLanes <= size; place += kLanes)
    _mm512_mask_storeu_epi16(target + 2 * place, 0x55555555, (__m512i)widen(&numbers[place].bits));
#endif
  for (; place < size; ++place) target[2 * place] = numbers[place];
}

// Writes the pairs of a key, 16 keys apart.
template <class Number>
inline void write_pairs(const Number* numbers, int64_t size, Number* target) {
  for (int64_t place = 0; place < size; place += 2) __builtin_memcpy(target + place * kGroupKeys, numbers + place, 4);
}

// Rotates the queries of a token in place and writes its keys, rotated, and its values to their slot.
template <class Number, class Cached>
void rotate_token(const RotaryCall& call, Number* heads, const float* cosines, const float* sines, int64_t slot) {
  const int64_t size = call.head_dim;
  for (int64_t head = 0; head < call.num_heads; ++head, heads += size)
    make_head(call, heads, call.query_weight, cosines, sines, heads);
  const int64_t block = slot / call.block_size, offset = slot % call.block_size, head_numbers = call.block_size * size;
  Cached made[kMaxHeadDim];
  Cached* keys = (Cached*)call.cache + block * call.block_stride;
  for (int64_t head = 0; head < call.num_kv_heads; ++head, heads += size) {
    make_head(call, heads, call.key_weight, cosines, sines, made);
    write_pairs(made, size, keys + head * head_numbers + 2 * paired_key_place(offset, size));
  }
  Cached* values = keys + call.part_stride;
  for (int64_t head = 0; head < call.num_kv_heads; ++head, heads += size) {
    copy_numbers(heads, size, made);
    write_every_other(made, size, values + head * head_numbers + paired_value_place(offset, size));
  }
}

template <class Cached>
void rotate_tokens(const RotaryCall& call, int64_t token, int64_t end) {
  with_number_type(call.heads_type, [&](auto number) {
    for (; token < end; ++token) {
      const int64_t angle = token * (call.head_dim / 2);
      rotate_token<decltype(number), Cached>(call, (decltype(number)*)call.heads + token * call.heads_stride, call.cosines + angle,
                                             call.sines + angle, call.slots[token]);
    }
  });
}

Plan plan_rotary(const RotaryCall& call) { return {call.num_rows * call.heads_stride <= kSerialNumbers / 2, 0}; }

void run_rotary(const RotaryCall& call, Team& team) {
  team.share(call.num_rows, rows_of_a_piece(call.heads_stride), [&](int64_t token, int64_t end) {
    call.cache_type == kBFloat16 ? rotate_tokens<BFloat16>(call, token, end) : rotate_tokens<Float16>(call, token, end);
  });
}

}  // namespace

YEOUL_OPERATION(rotate_and_write, RotaryCall, plan_rotary, run_rotary)
