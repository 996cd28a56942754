// How weights lie in memory, packed for the kernels of packed_linear; knows nothing of files or of threads.
//
// A weight is scale * (number - 128), with a scale for each output and 192 inputs, and with a number from 1 to 255 that is stored as it is (8 bits) or computed from a
// code of 4 bits: number = (step * code + start) >> 8, modulo 2^16 before the shift, with a step and a start for each output
// and step_block inputs. Either way one weight is one integer, exactly, in whatever path it is multiplied. Numbers of 8 bits may
// have a float16 for each output and 32 inputs instead; the scale that it is multiplied with is then one for all inputs.
//
// Outputs are grouped in tiles of 16, inputs in blocks of 64; a tile lies block by block, and tiles one after the other, so
// that a matrix is read as one stream. 8 bits: a block is 16 groups of 64 bytes, each the numbers of 16 outputs by 4 inputs,
// the inputs of an output together; the scales of the block come before them, [2][16], where there are any. 4 bits: a block
// begins with its steps [64 / step_block][16], then its starts likewise where they are stored; then 8 lines of 64 bytes, the
// low halves being one group of codes and the high halves the next.
//
// Weights of 16 bits are bfloat16: [tile][pair of inputs][16 outputs][2], the inputs filled up to blocks of 32, no scales.

#pragma once

#include <stdint.h>

namespace {

constexpr int kTileOutputs = 16;
constexpr int kBlockInputs = 64;
constexpr int kScaleBlocks = 3;  // of 192 inputs
constexpr int kGroupInputs = 4;
constexpr int kGroupBytes = kTileOutputs * kGroupInputs;
constexpr int kBlockGroups = kBlockInputs / kGroupInputs;
constexpr int kNumberBytes = kTileOutputs * kBlockInputs;  // of a block of 8 bits
constexpr int kBFloatBlock = 32;
constexpr int kZero = 128;  // the number of a weight that is 0
constexpr uint16_t kMiddle = kZero * 256 + 128;  // the same with 8 more bits, and a half that rounds

// The same as the fields of PackedForm in pack_matrix/packed_matrix.py.
struct PackedForm {
  int32_t code_bits;   // 4, 8 or 16
  int32_t step_block;  // 4 bits: 16 or 32; 8 bits: 32 with scales in the blocks, 64 without
  int32_t has_starts;  // 4 bits: else code 8 is a weight of 0
};

// The same as _Segment in packed_linear/native.py: one of the matrices that share their input.
struct Segment {
  const uint8_t* codes;
  const float* scales;  // [tiles][scales of an output][16]
  int64_t num_outputs;
  int64_t first_output;  // its place in a row of the result
  PackedForm form;
};

constexpr int64_t ceil_divide(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// A form as constants of a type.
template <int code_bits, int step_block = kBlockInputs, bool has_starts = false>
struct Form {
  static constexpr int kCodeBits = code_bits;
  static constexpr int kStepBlock = step_block;
  static constexpr bool kHasStarts = has_starts;
  static constexpr bool kHasBlockScales = code_bits == 8 && step_block < kBlockInputs;
  static constexpr int kStepBytes = code_bits == 4 || kHasBlockScales ? kBlockInputs / step_block * kTileOutputs * 2 : 0;
  static constexpr int kCodesOffset = kStepBytes * (has_starts ? 2 : 1);
  static constexpr int kBlockBytes = kCodesOffset + kNumberBytes * code_bits / 8;
};

// How many scales an output has.
template <class F>
constexpr int64_t scales_of(int64_t num_blocks) {
  return F::kHasBlockScales ? 1 : ceil_divide(num_blocks, kScaleBlocks);
}

// Calls function(Form<...>{}).
template <class Function>
inline void with_form(const PackedForm& form, Function function) {
  if (form.code_bits == 16) return function(Form<16>{});
  if (form.code_bits == 8) return form.step_block == 32 ? function(Form<8, 32>{}) : function(Form<8>{});
  if (form.step_block == 16) return form.has_starts ? function(Form<4, 16, true>{}) : function(Form<4, 16, false>{});
  return form.has_starts ? function(Form<4, 32, true>{}) : function(Form<4, 32, false>{});
}

}  // namespace
