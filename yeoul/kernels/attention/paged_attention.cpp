// Paged attention for one instruction set, in the flash style (Dao et al. 2022, arXiv:2205.14135); called by native.py.
//
// Knows nothing of layers. A row's result depends on its own query, its
// own context and nothing else: keys are taken in tiles of 64 and sections of 512 by absolute position, scores are summed
// over the head in order, sections are joined in order. Which rows share a tile, who computes a section, and on how many
// threads, changes who does the work and not what is added to what: multiplying by a weight or a correction of exactly 1, or
// adding exact zeros, changes nothing.
// size: scores, weights and the joining of sections share their tiles; apart, each would need to know the layout of the others.

#include "yeoul/kernels/native/cache_layout.h"
#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int kKeyTile = 64;
constexpr int kSection = 512;
constexpr int kTileRows = 48;            // rows (query times head of the group) that share packed keys
constexpr int64_t kSerialWork = 150000;  // multiplications below which waking a thread costs more than it saves
constexpr int64_t kFewUnits = 16;        // fewer than this, and sections of a long context are dealt out too
constexpr float kNothingSeen = -1e30f;
#if defined(__AVX512F__)
constexpr int kBlockRows = 6, kBlockColumns = 4;
#elif defined(__AVX2__)
constexpr int kBlockRows = 6, kBlockColumns = 2;
#else
constexpr int kBlockRows = 4, kBlockColumns = 2;
#endif
static_assert(kKeyTile % (kLanes * kBlockColumns) == 0, "a tile of keys is whole blocks of columns");

// Rows of one request and one KV head that are computed together, and what they have seen so far.
struct RowTile {
  int64_t request, kv_head, first_token;  // the first row's token in the step
  int num_queries, num_rows;              // num_rows = num_queries * group
  int64_t first_position;                 // of the first query
};

// Softmax so far: the highest score, the sum of weights, and the weighted sum of values [num_rows, padded head].
struct Softmax {
  float* highest;
  float* total;
  float* output;
};

struct Shape {
  const AttentionCall* call;
  const BatchCall* batch;
  int group;         // query heads to a KV head
  int padded;        // head_dim filled up to whole vectors, of pairs in_pairs
  int score_steps;   // words of a query and a key that a score multiplies: numbers, or pairs of bfloat16
  bool in_pairs;     // queries and cache are bfloat16 and the processor multiplies pairs of them
};

// The addresses of the keys of a tile, which lie in blocks, or of their groups in paired blocks; of values if part is 1.
void find_keys(const Shape& shape, const RowTile& tile, int part, int64_t first_key, int num_keys, const char** keys) {
  const AttentionCall& call = *shape.call;
  const int64_t row_bytes = call.head_dim * bytes_of(call.cache_type);
  const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride + first_key / call.block_size;
  int64_t offset = first_key % call.block_size;
  for (int key = 0; key < num_keys; ++table, offset = 0) {
    const int64_t row = ((part * call.num_blocks + *table) * call.num_kv_heads + tile.kv_head) * call.block_size + offset;
    const char* next = (const char*)call.cache + row * row_bytes;
    for (; offset < call.block_size && key < num_keys; ++offset, ++key, next += row_bytes) keys[key] = next;
  }
}

// Asks for the keys and values of a tile into the second cache. Blocks lie anywhere, which no processor foresees.
void fetch_keys(const Shape& shape, const RowTile& tile, int64_t first_key, int64_t end_key) {
  const AttentionCall& call = *shape.call;
  const int64_t block_bytes = call.block_size * call.head_dim * bytes_of(call.cache_type);
  const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride;
  for (int64_t block = first_key / call.block_size; block * call.block_size < end_key; ++block)
    for (int64_t part = 0; part < 2; ++part) {
      const int64_t place = (part * call.num_blocks + table[block]) * call.num_kv_heads + tile.kv_head;
      const char* memory = (const char*)call.cache + place * block_bytes;
      for (int64_t byte = 0; byte < block_bytes; byte += 64) __builtin_prefetch(memory + byte, 0, 2);
    }
}

// Packs the queries of a tile: [num_rows, score_steps] words.
void pack_queries(const Shape& shape, const RowTile& tile, float* packed) {
  const AttentionCall& call = *shape.call;
  for (int row = 0; row < tile.num_rows; ++row) {
    const int64_t token = tile.first_token + row / shape.group, head = tile.kv_head * shape.group + row % shape.group;
    const char* source = address_of(call.query, token * call.query_stride + head * call.head_dim, call.query_type);
    float* target = packed + (int64_t)row * shape.score_steps;
    if (shape.in_pairs) {
      __builtin_memcpy(target, source, (size_t)call.head_dim * 2);
      continue;
    }
    for (int place = 0; place < call.head_dim; place += kLanes) {
      const int count = lanes_left(call.head_dim, place);
      store_some(target + place, load_typed(source + place * bytes_of(call.query_type), call.query_type, count), count);
    }
  }
}

