// SPDX-License-Identifier: Apache-2.0

/// Sum or product of two streams, lane by lane; a beat of each is taken as soon as both are there.
module bitward_elementwise #(
  parameter  bit          Multiply = 0,  /// 1: product; 0: sum
  parameter  int unsigned Pe       = 1,  /// elements a beat
  parameter  int unsigned Bits0    = 4,  /// width of an element of in0_V
  parameter  bit          Signed0  = 0,  /// its elements are two's complement
  parameter  int unsigned Bits1    = 4,  /// width of an element of in1_V
  parameter  bit          Signed1  = 0,  /// its elements are two's complement
  parameter  int unsigned OutBits  = 5,  /// width of a result: its low bits, whatever the operands
  localparam int unsigned Bytes0   = (Pe * Bits0 + 7) / 8,
  localparam int unsigned Bytes1   = (Pe * Bits1 + 7) / 8,
  localparam int unsigned OutBytes  = (Pe * OutBits + 7) / 8
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*Bytes0-1:0]   in0_V_TDATA,

  input  logic                  in1_V_TVALID,
  output logic                  in1_V_TREADY,
  input  logic [8*Bytes1-1:0]   in1_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA
);

  if (Pe == 0 || Bits0 == 0 || Bits1 == 0 || OutBits < Bits0 || OutBits < Bits1) begin : gen_bad_parameters
    $error("bitward_elementwise: Pe, Bits0 and Bits1 must be at least 1 and OutBits no less, got %0d, %0d, %0d, %0d.",
           Pe, Bits0, Bits1, OutBits);
  end

  logic [Pe-1:0][OutBits-1:0] result_q;
  logic                       step, take, valid_q;

  assign step         = !valid_q || out0_V_TREADY;
  assign take         = in0_V_TVALID && in1_V_TVALID && step;
  assign in0_V_TREADY = in1_V_TVALID && step;
  assign in1_V_TREADY = in0_V_TVALID && step;

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    wire [Bits0-1:0]   x = in0_V_TDATA[p*Bits0+:Bits0];
    wire [Bits1-1:0]   y = in1_V_TDATA[p*Bits1+:Bits1];
    wire [OutBits-1:0] a = Signed0 ? OutBits'(signed'(x)) : OutBits'(x);
    wire [OutBits-1:0] b = Signed1 ? OutBits'(signed'(y)) : OutBits'(y);
    always_ff @(posedge ap_clk) if (take) result_q[p] <= Multiply ? a * b : a + b;
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) valid_q <= 1'b0;
    else if (step) valid_q <= take;
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(result_q);

endmodule
