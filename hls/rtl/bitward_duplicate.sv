// SPDX-License-Identifier: Apache-2.0

/// One stream becomes Num equal ones. Each output takes a beat when it likes; the next beat comes in as the last of
/// them takes this one. Outputs from out<Num>_V up are not there: never valid, their ready is not heeded.
module bitward_duplicate #(
  parameter  int unsigned Num   = 2,  /// outputs, 2 to 8
  parameter  int unsigned Width = 8,  /// bits a beat
  localparam int unsigned Bytes = (Width + 7) / 8
) (
  input  logic               ap_clk,
  input  logic               ap_rst_n,

  input  logic               in0_V_TVALID,
  output logic               in0_V_TREADY,
  input  logic [8*Bytes-1:0] in0_V_TDATA,

  output logic               out0_V_TVALID,
  input  logic               out0_V_TREADY,
  output logic [8*Bytes-1:0] out0_V_TDATA,
  output logic               out1_V_TVALID,
  input  logic               out1_V_TREADY,
  output logic [8*Bytes-1:0] out1_V_TDATA,
  output logic               out2_V_TVALID,
  input  logic               out2_V_TREADY,
  output logic [8*Bytes-1:0] out2_V_TDATA,
  output logic               out3_V_TVALID,
  input  logic               out3_V_TREADY,
  output logic [8*Bytes-1:0] out3_V_TDATA,
  output logic               out4_V_TVALID,
  input  logic               out4_V_TREADY,
  output logic [8*Bytes-1:0] out4_V_TDATA,
  output logic               out5_V_TVALID,
  input  logic               out5_V_TREADY,
  output logic [8*Bytes-1:0] out5_V_TDATA,
  output logic               out6_V_TVALID,
  input  logic               out6_V_TREADY,
  output logic [8*Bytes-1:0] out6_V_TDATA,
  output logic               out7_V_TVALID,
  input  logic               out7_V_TREADY,
  output logic [8*Bytes-1:0] out7_V_TDATA
);

  if (Num < 2 || Num > 8 || Width == 0) begin : gen_bad_parameters
    $error("bitward_duplicate: Num must be 2 to 8 and Width at least 1, got Num=%0d Width=%0d.", Num, Width);
  end
  localparam logic [7:0] Present = 8'hff >> (8 - Num);

  logic [7:0]         owed_q, ready;  // outputs that have not yet taken the beat
  logic [8*Bytes-1:0] beat_q;
  logic               take;

  assign ready = {
    out7_V_TREADY, out6_V_TREADY, out5_V_TREADY, out4_V_TREADY,
    out3_V_TREADY, out2_V_TREADY, out1_V_TREADY, out0_V_TREADY
  };
  assign in0_V_TREADY = (owed_q & ~ready) == '0;
  assign take         = in0_V_TVALID && in0_V_TREADY;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) owed_q <= '0;
    else           owed_q <= take ? Present : owed_q & ~ready;
  end
  always_ff @(posedge ap_clk) if (take) beat_q <= in0_V_TDATA;

  assign {
    out7_V_TVALID, out6_V_TVALID, out5_V_TVALID, out4_V_TVALID,
    out3_V_TVALID, out2_V_TVALID, out1_V_TVALID, out0_V_TVALID
  } = owed_q;
  assign out0_V_TDATA = beat_q;
  assign out1_V_TDATA = beat_q;
  assign out2_V_TDATA = beat_q;
  assign out3_V_TDATA = beat_q;
  assign out4_V_TDATA = beat_q;
  assign out5_V_TDATA = beat_q;
  assign out6_V_TDATA = beat_q;
  assign out7_V_TDATA = beat_q;

endmodule