// Packs a tile's keys, one column a key: [steps, kKeyTile] words. Columns past `num_keys` are zero as far as they are read.
template <class Number>
void pack_keys(const char* const* keys, int num_keys, int steps, float* packed) {
  for (int column = 0; column < kKeyTile; column += kLanes) {
    if (column >= num_keys) {
      for (int step = 0; step < steps; ++step) store(packed + step * kKeyTile + column, Floats{});
      continue;
    }
    for (int step = 0; step < steps; step += kLanes) {
      const int count = lanes_left(steps, step);
      Floats square[kLanes];
      for (int lane = 0; lane < kLanes; ++lane)
        square[lane] = column + lane < num_keys ? load_some((const Number*)keys[column + lane] + step, count) : Floats{};
      transpose(square);
      for (int line = 0; line < count; ++line) store(packed + (step + line) * kKeyTile + column, square[line]);
    }
  }
}

inline Words load_words(const char* source) {
  Words words;
  __builtin_memcpy(&words, source, sizeof words);
  return words;
}

// The same from paired blocks: whole groups of 16 keys.
void pack_paired_keys(const char* const* keys, int num_keys, int64_t head_dim, float* packed) {
  for (int first = 0; first < num_keys; first += (int)kGroupKeys)
    for (int64_t pair = 0; pair < head_dim / 2; ++pair)
      for (int lane = 0; lane < kGroupKeys; lane += kLanes) {
        const Words words = load_words(keys[first] + 4 * (pair * kGroupKeys + lane));
        store(packed + 2 * pair * kKeyTile + first + lane, (Floats)(words << 16));
        store(packed + (2 * pair + 1) * kKeyTile + first + lane, (Floats)(words & 0xffff0000u));
      }
}

// Packs a tile's values as floats: [num_keys, padded], zeros past head_dim.
template <class Number>
void pack_values(const char* const* values, int num_keys, int head_dim, int padded, float* packed) {
  for (int key = 0; key < num_keys; ++key) {
    const Number* source = (const Number*)values[key];
    for (int place = 0; place < padded; place += kLanes)
      store(packed + (int64_t)key * padded + place, load_some(source + place, lanes_left(head_dim, place)));
  }
}

// The same from paired blocks. What stands for the key after an odd number of them may be anything, and is not looked at.
void pack_paired_values(const char* const* values, int num_keys, int head_dim, int padded, float* packed) {
  for (int key = 0; key < num_keys; key += 2) {
    float* first = packed + (int64_t)key * padded;
    for (int place = 0; place < padded; place += kLanes) {
      Words words = {};
      const int count = head_dim - place < kLanes ? head_dim - place : kLanes;
      if (count > 0) __builtin_memcpy(&words, values[key] + 4 * place, 4 * (size_t)count);
      store(first + place, (Floats)(words << 16));
      store(first + padded + place, (Floats)(words & 0xffff0000u));
    }
  }
}

#if defined(__AVX512BF16__)
// 32 numbers of two keys' values as words that hold a pair each: the first 16, the last 16. `second` may be null: zeros.
inline void pair_values(const char* first, const char* second, int count, __m512i* low, __m512i* high) {
  const __mmask32 some = count >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << count) - 1;
  const __m512i numbers = _mm512_maskz_loadu_epi16(some, first);
  const __m512i others = second != nullptr ? _mm512_maskz_loadu_epi16(some, second) : _mm512_setzero_si512();
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i first_half = _mm512_or_si512(step, _mm512_slli_epi32(_mm512_add_epi32(step, _mm512_set1_epi32(32)), 16));
  *low = _mm512_permutex2var_epi16(numbers, first_half, others);
  *high = _mm512_permutex2var_epi16(numbers, _mm512_add_epi16(first_half, _mm512_set1_epi16(16)), others);
}

