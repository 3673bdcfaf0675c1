// SPDX-License-Identifier: Apache-2.0
// The voter as a top function for Vitis HLS: stored beats in, plain words out. Widths come with -D.
#include "bitward_voter.hpp"

#ifndef WORDS
#define WORDS 4
#endif
#ifndef BITS
#define BITS 4
#endif
#ifndef VOTED
#define VOTED 1
#endif

void voter(hls::stream<bitward::Beat<WORDS, BITS, VOTED>::Stored> &in,
           hls::stream<bitward::Beat<WORDS, BITS, VOTED>::Plain> &out, unsigned beats, unsigned &corrected) {
#pragma HLS INTERFACE axis port=in
#pragma HLS INTERFACE axis port=out
#pragma HLS INTERFACE s_axilite port=beats
#pragma HLS INTERFACE s_axilite port=corrected
#pragma HLS INTERFACE s_axilite port=return
  corrected = bitward::Voter_Batch<WORDS, BITS, VOTED>(in, out, beats);
}
