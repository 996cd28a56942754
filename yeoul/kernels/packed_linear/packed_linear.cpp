// Rows times packed weights, as integers or as bfloat16, for one instruction set; called by native.py.
//
// A number of the result is summed over the blocks of its row in their order, whatever the other rows, the tile that it is
// computed in and the number of threads: alone or in a crowd it has the same bits.

#include "yeoul/kernels/packed_linear/multiply_tile.h"

#include "yeoul/kernels/activation/gate_row.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/rms_norm/normalize_row.h"

namespace {

constexpr int64_t kLargestPiece = 16;
constexpr int64_t kBytesAtOnce = 384 << 10;  // of rows that pass by the same weights, so that they stay in the second cache

// The rows in the types that the segments of a call need, in tiles of as equal numbers of rows as can be.
struct InputRows {
  int64_t num_rows;
  int64_t num_tiles;
  int64_t tiles_at_once;
  IntegerRows integers;
  BFloatRows bfloats;

  InputRows(int64_t rows, int64_t size) : num_rows(rows), num_tiles(rows <= kFewRows ? 1 : ceil_divide(rows, kRowsATile)), integers(), bfloats() {
    const int64_t wanted = kBytesAtOnce / (size * kRowsATile);
    tiles_at_once = wanted < 4 ? 4 : wanted;
  }

