// How quantised weights lie in memory, packed for integer dot products; knows nothing of files or of threads.
//
// A weight is scale * (code - offset), or scale * code + minimum. Outputs are grouped in tiles of 16, inputs in blocks of
// 32. A block of a tile is 8 groups of 64 bytes, each the codes of 16 outputs by 4 inputs, the inputs of an output together.
// 4-bit codes share a byte with the next group: the low half belongs to the even group. Scales and minimums are
// [tile][block][16], a block being 32 inputs or 16.
//
// Weights of 16 bits are no codes but bfloat16: [tile][pair of inputs][16 outputs][2], without scales or blocks.

#pragma once

#include <stdint.h>

namespace {

constexpr int kTileOutputs = 16;
constexpr int kBlockInputs = 32;

// The same as the fields of PackedForm in pack_matrix/packed_matrix.py.
struct PackedForm {
  int32_t code_bits;         // 4 or 8; 16: bfloat16, and nothing else of the form holds
  int32_t scale_block;       // 16 or 32
  int32_t has_half_scales;   // float16 scales and minimums, else float32
  int32_t has_minimums;      // else the offset is 8 or 128, half of what the codes can hold
};

// The same as _Segment in packed_linear/native.py: one of the matrices that share their input.
struct Segment {
  const uint8_t* codes;
  const void* scales;
  const void* minimums;
  int64_t num_outputs;
  int64_t first_output;  // its place in a row of the result
  PackedForm form;
};

constexpr int64_t ceil_divide(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// Calls function(Form<...>{}) with the form as constants of a type.
template <int code_bits, int scale_block, bool has_half_scales, bool has_minimums>
struct Form {
  static constexpr int kCodeBits = code_bits;
  static constexpr int kScaleBlock = scale_block;
  static constexpr bool kHasHalfScales = has_half_scales;
  static constexpr bool kHasMinimums = has_minimums;
  static constexpr int kOffset = code_bits == 4 ? 8 : 128;
  static constexpr int kBlockBytes = kTileOutputs * kBlockInputs * code_bits / 8;
  static constexpr int kScalesABlock = kBlockInputs / scale_block;
};

template <class Function>
inline void with_form(const PackedForm& form, Function function) {
  if (form.code_bits == 16) return function(Form<16, 32, false, false>{});
  const int key = (form.code_bits == 8) * 8 + (form.scale_block == 16) * 4 + (form.has_half_scales != 0) * 2 +
                  (form.has_minimums != 0);
  switch (key) {
    case 0: return function(Form<4, 32, false, false>{});
    case 1: return function(Form<4, 32, false, true>{});
    case 2: return function(Form<4, 32, true, false>{});
    case 3: return function(Form<4, 32, true, true>{});
    case 4: return function(Form<4, 16, false, false>{});
    case 5: return function(Form<4, 16, false, true>{});
    case 8: return function(Form<8, 32, false, false>{});
    case 9: return function(Form<8, 32, false, true>{});
    case 10: return function(Form<8, 32, true, false>{});
    case 11: return function(Form<8, 32, true, true>{});
    case 12: return function(Form<8, 16, false, false>{});
    default: __builtin_trap();  // Python makes no other
  }
}

}  // namespace
