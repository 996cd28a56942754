// How a kernel gets a name that says its instruction set: the file is compiled once for each set.

#pragma once

#define YEOUL_JOIN_NOW(name, set) name##_##set
#define YEOUL_JOIN(name, set) YEOUL_JOIN_NOW(name, set)

// YEOUL_EXPORT(void, rms_norm)(...) defines rms_norm_avx512 and so on.
#define YEOUL_EXPORT(result, name) \
  extern "C" __attribute__((visibility("default"))) result YEOUL_JOIN(name, YEOUL_INSTRUCTION_SET)
