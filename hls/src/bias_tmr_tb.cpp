// SPDX-License-Identifier: Apache-2.0
// bias_tmr_tb MEMORY IN OUT: the accumulators of IN through BiasTmr_Batch with the stored biases of MEMORY; OUT has the
// beats of sums, then, last, how often copies disagreed. Widths come with -D, as those of bias_tmr.cpp.
#include "bias_tmr.cpp"
#include "testbench.hpp"

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "bias_tmr_tb must be given MEMORY IN OUT\n");
    return 2;
  }
  using Place = bitward::Beat<LANES, BIAS_BITS, BIAS_BITS>;
  constexpr unsigned kFold = CHANNELS / LANES;
  const bitward::Segments stored = bitward::read_file(argv[1]), given = bitward::read_file(argv[2]);
  if (stored.size() != kFold * bitward::segments(Place::kWidth)) bitward::fail("a memory of all channels", argv[1]);
  Place::Stored memory[kFold];
  for (unsigned fold = 0; fold < kFold; fold++) {
    memory[fold] = bitward::unpack<Place::kWidth>(stored, fold * bitward::segments(Place::kWidth));
  }
  hls::stream<ap_uint<LANES * ACC_BITS>> in;
  hls::stream<ap_uint<LANES * SUM_BITS>> out;
  constexpr unsigned kSegments = bitward::segments(LANES * ACC_BITS);
  const unsigned rows = given.size() / kSegments / kFold;
  for (unsigned beat = 0; beat < rows * kFold; beat++) in.write(bitward::unpack<LANES * ACC_BITS>(given, beat * kSegments));
  unsigned corrected = 0;
  bias_tmr(in, out, memory, rows, corrected);
  bitward::Segments found;
  while (!out.empty()) bitward::pack<LANES * SUM_BITS>(out.read(), found);
  found.push_back(corrected);
  bitward::write_file(argv[3], found);
  return 0;
}
