// quantize_rows for one instruction set, see quantize_rows.h; called by native.py.

#include "yeoul/kernels/quantize_rows/quantize_rows.h"

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/numbers.h"

YEOUL_EXPORT(void, quantize_rows)
(int type, const void* rows, int64_t num_rows, int64_t size, int8_t* codes, float* scales, int32_t* sums) {
  const int64_t num_blocks = (size + kQuantizedBlock - 1) / kQuantizedBlock;
  with_number_type(type, [=](auto number) {
    const auto* numbers = (const decltype(number)*)rows;
#pragma omp parallel for if (num_rows > 8)
    for (int64_t row = 0; row < num_rows; ++row)
      for (int64_t block = 0; block < num_blocks; ++block) {
        const int64_t first = block * kQuantizedBlock, place = row * num_blocks + block;
        const QuantizedBlock found = quantize_block(numbers + row * size + first, size - first, codes + place * kQuantizedBlock);
        scales[place] = found.scale;
        sums[place] = found.sum;
      }
  });
}
