// SPDX-License-Identifier: Apache-2.0

/// A constant of each channel is added to it, or multiplies it. The constants are logic, not a memory of the manifest:
/// no fault is injected here.
module bitward_constant #(
  parameter  bit          Multiply = 0,  /// 1: product; 0: sum
  parameter  int unsigned Channels = 1,  /// channels of a vector, a multiple of Pe
  parameter  int unsigned Pe       = 1,  /// channels a beat
  parameter  int unsigned Bits     = 4,  /// width of a channel
  parameter  bit          Signed   = 0,  /// channels are two's complement
  parameter  int unsigned OutBits  = 5,  /// width of a constant and of a result: its low bits
  parameter  logic [Channels*OutBits-1:0] Constants = '0,  /// one a channel, two's complement, channel 0 lowest
  localparam int unsigned Folds    = Channels / (Pe == 0 ? 1 : Pe),
  localparam int unsigned Bytes    = (Pe * Bits + 7) / 8,
  localparam int unsigned OutBytes = (Pe * OutBits + 7) / 8,
  localparam int unsigned FoldBits = Folds > 1 ? $clog2(Folds) : 1
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*Bytes-1:0]    in0_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA
);

  if (Pe == 0 || Folds == 0 || Channels % (Pe == 0 ? 1 : Pe) != 0) begin : gen_bad_folding
    $error("bitward_constant: Pe must divide Channels, got Pe=%0d Channels=%0d.", Pe, Channels);
  end
  if (Bits == 0 || OutBits < Bits) begin : gen_bad_parameters
    $error("bitward_constant: Bits must be at least 1 and OutBits at least Bits, got %0d and %0d.", Bits, OutBits);
  end

  typedef logic [Pe-1:0][OutBits-1:0] beat_t;

  // A register holds the constants of the next beat: reading them costs the operation no time.
  logic [FoldBits-1:0] fold_q, next_fold;
  beat_t               constants_q, result_q;
  logic                step, take, valid_q;

  assign step         = !valid_q || out0_V_TREADY;
  assign in0_V_TREADY = step;
  assign take         = in0_V_TVALID && step;
  assign next_fold    = fold_q == FoldBits'(Folds - 1) ? '0 : fold_q + 1'b1;

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    wire [Bits-1:0]    x = in0_V_TDATA[p*Bits+:Bits];
    wire [OutBits-1:0] a = Signed ? OutBits'(signed'(x)) : OutBits'(x);
    always_ff @(posedge ap_clk) if (take) result_q[p] <= Multiply ? a * constants_q[p] : a + constants_q[p];
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      fold_q      <= '0;
      constants_q <= Constants[0+:Pe*OutBits];
      valid_q     <= 1'b0;
    end else begin
      if (take) begin
        fold_q      <= next_fold;
        constants_q <= Constants[next_fold*Pe*OutBits+:Pe*OutBits];
      end
      if (step) valid_q <= take;
    end
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(result_q);

endmodule
