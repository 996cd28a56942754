// Rows times packed weights, as integers or as bfloat16, for one instruction set; see reference.py. Called by native.py.
//
// A number of the result is summed over the blocks of its row in their order, whatever the other rows, the tile that it is
// computed in and the number of threads: alone or in a crowd it has the same bits.

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"
#include "yeoul/kernels/packed_linear/bfloat_rows.h"
#include "yeoul/kernels/packed_linear/integer_dot.h"
#include "yeoul/kernels/packed_linear/integer_rows.h"

namespace {

constexpr int kVectorsATile = kTileOutputs / kLanes;
#if defined(__AVX512F__)
constexpr int kTilesAtOnce = 2;
#else
constexpr int kTilesAtOnce = 1;
#endif
constexpr int kRowsAtOnce = 16 * kRowsATile;  // that pass by the same weights, so that both stay in the second cache
constexpr int64_t kLargestPiece = 16;

template <class F>
inline Floats load_scales(const void* scales, int64_t index) {
  if constexpr (F::kHasHalfScales) return load((const Float16*)scales + index);
  return load((const float*)scales + index);
}

template <int bits>
inline Words load_group(const uint8_t* block, int group, int vector) {
  if constexpr (bits == 8) return load_codes(block + group * 64 + vector * kLanes * 4);
  const Words both = load_codes(block + group / 2 * 64 + vector * kLanes * 4);
  return (group % 2 ? both >> 4 : both) & 0x0f0f0f0fu;
}

// Asks for num_bytes into the second cache.
inline void fetch(const void* memory, int num_bytes) {
  for (int byte = 0; byte < num_bytes; byte += 64) __builtin_prefetch((const char*)memory + byte, 0, 2);
}

// R rows by C tiles of outputs: sums[c * kVectorsATile + v][r]. The first rows that meet these weights fetch those of the
// tiles that come next: streams of a few kilobytes end before the processor has learnt them.
template <class F, int R, int C>
inline void multiply_tile(const Segment& segment, int64_t first_tile, int64_t num_blocks, const RowTile& rows, bool is_first,
                          Floats (*sums)[R]) {
  constexpr int V = C * kVectorsATile;
  constexpr int kGroups = F::kScaleBlock / 4;
  constexpr bool is_wide = F::kCodeBits == 8 && !F::kHasMinimums;
  constexpr bool has_correction = !F::kHasMinimums && !(is_wide && kWideCodesAreCentered);
  const int32_t* negated_sums = rows.negated_sums[F::kScaleBlock == 16];
  const float* scaled_sums = rows.scaled_sums[F::kScaleBlock == 16];
  Floats totals[V][R];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) totals[v][r] = splat(0.0f);
  const uint8_t* codes = segment.codes + first_tile * num_blocks * F::kBlockBytes;
  const int64_t tile_scales = num_blocks * F::kScalesABlock * kTileOutputs;
  for (int64_t block = 0; block < num_blocks; ++block) {
    if (is_first) {
      constexpr int kScaleBytes = kTileOutputs * (F::kHasHalfScales ? 2 : 4) * F::kScalesABlock;
#pragma GCC unroll 2
      for (int tile = 0; tile < C; ++tile) {
        const int64_t place = (first_tile + C + tile) * num_blocks + block;
        fetch(segment.codes + place * F::kBlockBytes, F::kBlockBytes);
        fetch((const char*)segment.scales + place * kScaleBytes, kScaleBytes);
        if (F::kHasMinimums) fetch((const char*)segment.minimums + place * kScaleBytes, kScaleBytes);
      }
    }
#pragma GCC unroll 2
    for (int part = 0; part < F::kScalesABlock; ++part) {
      const int64_t scale_block = block * F::kScalesABlock + part;
      Ints found[V][R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const int32_t correction = has_correction ? negated_sums[scale_block * R + r] * F::kOffset : 0;
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) found[v][r] = correction - Ints{};
      }
#pragma GCC unroll 8
      for (int group = 0; group < kGroups; ++group) {
        const int32_t* inputs = rows.codes + ((block * F::kScalesABlock + part) * kGroups + group) * R;
        Words weights[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v)
          weights[v] = load_group<F::kCodeBits>(
              codes + v / kVectorsATile * num_blocks * F::kBlockBytes + block * F::kBlockBytes, part * kGroups + group,
              v % kVectorsATile);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Ints input = inputs[r] - Ints{};
#pragma GCC unroll 16
          for (int v = 0; v < V; ++v)
            found[v][r] = is_wide ? dot_wide(found[v][r], weights[v], input) : dot(found[v][r], weights[v], input);
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const int64_t place = (first_tile + v / kVectorsATile) * tile_scales + scale_block * kTileOutputs +
                              v % kVectorsATile * kLanes;
        const Floats scales = load_scales<F>(segment.scales, place);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Floats number = __builtin_convertvector(found[v][r], Floats) * splat(rows.scales[block * R + r]);
          totals[v][r] = multiply_add(number, scales, totals[v][r]);
        }
        if constexpr (F::kHasMinimums) {
          const Floats minimums = load_scales<F>(segment.minimums, place);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r)
            totals[v][r] = multiply_add(minimums, splat(scaled_sums[scale_block * R + r]), totals[v][r]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[v][r] = totals[v][r];
}

// The same for weights of bfloat16.
template <int R, int C>
inline void multiply_bfloat_tile(const Segment& segment, int64_t first_tile, int64_t num_pairs, const uint32_t* rows,
                                 bool is_first, Floats (*sums)[R]) {
  constexpr int V = C * kVectorsATile;
  Floats totals[V][R];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) totals[v][r] = splat(0.0f);
  const uint8_t* weights = segment.codes + first_tile * num_pairs * 64;
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    if (is_first) {
#pragma GCC unroll 2
      for (int tile = 0; tile < C; ++tile) fetch(weights + ((C + tile) * num_pairs + pair) * 64, 64);
    }
    Words found[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      found[v] = load_codes(weights + (v / kVectorsATile * num_pairs + pair) * 64 + v % kVectorsATile * kLanes * 4);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Words input = rows[pair * R + r] - Words{};
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) totals[v][r] = dot_pairs(totals[v][r], found[v], input);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[v][r] = totals[v][r];
}

// The rows in the types that the segments of a call need.
struct InputRows {
  int64_t num_rows;
  IntegerRows integers;
  BFloatRows bfloats;

