// Attention of a few rows over one section of keys: scores, softmax, weighted values; and how sections are joined.
//
// In the flash style (Dao et al. 2022, arXiv:2205.14135), with a whole section between the passes over keys and values.
// Knows nothing of how work is dealt out. A row's numbers depend on its own query and keys only: scores are summed over the
// head in order, weights and values over the keys in order, and what a row does not see is added as exact zeros.

#pragma once

#include "yeoul/kernels/attention/key_section.h"

namespace {

constexpr float kNothingSeen = -1e30f;
#if defined(__AVX512F__)
constexpr int kBlockRows = 6, kBlockColumns = 4;
#elif defined(__AVX2__)
constexpr int kBlockRows = 6, kBlockColumns = 2;
#else
constexpr int kBlockRows = 4, kBlockColumns = 2;
#endif

// What rows have seen: the highest score, the sum of weights, and the weighted sum of values [num_rows, padded].
struct Softmax {
  float* highest;
  float* total;
  float* output;
};

// How pairs of the cache are multiplied: number by number with floats...
template <class Number>
struct Numbers {
  static constexpr bool kTogether = false;
  static Floats first(Words pairs);
  static Floats second(Words pairs) { return first(pairs >> 16); }
};

template <>
inline Floats Numbers<BFloat16>::first(Words pairs) {
  return (Floats)(pairs << 16);
}

template <>
inline Floats Numbers<BFloat16>::second(Words pairs) {
  return (Floats)(pairs & 0xffff0000u);
}

template <>
inline Floats Numbers<Float16>::first(Words pairs) {
  Float16 numbers[kLanes];
  store_narrow(&numbers[0].bits, pairs & 0xffffu);
  return load(numbers);
}

// ... or both at once with a pair of bfloat16.
struct Pairs {
  static constexpr bool kTogether = true;
};

// The first `count` words, zeros after them.
inline Words load_some_words(const char* source, int count) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_loadu_epi32((__mmask16)((1 << count) - 1), source);
#else
  Words words = {};
  __builtin_memcpy(&words, source, 4 * (size_t)count);
  return words;
#endif
}

// Keeps a vector in its register: compilers like to load it again for each row, which costs more than multiplying.
template <class Vector>
inline void hold(Vector& value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#else
  (void)value;
#endif
}

// Adds to sums[row][column] what the pairs that load(column) gives are with the factors of a row: a word that is a pair, or
// two floats.
template <class Way, int kRows, int kColumns, class Load>
inline __attribute__((always_inline)) void multiply_pairs(const float* factors, int64_t row_stride, Load load, Floats (&sums)[kRows][kColumns]) {
#if defined(__AVX512BF16__)
  if constexpr (Way::kTogether) {
    Words pairs[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      pairs[column] = load(column);
      hold(pairs[column]);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const Words factor = as_bits(factors[row * row_stride]) - Words{};
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = (Floats)_mm512_dpbf16_ps((__m512)sums[row][column], (__m512bh)factor, (__m512bh)pairs[column]);
    }
    return;
  }
#endif
  if constexpr (!Way::kTogether) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Floats numbers[kColumns];
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column) {
        numbers[column] = half == 0 ? Way::first(load(column)) : Way::second(load(column));
        hold(numbers[column]);
      }
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const Floats factor = splat(factors[row * row_stride + half]);
#pragma GCC unroll 4
        for (int column = 0; column < kColumns; ++column)
          sums[row][column] = multiply_add(factor, numbers[column], sums[row][column]);
      }
    }
  }
}

template <int kRows, int kColumns>
inline void set_to_zero(Floats (&sums)[kRows][kColumns]) {
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) sums[row][column] = splat(0.0f);
}

template <int kRows, int kColumns>
inline void store_sums(const Floats (&sums)[kRows][kColumns], float* target, int64_t row_stride) {
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) store(target + row * row_stride + column * kLanes, sums[row][column]);
}

// Scores of kRows rows against kColumns vectors of keys, pair by pair of the head.
template <class Way, int kRows, int kColumns>
inline void score_columns(const Shape& shape, const float* queries, const KeySection& section, int first, float* scores, Fetcher& fetcher) {
  constexpr int kWords = Way::kTogether ? 1 : 2;
  const int num_pairs = (int)shape.call->head_dim / 2, query_words = shape.query_words;
  const char* columns[kColumns];
  for (int column = 0; column < kColumns; ++column) {
    const int key = first + column * kLanes;
    columns[column] = section.keys[key / kGroupKeys] + key % kGroupKeys * kPairBytes;
  }
  Floats sums[kRows][kColumns];
  set_to_zero(sums);
  int pair = 0;
  do {  // a head has a pair at least
    fetcher.fetch();
    multiply_pairs<Way>(queries + pair * kWords, query_words,
                        [&](int column) { return load_words(columns[column] + (int64_t)pair * kGroupKeys * kPairBytes); }, sums);
  } while (++pair < num_pairs);
  store_sums(sums, scores + first, kSection);
}

