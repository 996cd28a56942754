// The types of numbers as Python names them; the same as NumberType in native_library.py.

#pragma once

#include "yeoul/kernels/native/lanes.h"

namespace {

enum NumberType : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// Calls function(Number{}) with the type that `type` names.
template <class Function>
inline void with_number_type(int type, Function function) {
  switch (type) {
    case kFloat32:
      return function(float{});
    case kBFloat16:
      return function(BFloat16{});
    default:
      return function(Float16{});
  }
}

}  // namespace