  int64_t num_tiles() const { return ceil_divide(num_rows, kRowsATile); }

  int rows_in(int64_t tile) const {
    const int64_t left = num_rows - tile * kRowsATile;
    return left < kRowsATile ? (int)left : kRowsATile;
  }
};

struct Result {
  int type;
  void* numbers;
  int64_t row_size;
  const float* bias;
};

template <class F, int R, int C>
void compute_tile(const Segment& segment, int64_t first_tile, const InputRows& rows, int64_t row_tile, const Result& result) {
  Floats sums[C * kVectorsATile][R];
  const bool is_first = row_tile % (kRowsAtOnce / kRowsATile) == 0;
  if constexpr (F::kCodeBits == 16)
    multiply_bfloat_tile<R, C>(segment, first_tile, rows.bfloats.num_pairs, rows.bfloats.tile(row_tile), is_first, sums);
  else
    multiply_tile<F, R, C>(segment, first_tile, rows.integers.num_blocks, rows.integers.tile(row_tile), is_first, sums);
  for (int v = 0; v < C * kVectorsATile; ++v) {
    const int64_t output = first_tile * kTileOutputs + v * kLanes;
    const int64_t left = segment.num_outputs - output;
    if (left <= 0) break;
    const int count = left < kLanes ? (int)left : kLanes;
    const int64_t column = segment.first_output + output;
    const Floats bias = result.bias ? load_some(result.bias + column, count) : splat(0.0f);
    with_number_type(result.type, [&](auto number) {
      for (int r = 0; r < R; ++r)
        store_some((decltype(number)*)result.numbers + (row_tile * kRowsATile + r) * result.row_size + column,
                   sums[v][r] + bias, count);
    });
  }
}

template <class F, int R>
void compute_rows(const Segment& segment, int64_t first_tile, int num_tiles, const InputRows& rows, int64_t row_tile,
                  const Result& result) {
  if (num_tiles == kTilesAtOnce)
    compute_tile<F, R, kTilesAtOnce>(segment, first_tile, rows, row_tile, result);
  else
    compute_tile<F, R, 1>(segment, first_tile, rows, row_tile, result);
}

// One share of the work: some rows by kTilesAtOnce tiles of outputs of one segment.
template <class F>
void compute_share(const Segment& segment, int64_t first_tile, const InputRows& rows, int64_t first_row_tile,
                   const Result& result) {
  const int64_t tiles_left = ceil_divide(segment.num_outputs, kTileOutputs) - first_tile;
  const int num_tiles = tiles_left < kTilesAtOnce ? (int)tiles_left : kTilesAtOnce;
  const int64_t end = first_row_tile + kRowsAtOnce / kRowsATile;
  for (int64_t tile = first_row_tile; tile < end && tile < rows.num_tiles(); ++tile) {
    switch (rows.rows_in(tile)) {
      case 1: compute_rows<F, 1>(segment, first_tile, num_tiles, rows, tile, result); break;
      case 2: compute_rows<F, 2>(segment, first_tile, num_tiles, rows, tile, result); break;
#if defined(__AVX512F__)
      case 3: compute_rows<F, 3>(segment, first_tile, num_tiles, rows, tile, result); break;
      case 4: compute_rows<F, 4>(segment, first_tile, num_tiles, rows, tile, result); break;
      case 5: compute_rows<F, 5>(segment, first_tile, num_tiles, rows, tile, result); break;
      case 6: compute_rows<F, 6>(segment, first_tile, num_tiles, rows, tile, result); break;
#endif
    }
  }
}

// The shares of all segments, numbered: outputs first, so that rows that were just read serve all outputs.
struct Shares {
  const Segment* segments;
  int num_segments;
  int64_t num_column_shares;
  bool has_integers = false;
  bool has_bfloats = false;