// Packs a tile's values in pairs of keys: [num_keys / 2, padded] words, zeros past head_dim and past the last key.
void pack_values_in_pairs(const char* const* values, int num_keys, int head_dim, int padded, float* packed) {
  for (int key = 0; key < num_keys; key += 2)
    for (int place = 0; place < padded; place += 32) {
      __m512i low, high;
      const char* second = values[key + 1];
      pair_values(values[key] + place * 2, second == nullptr ? second : second + place * 2, head_dim - place, &low, &high);
      _mm512_storeu_si512(packed + key / 2 * padded + place, low);
      _mm512_storeu_si512(packed + key / 2 * padded + place + 16, high);
    }
}
#endif

// Where a tile's values are when rows are to be weighed: packed; where they lie, when too few rows need them for packing to
// pay; or where they lie in paired blocks.
enum ValueForm { kPacked, kApart, kPaired };

// A tile of keys and its values.
struct KeyTile {
  float* keys;
  float* values;
  const float* groups[kKeyTile / kGroupKeys];  // for pairs: of 16 keys each, a pair of all of them after the other
  int64_t group_stride;                        // from a pair to the next
  const char* places[kKeyTile + 1];            // of values; null after the last. Paired: of the pair that begins with a key
  int num_keys;
  ValueForm form;
};

#if defined(__AVX512BF16__)
void pack_tile_in_pairs(const Shape& shape, const RowTile& tile, int64_t first_key, int num_keys, int num_rows, KeyTile& packed) {
  const AttentionCall& call = *shape.call;
  find_keys(shape, tile, 0, first_key, num_keys, packed.places);
  for (int group = 0; group < kKeyTile / kGroupKeys; ++group) {
    // Groups past the last key are computed with the others and never looked at.
    const int key = group * (int)kGroupKeys < num_keys ? group * (int)kGroupKeys : 0;
    packed.groups[group] = call.is_paired ? (const float*)packed.places[key] : packed.keys + group * kGroupKeys;
  }
  packed.group_stride = call.is_paired ? kGroupKeys : kKeyTile;
  if (!call.is_paired) pack_keys<float>(packed.places, num_keys, shape.score_steps, packed.keys);  // a pair travels as one word
  find_keys(shape, tile, 1, first_key, num_keys, packed.places);
  packed.places[num_keys] = nullptr;
  packed.form = call.is_paired ? kPaired : num_rows > kBlockRows ? kPacked : kApart;
  if (packed.form == kPacked)
    pack_values_in_pairs(packed.places, num_keys, (int)call.head_dim, shape.padded, packed.values);
}
#endif

void pack_tile(const Shape& shape, const RowTile& tile, int64_t first_key, int num_keys, int num_rows, KeyTile& packed) {
  const AttentionCall& call = *shape.call;
  packed.num_keys = num_keys;
#if defined(__AVX512BF16__)
  if (shape.in_pairs) return pack_tile_in_pairs(shape, tile, first_key, num_keys, num_rows, packed);
#endif
  (void)num_rows;
  packed.form = kPacked;
  const int head_dim = (int)call.head_dim;
  find_keys(shape, tile, 0, first_key, num_keys, packed.places);
  if (call.is_paired) {
    pack_paired_keys(packed.places, num_keys, head_dim, packed.keys);
    find_keys(shape, tile, 1, first_key, num_keys, packed.places);
    return pack_paired_values(packed.places, num_keys, head_dim, shape.padded, packed.values);
  }
  with_number_type(call.cache_type, [&](auto number) {
    using Number = decltype(number);
    pack_keys<Number>(packed.places, num_keys, shape.score_steps, packed.keys);
    find_keys(shape, tile, 1, first_key, num_keys, packed.places);
    pack_values<Number>(packed.places, num_keys, head_dim, shape.padded, packed.values);
  });
}

// Scores of kRows rows against kColumns vectors of keys, each summed over the head in order.
template <int kRows, int kColumns>
inline void score_block(const float* queries, int steps, const float* keys, float* scores) {
  Floats sums[kRows][kColumns] = {};
  for (int step = 0; step < steps; ++step) {
    Floats key[kColumns];
    for (int column = 0; column < kColumns; ++column) key[column] = load(keys + step * kKeyTile + column * kLanes);
    for (int row = 0; row < kRows; ++row) {
      const Floats query = splat(queries[row * steps + step]);
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = multiply_add(query, key[column], sums[row][column]);
    }
  }
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column) store(scores + row * kKeyTile + column * kLanes, sums[row][column]);
}

