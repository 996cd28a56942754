// quantize_rows for one instruction set, see quantize_rows.h; called by native.py.

#include "yeoul/kernels/quantize_rows/quantize_rows.h"

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/numbers.h"

YEOUL_EXPORT(void, quantize_rows)
(int type, const void* rows, int64_t num_rows, int64_t size, int8_t* codes, float* scales, int32_t* sums) {
  const int64_t num_blocks = (size + kQuantizedBlock - 1) / kQuantizedBlock;
  with_number_type(type, [=](auto number) {
    using Number = decltype(number);
#pragma omp parallel for if (num_rows > 8)
    for (int64_t row = 0; row < num_rows; ++row)
      quantize_row((const Number*)rows + row * size, size, num_blocks * kQuantizedBlock, kQuantizedBlock,
                   codes + row * num_blocks * kQuantizedBlock, scales + row * num_blocks, sums + row * num_blocks);
  });
}
