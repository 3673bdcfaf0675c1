// SPDX-License-Identifier: Apache-2.0
//
// Clocks bitward_mvu_twins for the cycles named on the command line; prints results compared and results different.

#include <cstdio>
#include <cstdlib>

#include "Vtwins.h"
#include "verilated.h"

int main(int argc, char** argv) {
  VerilatedContext context;
  context.randSeed(argc > 2 ? std::atoi(argv[2]) : 1);
  Vtwins twins(&context);
  const long cycles = argc > 1 ? std::atol(argv[1]) : 1000;
  twins.ap_rst_n = 0;
  for (long cycle = 0; cycle < cycles; cycle++) {
    twins.ap_rst_n = cycle >= 16;
    twins.ap_clk = 0;
    twins.eval();
    twins.ap_clk = 1;
    twins.eval();
  }
  std::printf("%u %u\n", twins.compared_o, twins.different_o);
  twins.final();
  return 0;
}