#if defined(__AVX512BF16__)
// The same with words that are pairs of bfloat16: two products are added to a sum at a time.
template <int kRows, int kColumns>
inline void score_block_in_pairs(const float* queries, int steps, const float* const* groups, int64_t stride, float* scores) {
  __m512 sums[kRows][kColumns];
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column) sums[row][column] = _mm512_setzero_ps();
  for (int step = 0; step < steps; ++step) {
    __m512i key[kColumns];
    for (int column = 0; column < kColumns; ++column) key[column] = _mm512_loadu_si512(groups[column] + step * stride);
    for (int row = 0; row < kRows; ++row) {
      int32_t pair;
      __builtin_memcpy(&pair, queries + row * steps + step, sizeof pair);
      const __m512i query = _mm512_set1_epi32(pair);
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = _mm512_dpbf16_ps(sums[row][column], (__m512bh)query, (__m512bh)key[column]);
    }
  }
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      _mm512_storeu_ps(scores + row * kKeyTile + column * kLanes, sums[row][column]);
}
#endif

// Adds weights times values to kRows rows of output, key by key in order, each row first multiplied by its correction.
template <int kRows, int kColumns>
inline void weigh_block(const float* weights, int first_key, int end_key, const float* values, int padded,
                        const float* corrections, float* output) {
  Floats sums[kRows][kColumns];
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      sums[row][column] = load(output + (int64_t)row * padded + column * kLanes) * splat(corrections[row]);
  for (int key = first_key; key < end_key; ++key) {
    Floats value[kColumns];
    for (int column = 0; column < kColumns; ++column) value[column] = load(values + (int64_t)key * padded + column * kLanes);
    for (int row = 0; row < kRows; ++row) {
      const Floats weight = splat(weights[row * kKeyTile + key]);
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = multiply_add(weight, value[column], sums[row][column]);
    }
  }
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      store(output + (int64_t)row * padded + column * kLanes, sums[row][column]);
}

#if defined(__AVX512BF16__)
// 16 words, of which `count` exist; the others are zeros.
inline __m512i load_lanes(const char* source, int count) {
  if (count >= kLanes) return _mm512_loadu_si512(source);
  return _mm512_maskz_loadu_epi32(count > 0 ? (__mmask16)((1 << count) - 1) : (__mmask16)0, source);
}

// The same with weights of bfloat16 and values in pairs of keys, kPieces times 32 numbers of a head.
template <int kRows, int kPieces, ValueForm kForm>
inline void weigh_block_in_pairs(const float* weights, int first_key, int end_key, const KeyTile& tile, int head_dim, int padded,
                                 int place, const float* corrections, float* output) {
  constexpr int kColumns = 2 * kPieces;
  __m512 sums[kRows][kColumns];
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      sums[row][column] = _mm512_mul_ps(_mm512_loadu_ps(output + (int64_t)row * padded + place + column * kLanes),
                                        _mm512_set1_ps(corrections[row]));
  for (int key = first_key / 2 * 2; key < end_key; key += 2) {
    __m512i value[kColumns];
    for (int piece = 0; piece < kPieces; ++piece) {
      if (kForm == kPaired) {
        // The other half of the last pair may hold anything.
        const __m512i kept = _mm512_set1_epi32(key + 1 < tile.num_keys ? -1 : 0xffff);
        const char* pair = tile.places[key] + 4 * (place + piece * 32);
        const int left = head_dim - place - piece * 32;
        value[2 * piece] = _mm512_and_si512(kept, load_lanes(pair, left));
        value[2 * piece + 1] = _mm512_and_si512(kept, load_lanes(pair + 64, left - 16));
      } else if (kForm == kPacked) {
        const float* packed = tile.values + key / 2 * padded + place + piece * 32;
        value[2 * piece] = _mm512_loadu_si512(packed);
        value[2 * piece + 1] = _mm512_loadu_si512(packed + 16);
      } else {
        const int64_t offset = (place + piece * 32) * 2;
        const char* second = tile.places[key + 1];
        pair_values(tile.places[key] + offset, second == nullptr ? second : second + offset, head_dim - place - piece * 32,
                    &value[2 * piece], &value[2 * piece + 1]);
      }
    }
    for (int row = 0; row < kRows; ++row) {
      int32_t pair;
      __builtin_memcpy(&pair, (const char*)(weights + row * kKeyTile) + key * 2, sizeof pair);
      const __m512i weight = _mm512_set1_epi32(pair);
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = _mm512_dpbf16_ps(sums[row][column], (__m512bh)weight, (__m512bh)value[column]);
    }
  }
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      _mm512_storeu_ps(output + (int64_t)row * padded + place + column * kLanes, sums[row][column]);
}

