// SPDX-License-Identifier: Apache-2.0

/// Maximum or sum over Taps consecutive beats, lane by lane. FINN's depthwise ConvolutionInputGenerator sends the
/// taps of one window and channel fold one after the other, so any channel count folds by itself, and windows may overlap.
module bitward_pool #(
  parameter  int unsigned Pe       = 1,     /// channels a beat
  parameter  int unsigned Bits     = 4,     /// width of a channel
  parameter  bit          Signed   = 0,     /// channels are two's complement
  parameter  int unsigned Taps     = 4,     /// beats per window: kernel height * width
  parameter  bit          Sum      = 0,     /// 1: the sum of the taps; 0: the greatest
  parameter  int unsigned Shift    = 0,     /// a sum leaves without its low Shift bits (it is rounded down)
  parameter  int unsigned OutBits  = Bits,  /// width of a channel that leaves
  localparam int unsigned AccBits  = Sum ? OutBits + Shift : Bits,  // higher bits of a sum leave no trace
  localparam int unsigned Bytes    = (Pe * Bits + 7) / 8,
  localparam int unsigned OutBytes = (Pe * OutBits + 7) / 8,
  localparam int unsigned CntBits  = Taps > 1 ? $clog2(Taps) : 1
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

  if (Pe == 0 || Bits == 0 || Taps == 0 || OutBits == 0) begin : gen_bad_parameters
    $error("bitward_pool: Pe, Bits, Taps and OutBits must be at least 1, got %0d, %0d, %0d, %0d.",
           Pe, Bits, Taps, OutBits);
  end
  if (!Sum && (OutBits != Bits || Shift != 0)) begin : gen_bad_result
    $error("bitward_pool: a maximum must have OutBits = Bits = %0d and Shift = 0, got %0d and %0d.",
           Bits, OutBits, Shift);
  end

  logic [CntBits-1:0]         tap_q;
  logic                       first, last, take, valid_q;
  logic [Pe-1:0][AccBits-1:0] acc_q, acc_d;
  logic [Pe-1:0][OutBits-1:0] result;

  assign first        = tap_q == '0;
  assign last         = tap_q == CntBits'(Taps - 1);
  // A finished window leaves before the next one may begin.
  assign in0_V_TREADY = !valid_q || out0_V_TREADY;
  assign take         = in0_V_TVALID && in0_V_TREADY;

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    wire [Bits-1:0] x = in0_V_TDATA[p*Bits+:Bits];
    if (Sum) begin : gen_sum
      wire [AccBits-1:0] wide = Signed ? AccBits'(signed'(x)) : AccBits'(x);
      assign acc_d[p] = first ? wide : acc_q[p] + wide;
    end else begin : gen_max
      // Flipping the sign bit orders two's complement like unsigned numbers.
      wire [Bits-1:0] flip = Signed ? Bits'(1) << (Bits - 1) : '0;
      assign acc_d[p] = first || (x ^ flip) > (acc_q[p] ^ flip) ? x : acc_q[p];
    end
    assign result[p] = acc_q[p][Shift+:OutBits];
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      tap_q   <= '0;
      valid_q <= 1'b0;
    end else begin
      if (take) tap_q <= last ? '0 : tap_q + 1'b1;
      if (in0_V_TREADY) valid_q <= take && last;
    end
  end
  always_ff @(posedge ap_clk) if (take) acc_q <= acc_d;

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(result);

endmodule
