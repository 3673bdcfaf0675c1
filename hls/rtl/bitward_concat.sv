// SPDX-License-Identifier: Apache-2.0

/// Vectors of Num streams, one behind the other: all channels of stream 0, then those of stream 1, and so on. Channels
/// are widened to OutBits. Inputs from in<Num>_V up are not there: nothing reads them and they are never ready.
module bitward_concat #(
  parameter  int unsigned Num       = 2,     /// streams, 2 to 8
  parameter  int unsigned Simd      = 1,     /// channels a beat, of every stream
  parameter  int unsigned OutBits   = 4,     /// width of a channel that leaves
  parameter  int unsigned Signed    = 0,     /// bit i: the channels of stream i are two's complement
  parameter  int unsigned Channels0 = 1,     /// channels of a vector of stream i, a multiple of Simd
  parameter  int unsigned Channels1 = 1,
  parameter  int unsigned Channels2 = Simd,
  parameter  int unsigned Channels3 = Simd,
  parameter  int unsigned Channels4 = Simd,
  parameter  int unsigned Channels5 = Simd,
  parameter  int unsigned Channels6 = Simd,
  parameter  int unsigned Channels7 = Simd,
  parameter  int unsigned Bits0     = 4,     /// width of a channel of stream i, at most OutBits
  parameter  int unsigned Bits1     = 4,
  parameter  int unsigned Bits2     = 1,
  parameter  int unsigned Bits3     = 1,
  parameter  int unsigned Bits4     = 1,
  parameter  int unsigned Bits5     = 1,
  parameter  int unsigned Bits6     = 1,
  parameter  int unsigned Bits7     = 1,
  localparam int unsigned Bytes0    = (Simd * Bits0 + 7) / 8,
  localparam int unsigned Bytes1    = (Simd * Bits1 + 7) / 8,
  localparam int unsigned Bytes2    = (Simd * Bits2 + 7) / 8,
  localparam int unsigned Bytes3    = (Simd * Bits3 + 7) / 8,
  localparam int unsigned Bytes4    = (Simd * Bits4 + 7) / 8,
  localparam int unsigned Bytes5    = (Simd * Bits5 + 7) / 8,
  localparam int unsigned Bytes6    = (Simd * Bits6 + 7) / 8,
  localparam int unsigned Bytes7    = (Simd * Bits7 + 7) / 8,
  localparam int unsigned OutBytes  = (Simd * OutBits + 7) / 8
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*Bytes0-1:0]   in0_V_TDATA,
  input  logic                  in1_V_TVALID,
  output logic                  in1_V_TREADY,
  input  logic [8*Bytes1-1:0]   in1_V_TDATA,
  input  logic                  in2_V_TVALID,
  output logic                  in2_V_TREADY,
  input  logic [8*Bytes2-1:0]   in2_V_TDATA,
  input  logic                  in3_V_TVALID,
  output logic                  in3_V_TREADY,
  input  logic [8*Bytes3-1:0]   in3_V_TDATA,
  input  logic                  in4_V_TVALID,
  output logic                  in4_V_TREADY,
  input  logic [8*Bytes4-1:0]   in4_V_TDATA,
  input  logic                  in5_V_TVALID,
  output logic                  in5_V_TREADY,
  input  logic [8*Bytes5-1:0]   in5_V_TDATA,
  input  logic                  in6_V_TVALID,
  output logic                  in6_V_TREADY,
  input  logic [8*Bytes6-1:0]   in6_V_TDATA,
  input  logic                  in7_V_TVALID,
  output logic                  in7_V_TREADY,
  input  logic [8*Bytes7-1:0]   in7_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA
);

  localparam int unsigned Channels [8] = '{
    Channels0, Channels1, Channels2, Channels3, Channels4, Channels5, Channels6, Channels7
  };
  localparam int unsigned Bits [8] = '{Bits0, Bits1, Bits2, Bits3, Bits4, Bits5, Bits6, Bits7};

  if (Num < 2 || Num > 8) begin : gen_bad_num
    $error("bitward_concat: Num must be 2 to 8, got %0d.", Num);
  end
  for (genvar i = 0; i < 8; i++) begin : gen_check
    if (Simd == 0 || Channels[i] == 0 || Channels[i] % Simd != 0) begin : gen_bad_folding
      $error("bitward_concat: Simd must divide the channels of each stream, got Simd=%0d Channels%0d=%0d.",
             Simd, i, Channels[i]);
    end
    if (Bits[i] == 0 || Bits[i] > OutBits) begin : gen_bad_bits
      $error("bitward_concat: a stream must have 1 to OutBits=%0d bits, got Bits%0d=%0d.", OutBits, i, Bits[i]);
    end
  end

  /// Beats of a vector that leave before those of stream `stream`.
  function automatic int unsigned beats_before(input int unsigned stream);
    beats_before = 0;
    for (int unsigned i = 0; i < stream; i++) beats_before += Channels[i] / Simd;
  endfunction

  localparam int unsigned Total   = beats_before(Num);
  localparam int unsigned CntBits = Total > 1 ? $clog2(Total) : 1;

  logic [7:0]                    valid, ready;
  logic [7:0][Simd*OutBits-1:0]  raw;
  logic [Num-1:0]                turn;
  logic [Simd-1:0][OutBits-1:0]  beat_d, beat_q;
  logic [CntBits-1:0]            beat_of_vector_q;
  logic                          step, take, valid_q;

  assign valid = {
    in7_V_TVALID, in6_V_TVALID, in5_V_TVALID, in4_V_TVALID, in3_V_TVALID, in2_V_TVALID, in1_V_TVALID, in0_V_TVALID
  };
  assign {
    in7_V_TREADY, in6_V_TREADY, in5_V_TREADY, in4_V_TREADY, in3_V_TREADY, in2_V_TREADY, in1_V_TREADY, in0_V_TREADY
  } = ready;
  assign raw[0] = (Simd*OutBits)'(in0_V_TDATA);
  assign raw[1] = (Simd*OutBits)'(in1_V_TDATA);
  assign raw[2] = (Simd*OutBits)'(in2_V_TDATA);
  assign raw[3] = (Simd*OutBits)'(in3_V_TDATA);
  assign raw[4] = (Simd*OutBits)'(in4_V_TDATA);
  assign raw[5] = (Simd*OutBits)'(in5_V_TDATA);
  assign raw[6] = (Simd*OutBits)'(in6_V_TDATA);
  assign raw[7] = (Simd*OutBits)'(in7_V_TDATA);

  logic [Num-1:0][Simd-1:0][OutBits-1:0] wide;  // each stream's beat, widened; zero when it is not its turn
  for (genvar i = 0; i < Num; i++) begin : gen_stream
    localparam int unsigned First = beats_before(i);
    localparam int unsigned Last  = beats_before(i + 1) - 1;
    // A comparison with the counter's own bounds would be constant.
    wire after_first = First == 0 || beat_of_vector_q >= CntBits'(First);
    wire until_last  = Last == Total - 1 || beat_of_vector_q <= CntBits'(Last);
    assign turn[i] = after_first && until_last;
    for (genvar l = 0; l < Simd; l++) begin : gen_lane
      wire [Bits[i]-1:0] x = raw[i][l*Bits[i]+:Bits[i]];
      assign wide[i][l] = turn[i] ? Signed[i] ? OutBits'(signed'(x)) : OutBits'(x) : '0;
    end
  end

  assign step  = !valid_q || out0_V_TREADY;
  assign ready = step ? 8'(turn) : '0;
  assign take  = |(valid & ready);
  always_comb begin
    beat_d = '0;
    for (int unsigned i = 0; i < Num; i++) beat_d |= wide[i];
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      beat_of_vector_q <= '0;
      valid_q          <= 1'b0;
    end else begin
      if (take) beat_of_vector_q <= beat_of_vector_q == CntBits'(Total - 1) ? '0 : beat_of_vector_q + 1'b1;
      if (step) valid_q <= take;
    end
  end
  always_ff @(posedge ap_clk) if (step) beat_q <= beat_d;

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(beat_q);

endmodule