template <int kRows, ValueForm kForm>
void weigh_rows_in_pairs(const Shape& shape, const float* weights, int first_key, int end_key, const KeyTile& tile,
                         const float* corrections, float* output) {
  const int head_dim = (int)shape.call->head_dim, padded = shape.padded;
  int place = 0;
  for (; place + 64 <= padded; place += 64)
    weigh_block_in_pairs<kRows, 2, kForm>(weights, first_key, end_key, tile, head_dim, padded, place, corrections, output);
  if (place < padded)
    weigh_block_in_pairs<kRows, 1, kForm>(weights, first_key, end_key, tile, head_dim, padded, place, corrections, output);
}
#endif

template <int kRows>
void score_rows(const Shape& shape, const float* queries, const KeyTile& keys, float* scores) {
  for (int column = 0; column < keys.num_keys; column += kBlockColumns * kLanes) {
#if defined(__AVX512BF16__)
    if (shape.in_pairs) {
      score_block_in_pairs<kRows, kBlockColumns>(queries, shape.score_steps, keys.groups + column / kGroupKeys, keys.group_stride,
                                                 scores + column);
      continue;
    }
#endif
    score_block<kRows, kBlockColumns>(queries, shape.score_steps, keys.keys + column, scores + column);
  }
}

template <int kRows>
void weigh_rows(const Shape& shape, const float* weights, int first_key, int end_key, const KeyTile& tile,
                const float* corrections, float* output) {
#if defined(__AVX512BF16__)
  if (shape.in_pairs && tile.form == kPaired)
    return weigh_rows_in_pairs<kRows, kPaired>(shape, weights, first_key, end_key, tile, corrections, output);
  if (shape.in_pairs && tile.form == kPacked)
    return weigh_rows_in_pairs<kRows, kPacked>(shape, weights, first_key, end_key, tile, corrections, output);
  if (shape.in_pairs)
    return weigh_rows_in_pairs<kRows, kApart>(shape, weights, first_key, end_key, tile, corrections, output);
#endif
  const float* values = tile.values;
  int place = 0;
  for (; place + kBlockColumns * kLanes <= shape.padded; place += kBlockColumns * kLanes)
    weigh_block<kRows, kBlockColumns>(weights, first_key, end_key, values + place, shape.padded, corrections, output + place);
  for (; place < shape.padded; place += kLanes)
    weigh_block<kRows, 1>(weights, first_key, end_key, values + place, shape.padded, corrections, output + place);
}

// Scales a row's scores and hides those outside first_seen to end_seen; returns the largest.
float finish_scores(const AttentionCall& call, float* scores, int num_keys, int first_seen, int end_seen) {
  const float hidden = -__builtin_inff();
  Floats largest = splat(hidden);
  for (int column = 0; column < num_keys; column += kLanes) {
    Floats score = load(scores + column) * splat(call.scale);
    if (call.softcap > 0.0f) score = hyperbolic_tangent(score / splat(call.softcap)) * splat(call.softcap);
    if (column < first_seen || column + kLanes > end_seen) {
      for (int lane = 0; lane < kLanes; ++lane)
        if (column + lane < first_seen || column + lane >= end_seen) score[lane] = hidden;
    }
    store(scores + column, score);
    largest = maximum(largest, score);
  }
  return largest_lane(largest);
}

