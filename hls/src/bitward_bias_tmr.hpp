// SPDX-License-Identifier: Apache-2.0
// A bias per channel from a memory that stores every bit three times, for Vitis HLS: the twin of hls/rtl/bitward_bias.sv
// under full TMR. Model: bitward.schemes.Tmr(bits, bits); hls/src/bias_tmr_tb.cpp holds them together.
#ifndef BITWARD_BIAS_TMR_HPP
#define BITWARD_BIAS_TMR_HPP

#include <ap_int.h>
#include <hls_stream.h>

#include "bitward_voter.hpp"

namespace bitward {

/// `rows` times all channels: out = in + bias, PE channels a beat, one beat a cycle; returns how often copies disagreed.
///
/// memory[f] is the beat of the biases of channels f*PE to f*PE+PE-1. Accumulators, biases and sums are signed; the sum
/// of an accumulator and a bias must fit into SumBits (one bit more than the wider of the two always does).
template <unsigned Channels,  /// of the layer, a multiple of PE
          unsigned PE,        /// channels per beat
          unsigned AccBits,   /// of an accumulator
          unsigned BiasBits,  /// of a bias, each stored three times
          unsigned SumBits>   /// of what comes out
unsigned BiasTmr_Batch(hls::stream<ap_uint<PE * AccBits>> &in, hls::stream<ap_uint<PE * SumBits>> &out,
                       const typename Beat<PE, BiasBits, BiasBits>::Stored memory[Channels / PE], unsigned rows) {
  static_assert(Channels % PE == 0, "Channels must be a multiple of PE");
  static_assert(SumBits >= AccBits && SumBits >= BiasBits, "SumBits must be at least AccBits and BiasBits");
  constexpr unsigned kFold = Channels / PE;
  unsigned corrected = 0;
  unsigned fold = 0;
  for (unsigned beat = 0; beat < rows * kFold; beat++) {
#pragma HLS PIPELINE II=1
    bool disagree = false;
    const ap_uint<PE * BiasBits> biases = vote<PE, BiasBits, BiasBits>(memory[fold], disagree);
    const ap_uint<PE * AccBits> accumulators = in.read();
    ap_uint<PE * SumBits> sums = 0;
    for (unsigned lane = 0; lane < PE; lane++) {
#pragma HLS UNROLL
      const ap_int<AccBits> accumulator = accumulators.range((lane + 1) * AccBits - 1, lane * AccBits);
      const ap_int<BiasBits> bias = biases.range((lane + 1) * BiasBits - 1, lane * BiasBits);
      const ap_int<SumBits> sum = accumulator + bias;
      sums.range((lane + 1) * SumBits - 1, lane * SumBits) = ap_uint<SumBits>(sum);
    }
    out.write(sums);
    corrected += disagree;
    fold = fold + 1 == kFold ? 0 : fold + 1;
  }
  return corrected;
}

}  // namespace bitward

#endif