// Scores of kRows rows [kRows, kSection] for the keys `first` to `end`, whole vectors.
template <class Way, int kRows>
void score_rows(const Shape& shape, const float* queries, const KeySection& section, int first, int end, float* scores, Fetcher& fetcher) {
  int key = first / kLanes * kLanes;
  for (; key + (kBlockColumns - 1) * kLanes < end; key += kBlockColumns * kLanes)
    score_columns<Way, kRows, kBlockColumns>(shape, queries, section, key, scores, fetcher);
  for (; kBlockColumns > 2 && key + kLanes < end; key += 2 * kLanes)
    score_columns<Way, kRows, 2>(shape, queries, section, key, scores, fetcher);
  if (key < end) score_columns<Way, kRows, 1>(shape, queries, section, key, scores, fetcher);
}

inline Ints lane_numbers() {
  Ints numbers;
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

// What scores are still to be multiplied with after finish_scores.
inline float late_scale(const AttentionCall& call) { return call.softcap > 0.0f ? 1.0f : call.scale; }

// softcap * tanh(score / softcap), and NaN where the score is infinite.
inline Floats cap(Floats score, float softcap) {
  return multiply_add(hyperbolic_tangent(score / splat(softcap)), splat(softcap), score * splat(0.0f));
}

// Caps the scores of a row for the keys `first` to `end`, whole vectors, and hides those that it does not see; the largest,
// times late_scale.
float finish_scores(const AttentionCall& call, float* scores, int first, int end, int first_seen, int end_seen) {
  const Floats hidden = splat(-__builtin_inff());
  const Ints lanes = lane_numbers();
  Floats largest = hidden;
  for (int column = first / kLanes * kLanes; column < end; column += kLanes) {
    Floats score = load(scores + column);
    if (call.softcap > 0.0f) score = cap(score * splat(call.scale), call.softcap);
    if (column < first_seen || column + kLanes > end_seen) {
      const Ints place = lanes + column;
      const Words is_seen = (Words)((place >= first_seen) & (place < end_seen));
      score = (Floats)(((Words)score & is_seen) | ((Words)hidden & ~is_seen));
      store(scores + column, score);
    } else if (call.softcap > 0.0f) {
      store(scores + column, score);
    }
    largest = maximum(largest, score);
  }
  return largest_lane(largest) * late_scale(call);
}

// Turns the scores of a row into weights, exact zeros where they are hidden; their sum. Where pairs are multiplied with pairs
// they are rounded to bfloat16, packed at the start of the row, and summed as rounded.
template <class Way>
float weigh_scores(float* scores, int first, int end, float scale, float highest) {
  Floats sum = {};
  for (int column = first / kLanes * kLanes; column < end; column += kLanes) {
    Floats weight = exponential(multiply_add(load(scores + column), splat(scale), splat(-highest)));
    if constexpr (Way::kTogether) {
      BFloat16* target = (BFloat16*)scores + column;  // never past what was read
      store(target, weight);
      weight = load(target);
    } else {
      store(scores + column, weight);
    }
    sum = sum + weight;
  }
  return sum_lanes(sum);
}

// The sum of weights times values for kRows rows and kColumns vectors of the head from the number `place`, pair by pair of
// the keys `first` to `end`. load(address) gives a vector of pairs.
template <class Way, int kRows, int kColumns, class Load>
inline void weigh_columns(const Shape& shape, const KeySection& section, const float* weights, int first, int end, int place, Load load,
                          float* output, Fetcher& fetcher) {
  constexpr int kWords = Way::kTogether ? 1 : 2;
  const int64_t pair_bytes = shape.call->head_dim * kPairBytes;
  const int end_whole = end / 2;
  Floats sums[kRows][kColumns];
  set_to_zero(sums);
  int pair = first / 2;
  while (pair < end_whole) {
    const int group = pair / (kGroupKeys / 2), end_group = (group + 1) * (kGroupKeys / 2);
    const char* source = section.values[group] + pair % (kGroupKeys / 2) * pair_bytes + place * kPairBytes;
    for (const int stop = end_group < end_whole ? end_group : end_whole; pair < stop; ++pair, source += pair_bytes) {
      fetcher.fetch();
      multiply_pairs<Way>(weights + pair * kWords, kSection, [&](int column) { return load(source + column * kLanes * kPairBytes); }, sums);
    }
  }
  if (end % 2 == 1) {  // what lies behind the last key may be anything
    const char* source = section.values[end / kGroupKeys] + end % kGroupKeys / 2 * pair_bytes + place * kPairBytes;
    multiply_pairs<Way>(weights + pair * kWords, kSection,
                        [&](int column) { return load(source + column * kLanes * kPairBytes) & 0xffffu; }, sums);
  }
  store_sums(sums, output + place, shape.padded);
}

// The same for whole heads.
template <class Way, int kRows>
void weigh_rows(const Shape& shape, const KeySection& section, const float* weights, int first, int end, float* output, Fetcher& fetcher) {
  const int head_dim = (int)shape.call->head_dim;
  const auto load_whole = [](const char* source) { return load_words(source); };
  int place = 0;
  for (; place + kBlockColumns * kLanes <= head_dim; place += kBlockColumns * kLanes)
    weigh_columns<Way, kRows, kBlockColumns>(shape, section, weights, first, end, place, load_whole, output, fetcher);
  for (; place + kLanes <= head_dim; place += kLanes)
    weigh_columns<Way, kRows, 1>(shape, section, weights, first, end, place, load_whole, output, fetcher);
  const int left = head_dim - place;
  const auto load_left = [left](const char* source) { return load_some_words(source, left); };
  if (left > 0) weigh_columns<Way, kRows, 1>(shape, section, weights, first, end, place, load_left, output, fetcher);
}

// Attention of kRows rows of a tile, from `row` on, over a section.
template <class Way, int kRows>
void attend_rows(const Shape& shape, const RowTile& tile, int row, const KeySection& section, const float* queries, float* scores,
                 const Softmax& softmax, Fetcher& fetcher) {
  const int64_t window = shape.call->sliding_window;
  int first_seen[kRows], end_seen[kRows], first = kSection, end = 0;
  for (int inner = 0; inner < kRows; ++inner) {
    const int64_t position = tile.first_position + (row + inner) / shape.group - section.first_position;
    const int64_t first_visible = window > 0 && position - window + 1 > 0 ? position - window + 1 : 0;
    end_seen[inner] = position + 1 < section.end ? (int)(position + 1) : section.end;
    first_seen[inner] = first_visible < section.end ? (int)first_visible : section.end;
    if (first_seen[inner] < first) first = first_seen[inner];
    if (end_seen[inner] > end) end = end_seen[inner];
  }
  score_rows<Way, kRows>(shape, queries + (int64_t)row * shape.query_words, section, first, end, scores, fetcher);
  for (int inner = 0; inner < kRows; ++inner) {
    const float largest = finish_scores(*shape.call, scores + inner * kSection, first, end, first_seen[inner], end_seen[inner]);
    softmax.highest[row + inner] = largest > kNothingSeen ? largest : kNothingSeen;
  }
  for (int inner = 0; inner < kRows; ++inner)
    softmax.total[row + inner] =
        weigh_scores<Way>(scores + inner * kSection, first, end, late_scale(*shape.call), softmax.highest[row + inner]);
  weigh_rows<Way, kRows>(shape, section, scores, first, end, softmax.output + (int64_t)row * shape.padded, fetcher);
}

// All rows of a tile.
template <class Way>
void attend_all_rows(const Shape& shape, const RowTile& tile, const KeySection& section, const float* queries, float* scores,
                     const Softmax& softmax, Fetcher& fetcher) {
  int row = 0;
  for (; row + kBlockRows <= tile.num_rows; row += kBlockRows)
    attend_rows<Way, kBlockRows>(shape, tile, row, section, queries, scores, softmax, fetcher);
  with_count<kBlockRows - 1>(tile.num_rows - row, [&](auto rows) {
    attend_rows<Way, decltype(rows)::kNumber>(shape, tile, row, section, queries, scores, softmax, fetcher);
  });
}

// Joins a later section to what earlier ones made.
void join(const Shape& shape, int num_rows, const Softmax& earlier, const Softmax& later) {
  for (int row = 0; row < num_rows; ++row) {
    const float before = earlier.highest[row], found = later.highest[row], now = found > before ? found : before;
    float lanes[kLanes];
    store(lanes, exponential(splat(before - now)));
    const Floats keep = splat(lanes[0]);
    store(lanes, exponential(splat(found - now)));
    const Floats take = splat(lanes[0]);
    earlier.highest[row] = now;
    earlier.total[row] = multiply_add(splat(earlier.total[row]), keep, splat(later.total[row]) * take)[0];
    float* target = earlier.output + (int64_t)row * shape.padded;
    const float* source = later.output + (int64_t)row * shape.padded;
    for (int place = 0; place < shape.padded; place += kLanes)
      store(target + place, multiply_add(load(target + place), keep, load(source + place) * take));
  }
}

}  // namespace