// Turns a row's scores into weights, exact zeros where they are hidden; returns their sum. In pairs they are rounded to
// bfloat16, packed at the start of the row, and summed as rounded.
float weigh_scores(bool in_pairs, float* scores, int num_keys, float highest) {
  Floats sum = {};
  for (int column = 0; column < num_keys; column += kLanes) {
    Floats weight = exponential(load(scores + column) - splat(highest));
    if (in_pairs) {
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

template <int kRows>
void attend_rows(const Shape& shape, const RowTile& tile, int row, int64_t first_key, int num_keys, const float* queries,
                 const KeyTile& keys, float* scores, Softmax& softmax) {
  score_rows<kRows>(shape, queries + (int64_t)row * shape.score_steps, keys, scores);
  float falls[(kRows + kLanes - 1) / kLanes * kLanes] = {};  // from each row's new highest score to its old one
  int first_weight = num_keys, end_weight = 0;
  for (int inner = 0; inner < kRows; ++inner) {
    const int64_t position = tile.first_position + (row + inner) / shape.group;
    const int64_t window = shape.call->sliding_window;
    int64_t first_seen = window > 0 ? position - window + 1 - first_key : 0, end_seen = position + 1 - first_key;
    if (first_seen < 0) first_seen = 0;
    if (end_seen > num_keys) end_seen = num_keys;
    if (first_seen < first_weight) first_weight = (int)first_seen;
    if (end_seen > end_weight) end_weight = (int)end_seen;
    float* highest = softmax.highest + row + inner;
    const float largest = finish_scores(*shape.call, scores + inner * kKeyTile, num_keys, (int)first_seen, (int)end_seen);
    const float now = largest > *highest ? largest : *highest;
    falls[inner] = *highest - now;
    *highest = now;
  }
  float corrections[sizeof falls / sizeof *falls];
  for (int inner = 0; inner < kRows; inner += kLanes) store(corrections + inner, exponential(load(falls + inner)));
  for (int inner = 0; inner < kRows; ++inner) {
    const float sum = weigh_scores(shape.in_pairs, scores + inner * kKeyTile, num_keys, softmax.highest[row + inner]);
    softmax.total[row + inner] = softmax.total[row + inner] * corrections[inner] + sum;
  }
  weigh_rows<kRows>(shape, scores, first_weight, end_weight, keys, corrections, softmax.output + (int64_t)row * shape.padded);
}

void forget(const Shape& shape, int num_rows, Softmax& softmax) {
  for (int row = 0; row < num_rows; ++row) {
    softmax.highest[row] = kNothingSeen;
    softmax.total[row] = 0.0f;
  }
  __builtin_memset(softmax.output, 0, sizeof(float) * (size_t)num_rows * (size_t)shape.padded);
}

// Joins a later section to what earlier ones made.
void join(const Shape& shape, int num_rows, Softmax& earlier, const Softmax& later) {
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

void write_output(const Shape& shape, const RowTile& tile, const Softmax& softmax) {
  const AttentionCall& call = *shape.call;
  for (int row = 0; row < tile.num_rows; ++row) {
    const int64_t token = tile.first_token + row / shape.group, head = tile.kv_head * shape.group + row % shape.group;
    char* target = address_of(call.output, token * call.output_stride + head * call.head_dim, call.query_type);
    const Floats total = splat(softmax.total[row]);
    for (int place = 0; place < call.head_dim; place += kLanes) {
      const int count = lanes_left(call.head_dim, place);
      const Floats value = load(softmax.output + (int64_t)row * shape.padded + place) / total;
      store_typed(target + place * bytes_of(call.query_type), call.query_type, value, count);
    }
  }
}

// The first key that any row of a tile sees.
inline int64_t first_key_of(const Shape& shape, const RowTile& tile) {
  const int64_t first = tile.first_position - shape.call->sliding_window + 1;
  return shape.call->sliding_window > 0 && first > 0 ? first : 0;
}

// Where a thread keeps what it packs: queries, keys, values, scores.
struct Packed {
  float *queries, *keys, *values, *scores;
};

// Fewer than kBlockRows rows.
void attend_last_rows(const Shape& shape, const RowTile& tile, int row, int num_rows, int64_t first_key, int num_keys,
                      const Packed& packed, const KeyTile& keys, Softmax& softmax) {
  switch (num_rows) {
    case 5:
      return attend_rows<5>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    case 4:
      return attend_rows<4>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    case 3:
      return attend_rows<3>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    case 2:
      return attend_rows<2>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    case 1:
      return attend_rows<1>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    default:
      return;
  }
}

// Takes the tiles of keys of one section, for the rows that see any of them.
void attend_section(const Shape& shape, const RowTile& tile, int64_t section, const Packed& packed, Softmax& softmax) {
  const int64_t last_position = tile.first_position + tile.num_queries - 1, window = shape.call->sliding_window;
  int64_t first_key = first_key_of(shape, tile) / kKeyTile * kKeyTile;
  if (first_key < section * kSection) first_key = section * kSection;
  for (; first_key <= last_position && first_key < (section + 1) * kSection; first_key += kKeyTile) {
    const int num_keys = last_position + 1 - first_key < kKeyTile ? (int)(last_position + 1 - first_key) : kKeyTile;
    int64_t first_query = first_key - tile.first_position, end_query = tile.num_queries;
    if (first_query < 0) first_query = 0;
    if (window > 0 && first_key + kKeyTile - 1 + window - tile.first_position < end_query)
      end_query = first_key + kKeyTile - 1 + window - tile.first_position;
    const int end_row = (int)end_query * shape.group;
    int row = (int)first_query * shape.group;
    KeyTile keys;
    keys.keys = packed.keys;
    keys.values = packed.values;
    const int64_t next = first_key + kKeyTile, left = last_position + 1 - next;
    if (left > 0) fetch_keys(shape, tile, next, next + (left < kKeyTile ? left : kKeyTile));
    pack_tile(shape, tile, first_key, num_keys, end_row - row, keys);
    for (; row + kBlockRows <= end_row; row += kBlockRows)
      attend_rows<kBlockRows>(shape, tile, row, first_key, num_keys, packed.queries, keys, packed.scores, softmax);
    attend_last_rows(shape, tile, row, end_row - row, first_key, num_keys, packed, keys, softmax);
  }
}

inline int64_t whole_lines(int64_t numbers) { return (numbers + 15) / 16 * 16; }

// Lays out a thread's memory; `softmaxes` of num_rows rows each come first.
Packed lay_out(const Shape& shape, int num_rows, Softmax* softmaxes, int num_softmaxes) {
  static thread_local Scratch scratch;
  const int64_t row_numbers = whole_lines(num_rows), output = whole_lines((int64_t)num_rows * shape.padded);
  const int64_t queries = whole_lines((int64_t)num_rows * shape.score_steps), keys = (int64_t)shape.score_steps * kKeyTile;
  const int64_t values = (int64_t)kKeyTile * shape.padded, scores = kBlockRows * kKeyTile;
  float* next = scratch.at_least(num_softmaxes * (2 * row_numbers + output) + queries + keys + values + scores);
  for (int index = 0; index < num_softmaxes; ++index) {
    softmaxes[index] = Softmax{next, next + row_numbers, next + 2 * row_numbers};
    next += 2 * row_numbers + output;
  }
  return Packed{next, next + queries, next + queries + keys, next + queries + keys + values};
}

void attend_tile(const Shape& shape, const RowTile& tile) {
  Softmax softmaxes[2];
  const Packed packed = lay_out(shape, tile.num_rows, softmaxes, 2);
  pack_queries(shape, tile, packed.queries);
  const int64_t first_section = first_key_of(shape, tile) / kSection;
  const int64_t last_section = (tile.first_position + tile.num_queries - 1) / kSection;
  for (int64_t section = first_section; section <= last_section; ++section) {
    Softmax& mine = softmaxes[section == first_section ? 0 : 1];
    forget(shape, tile.num_rows, mine);
    attend_section(shape, tile, section, packed, mine);
    if (section != first_section) join(shape, tile.num_rows, softmaxes[0], mine);
  }
  write_output(shape, tile, softmaxes[0]);
}

// A request's rows in tiles; the last may be smaller.
inline int queries_of_tile(const Shape& shape) { return kTileRows / shape.group > 1 ? kTileRows / shape.group : 1; }

inline int64_t tiles_of(const Shape& shape, int64_t num_tokens) {
  return (num_tokens + queries_of_tile(shape) - 1) / queries_of_tile(shape);
}

inline RowTile make_tile(const Shape& shape, int64_t request, int64_t kv_head, int64_t index) {
  const int64_t start = shape.batch->query_start[request], num_tokens = shape.batch->query_start[request + 1] - start;
  const int64_t first = index * queries_of_tile(shape);
  const int64_t left = num_tokens - first;
  const int num_queries = left < queries_of_tile(shape) ? (int)left : queries_of_tile(shape);
  const int64_t position = shape.batch->context_lengths[request] - num_tokens + first;
  return RowTile{request, kv_head, start + first, num_queries, num_queries * shape.group, position};
}

// How a step's rows are dealt out.
struct Work {
  int64_t num_tiles;     // of all requests, for one KV head
  int64_t num_sections;  // of the longest context
  bool by_section;       // a few decodes over long contexts: each section is a piece of work of its own
  bool is_small;

  Work(const Shape& shape) : num_tiles(0) {
    const AttentionCall& call = *shape.call;
    const BatchCall& batch = *shape.batch;
    int64_t multiplications = 0, longest = 0;
    for (int64_t request = 0; request < batch.num_requests; ++request) {
      const int64_t num_tokens = batch.query_start[request + 1] - batch.query_start[request];
      const int64_t context = batch.context_lengths[request];
      num_tiles += tiles_of(shape, num_tokens);
      multiplications += num_tokens * context * call.num_heads * call.head_dim * 2;
      longest = context > longest ? context : longest;
    }
    num_sections = (longest + kSection - 1) / kSection;
    const bool is_decode = batch.query_start[batch.num_requests] == batch.num_requests;
    by_section = is_decode && num_sections > 1 && num_tiles * call.num_kv_heads < kFewUnits;
    is_small = multiplications <= kSerialWork;
  }
};

// What a section makes of a unit (a tile and a KV head), as numbers.
inline int64_t partial_size(const Shape& shape) {
  return 2 * whole_lines(shape.group) + whole_lines((int64_t)shape.group * shape.padded);
}

inline Softmax partial_at(const Shape& shape, float* partials, int64_t index) {
  float* mine = partials + index * partial_size(shape);
  return Softmax{mine, mine + whole_lines(shape.group), mine + 2 * whole_lines(shape.group)};
}

void attend_piece(const Shape& shape, int64_t unit, int64_t section, Softmax softmax) {
  const RowTile tile = make_tile(shape, unit / shape.call->num_kv_heads, unit % shape.call->num_kv_heads, 0);
  if (section < first_key_of(shape, tile) / kSection || section > tile.first_position / kSection) return;
  const Packed packed = lay_out(shape, tile.num_rows, nullptr, 0);
  pack_queries(shape, tile, packed.queries);
  forget(shape, tile.num_rows, softmax);
  attend_section(shape, tile, section, packed, softmax);
}

void join_pieces(const Shape& shape, int64_t unit, float* partials, int64_t num_sections) {
  const RowTile tile = make_tile(shape, unit / shape.call->num_kv_heads, unit % shape.call->num_kv_heads, 0);
  const int64_t first_section = first_key_of(shape, tile) / kSection, last_section = tile.first_position / kSection;
  Softmax softmax = partial_at(shape, partials, unit * num_sections + first_section);
  for (int64_t section = first_section + 1; section <= last_section; ++section)
    join(shape, tile.num_rows, softmax, partial_at(shape, partials, unit * num_sections + section));
  write_output(shape, tile, softmax);
}

// Sections are dealt out, and joined in order afterwards.
void attend_in_sections(const Shape& shape, const Work& work, Team& team) {
  float* partials = (float*)team.room;
  const int64_t num_units = work.num_tiles * shape.call->num_kv_heads;
  team.share(num_units * work.num_sections, 1, [&](int64_t piece, int64_t end) {
    for (; piece < end; ++piece)
      attend_piece(shape, piece / work.num_sections, piece % work.num_sections, partial_at(shape, partials, piece));
  });
  team.share(num_units, num_units, [&](int64_t unit, int64_t end) {
    for (; unit < end; ++unit) join_pieces(shape, unit, partials, work.num_sections);
  });
}

// The tiles `unit` to `end`, numbered through all requests, the KV heads of a tile one after the other.
void attend_units(const Shape& shape, int64_t unit, int64_t end) {
  const int64_t num_kv_heads = shape.call->num_kv_heads;
  int64_t request = 0, first = 0;  // the first tile of the request
  for (; unit < end; ++unit) {
    for (;; ++request) {
      const int64_t tiles = tiles_of(shape, shape.batch->query_start[request + 1] - shape.batch->query_start[request]);
      if (unit / num_kv_heads < first + tiles) break;
      first += tiles;
    }
    attend_tile(shape, make_tile(shape, request, unit % num_kv_heads, unit / num_kv_heads - first));
  }
}

Shape shape_of(const AttentionCall& call) {
  Shape shape{&call, call.batch, (int)(call.num_heads / call.num_kv_heads), 0, (int)call.head_dim, false};
  shape.padded = ((int)call.head_dim + kLanes - 1) / kLanes * kLanes;
#if defined(__AVX512BF16__)
  shape.in_pairs = call.query_type == kBFloat16 && call.cache_type == kBFloat16 && call.head_dim % 2 == 0;
  if (shape.in_pairs) {
    shape.score_steps = (int)call.head_dim / 2;
    shape.padded = ((int)call.head_dim + 31) / 32 * 32;
  }
#endif
  return shape;
}

Plan plan_attention(const AttentionCall& call) {
  const Shape shape = shape_of(call);
  const Work work(shape);
  const int64_t num_partials = work.by_section ? work.num_tiles * call.num_kv_heads * work.num_sections : 0;
  return {work.is_small, num_partials * partial_size(shape) * (int64_t)sizeof(float)};
}

void run_attention(const AttentionCall& call, Team& team) {
  const Shape shape = shape_of(call);
  const Work work(shape);
  if (work.by_section) return attend_in_sections(shape, work, team);
  const int64_t num_units = work.num_tiles * call.num_kv_heads, fair = num_units / (16 * team.size);
  team.share(num_units, fair > 1 ? fair : 1, [&](int64_t unit, int64_t end) { attend_units(shape, unit, end); });
}

}  // namespace

YEOUL_OPERATION(paged_attention, AttentionCall, plan_attention, run_attention)
