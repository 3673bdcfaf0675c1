// SPDX-License-Identifier: Apache-2.0

/// The channels of each vector go to Num streams in turn: the first Channels0 to out0_V, the next to out1_V, and so on.
/// Outputs from out<Num>_V up are never valid.
module bitward_split #(
  parameter  int unsigned Num       = 2,     /// streams, 2 to 8
  parameter  int unsigned Simd      = 1,     /// channels a beat
  parameter  int unsigned Bits      = 4,     /// width of a channel
  parameter  int unsigned Channels0 = 1,     /// channels of a vector of stream i, a multiple of Simd
  parameter  int unsigned Channels1 = 1,
  parameter  int unsigned Channels2 = Simd,
  parameter  int unsigned Channels3 = Simd,
  parameter  int unsigned Channels4 = Simd,
  parameter  int unsigned Channels5 = Simd,
  parameter  int unsigned Channels6 = Simd,
  parameter  int unsigned Channels7 = Simd,
  localparam int unsigned Bytes     = (Simd * Bits + 7) / 8
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

  localparam int unsigned Channels [8] = '{
    Channels0, Channels1, Channels2, Channels3, Channels4, Channels5, Channels6, Channels7
  };

  if (Num < 2 || Num > 8 || Bits == 0) begin : gen_bad_num
    $error("bitward_split: Num must be 2 to 8 and Bits at least 1, got Num=%0d Bits=%0d.", Num, Bits);
  end
  for (genvar i = 0; i < 8; i++) begin : gen_check
    if (Simd == 0 || Channels[i] == 0 || Channels[i] % Simd != 0) begin : gen_bad_folding
      $error("bitward_split: Simd must divide the channels of each stream, got Simd=%0d Channels%0d=%0d.",
             Simd, i, Channels[i]);
    end
  end

  /// Beats of a vector that come before those of stream `stream`.
  function automatic int unsigned beats_before(input int unsigned stream);
    beats_before = 0;
    for (int unsigned i = 0; i < stream; i++) beats_before += Channels[i] / Simd;
  endfunction

  localparam int unsigned Total   = beats_before(Num);
  localparam int unsigned CntBits = Total > 1 ? $clog2(Total) : 1;

  logic [7:0]           ready;
  logic [Num-1:0]       turn, valid_q;
  logic [Simd*Bits-1:0] beat_q;
  logic [CntBits-1:0]   beat_of_vector_q;
  logic                 step, take;

  for (genvar i = 0; i < Num; i++) begin : gen_stream
    localparam int unsigned First = beats_before(i);
    localparam int unsigned Last  = beats_before(i + 1) - 1;
    // A comparison with the counter's own bounds would be constant.
    wire after_first = First == 0 || beat_of_vector_q >= CntBits'(First);
    wire until_last  = Last == Total - 1 || beat_of_vector_q <= CntBits'(Last);
    assign turn[i] = after_first && until_last;
  end

  // One register for all outputs: at most one of them is valid.
  assign step         = (valid_q & ~ready[Num-1:0]) == '0;
  assign in0_V_TREADY = step;
  assign take         = in0_V_TVALID && step;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      beat_of_vector_q <= '0;
      valid_q          <= '0;
    end else begin
      if (take) beat_of_vector_q <= beat_of_vector_q == CntBits'(Total - 1) ? '0 : beat_of_vector_q + 1'b1;
      if (step) valid_q <= take ? turn : '0;
    end
  end
  always_ff @(posedge ap_clk) if (step) beat_q <= in0_V_TDATA[Simd*Bits-1:0];

  assign ready = {
    out7_V_TREADY, out6_V_TREADY, out5_V_TREADY, out4_V_TREADY,
    out3_V_TREADY, out2_V_TREADY, out1_V_TREADY, out0_V_TREADY
  };
  assign {
    out7_V_TVALID, out6_V_TVALID, out5_V_TVALID, out4_V_TVALID,
    out3_V_TVALID, out2_V_TVALID, out1_V_TVALID, out0_V_TVALID
  } = 8'(valid_q);
  assign out0_V_TDATA = (8*Bytes)'(beat_q);
  assign out1_V_TDATA = out0_V_TDATA;
  assign out2_V_TDATA = out0_V_TDATA;
  assign out3_V_TDATA = out0_V_TDATA;
  assign out4_V_TDATA = out0_V_TDATA;
  assign out5_V_TDATA = out0_V_TDATA;
  assign out6_V_TDATA = out0_V_TDATA;
  assign out7_V_TDATA = out0_V_TDATA;

endmodule
