// Gated activations for one instruction set; called by native.py. Knows nothing of layers.

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int kGeluTanh = 1;  // the same as in native.py

inline Floats silu(Floats value) { return value / (splat(1.0f) + exponential(-value)); }

inline Floats gelu_tanh(Floats value) {
  const Floats inner = splat(0.7978845608f) * (value + splat(0.044715f) * value * value * value);
  return splat(0.5f) * value * (splat(1.0f) + hyperbolic_tangent(inner));
}

}  // namespace

// output = activation(gate) * up for rows [gate, up] of 2 * size numbers.
YEOUL_EXPORT(void, gate)
(int kind, int type, int64_t num_rows, int64_t size, const void* gate_and_up, void* output) {
#pragma omp parallel for schedule(static) if (num_rows * size > kSerialNumbers / 2)
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t place = 0; place < size; place += kLanes) {
      const int count = lanes_left(size, place);
      const Floats value = load_typed(address_of(gate_and_up, row * 2 * size + place, type), type, count);
      const Floats up = load_typed(address_of(gate_and_up, (row * 2 + 1) * size + place, type), type, count);
      const Floats number = (kind == kGeluTanh ? gelu_tanh(value) : silu(value)) * up;
      store_typed(address_of(output, row * size + place, type), type, number, count);
    }
  }
}