  int64_t first_row(int64_t tile) const { return tile * num_rows / num_tiles; }
  int64_t tile_of(int64_t row) const { return ((row + 1) * num_tiles - 1) / num_rows; }
  int rows_in(int64_t tile) const { return (int)(first_row(tile + 1) - first_row(tile)); }
};

struct Result {
  int type;
  void* numbers;
  int64_t row_size;
  const float* bias;
};

template <class F, int R, int C>
void compute_tile(const Segment& segment, const TileWeights& weights, int64_t first_tile, const InputRows& rows, int64_t first_row,
                  const Result& result) {
  Floats sums[C * kVectorsATile][R];
  if constexpr (F::kCodeBits == 16)
    multiply_bfloat_tile<R, C>(weights, rows.bfloats.num_blocks, rows.bfloats.tile(first_row), sums);
  else
    multiply_tile<F, R, C>(weights, segment.scales + first_tile * kTileOutputs * scales_of<F>(rows.integers.num_blocks),
                           rows.integers.num_blocks, rows.integers.tile(first_row), sums);
  with_number_type(result.type, [&](auto number) {
    auto* target = (decltype(number)*)result.numbers + first_row * result.row_size + segment.first_output;
    for (int v = 0; v < C * kVectorsATile; ++v) {
      const int64_t output = first_tile * kTileOutputs + v * kLanes, left = segment.num_outputs - output;
      if (left <= 0) break;
      const int count = left < kLanes ? (int)left : kLanes;
      const Floats bias = result.bias ? load_some(result.bias + segment.first_output + output, count) : splat(0.0f);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        store_some(target + r * result.row_size + output, sums[v][r] + bias, count);
    }
  });
}

// Tiles of rows, from `row_tile` to `end`, by C tiles of outputs of one segment.
template <class F, int C>
void compute_row_tiles(const Segment& segment, TileWeights weights, int64_t first_tile, const InputRows& rows, int64_t row_tile,
                       int64_t end, const Result& result) {
  for (; row_tile < end; ++row_tile) {
    with_count<C == 1 ? kFewRows : kRowsATile>(rows.rows_in(row_tile), [&](auto count) {
      compute_tile<F, decltype(count)::kNumber, C>(segment, weights, first_tile, rows, rows.first_row(row_tile), result);
    });
    weights.next = nullptr;
  }
}

// The bytes of a thread that 4-bit codes are expanded into when more than one tile of rows needs them.
inline uint8_t* expanded_tiles(int64_t num_bytes) {
  static thread_local Scratch scratch;
  return (uint8_t*)scratch.at_least(num_bytes / 4);
}

// A share of the work: tiles of rows, as many as pass by at once, by C tiles of outputs of one segment.
template <class F, int C>
void compute_share(const Segment& segment, int64_t first_tile, const InputRows& rows, int64_t row_tile, const Result& result) {
  const int64_t num_blocks = F::kCodeBits == 16 ? rows.bfloats.num_blocks : rows.integers.num_blocks;
  constexpr int64_t kBlockBytes = F::kCodeBits == 16 ? kBFloatBlock * kTileOutputs * 2 : F::kBlockBytes;
  const uint8_t* codes = segment.codes + first_tile * num_blocks * kBlockBytes;
  TileWeights weights = {codes, num_blocks * kBlockBytes, (const char*)codes + C * num_blocks * kBlockBytes, C * kBlockBytes};
  const int64_t end = row_tile + rows.tiles_at_once < rows.num_tiles ? row_tile + rows.tiles_at_once : rows.num_tiles;
  if constexpr (F::kCodeBits == 4) {
    if (rows.num_tiles > 1) {
      uint8_t* numbers = expanded_tiles(C * num_blocks * kNumberBytes);
      for (int64_t block = 0; block < C * num_blocks; ++block)
        expand_block<F>(codes + block * kBlockBytes, numbers + block * kNumberBytes);
      weights.codes = numbers;
      weights.tile_bytes = num_blocks * kNumberBytes;
      return compute_row_tiles<Form<8>, C>(segment, weights, first_tile, rows, row_tile, end, result);
    }
  }
  if constexpr (F::kCodeBits != 4 || C == 1) compute_row_tiles<F, C>(segment, weights, first_tile, rows, row_tile, end, result);
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
    const int64_t first_row_tile = share / num_column_shares * rows.tiles_at_once;
    int64_t column = share % num_column_shares;
    int index = 0;
    for (; column >= of(segments[index]); ++index) column -= of(segments[index]);
    const int64_t first_tile = column * kTilesAtOnce;
    const int64_t left = ceil_divide(segments[index].num_outputs, kTileOutputs) - first_tile;
    with_form(segments[index].form, [&](auto form) {
      using F = decltype(form);
      if (left >= kTilesAtOnce && rows.num_tiles > 1)
        return compute_share<F, kTilesAtOnce>(segments[index], first_tile, rows, first_row_tile, result);
      // Tile by tile for few rows and for the last of an odd number.
      for (int64_t tile = 0; tile < left && tile < kTilesAtOnce; ++tile)
        compute_share<F, 1>(segments[index], first_tile + tile, rows, first_row_tile, result);
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

// Computes a part of a row of the input, if this call does so, and lays it out.
void fill_part(const PackedLinearCall& call, const Shares& shares, InputRows& rows, int64_t row, int64_t begin, int64_t end) {
  if (call.norm != nullptr) normalize_row(*call.norm, row);
  if (call.gate != nullptr) gate_row(*call.gate, row, begin, end);
  const int64_t tile = rows.tile_of(row), first_row = rows.first_row(tile);
  with_number_type(call.input_type, [&](auto number) {
    const auto* numbers = (const decltype(number)*)call.input + row * call.size;
    const int r = (int)(row - first_row), num_rows = rows.rows_in(tile);
    if (shares.has_integers) rows.integers.fill(numbers, call.size, begin, end, first_row, r, num_rows);
    if (shares.has_bfloats) rows.bfloats.fill(numbers, call.size, begin, end, first_row, r, num_rows);
  });
}

void run_packed_linear(const PackedLinearCall& call, Team& team) {
  const Shares shares(call.segments, (int)call.num_segments);
  InputRows rows(call.num_rows, call.size);
  if (shares.has_integers) rows.integers = integer_rows(team.room, call.num_rows, call.size);
  if (shares.has_bfloats)
    rows.bfloats = bfloat_rows(team.room + (shares.has_integers ? integer_bytes(call.num_rows, call.size) : 0), call.size);
  // A row that is normalised first is one part.
  const RowParts parts(call.size, call.norm != nullptr ? call.size : kPartNumbers);
  const int64_t few = rows_of_a_piece(parts.part_size), tile_parts = kRowsATile * parts.count;
  team.share(call.num_rows * parts.count, rows.num_tiles == 1 ? few : ceil_divide(few, tile_parts) * tile_parts,
             [&](int64_t part, int64_t end) {
               for (; part < end; ++part) fill_part(call, shares, rows, parts.row(part), parts.begin(part), parts.end(part));
             });
  const Result result = {call.output_type, call.output, call.output_size, call.bias};
  const int64_t num_shares = shares.num_column_shares * ceil_divide(rows.num_tiles, rows.tiles_at_once);
  // A thread takes shares side by side, since each fetches the weights of the next; few enough that all end together.
  const int64_t fair = num_shares / (4 * team.size);
  const int64_t piece = fair < 1 ? 1 : fair < kLargestPiece ? fair : kLargestPiece;
  team.share(num_shares, piece, [&](int64_t share, int64_t end) {
    for (; share < end; ++share) shares.compute(share, rows, result);
  });
}

}  // namespace

YEOUL_OPERATION(packed_linear, PackedLinearCall, plan_packed_linear, run_packed_linear)
