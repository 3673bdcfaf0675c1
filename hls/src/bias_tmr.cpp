// SPDX-License-Identifier: Apache-2.0
// The triplicated bias as a top function for Vitis HLS: accumulators in, sums out; its memory is written over AXI-Lite.
#include "bitward_bias_tmr.hpp"

#ifndef CHANNELS
#define CHANNELS 16
#endif
#ifndef LANES
#define LANES 4
#endif
#ifndef ACC_BITS
#define ACC_BITS 16
#endif
#ifndef BIAS_BITS
#define BIAS_BITS 16
#endif
#ifndef SUM_BITS
#define SUM_BITS 17
#endif

void bias_tmr(hls::stream<ap_uint<LANES * ACC_BITS>> &in, hls::stream<ap_uint<LANES * SUM_BITS>> &out,
              const bitward::Beat<LANES, BIAS_BITS, BIAS_BITS>::Stored memory[CHANNELS / LANES], unsigned rows,
              unsigned &corrected) {
#pragma HLS INTERFACE axis port=in
#pragma HLS INTERFACE axis port=out
#pragma HLS INTERFACE s_axilite port=memory
#pragma HLS BIND_STORAGE variable=memory type=ram_1p impl=bram
#pragma HLS INTERFACE s_axilite port=rows
#pragma HLS INTERFACE s_axilite port=corrected
#pragma HLS INTERFACE s_axilite port=return
  corrected = bitward::BiasTmr_Batch<CHANNELS, LANES, ACC_BITS, BIAS_BITS, SUM_BITS>(in, out, memory, rows);
}
