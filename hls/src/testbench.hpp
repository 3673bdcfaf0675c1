// SPDX-License-Identifier: Apache-2.0
// What the testbenches share: files of little-endian 32-bit segments, a beat each `segments(width)` of them.
#ifndef BITWARD_TESTBENCH_HPP
#define BITWARD_TESTBENCH_HPP

#include <ap_int.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace bitward {

using Segments = std::vector<uint32_t>;

constexpr unsigned segments(unsigned width) { return (width + 31) / 32; }

inline void fail(const char *what, const char *path) {
  std::fprintf(stderr, "%s must be %s\n", path, what);
  std::exit(1);
}

/// The whole file.
inline Segments read_file(const char *path) {
  std::FILE *file = std::fopen(path, "rb");
  if (!file) fail("a readable file", path);
  std::fseek(file, 0, SEEK_END);
  Segments found(std::ftell(file) / sizeof(uint32_t));
  std::rewind(file);
  if (std::fread(found.data(), sizeof(uint32_t), found.size(), file) != found.size()) fail("readable to its end", path);
  std::fclose(file);
  return found;
}

/// The file holds these segments.
inline void write_file(const char *path, const Segments &data) {
  std::FILE *file = std::fopen(path, "wb");
  if (!file || std::fwrite(data.data(), sizeof(uint32_t), data.size(), file) != data.size() || std::fclose(file) != 0) {
    fail("a writable file", path);
  }
}

/// The beat that begins at segment `at`.
template <int Width>
ap_uint<Width> unpack(const Segments &from, size_t at) {
  ap_uint<Width> beat = 0;
  for (int low = 0; low < Width; low += 32) {
    const int high = low + 31 < Width ? low + 31 : Width - 1;
    beat.range(high, low) = from[at + low / 32];
  }
  return beat;
}

/// The beat stands behind what `to` holds.
template <int Width>
void pack(const ap_uint<Width> &beat, Segments &to) {
  for (int low = 0; low < Width; low += 32) {
    const int high = low + 31 < Width ? low + 31 : Width - 1;
    to.push_back(beat.range(high, low).to_uint());
  }
}

}  // namespace bitward

#endif