  Shares(const Segment* all, int count) : segments(all), num_segments(count), num_column_shares(0) {
    for (int i = 0; i < count; ++i) {
      num_column_shares += of(all[i]);
      (all[i].form.code_bits == 16 ? has_bfloats : has_integers) = true;
    }
  }

  static int64_t of(const Segment& segment) { return ceil_divide(segment.num_outputs, kTileOutputs * kTilesAtOnce); }

  void compute(int64_t share, const InputRows& rows, const Result& result) const {
    const int64_t first_row_tile = share / num_column_shares * (kRowsAtOnce / kRowsATile);
    int64_t column = share % num_column_shares;
    int index = 0;
    for (; column >= of(segments[index]); ++index) column -= of(segments[index]);
    with_form(segments[index].form, [&](auto form) {
      compute_share<decltype(form)>(segments[index], column * kTilesAtOnce, rows, first_row_tile, result);
    });
  }
};

int64_t room_of(const PackedLinearCall& call, const Shares& shares) {
  return (shares.has_integers ? integer_bytes(call.num_rows, call.size) : 0) +
         (shares.has_bfloats ? bfloat_bytes(call.num_rows, call.size) : 0);
}

Plan plan_packed_linear(const PackedLinearCall& call) {
  return {false, room_of(call, Shares(call.segments, (int)call.num_segments))};
}

void run_packed_linear(const PackedLinearCall& call, Team& team) {
  const Shares shares(call.segments, (int)call.num_segments);
  InputRows rows = {call.num_rows, {}, {}};
  if (shares.has_integers) rows.integers = integer_rows(team.room, call.num_rows, call.size);
  if (shares.has_bfloats)
    rows.bfloats =
        bfloat_rows(team.room + (shares.has_integers ? integer_bytes(call.num_rows, call.size) : 0), call.num_rows, call.size);
  const int64_t row_tiles_of_a_piece = ceil_divide(rows_of_a_piece(call.size), kRowsATile);
  team.share(rows.num_tiles(), row_tiles_of_a_piece, [&](int64_t tile, int64_t end) {
    with_number_type(call.input_type, [&](auto number) {
      const auto* numbers = (const decltype(number)*)call.input;
      for (int64_t t = tile; t < end; ++t) {
        if (shares.has_integers) rows.integers.fill(numbers, call.size, t, rows.rows_in(t));
        if (shares.has_bfloats) rows.bfloats.fill(numbers, call.size, t, rows.rows_in(t));
      }
    });
  });
  const Result result = {call.output_type, call.output, call.output_size, call.bias};
  const int64_t num_shares = shares.num_column_shares * ceil_divide(call.num_rows, kRowsAtOnce);
  // A thread takes shares side by side, since each fetches the weights of the next; few enough that all end together.
  const int64_t fair = num_shares / (4 * team.size);
  const int64_t piece = fair < 1 ? 1 : fair < kLargestPiece ? fair : kLargestPiece;
  team.share(num_shares, piece, [&](int64_t share, int64_t end) {
    for (; share < end; ++share) shares.compute(share, rows, result);
  });
}

}  // namespace

YEOUL_OPERATION(packed_linear, PackedLinearCall, plan_packed_linear, run_packed_linear)
