// The inner loops of packed_linear: a few rows by one or two tiles of outputs; knows nothing of types or of threads.

#pragma once

#include "yeoul/kernels/packed_linear/bfloat_rows.h"
#include "yeoul/kernels/packed_linear/four_bits.h"
#include "yeoul/kernels/packed_linear/integer_rows.h"

namespace {

static_assert(kQuantizedBlock == 32, "a scale of a row goes with a scale in a block of weights");

constexpr int kVectorsATile = kTileOutputs / kLanes;
#if defined(__AVX512F__)
constexpr int kTilesAtOnce = 2;
constexpr int kRowsATile = 6;
constexpr int kFewRows = 8;  // that one pass over the weights serves, tile by tile
#else
constexpr int kTilesAtOnce = 1;
constexpr int kRowsATile = 2;
constexpr int kFewRows = 2;
#endif

// The weights of a share: tiles side by side, and what to fetch meanwhile, a part with each block, because streams of a few
// kilobytes end before the processor has learnt them.
struct TileWeights {
  const uint8_t* codes;
  int64_t tile_bytes;
  const char* next;      // or null
  int64_t fetch_a_block;  // bytes

  // Asks for the next part into the second cache.
  void fetch(int64_t block) const {
    if (next == nullptr) return;
    for (int64_t byte = 0; byte < fetch_a_block; byte += 64) __builtin_prefetch(next + block * fetch_a_block + byte, 0, 2);
  }
};

// The weights of a block: where they lie, or of 4-bit codes in the memory that they are expanded to.
template <class F, int C>
inline const uint8_t* block_of(const TileWeights& weights, int64_t block, uint8_t* expanded) {
  if constexpr (F::kCodeBits == 8) {
    return weights.codes + block * F::kBlockBytes + F::kCodesOffset;
  } else {
#pragma GCC unroll 2
    for (int tile = 0; tile < C; ++tile)
      expand_block<F>(weights.codes + tile * weights.tile_bytes + block * F::kBlockBytes, expanded + tile * kNumberBytes);
    return expanded;
  }
}

// R rows by C tiles of outputs: sums[c * kVectorsATile + v][r]. The integers of a scale are exact,
// so that their order does not matter; what the scales give is added in theirs.
template <class F, int R, int C>
inline void multiply_tile(const TileWeights& weights, const float* scales, int64_t num_blocks, const IntegerTile& rows,
                          Floats (*sums)[R]) {
  constexpr int V = C * kVectorsATile;
  constexpr int kPartGroups = kBlockGroups / kParts;
  alignas(64) uint8_t expanded[F::kCodeBits == 8 ? 1 : C * kNumberBytes];
  const int64_t tile_bytes = F::kCodeBits == 8 ? weights.tile_bytes : kNumberBytes;
  for (int v = 0; v < V; ++v)
    for (int r = 0; r < R; ++r) sums[v][r] = splat(0.0f);
  const int64_t num_scales = scales_of<F>(num_blocks);
  for (int64_t place = 0; place < num_scales; ++place) {
    Floats totals[V][R];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) totals[v][r] = splat(0.0f);
    const int64_t first = F::kHasBlockScales ? 0 : place * kScaleBlocks;
    const int64_t end = F::kHasBlockScales || first + kScaleBlocks > num_blocks ? num_blocks : first + kScaleBlocks;
    for (int64_t block = first; block < end; ++block) {
      weights.fetch(block);
      const uint8_t* numbers = block_of<F, C>(weights, block, expanded);
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        Ints found[V][R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Ints correction = rows.corrections[(block * R + r) * kParts + part] - Ints{};
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v) found[v][r] = correction;
        }
#pragma GCC unroll 16
        for (int group = part * kPartGroups; group < (part + 1) * kPartGroups; ++group) {
          Words loaded[V];
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v)
            loaded[v] = load_words(numbers + v / kVectorsATile * tile_bytes + group * kGroupBytes + v % kVectorsATile * kLanes * 4);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const Ints input = rows.codes[(block * R + r) * kBlockGroups + group] - Ints{};
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) found[v][r] = dot(found[v][r], loaded[v], input);
          }
        }
        Floats block_scales[V];
        if constexpr (F::kHasBlockScales) {
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v)
            block_scales[v] = load((const Float16*)(weights.codes + v / kVectorsATile * tile_bytes + block * F::kBlockBytes) +
                                   part * kTileOutputs + v % kVectorsATile * kLanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Floats scale = splat(rows.scales[(block * R + r) * kParts + part]);
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v) {
            const Floats number = __builtin_convertvector(found[v][r], Floats);
            totals[v][r] = F::kHasBlockScales ? multiply_add(number * scale, block_scales[v], totals[v][r])
                                              : multiply_add(number, scale, totals[v][r]);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const Floats scale = load(scales + (v / kVectorsATile * num_scales + place) * kTileOutputs + v % kVectorsATile * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sums[v][r] = multiply_add(totals[v][r], scale, sums[v][r]);
    }
  }
}

// The same for weights of bfloat16, pair by pair.
template <int R, int C>
inline void multiply_bfloat_tile(const TileWeights& weights, int64_t num_blocks, const uint32_t* rows, Floats (*sums)[R]) {
  constexpr int V = C * kVectorsATile;
  constexpr int kPairs = kBFloatBlock / 2;
  Floats totals[V][R];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) totals[v][r] = splat(0.0f);
  for (int64_t block = 0; block < num_blocks; ++block) {
    weights.fetch(block);
#pragma GCC unroll 16
    for (int pair = 0; pair < kPairs; ++pair) {
      Words loaded[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v)
        loaded[v] = load_words(weights.codes + v / kVectorsATile * weights.tile_bytes + (block * kPairs + pair) * 64 +
                               v % kVectorsATile * kLanes * 4);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Words input = rows[(block * R + r) * kPairs + pair] - Words{};
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) totals[v][r] = dot_pairs(totals[v][r], loaded[v], input);
      }
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[v][r] = totals[v][r];
}

}  // namespace
