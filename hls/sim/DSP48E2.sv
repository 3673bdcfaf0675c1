// SPDX-License-Identifier: Apache-2.0

/// Behaviour of the UltraScale+ DSP48E2 slice as FINN's matrix-vector unit sets it: P <= (P or 0) + (D - A) * B, with
/// registers on B, the pre-adder, the product, OPMODE and P. Written from the slice's user guide (UG579). Anything
/// else that the slice could be set to ends elaboration or the simulation with an error. For simulation only.
module DSP48E2 #(
  parameter AMULTSEL = "A", parameter BMULTSEL = "B", parameter PREADDINSEL = "A",
  parameter A_INPUT = "DIRECT", parameter B_INPUT = "DIRECT", parameter RND = '0,
  parameter USE_MULT = "MULTIPLY", parameter USE_SIMD = "ONE48", parameter USE_WIDEXOR = "FALSE", parameter XORSIMD = "",
  parameter AUTORESET_PATDET = "NO_RESET", parameter AUTORESET_PRIORITY = "RESET", parameter MASK = '0,
  parameter PATTERN = '0, parameter SEL_MASK = "MASK", parameter SEL_PATTERN = "PATTERN",
  parameter USE_PATTERN_DETECT = "NO_PATDET",
  parameter logic [3:0] IS_ALUMODE_INVERTED = '0, parameter bit IS_CARRYIN_INVERTED = '0,
  parameter bit IS_CLK_INVERTED = '0, parameter logic [4:0] IS_INMODE_INVERTED = '0,
  parameter logic [8:0] IS_OPMODE_INVERTED = '0, parameter bit IS_RSTALLCARRYIN_INVERTED = '0,
  parameter bit IS_RSTALUMODE_INVERTED = '0, parameter bit IS_RSTA_INVERTED = '0, parameter bit IS_RSTB_INVERTED = '0,
  parameter bit IS_RSTCTRL_INVERTED = '0, parameter bit IS_RSTC_INVERTED = '0, parameter bit IS_RSTD_INVERTED = '0,
  parameter bit IS_RSTINMODE_INVERTED = '0, parameter bit IS_RSTM_INVERTED = '0, parameter bit IS_RSTP_INVERTED = '0,
  parameter int ACASCREG = 1, parameter int ADREG = 1, parameter int ALUMODEREG = 1, parameter int AREG = 1,
  parameter int BCASCREG = 1, parameter int BREG = 1, parameter int CARRYINREG = 1, parameter int CARRYINSELREG = 1,
  parameter int CREG = 1, parameter int DREG = 1, parameter int INMODEREG = 1, parameter int MREG = 1,
  parameter int OPMODEREG = 1, parameter int PREG = 1
) (
  output logic [29:0] ACOUT, output logic [17:0] BCOUT, output logic CARRYCASCOUT, output logic MULTSIGNOUT,
  output logic [47:0] PCOUT, output logic OVERFLOW, output logic PATTERNBDETECT, output logic PATTERNDETECT,
  output logic UNDERFLOW, output logic [3:0] CARRYOUT, output logic [47:0] P, output logic [7:0] XOROUT,
  input logic [29:0] ACIN, input logic [17:0] BCIN, input logic CARRYCASCIN, input logic MULTSIGNIN,
  input logic [47:0] PCIN, input logic [3:0] ALUMODE, input logic [2:0] CARRYINSEL, input logic CLK,
  input logic [4:0] INMODE, input logic [8:0] OPMODE, input logic [29:0] A, input logic [17:0] B,
  input logic [47:0] C, input logic CARRYIN, input logic [26:0] D,
  input logic CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
  input logic RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP
);

  if (AMULTSEL != "AD" || BMULTSEL != "B" || PREADDINSEL != "A" || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" ||
      USE_MULT != "MULTIPLY" || USE_SIMD != "ONE48" || USE_WIDEXOR != "FALSE" || USE_PATTERN_DETECT != "NO_PATDET" ||
      AREG != 0 || DREG != 0 || BREG != 1 || ADREG != 1 || MREG != 1 || OPMODEREG != 1 || PREG != 1 ||
      ALUMODEREG != 0 || INMODEREG != 0 || CARRYINREG != 0 || CARRYINSELREG != 0) begin : gen_unknown
    $error("DSP48E2: this model knows only the setting that FINN's matrix-vector unit uses.");
  end
  if (IS_ALUMODE_INVERTED != 0 || IS_CARRYIN_INVERTED || IS_CLK_INVERTED || IS_INMODE_INVERTED != 0 ||
      IS_RSTALLCARRYIN_INVERTED || IS_RSTALUMODE_INVERTED || IS_RSTA_INVERTED || IS_RSTB_INVERTED ||
      IS_RSTCTRL_INVERTED || IS_RSTC_INVERTED || IS_RSTD_INVERTED || IS_RSTINMODE_INVERTED || IS_RSTM_INVERTED ||
      IS_RSTP_INVERTED) begin : gen_inverted
    $error("DSP48E2: this model inverts no input but OPMODE.");
  end

  localparam logic [4:0] SubtractAFromD = 5'b01100;  // INMODE: pre-adder D - A, B from its register
  localparam logic [3:0] Product        = 4'b0101;   // OPMODE[3:0]: X and Y take the product
  localparam logic [2:0] ZeroZ          = 3'b000;    // OPMODE[6:4]: Z is 0, or
  localparam logic [2:0] Feedback       = 3'b010;    //              the last P

  logic signed [17:0] b_q = '0;
  logic signed [26:0] ad_q = '0;
  logic signed [44:0] m_q = '0;
  logic        [8:0]  opmode_q = '0;
  logic signed [47:0] p_q = '0;
  logic               started_q = 1'b0;  // OPMODE has been set once

  always_ff @(posedge CLK) begin
    if (RSTB)      b_q <= '0;
    else if (CEB2) b_q <= B;
    if (RSTD)      ad_q <= '0;
    else if (CEAD) ad_q <= $signed(D) - $signed(A[26:0]);
    if (RSTM)     m_q <= '0;
    else if (CEM) m_q <= ad_q * b_q;
    if (RSTCTRL)     opmode_q <= '0;
    else if (CECTRL) opmode_q <= OPMODE ^ IS_OPMODE_INVERTED;
    if (RSTP)     p_q <= '0;
    else if (CEP) p_q <= 48'(m_q) + (opmode_q[6:4] == Feedback ? p_q : '0);
    started_q <= started_q || (CECTRL && !RSTCTRL);
    if (CEP && !RSTP && started_q) begin
      assert (opmode_q[8:7] == 0 && opmode_q[3:0] == Product && opmode_q[6:4] inside {ZeroZ, Feedback})
        else $error("DSP48E2: this model knows OPMODE 000_0x0_0101 only, got %b.", opmode_q);
      assert (INMODE == SubtractAFromD && ALUMODE == '0 && CARRYINSEL == '0 && !CARRYIN)
        else $error("DSP48E2: this model knows D - A and P + M only, got INMODE %b ALUMODE %b.", INMODE, ALUMODE);
    end
  end

  assign P = p_q;
  assign {ACOUT, BCOUT, CARRYCASCOUT, MULTSIGNOUT, PCOUT, OVERFLOW, PATTERNBDETECT, PATTERNDETECT, UNDERFLOW, CARRYOUT,
          XOROUT} = '0;

endmodule
